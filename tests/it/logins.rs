//! Who is refused too often is told to wait, and locks out nobody but himself.

use partnerd::{auth::failures::FailureLimits, proto::v1::AllowedPartner};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{TestServer, actor::reason};

#[tokio::test]
async fn who_fails_too_often_is_told_to_wait_and_good_tokens_still_pass() {
    let failures = FailureLimits { per_source: 5, per_subject: 1_000 };
    let server = TestServer::builder().failures(failures).start().await;
    let stranger = server.with_token("nonsense").await;
    for _ in 0..5 {
        let refused = stranger.describe().await.unwrap_err();
        assert_eq!(reason(&refused), "TOKEN_MALFORMED");
    }
    let refused = stranger.describe().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "TOO_MANY_REFUSALS");
    let delay = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!((1..=12).contains(&delay.as_secs()), "{delay:?}");
    server.admin().create_plain("contoso.com").await;
}

#[tokio::test]
async fn a_flood_is_no_longer_looked_at_but_those_who_are_known_pass() {
    let failures = FailureLimits { per_source: 5, per_subject: 1_000 };
    let server = TestServer::builder().failures(failures).start().await;
    let known = server.admin();
    known.create_plain("contoso.com").await;
    let stranger = server.with_token("nonsense").await;
    for _ in 0..30 {
        stranger.describe().await.unwrap_err();
    }
    known.get("contoso.com").await.unwrap();
    let newcomer = server.viewer().get("contoso.com").await.unwrap_err();
    assert_eq!(reason(&newcomer), "TOO_MANY_REFUSALS");
}

#[tokio::test]
async fn who_is_denied_too_often_is_told_to_wait_and_may_still_do_what_he_may() {
    let failures = FailureLimits { per_source: 1_000, per_subject: 3 };
    let server = TestServer::builder().failures(failures).start().await;
    server.admin().create_plain("contoso.com").await;
    let viewer = server.viewer();
    for _ in 0..3 {
        let denied = viewer.create("a.example", AllowedPartner::default()).await.unwrap_err();
        assert_eq!(reason(&denied), "PERMISSION_DENIED");
    }
    let denied = viewer.create("a.example", AllowedPartner::default()).await.unwrap_err();
    assert_eq!(reason(&denied), "TOO_MANY_REFUSALS");
    viewer.get("contoso.com").await.unwrap();
    let another = server.helpdesk();
    let denied = another.create("a.example", AllowedPartner::default()).await.unwrap_err();
    assert_eq!(reason(&denied), "PERMISSION_DENIED");
}
