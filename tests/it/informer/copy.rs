//! The informer's copy is what the service has.

use partnerd::{
    client::{Cause, Informer, Options, Origin, TokenSource, Update},
    proto::v1::{AllowedPartner, BatchDeleteAllowedPartnersRequest, DeleteAllowedPartnerRequest},
};
use secrecy::ExposeSecret as _;

use super::{PATIENCE, copied, everything, quick, remote, until};
use crate::harness::{
    TestServer,
    actor::{name, update},
};

fn owned_by(owner: &str) -> AllowedPartner {
    AllowedPartner { owner: owner.into(), ..Default::default() }
}

fn informer(server: &TestServer, options: Options) -> Informer {
    let dev = server.dev();
    let folder = dev.path();
    Informer::new(remote_as(server, "sync-agent", folder), options)
}

/// Why the informer loses its stream next.
async fn interruption(informer: &mut Informer) -> Cause {
    let interrupted = async {
        loop {
            if let Update::Interrupted(interruption) = informer.next().await {
                return interruption.cause;
            }
        }
    };
    tokio::time::timeout(PATIENCE, interrupted).await.expect("the stream ends")
}

/// The server as seen by somebody with this role, if there is one, whose token lies in a file.
fn remote_as(
    server: &TestServer,
    role: &str,
    folder: &std::path::Path,
) -> partnerd::client::Remote {
    let token = server
        .dev()
        .issue_token(&[role], role, jiff::SignedDuration::from_hours(1), jiff::Timestamp::now())
        .unwrap();
    let file = folder.join(format!("{role}.token"));
    std::fs::write(&file, token.expose_secret()).unwrap();
    let mut remote = remote(folder, server.address());
    remote.token = TokenSource::File(file);
    remote
}

#[tokio::test]
async fn the_copy_is_what_the_service_lists_and_each_delta_is_one_commit() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for number in 0..5 {
        admin.create_plain(&format!("p{number}.example")).await;
    }
    let mut informer = informer(&server, quick());
    until(&mut informer, 5).await;
    assert_eq!(copied(&informer), everything(&admin).await);
    assert!(informer.state().unwrap().settings.is_some());

    admin.update(update("p0.example", &["owner"], owned_by("jo"))).await.unwrap();
    admin.delete("p1.example").await.unwrap();
    admin.create_plain("p9.example").await;
    let requests = ["p2.example", "p3.example"]
        .map(|domain| DeleteAllowedPartnerRequest { name: name(domain), ..Default::default() });
    let batch =
        BatchDeleteAllowedPartnersRequest { requests: requests.into(), ..Default::default() };
    admin.partners().batch_delete_allowed_partners(batch).await.unwrap();
    let told = until(&mut informer, 9).await;
    assert_eq!(copied(&informer), everything(&admin).await);
    let deltas: Vec<_> = told
        .into_iter()
        .filter_map(|update| match update {
            Update::Changed(delta) => Some(delta),
            _ => None,
        })
        .collect();
    let shape = |delta: &partnerd::client::Delta| {
        (delta.base_revision, delta.revision, delta.upserts.len(), delta.removals.len())
    };
    assert_eq!(
        deltas.iter().map(shape).collect::<Vec<_>>(),
        [(Some(5), 6, 1, 0), (Some(6), 7, 0, 1), (Some(7), 8, 1, 0), (Some(8), 9, 0, 2)]
    );
    assert!(deltas.iter().all(|delta| {
        delta.origin == Origin::Commit && delta.commit_time.is_some() && !delta.settings_changed
    }));
}

#[tokio::test]
async fn a_filtered_copy_is_what_the_filter_lets_through() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let options = Options { filter: "owner = \"jo\"".into(), ..quick() };
    let mut informer = informer(&server, options);
    for (number, owner) in ["jo", "al", "jo", "al"].into_iter().enumerate() {
        admin.create(&format!("p{number}.example"), owned_by(owner)).await.unwrap();
    }
    until(&mut informer, 4).await;
    admin.update(update("p0.example", &["owner"], owned_by("al"))).await.unwrap();
    admin.update(update("p1.example", &["owner"], owned_by("jo"))).await.unwrap();
    until(&mut informer, 6).await;
    let names: Vec<_> = copied(&informer).into_iter().map(|partner| partner.name).collect();
    assert_eq!(names, [name("p1.example"), name("p2.example")]);
}

#[tokio::test]
async fn a_copy_that_was_kept_goes_on_after_a_restart_and_one_of_another_history_is_read_anew() {
    let server = TestServer::start().await;
    for number in 0..3 {
        server.admin().create_plain(&format!("p{number}.example")).await;
    }
    let mut before = informer(&server, quick());
    until(&mut before, 3).await;
    let kept = before.state().unwrap().clone();
    drop(before);
    server.admin().delete("p0.example").await.unwrap();
    let server = server.restart().await;
    server.admin().create_plain("p4.example").await;
    let dev = server.dev();
    let remote = remote_as(&server, "sync-agent", dev.path());
    let mut informer = Informer::resume(remote.clone(), quick(), kept.clone());
    let told = until(&mut informer, 5).await;
    assert!(told.iter().all(|update| !matches!(
        update,
        Update::Changed(delta) if delta.origin == Origin::Listed
    )));
    assert_eq!(copied(&informer), everything(&server.admin()).await);

    let mut ahead = kept;
    ahead.revision = 1_000;
    let mut informer = Informer::resume(remote, quick(), ahead);
    let faulty = interruption(&mut informer).await;
    assert!(matches!(faulty, Cause::Faulty(_)), "{faulty:?}");
    let anew = loop {
        if let Update::Changed(delta) = informer.next().await {
            break delta;
        }
    };
    assert_eq!((anew.base_revision, anew.revision), (Some(1_000), 5));
    assert_eq!((anew.upserts.len(), anew.removals.len()), (1, 1));
    assert_eq!(copied(&informer), everything(&server.admin()).await);
}

#[tokio::test]
async fn who_may_not_watch_is_told_so_and_asked_again_with_the_token_as_it_is_then() {
    let server = TestServer::start().await;
    server.admin().create_plain("a.example").await;
    let dev = server.dev();
    let remote = remote_as(&server, "stranger", dev.path());
    let TokenSource::File(file) = remote.token.clone() else { unreachable!() };
    let mut informer = Informer::new(remote, quick());
    assert!(matches!(interruption(&mut informer).await, Cause::Denied(_)));
    std::fs::write(&file, "no.such.token").unwrap();
    assert!(matches!(interruption(&mut informer).await, Cause::Unauthenticated(_)));
    remote_as(&server, "viewer", dev.path());
    std::fs::rename(dev.path().join("viewer.token"), &file).unwrap();
    until(&mut informer, 1).await;
    assert_eq!(copied(&informer).len(), 1);
}
