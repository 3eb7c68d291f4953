//! Following the audit, as those who follow it see it.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use partnerd::proto::v1::{
    self as pb, AllowedPartner, AuditEntry, CreateRevocationRequest, ListAuditEntriesRequest,
    Revocation, WatchAuditEntriesRequest, WatchAuditEntriesResponse, audit_entry::Kind,
    audit_service_client::AuditServiceClient, revocation::Target,
    revocation_service_client::RevocationServiceClient,
};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};

use crate::{
    audit::list,
    harness::{
        TestServer,
        actor::{Actor, Outcome, fields, metadata, reason, update},
        tokens::{self, signed},
    },
    watch::rights::put_role,
};

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the contract grants to a stream whose right is taken.
const BOUND: Duration = Duration::from_secs(1);

/// A stream of audit entries.
pub struct Watch(Streaming<WatchAuditEntriesResponse>);

impl Actor {
    async fn try_watch_audit(&self, request: WatchAuditEntriesRequest) -> Outcome<Watch> {
        let mut client = AuditServiceClient::new(self.service());
        Ok(Watch(client.watch_audit_entries(request).await?.into_inner()))
    }

    pub async fn watch_audit(&self, filter: &str, start_sequence: i64) -> Watch {
        let filter = filter.to_owned();
        let request = WatchAuditEntriesRequest { filter, start_sequence, ..Default::default() };
        self.try_watch_audit(request).await.expect("the caller may watch")
    }
}

impl Watch {
    async fn try_next(&mut self) -> Outcome<Option<WatchAuditEntriesResponse>> {
        timeout(PATIENCE, self.0.message()).await.expect("something comes in time")
    }

    pub async fn next(&mut self) -> WatchAuditEntriesResponse {
        self.try_next().await.expect("the stream goes on").expect("it does not just end")
    }

    /// The entries until everything up to `sequence` has been told.
    async fn until(&mut self, sequence: i64) -> Vec<AuditEntry> {
        let mut found = Vec::new();
        loop {
            let message = self.next().await;
            found.extend(message.audit_entries);
            if message.progress_sequence >= sequence {
                return found;
            }
        }
    }

    /// How the stream ends, whatever it says before.
    pub async fn end(&mut self) -> Status {
        loop {
            match self.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream ends with a status"),
                Err(end) => return end,
            }
        }
    }
}

async fn last_sequence(admin: &Actor) -> i64 {
    let mut client = AuditServiceClient::new(admin.service());
    let request = ListAuditEntriesRequest { page_size: 1, ..Default::default() };
    client.list_audit_entries(request).await.unwrap().into_inner().audit_entries[0].sequence
}

async fn revoke(admin: &Actor, subject: &str) {
    let revocation = Revocation {
        issuer: tokens::ISSUER.into(),
        target: Some(Target::Subject(subject.into())),
        ..Revocation::default()
    };
    let request = CreateRevocationRequest { revocation: Some(revocation), ..Default::default() };
    RevocationServiceClient::new(admin.service()).create_revocation(request).await.unwrap();
}

