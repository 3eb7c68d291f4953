//! What comes out of an event stream, connection after connection.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    added, changed,
    fake::{FakeService, Step, quick},
    of, progress, removed, synced, torn,
};
use crate::{
    client::{Cause, EventStream, Interruption, Message, Options, TokenSource},
    proto::{v1::WatchEvent, watch::WatchAllowedPartnersResponse},
};

/// A script that says this, and then nothing more.
fn says(responses: &[WatchAllowedPartnersResponse]) -> Vec<Step> {
    let mut script = breaks_off_after(responses);
    script.push(Step::Stall);
    script
}

fn breaks_off_after(responses: &[WatchAllowedPartnersResponse]) -> Vec<Step> {
    responses.iter().cloned().map(Step::Send).collect()
}

fn listed(revision: i64) -> WatchAllowedPartnersResponse {
    let mut response = of(&[added(revision, "a.example")]);
    (response.progress_revision, response.synced) = (revision, true);
    response
}

/// A message in few words: `listed 5: a.example b.example`.
fn told(message: &Message) -> String {
    let domains = |events: &[WatchEvent]| {
        let domains = events.iter().map(|event| event.name.replace("allowedPartners/", ""));
        domains.collect::<Vec<_>>().join(" ")
    };
    match message {
        Message::Opened { start_revision } => format!("opened {start_revision}"),
        Message::Listed(listing) => {
            let events: Vec<_> = listing.events().collect();
            format!("listed {}: {}", listing.revision, domains(&events))
        }
        Message::Changed(batch) => {
            format!("changed {}: {}", batch.revision, domains(&batch.events))
        }
        Message::InStep { revision } => format!("in step {revision}"),
        Message::Interrupted(Interruption { cause, .. }) => format!("interrupted: {cause}"),
    }
}

async fn next(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut messages = Vec::new();
    for _ in 0..count {
        messages.push(told(&stream.next().await));
    }
    messages
}

async fn next_interruption(stream: &mut EventStream) -> Interruption {
    loop {
        if let Message::Interrupted(interruption) = stream.next().await {
            return interruption;
        }
    }
}

fn status_with(code: Code, details: ErrorDetails) -> Status {
    Status::with_error_details(code, "the service says so", details)
}

#[tokio::test]
async fn the_state_and_every_commit_come_whole_however_they_are_cut() {
    let service = FakeService::start(vec![says(&[
        torn(&[added(5, "a.example")]),
        torn(&[added(5, "b.example")]),
        of(&[added(5, "c.example")]),
        synced(5),
        of(&[changed(6, "a.example", ""), added(7, "d.example"), removed(7, "b.example")]),
        torn(&[changed(8, "a.example", ""), changed(9, "b.example", "")]),
        torn(&[changed(9, "c.example", "")]),
        progress(8),
        of(&[changed(9, "d.example", ""), changed(12, "a.example", "")]),
        progress(12),
        progress(20),
    ])])
    .await;
    let mut stream = EventStream::new(service.remote(), quick(), 0);
    assert_eq!(
        next(&mut stream, 9).await,
        [
            "opened 0",
            "listed 5: a.example b.example c.example",
            "changed 6: a.example",
            "changed 7: d.example b.example",
            "changed 8: a.example",
            "in step 8",
            "changed 9: b.example c.example d.example",
            "changed 12: a.example",
            "in step 12",
        ]
    );
    assert_eq!(stream.position(), 12);
    assert_eq!(next(&mut stream, 1).await, ["in step 20"]);
    assert_eq!(stream.position(), 20);
    assert!(stream.last_contact().is_some());
}

#[tokio::test]
async fn what_is_announced_may_come_to_nothing() {
    let service = FakeService::start(vec![says(&[
        torn(&[added(6, "a.example")]),
        progress(6),
        torn(&[added(7, "b.example")]),
        progress(6),
        of(&[added(9, "c.example")]),
        progress(9),
    ])])
    .await;
    let mut stream = EventStream::new(service.remote(), quick(), 5);
    assert_eq!(
        next(&mut stream, 6).await,
        [
            "opened 5",
            "changed 6: a.example",
            "in step 6",
            "changed 7: b.example",
            "changed 9: c.example",
            "in step 9",
        ]
    );
}

