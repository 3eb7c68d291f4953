//! How soon a stream ends once its right is taken: from before the call that takes it until the end is
//! received, of both kinds of streams. `cargo test --test it promptness -- --nocapture` prints the figures of docs/performance.md.

use std::time::Duration;

use partnerd::proto::v1::{
    self as pb, CreateRevocationRequest, CreateRoleRequest, Revocation, UpdateRoleRequest,
    revocation::Target, revocation_service_client::RevocationServiceClient,
};
use prost_types::FieldMask;
use tokio::time::Instant;
use tonic::Code;

use crate::harness::{TestServer, actor::reason, tokens};

const ROUNDS: usize = 50;

/// What the contract grants.
const BOUND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_revocation_ends_the_streams_of_its_subject_in_time() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let mut revocations = RevocationServiceClient::new(admin.service());
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let subject = format!("jo-{round}");
        let actor = server.actor(&subject, &["auditor"]).await;
        let mut watch = actor.watch_from(0).await;
        watch.state().await;
        let mut audit = actor.watch_audit("", 0).await;
        audit.next().await;
        let revocation = Revocation {
            issuer: tokens::ISSUER.into(),
            target: Some(Target::Subject(subject)),
            ..Revocation::default()
        };
        let request = CreateRevocationRequest {
            revocation: Some(revocation),
            ..CreateRevocationRequest::default()
        };
        let start = Instant::now();
        let (revoked, end, audit_end) =
            tokio::join!(revocations.create_revocation(request), watch.end(), audit.end());
        times.push(start.elapsed());
        revoked.unwrap();
        assert_eq!(reason(&audit_end), "TOKEN_REVOKED");
        assert_eq!((end.code(), reason(&end).as_str()), (Code::Unauthenticated, "TOKEN_REVOKED"));
    }
    judge("a revocation", times);
}

#[tokio::test]
async fn a_role_that_no_longer_lets_watch_ends_the_streams_of_its_holders_in_time() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let role = |permission: &str| pb::Role {
        name: "roles/following".into(),
        permissions: vec![
            format!("allowedPartners.{permission}"),
            format!("auditEntries.{permission}"),
        ],
        ..pb::Role::default()
    };
    let (may, may_not) = (role("watch"), role("list"));
    let create = CreateRoleRequest {
        role_id: "following".into(),
        role: Some(may.clone()),
        ..CreateRoleRequest::default()
    };
    admin.roles().create_role(create).await.unwrap();
    let update = |role: &pb::Role| UpdateRoleRequest {
        role: Some(role.clone()),
        update_mask: Some(FieldMask { paths: vec!["permissions".into()] }),
        ..UpdateRoleRequest::default()
    };
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let subject = format!("jo-{round}");
        let actor = server.actor(&subject, &["following"]).await;
        let mut watch = actor.watch_from(0).await;
        watch.state().await;
        let mut audit = actor.watch_audit("", 0).await;
        audit.next().await;
        let mut roles = admin.roles();
        let start = Instant::now();
        let (taken, end, audit_end) =
            tokio::join!(roles.update_role(update(&may_not)), watch.end(), audit.end());
        times.push(start.elapsed());
        taken.unwrap();
        assert_eq!(audit_end.code(), Code::PermissionDenied);
        assert_eq!(end.code(), Code::PermissionDenied);
        roles.update_role(update(&may)).await.unwrap();
    }
    judge("a change of the role", times);
}

fn judge(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what}: p50 {:.1?}, p99 {:.1?}, most {:.1?}", at(50), at(99), at(100));
    assert!(at(100) < BOUND, "{what} took {:?}", at(100));
}