#[tokio::test]
async fn every_entry_after_a_sequence_comes_once_and_in_order_while_others_write() {
    let server = TestServer::start().await;
    let auditor = server.actor("kim", &["auditor"]).await;
    let mut from_the_start = auditor.watch_audit("", 1).await;
    let writers = (0..4).map(|writer| {
        let admin = server.admin();
        tokio::spawn(async move {
            for number in 0..40 {
                admin.create_plain(&format!("p{writer}-{number}.example")).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut midway = auditor.watch_audit("", 30).await;
    for writer in writers {
        writer.await.unwrap();
    }
    let last = last_sequence(&server.admin()).await;
    let all = list(&server.admin(), "").await;
    assert_eq!(from_the_start.until(last).await, all[1..]);
    assert_eq!(midway.until(last).await, all[30..]);
    // What lies ahead is waited for.
    let mut ahead = auditor.watch_audit("", last + 1).await;
    assert_eq!(ahead.next().await.progress_sequence, last);
    for domain in ["untold.example", "told.example"] {
        server.admin().create_plain(domain).await;
    }
    let told = ahead.until(last + 2).await;
    assert_eq!(told.iter().map(|it| it.sequence).collect::<Vec<_>>(), [last + 2]);
}

#[tokio::test]
async fn a_stream_from_now_on_says_at_once_where_that_is_and_goes_on_from_there() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.create_plain("before.example").await;
    let mut watch = admin.watch_audit("kind = COMMIT AND subject = \"admin\"", 0).await;
    let first = watch.next().await;
    assert_eq!((first.audit_entries.len(), first.progress_sequence), (0, 2));
    drop(watch);
    admin.create_plain("between.example").await;
    let mut watch = admin.watch_audit("kind = COMMIT", first.progress_sequence).await;
    let told = watch.until(3).await;
    assert_eq!(told[0].changes[0].resource, "allowedPartners/between.example");
}

#[tokio::test]
async fn what_a_filter_leaves_out_is_progress_all_the_same() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let request = WatchAuditEntriesRequest {
        filter: "changes.resource:\"allowedPartners/wanted.example\"".into(),
        progress_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    let mut watch = admin.try_watch_audit(request).await.unwrap();
    for domain in ["a.example", "wanted.example", "b.example"] {
        admin.create_plain(domain).await;
    }
    let told = watch.until(4).await;
    assert_eq!(told.iter().map(|it| it.sequence).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn a_bad_request_names_its_fields() {
    let server = TestServer::start().await;
    let request = WatchAuditEntriesRequest {
        filter: "nonsense = 1".into(),
        start_sequence: -1,
        progress_interval: Some(prost_types::Duration { seconds: 0, nanos: 1 }),
    };
    let refused = server.admin().try_watch_audit(request).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let named: BTreeSet<_> = fields(&refused).into_iter().collect();
    assert_eq!(named.len(), 3, "{named:?}");
}

#[tokio::test]
async fn who_is_confined_sees_what_is_in_his_scope_as_it_is_then() {
    let server = TestServer::start().await;
    put_role(&server, &["auditEntries.watch"], &["*.north.example"]).await;
    let admin = server.admin();
    let mut watch = server.actor("kim", &["regional"]).await.watch_audit("", 1).await;
    admin.create_plain("a.north.example").await;
    admin.create_plain("b.south.example").await;
    let mixed =
        AllowedPartner { additional_domains: vec!["c.south.example".into()], ..Default::default() };
    admin.create("c.north.example", mixed).await.unwrap();
    let resources = |told: Vec<AuditEntry>| -> Vec<String> {
        told.into_iter().flat_map(|it| it.changes).map(|it| it.resource).collect()
    };
    let told = watch.until(5).await;
    assert_eq!(resources(told), ["allowedPartners/a.north.example"]);
    put_role(&server, &["auditEntries.watch"], &["*.south.example"]).await;
    for domain in ["a.north.example", "b.south.example"] {
        let owner = AllowedPartner { owner: "me".into(), ..Default::default() };
        admin.update(update(domain, &["owner"], owner)).await.unwrap();
    }
    assert_eq!(resources(watch.until(8).await), ["allowedPartners/b.south.example"]);
}

#[tokio::test]
async fn a_revocation_ends_the_stream_in_time_and_is_audited_with_its_reason() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let mut follower = admin.watch_audit("kind = LOGIN_FAILURE", 0).await;
    let mut watch = server.actor("jo", &["auditor"]).await.watch_audit("", 0).await;
    let mut partners = server.actor("jo", &["auditor"]).await.watch_from(0).await;
    watch.next().await;
    partners.state().await;
    let start = Instant::now();
    revoke(&admin, "jo").await;
    let end = watch.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unauthenticated, "TOKEN_REVOKED"));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    assert_eq!(partners.end().await.code(), Code::Unauthenticated);
    // Both ends are one entry, and whoever follows the audit is told.
    let mut counted = 0;
    while counted < 2 {
        for entry in follower.next().await.audit_entries {
            let refusal = entry.refusal.unwrap();
            assert_eq!((entry.subject.as_str(), refusal.reason.as_str()), ("jo", "TOKEN_REVOKED"));
            assert_eq!(refusal.source, "127.0.0.1");
            counted += refusal.count;
        }
    }
    assert_eq!(counted, 2);
}

#[tokio::test]
async fn a_change_of_the_role_ends_the_stream_in_time_and_is_audited_as_a_denial() {
    let server = TestServer::start().await;
    put_role(&server, &["auditEntries.watch"], &[]).await;
    let mut watch = server.actor("jo", &["regional"]).await.watch_audit("", 0).await;
    watch.next().await;
    let start = Instant::now();
    put_role(&server, &["auditEntries.list"], &[]).await;
    let end = watch.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    assert_eq!(metadata(&end, "permission").as_deref(), Some("auditEntries.watch"));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    let server = server.restart().await;
    let denials = list(&server.admin(), "kind = DENIAL").await;
    let [denial] = &denials[..] else { panic!("{denials:?}") };
    let refusal = denial.refusal.as_ref().unwrap();
    assert_eq!((denial.subject.as_str(), refusal.count), ("jo", 1));
    assert_eq!(refusal.permission, "auditEntries.watch");
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_that_is_audited() {
    let server = TestServer::start().await;
    // With a leeway of 30 s it is believed for two seconds more.
    let expiry = Timestamp::now().as_second() - 28;
    let claims = json!({"iss": tokens::ISSUER, "aud": tokens::AUDIENCE, "sub": "jo",
        "roles": ["auditor"], "iat": expiry - 600, "exp": expiry});
    let caller = server.with_token(&signed(&server, &claims)).await;
    let end = caller.watch_audit("", 0).await.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unauthenticated, "TOKEN_EXPIRED"));
    let good_until = Timestamp::from_second(expiry + 30).unwrap();
    let late = good_until.duration_until(Timestamp::now());
    assert!(late >= SignedDuration::ZERO && late < SignedDuration::from_secs(1), "{late:?}");
    let server = server.restart().await;
    let failures = list(&server.admin(), "kind = LOGIN_FAILURE").await;
    let [failure] = &failures[..] else { panic!("{failures:?}") };
    assert_eq!(failure.refusal.as_ref().unwrap().reason, "TOKEN_EXPIRED");
    assert_eq!(failure.subject, "jo", "his issuer vouches for him");
}

#[tokio::test]
async fn a_stream_is_told_of_progress_and_then_that_the_server_goes_away() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let mut watch = admin.watch_audit("kind = COMMIT", 0).await;
    watch.next().await;
    admin.create_plain("a.example").await;
    assert_eq!(watch.until(2).await.len(), 1);
    server.drain();
    let last = watch.next().await;
    assert_eq!((last.audit_entries.len(), last.progress_sequence), (0, 2));
    let end = watch.end().await;
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unavailable, "DRAINING"));
}