#[tokio::test]
async fn a_stream_that_breaks_off_goes_on_after_the_last_whole_revision() {
    let service = FakeService::start(vec![
        breaks_off_after(&[
            listed(5),
            of(&[changed(6, "a.example", "")]),
            torn(&[changed(7, "a.example", ""), changed(7, "b.example", "")]),
        ]),
        breaks_off_after(&[progress(6)]),
        says(&[of(&[
            changed(7, "a.example", ""),
            changed(7, "b.example", ""),
            changed(7, "c.example", ""),
        ])]),
    ])
    .await;
    let mut stream = EventStream::new(service.remote(), quick(), 0);
    assert_eq!(
        next(&mut stream, 9).await,
        [
            "opened 0",
            "listed 5: a.example",
            "changed 6: a.example",
            "interrupted: the service ended the stream",
            "opened 6",
            "in step 6",
            "interrupted: the service ended the stream",
            "opened 6",
            "changed 7: a.example b.example c.example",
        ]
    );
    assert_eq!(service.starts(), [0, 6, 6]);
}

#[tokio::test]
async fn a_state_that_breaks_off_is_read_from_its_beginning() {
    let service = FakeService::start(vec![
        breaks_off_after(&[torn(&[added(5, "a.example"), added(5, "b.example")])]),
        says(&[torn(&[added(6, "b.example")]), of(&[added(6, "c.example")]), synced(6)]),
    ])
    .await;
    let mut stream = EventStream::new(service.remote(), quick(), 0);
    next_interruption(&mut stream).await;
    assert_eq!(next(&mut stream, 2).await, ["opened 0", "listed 6: b.example c.example"]);
}

#[tokio::test]
async fn what_is_told_again_after_a_resume_comes_out_once() {
    let service = FakeService::start(vec![says(&[
        of(&[changed(3, "a.example", ""), changed(4, "a.example", "")]),
        torn(&[changed(5, "a.example", "")]),
        of(&[changed(5, "b.example", ""), changed(6, "c.example", "")]),
        progress(6),
    ])])
    .await;
    let mut stream = EventStream::new(service.remote(), quick(), 5);
    assert_eq!(next(&mut stream, 3).await, ["opened 5", "changed 6: c.example", "in step 6"]);
}

#[tokio::test]
async fn history_that_is_gone_makes_it_read_the_state_at_once() {
    let mut details = ErrorDetails::new();
    let oldest = [("oldest_revision".to_owned(), "90".to_owned())];
    details.set_error_info("REVISION_COMPACTED", "federation.xmpp", oldest);
    let service = FakeService::start(vec![
        vec![Step::Fail(status_with(Code::OutOfRange, details))],
        says(&[listed(100)]),
    ])
    .await;
    let mut stream = EventStream::new(service.remote(), quick(), 5);
    let interruption = next_interruption(&mut stream).await;
    assert!(matches!(interruption.cause, Cause::HistoryGone(_)), "{interruption:?}");
    assert_eq!(interruption.retry_in, Duration::ZERO);
    assert_eq!(next(&mut stream, 2).await, ["opened 0", "listed 100: a.example"]);
}

