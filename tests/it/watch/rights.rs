//! Streams of callers whose roles change while they follow.

use partnerd::proto::v1::{
    self as pb, AllowedPartner, WatchAllowedPartnersRequest, watch_event::Type,
};
use prost_types::FieldMask;
use tokio::time::Instant;
use tonic::Code;

use crate::harness::{
    TestServer,
    actor::{metadata, reason, update},
    stream::{Brief, brief},
};

/// The contract's bound for the end of a stream whose right is taken away.
const BOUND: std::time::Duration = std::time::Duration::from_secs(1);

fn brief_of(kind: Type, domain: &str, revision: i64) -> Brief {
    (kind, domain.to_owned(), revision)
}

/// Puts the role `regional` in force: these permissions within these scopes, or everywhere.
pub async fn put_role(server: &TestServer, permissions: &[&str], scopes: &[&str]) {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let role = pb::Role {
        name: "roles/regional".into(),
        permissions: texts(permissions),
        domain_scopes: texts(scopes),
        ..Default::default()
    };
    let request = pb::UpdateRoleRequest {
        role: Some(role),
        update_mask: Some(FieldMask { paths: vec!["permissions".into(), "domain_scopes".into()] }),
        allow_missing: true,
        ..Default::default()
    };
    server.admin().roles().update_role(request).await.unwrap();
}

const WATCH: &[&str] = &["allowedPartners.watch"];

#[tokio::test]
async fn what_the_caller_may_no_longer_see_leaves_by_name_and_what_he_may_comes() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("a.north.example").await;
    admin.create_plain("b.south.example").await;
    put_role(&server, WATCH, &["*.north.example"]).await;
    let regional = server.actor("regional", &["regional"]).await;
    let mut watch = regional.watch_from(0).await;
    let (state, revision) = watch.state().await;
    assert_eq!(brief(&state), [brief_of(Type::Added, "a.north.example", revision)]);

    put_role(&server, WATCH, &["*.south.example"]).await;
    let events = watch.until(revision + 1).await;
    assert_eq!(
        brief(&events),
        [
            brief_of(Type::Removed, "a.north.example", revision + 1),
            brief_of(Type::Added, "b.south.example", revision + 1),
        ]
    );
    assert!(events[0].allowed_partner.is_none() && events[0].previous_allowed_partner.is_none());
    assert!(events[1].allowed_partner.is_some());
}

#[tokio::test]
async fn a_stream_ends_with_the_commit_that_takes_the_right_away() {
    let server = TestServer::start().await;
    put_role(&server, WATCH, &[]).await;
    let regional = server.actor("regional", &["regional"]).await;
    let mut watch = regional.watch_from(0).await;
    watch.state().await;
    let start = Instant::now();
    put_role(&server, &["allowedPartners.get"], &[]).await;
    let end = watch.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    assert_eq!(metadata(&end, "permission").as_deref(), Some("allowedPartners.watch"));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    let request = WatchAllowedPartnersRequest::default();
    assert_eq!(regional.watch(request).await.map(drop).unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_start_before_a_restart_goes_by_the_roles_of_then() {
    let server = TestServer::builder().limits(|limits| limits.watch_tail_commits = 1).start().await;
    let admin = server.admin();
    put_role(&server, WATCH, &["*.north.example"]).await;
    for domain in ["a.north.example", "b.south.example"] {
        admin.create_plain(domain).await;
    }
    put_role(&server, WATCH, &[]).await;
    let owner = AllowedPartner { owner: "jo".into(), ..Default::default() };
    admin.update(update("b.south.example", &["owner"], owner)).await.unwrap();
    put_role(&server, WATCH, &["*.south.example"]).await;
    let server = server.restart().await;
    let regional = server.actor("regional", &["regional"]).await;
    let events = regional.watch_from(1).await.until(6).await;
    // What he may not see now is told by its name at most.
    assert_eq!(
        brief(&events),
        [
            brief_of(Type::Added, "b.south.example", 4),
            brief_of(Type::Modified, "b.south.example", 5),
            brief_of(Type::Removed, "a.north.example", 6),
        ]
    );
    assert!(events[2].allowed_partner.is_none() && events[2].previous_allowed_partner.is_none());
}
