//! Streams that fall behind, break off and come back, and revisions that are too large for one
//! message.

use std::time::{Duration, Instant};

use partnerd::proto::v1::WatchAllowedPartnersRequest;
use tokio::sync::watch as told;
use tonic::Code;

use super::{
    checker::{Session, check, everything},
    promises::{Chronicle, message, recorded},
};
use crate::harness::{
    TestServer,
    actor::{Actor, metadata, reason},
    process::DevServer,
};

/// So many partners are changed in one commit, which is as many as one request may.
const BATCH: usize = 1_000;

/// So many changes pass while nobody reads.
const MISSED: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };

fn domains() -> Vec<String> {
    (0..BATCH).map(|number| format!("p{number:04}.example")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_reading_misses_nothing_and_holds_nobody_up() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.watch_tail_commits = 2;
            limits.max_batch = BATCH;
        })
        .start()
        .await;
    let mut chronicle = Chronicle::of(&server).await;
    let domains = domains();
    let watch = server.admin().watch_from(0).await;
    for round in 0..MISSED / BATCH {
        chronicle.upsert(&domains, &format!("owner-{round}")).await;
    }
    let (_, mut last) = told::channel(Some(chronicle.history.last()));
    let (session, _) = recorded(watch, 0, usize::MAX, &mut last).await;
    assert!(session.messages.iter().any(|message| message.more), "these revisions are large");
    assert_eq!(check(&chronicle.history, &everything, &[session]), Ok(()));
}

#[tokio::test]
async fn a_large_state_and_a_large_revision_come_in_pieces_that_say_so() {
    let server = TestServer::start().await;
    let mut chronicle = Chronicle::of(&server).await;
    chronicle.upsert(&domains(), "jo").await;
    let watch = server.admin().watch_from(0).await;
    chronicle.upsert(&domains(), "al").await;
    let (_, mut last) = told::channel(Some(2));
    let (session, _) = recorded(watch, 0, usize::MAX, &mut last).await;
    let sizes: Vec<_> = session.messages.iter().map(|message| message.events.len()).collect();
    assert!(sizes.iter().all(|size| *size <= 512), "{sizes:?}");
    assert!(sizes.len() >= 4, "{sizes:?}");
    assert_eq!(check(&chronicle.history, &everything, &[session]), Ok(()));
}

#[tokio::test]
async fn a_revision_whose_rest_is_filtered_out_is_completed_at_once() {
    /// More changes than are looked at before others get a turn.
    const HIDDEN: usize = 1_500;
    /// Unless the client asks for another.
    const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);
    let server = TestServer::builder().limits(|limits| limits.max_batch = 2_000).start().await;
    let mut chronicle = Chronicle::of(&server).await;
    let rest = (0..HIDDEN).map(|number| format!("b{number:04}.hidden.example"));
    let (mut watch, _) =
        server.admin().watch_filtered("name = \"allowedPartners/*.seen.example\"").await;
    let seen = ["a.seen.example".to_owned()].into_iter();
    chronicle.upsert(&seen.chain(rest).collect::<Vec<_>>(), "jo").await;
    let first = watch.next().await;
    assert_eq!((first.events.len(), first.more_of_this_revision), (1, true));
    let asked = Instant::now();
    let rest = watch.next().await;
    assert_eq!((rest.events.len(), rest.more_of_this_revision), (0, false));
    assert_eq!(rest.progress_revision, 1);
    assert!(asked.elapsed() < PROGRESS_INTERVAL, "it must not wait for the next sign of life");
}

#[tokio::test]
async fn a_stream_goes_on_after_a_restart_of_the_server() {
    let server = TestServer::start().await;
    let mut chronicle = Chronicle::of(&server).await;
    for owner in ["jo", "al"] {
        chronicle.upsert(&["a.example".into(), "b.example".into()], owner).await;
    }
    let mut watch = server.admin().watch_from(0).await;
    let mut before = Session::default();
    while before.messages.last().is_none_or(|message| message.progress < 2) {
        before.messages.push(message(&watch.next().await));
    }
    // What happens now is told by the server that comes after, from the store.
    chronicle.upsert(&["b.example".into(), "c.example".into()], "missed").await;
    let server = server.restart().await;
    let mut chronicle = chronicle.at(&server);
    chronicle.upsert(&["c.example".into()], "live").await;
    let watch = server.admin().watch_from(2).await;
    let (_, mut last) = told::channel(Some(4));
    let (after, _) = recorded(watch, 2, usize::MAX, &mut last).await;
    assert_eq!(check(&chronicle.history, &everything, &[before, after]), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_whose_history_is_gone_is_refused_with_the_oldest_that_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["--set", "history.max_commits=5", "--set", "limits.watch_tail_commits=1"];
    let server = DevServer::start_with(folder.path(), &settings);
    let admin = Actor::of_dev_server(folder.path()).await;
    for number in 0..20 {
        admin.create_plain(&format!("p{number}.example")).await;
    }
    let request = || WatchAllowedPartnersRequest { start_revision: 1, ..Default::default() };
    // The history goes by itself, a moment later.
    let oldest = loop {
        let Err(gone) = admin.watch(request()).await else { continue };
        assert_eq!((gone.code(), reason(&gone).as_str()), (Code::OutOfRange, "REVISION_COMPACTED"));
        let oldest: i64 = metadata(&gone, "oldest_revision").unwrap().parse().unwrap();
        if oldest == 16 {
            break oldest;
        }
    };
    let events = admin.watch_from(oldest - 1).await.until(20).await;
    let revisions: Vec<_> = events.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, [16, 17, 18, 19, 20]);
    assert!(server.terminate().success());
}