#[tokio::test]
async fn a_stream_that_breaks_its_rules_is_dropped_and_the_state_read_anew() {
    let unreadable = WatchAllowedPartnersResponse { events: vec![vec![0xff].into()], ..of(&[]) };
    let without_partner = WatchEvent { allowed_partner: None, ..added(6, "a.example") };
    let early_progress =
        WatchAllowedPartnersResponse { progress_revision: 6, ..torn(&[added(6, "a.example")]) };
    for (case, responses, words) in [
        (
            "doubled",
            vec![of(&[added(6, "a.example")]), of(&[added(6, "a.example")])],
            "came with or after",
        ),
        (
            "split",
            vec![of(&[added(6, "a.example")]), of(&[added(6, "b.example")])],
            "came with or after",
        ),
        (
            "reordered",
            vec![of(&[added(8, "a.example"), added(7, "b.example")])],
            "7 came with or after",
        ),
        ("early progress", vec![early_progress], "6 is over and goes on"),
        ("went back", vec![progress(3), progress(4)], "ends at revision 4, before revision 5"),
        ("no bytes of ours", vec![unreadable], "cannot be read"),
        ("no partner", vec![of(&[without_partner])], "a.example` is incomplete"),
    ] {
        let service = FakeService::start(vec![says(&responses), says(&[listed(100)])]).await;
        let mut stream = EventStream::new(service.remote(), quick(), 5);
        let interruption = next_interruption(&mut stream).await;
        assert!(matches!(interruption.cause, Cause::Faulty(_)), "{case}: {interruption:?}");
        assert!(interruption.cause.to_string().contains(words), "{case}: {}", interruption.cause);
        assert_eq!(next(&mut stream, 2).await, ["opened 0", "listed 100: a.example"], "{case}");
    }
}

#[tokio::test]
async fn a_state_of_two_revisions_is_none() {
    let service = FakeService::start(vec![
        says(&[of(&[added(5, "a.example")]), of(&[added(6, "b.example")]), synced(6)]),
        says(&[listed(7)]),
    ])
    .await;
    let mut stream = EventStream::new(service.remote(), quick(), 0);
    let interruption = next_interruption(&mut stream).await;
    assert!(matches!(interruption.cause, Cause::Faulty(_)), "{interruption:?}");
    assert_eq!(next(&mut stream, 2).await, ["opened 0", "listed 7: a.example"]);
}

#[tokio::test]
async fn a_server_that_lags_behind_once_is_waited_for() {
    let service = FakeService::start(vec![says(&[
        progress(4),
        of(&[changed(6, "a.example", "")]),
        progress(6),
    ])])
    .await;
    let mut stream = EventStream::new(service.remote(), quick(), 5);
    assert_eq!(next(&mut stream, 3).await, ["opened 5", "changed 6: a.example", "in step 6"]);
}

#[tokio::test]
async fn silence_ends_a_stream_and_a_sign_of_life_prolongs_it() {
    let options = Options {
        progress_interval: Duration::from_millis(40),
        slack: Duration::from_millis(20),
        ..quick()
    };
    let service = FakeService::start(vec![says(&[listed(5)]), says(&[progress(5)])]).await;
    let mut stream = EventStream::new(service.remote(), options.clone(), 0);
    let interruption = next_interruption(&mut stream).await;
    let silence = stream.last_contact().unwrap().elapsed();
    assert!(matches!(interruption.cause, Cause::Stalled(_)), "{interruption:?}");
    assert!(silence >= Duration::from_millis(100), "{silence:?}");
    assert_eq!(next(&mut stream, 2).await, ["opened 5", "in step 5"]);
    let asked = service.asked()[0].request.progress_interval;
    assert_eq!(asked, prost_types::Duration::try_from(options.progress_interval).ok());
}

#[tokio::test]
async fn a_token_that_was_renewed_is_used_for_the_next_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let expired = status_with(Code::Unauthenticated, ErrorDetails::new());
    let mut script = breaks_off_after(&[listed(5)]);
    script.push(Step::Fail(expired));
    let service = FakeService::start(vec![script, says(&[progress(5)])]).await;
    let mut remote = service.remote();
    remote.token = TokenSource::File(file.clone());
    let mut stream = EventStream::new(remote, quick(), 0);
    let interruption = next_interruption(&mut stream).await;
    assert!(matches!(interruption.cause, Cause::Unauthenticated(_)), "{interruption:?}");
    std::fs::write(&file, "new").unwrap();
    assert_eq!(next(&mut stream, 2).await, ["opened 5", "in step 5"]);
    let shown: Vec<_> = service.asked().into_iter().map(|asked| asked.authorization).collect();
    assert_eq!(shown, [Some("Bearer old".to_owned()), Some("Bearer new".to_owned())]);
}

