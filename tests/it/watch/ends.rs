//! How streams end: with the token, with the key, with the server, and for want of room.

use std::{fs, time::Duration};

use jiff::{SignedDuration, Timestamp};
use partnerd::{
    dev::DevFolder,
    proto::v1::{self as pb, AllowedPartner, WatchAllowedPartnersRequest},
};
use serde_json::json;
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    TestServer,
    actor::{metadata, name, reason},
    tokens::{self, signed},
};

/// What the contract grants.
const BOUND: SignedDuration = SignedDuration::from_secs(1);

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let server = TestServer::start().await;
    // With a leeway of 30 s it is believed for two seconds more.
    let expiry = Timestamp::now().as_second() - 28;
    let claims = json!({"iss": tokens::ISSUER, "aud": tokens::AUDIENCE, "sub": "jo",
        "roles": ["viewer"], "iat": expiry - 600, "exp": expiry});
    let caller = server.with_token(&signed(&server, &claims)).await;
    let mut watch = caller.watch_from(0).await;
    watch.state().await;
    let end = watch.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unauthenticated, "TOKEN_EXPIRED"));
    let good_until = Timestamp::from_second(expiry + 30).unwrap();
    let late = good_until.duration_until(Timestamp::now());
    assert!(late >= SignedDuration::ZERO && late < BOUND, "{late:?}");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_leaves_its_place_when_its_token_ends() {
    let server = TestServer::builder()
        .limits(|limits| limits.max_watch_streams_per_subject = 1)
        .start()
        .await;
    // More than a connection takes before somebody reads.
    let admin = server.admin();
    for batch in 0..8 {
        let partner = |number| AllowedPartner {
            name: name(&format!("p{batch}-{number}.example")),
            description: "d".repeat(1_000),
            ..Default::default()
        };
        let upsert = |number| pb::UpdateAllowedPartnerRequest {
            allowed_partner: Some(partner(number)),
            allow_missing: true,
            ..Default::default()
        };
        let requests = (0..1_000).map(upsert).collect();
        let request = pb::BatchUpdateAllowedPartnersRequest { requests, ..Default::default() };
        admin.partners().batch_update_allowed_partners(request).await.unwrap();
    }
    let expiry = Timestamp::now().as_second() - 27;
    let token = |expiry: i64| {
        let claims = json!({"iss": tokens::ISSUER, "aud": tokens::AUDIENCE, "sub": "jo",
            "roles": ["viewer"], "iat": expiry - 600, "exp": expiry});
        signed(&server, &claims)
    };
    let mut unread = server.with_token(&token(expiry)).await.watch_from(0).await;
    let again = server.with_token(&token(expiry + 600)).await;
    let mut opened = again.watch(WatchAllowedPartnersRequest::default()).await;
    assert!(opened.is_err(), "the place is taken");
    while opened.is_err() {
        tokio::task::yield_now().await;
        opened = again.watch(WatchAllowedPartnersRequest::default()).await;
    }
    let good_until = Timestamp::from_second(expiry + 30).unwrap();
    let late = good_until.duration_until(Timestamp::now());
    assert!(late >= SignedDuration::ZERO && late < BOUND + BOUND, "{late:?}");
    assert_eq!(unread.end().await.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_stream_ends_when_the_key_of_its_token_is_taken_out() {
    let server = TestServer::start().await;
    let mut watch = server.viewer().watch_from(0).await;
    watch.state().await;
    let folder = tempfile::tempdir().unwrap();
    let other = DevFolder::open_or_create(folder.path(), Timestamp::now()).unwrap();
    fs::copy(other.path().join("jwt.pem"), server.dev().path().join("jwt.pem")).unwrap();
    let end = watch.end().await;
    assert_eq!(end.code(), Code::Unauthenticated, "{end:?}");
    assert!(reason(&end).starts_with("TOKEN_"));
}

#[tokio::test]
async fn a_stream_is_told_of_progress_and_then_that_the_server_goes_away() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("a.example").await;
    let mut watch = admin.watch_from(0).await;
    watch.state().await;
    let start = Instant::now();
    server.drain();
    let last = watch.next().await;
    assert_eq!((last.events.len(), last.progress_revision), (0, 1));
    let end = watch.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unavailable, "DRAINING"));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn streams_are_limited_by_subject_and_together_and_apart_from_calls() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.max_watch_streams = 3;
            limits.max_watch_streams_per_subject = 2;
            limits.max_concurrent_requests = 1;
        })
        .start()
        .await;
    let admin = server.admin();
    let mut open = vec![admin.watch_from(0).await, admin.watch_from(0).await];
    let refused = |limit: &'static str| {
        move |refused: tonic::Status| {
            assert_eq!(
                (refused.code(), reason(&refused).as_str()),
                (Code::ResourceExhausted, "TOO_MANY_STREAMS")
            );
            assert_eq!(metadata(&refused, "limit").as_deref(), Some(limit));
            assert!(refused.get_details_retry_info().is_some_and(|it| it.retry_delay.is_some()));
        }
    };
    let request = WatchAllowedPartnersRequest::default;
    let of_subject = admin.watch(request()).await.map(drop);
    refused("limits.max_watch_streams_per_subject")(of_subject.unwrap_err());
    open.push(server.viewer().watch_from(0).await);
    let of_all = server.operator().watch(request()).await.map(drop);
    refused("limits.max_watch_streams")(of_all.unwrap_err());
    // Not one of them counts as a call.
    admin.create_plain("a.example").await;
    drop(open.pop());
    // The place is free when the server has heard that the stream was given up.
    let mut again = server.viewer().watch(request()).await;
    while again.is_err() {
        tokio::task::yield_now().await;
        again = server.viewer().watch(request()).await;
    }
}
