//! What one subject does too much of is refused to him, and to nobody else.

use futures_util::future::join_all;
use partnerd::proto::v1::{AllowedPartner, ListAllowedPartnerRevisionsRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::in_time;
use crate::harness::{
    TestServer,
    actor::{Actor, metadata, name, reason},
};

/// The limit that a refusal names, which also says when to try again.
fn limit(refused: &Status) -> String {
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let retry = refused.get_details_retry_info().expect("it says when to try again");
    assert!(retry.retry_delay.is_some());
    let quota = refused.get_details_quota_failure().expect("it says which limit");
    let limit = metadata(refused, "limit").expect("for programs too");
    assert_eq!(quota.violations[0].subject, limit);
    limit
}

async fn revisions(actor: &Actor) -> Result<(), Status> {
    let request =
        ListAllowedPartnerRevisionsRequest { name: name("contoso.com"), ..Default::default() };
    actor.partners().list_allowed_partner_revisions(request).await.map(drop)
}

#[tokio::test]
async fn the_calls_of_one_subject_leave_room_for_others() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.max_concurrent_requests = 4;
            limits.max_concurrent_requests_per_subject = 2;
        })
        .start()
        .await;
    server.admin().create_plain("contoso.com").await;
    let greedy = server.actor("greedy", &["viewer"]).await;
    // They wait for a revision that does not come, as soon as they are let in: the call below may
    // come before one of them.
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let waiting = greedy.clone().with("x-min-revision", "1000");
            tokio::spawn(async move { while waiting.get("contoso.com").await.is_err() {} })
        })
        .collect();
    let refused = in_time(async {
        loop {
            if let Err(refused) = greedy.get("contoso.com").await {
                return refused;
            }
        }
    })
    .await;
    assert_eq!(reason(&refused), "TOO_MANY_CALLS");
    assert_eq!(limit(&refused), "limits.max_concurrent_requests_per_subject");
    server.viewer().get("contoso.com").await.expect("another subject has a share of his own");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    in_time(async { while greedy.get("contoso.com").await.is_err() {} }).await;
}

#[tokio::test]
async fn the_writes_of_one_subject_leave_room_in_the_queue() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.write_queue = 64;
            limits.write_queue_per_subject = 4;
        })
        .start()
        .await;
    let greedy = server.actor("greedy", &["admin"]).await;
    let modest = server.apart("modest", &["admin"]).await;
    let flood = async {
        let writes =
            (0..200).map(|number| {
                let greedy = greedy.clone();
                async move {
                    greedy.create(&format!("p{number}.example"), AllowedPartner::default()).await
                }
            });
        join_all(writes).await
    };
    let few = async {
        for number in 0..10 {
            modest.create_plain(&format!("q{number}.example")).await;
        }
    };
    let (flood, ()) = tokio::join!(flood, few);
    let refused: Vec<_> = flood.into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty(), "as many writes waited as came");
    for refused in &refused {
        assert_eq!(reason(refused), "WRITE_QUEUE_FULL");
        assert_eq!(limit(refused), "limits.write_queue_per_subject");
    }
}

#[tokio::test]
async fn the_scans_of_one_subject_leave_turns_for_others() {
    let server =
        TestServer::builder().limits(|limits| limits.max_scans_per_subject = 2).start().await;
    server.admin().create_plain("contoso.com").await;
    let greedy = server.actor("greedy", &["admin"]).await;
    let modest = server.apart("modest", &["admin"]).await;
    let flood = join_all((0..64).map(|_| revisions(&greedy)));
    let few = async {
        for _ in 0..5 {
            revisions(&modest).await.expect("another subject has turns of his own");
        }
    };
    let (flood, ()) = tokio::join!(flood, few);
    let (served, refused): (Vec<_>, Vec<_>) = flood.into_iter().partition(Result::is_ok);
    assert!(!served.is_empty() && !refused.is_empty(), "{} and {}", served.len(), refused.len());
    for refused in refused.into_iter().filter_map(Result::err) {
        assert_eq!(reason(&refused), "TOO_MANY_SCANS");
        assert_eq!(limit(&refused), "limits.max_scans_per_subject");
    }
}