#[tokio::test]
async fn both_kinds_of_streams_share_their_limits_and_neither_counts_as_a_call() {
    let server = TestServer::builder()
        .limits(|limits| {
            limits.max_watch_streams_per_subject = 2;
            limits.max_concurrent_requests = 1;
        })
        .start()
        .await;
    let admin = server.admin();
    let audit = admin.watch_audit("", 0).await;
    let partners = admin.watch_from(0).await;
    let refused = admin.try_watch_audit(WatchAuditEntriesRequest::default()).await.map(drop);
    let refused = refused.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_STREAMS");
    assert_eq!(
        metadata(&refused, "limit").as_deref(),
        Some("limits.max_watch_streams_per_subject")
    );
    // Not one of them counts as a call.
    admin.create_plain("a.example").await;
    drop((audit, partners));
}

/// Each of the six large entries takes half a megabyte and more, a thousand changes in it; a connection
/// takes few of them before somebody reads.
#[tokio::test]
async fn a_slow_reader_keeps_nobody_waiting_and_has_missed_nothing() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let mut slow = server.actor("slow", &["auditor"]).await.watch_audit("", 1).await;
    for batch in 0..6 {
        let upsert = |number| pb::UpdateAllowedPartnerRequest {
            allowed_partner: Some(AllowedPartner {
                name: format!("allowedPartners/p{batch}-{number}.example"),
                description: "d".repeat(400),
                ..Default::default()
            }),
            allow_missing: true,
            ..Default::default()
        };
        let requests = (0..1_000).map(upsert).collect();
        let request = pb::BatchUpdateAllowedPartnersRequest { requests, ..Default::default() };
        admin.partners().batch_update_allowed_partners(request).await.unwrap();
    }
    for number in 0..50 {
        admin.create_plain(&format!("small-{number}.example")).await;
    }
    let told = slow.until(57).await;
    let sequences: Vec<_> = told.iter().map(|it| it.sequence).collect();
    assert_eq!(sequences, (2..=57).collect::<Vec<_>>());
    assert_eq!(told[5].changes.len(), 1_000);
    assert!(told.iter().all(|it| it.kind() == Kind::Commit));
}