#[tokio::test]
async fn what_time_alone_does_not_mend_is_tried_slowly_and_what_the_service_asks_is_heeded() {
    let asking = ErrorDetails::with_retry_info(Some(Duration::from_millis(8)));
    let service = FakeService::start(vec![
        vec![Step::Fail(status_with(Code::PermissionDenied, ErrorDetails::new()))],
        vec![Step::Fail(status_with(Code::InvalidArgument, ErrorDetails::new()))],
        vec![Step::Fail(status_with(Code::Unavailable, asking))],
    ])
    .await;
    let options = quick();
    let mut stream = EventStream::new(service.remote(), options.clone(), 5);
    let denied = next_interruption(&mut stream).await;
    assert!(matches!(denied.cause, Cause::Denied(_)), "{denied:?}");
    assert!(denied.retry_in >= options.backoff.longest / 2);
    let refused = next_interruption(&mut stream).await;
    assert!(matches!(refused.cause, Cause::Refused(_)), "{refused:?}");
    assert!(refused.retry_in >= options.backoff.longest / 2);
    let lost = next_interruption(&mut stream).await;
    assert!(matches!(lost.cause, Cause::Lost(_)), "{lost:?}");
    assert!(lost.retry_in >= Duration::from_millis(8));
    assert_eq!(lost.failures, 3);
    assert_eq!(service.starts(), [5, 5, 5]);
}

#[tokio::test]
async fn failures_are_counted_until_a_stream_has_lived_for_a_while() {
    let short = || breaks_off_after(&[listed(5)]);
    let service = FakeService::start(vec![short(), short(), short()]).await;
    let mut stream = EventStream::new(service.remote(), quick(), 0);
    for failures in 1..=3 {
        assert_eq!(next_interruption(&mut stream).await.failures, failures);
    }
    let service = FakeService::start(vec![short(), short(), short()]).await;
    let options = Options { settled_after: Duration::ZERO, ..quick() };
    let mut stream = EventStream::new(service.remote(), options, 0);
    for _ in 0..3 {
        assert_eq!(next_interruption(&mut stream).await.failures, 1);
    }
    assert_eq!(next_interruption(&mut stream).await.failures, 2, "the script is over");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told_with_its_reason_and_asked_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    let mut remote = FakeService::start(Vec::new()).await.remote();
    remote.endpoint = format!("http://{free}").parse().unwrap();
    let mut stream = EventStream::new(remote.clone(), quick(), 5);
    for failures in 1..=3 {
        let interruption = next_interruption(&mut stream).await;
        assert_eq!(interruption.failures, failures);
        let words = interruption.cause.to_string();
        assert!(words.contains("cannot be reached") && words.contains("refused"), "{words}");
    }
    assert_eq!(stream.last_contact(), None);
    remote.token = TokenSource::File("/nonexistent/token".into());
    let mut stream = EventStream::new(remote, quick(), 5);
    let words = next_interruption(&mut stream).await.cause.to_string();
    assert!(words.contains("/nonexistent/token"), "{words}");
}

#[tokio::test]
async fn a_reader_that_gives_up_waiting_at_any_moment_misses_nothing() {
    let commits = 60;
    let mut scripts = vec![breaks_off_after(&[listed(1)])];
    for revision in 2..=commits {
        scripts.push(breaks_off_after(&[
            torn(&[changed(revision, "a.example", "")]),
            of(&[changed(revision, "b.example", "")]),
        ]));
    }
    let service = FakeService::start(scripts).await;
    let mut stream = EventStream::new(service.remote(), quick(), 0);
    let mut seen = Vec::new();
    let mut given_up = 0;
    while seen.len() < commits.try_into().unwrap() {
        let patience = Duration::from_micros(given_up % 400);
        match tokio::time::timeout(patience, stream.next()).await {
            Ok(Message::Listed(listing)) => seen.push(listing.revision),
            Ok(Message::Changed(batch)) => seen.push(batch.revision),
            Ok(_) => {}
            Err(_) => given_up += 1,
        }
    }
    assert_eq!(seen, (1..=commits).collect::<Vec<_>>());
    assert!(given_up > 0);
}
