//! The end of a partner's time: a commit of its own, at the time, through the front door.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use partnerd::proto::v1::{
    AllowedPartner, AllowedPartnerRevision, ListAllowedPartnerRevisionsRequest,
    resolve_domain_response::DenialReason, watch_event::Type,
};
use tonic::{Code, Request};

use crate::harness::{
    TestServer,
    actor::{Actor, fields, name, reason, update},
    stream::brief,
};

/// Far enough ahead for a partner to be made before, and soon enough to wait for.
const SOON: SignedDuration = SignedDuration::from_secs(2);

fn moment(from_now: SignedDuration) -> Timestamp {
    Timestamp::now().checked_add(from_now).unwrap()
}

fn wire(moment: Timestamp) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: moment.as_second(), nanos: moment.subsec_nanosecond() })
}

fn until(moment: Timestamp) -> AllowedPartner {
    AllowedPartner { expire_time: wire(moment), ..Default::default() }
}

/// Waits until `moment` has come by this machine's clock.
async fn clock_at(moment: Timestamp) {
    while let Ok(left) = Duration::try_from(moment.duration_since(Timestamp::now()))
        && !left.is_zero()
    {
        tokio::time::sleep(left).await;
    }
}

/// The partner once there is a commit after `revision`.
async fn after(actor: &Actor, domain: &str, revision: i64) -> AllowedPartner {
    actor.clone().with("x-min-revision", &(revision + 1).to_string()).get(domain).await.unwrap()
}

async fn newest(actor: &Actor, domain: &str) -> AllowedPartnerRevision {
    let request = Request::new(ListAllowedPartnerRevisionsRequest {
        name: name(domain),
        page_size: 1,
        ..Default::default()
    });
    let page = actor.partners().list_allowed_partner_revisions(request).await.unwrap();
    page.into_inner().allowed_partner_revisions.remove(0)
}

fn nanos(time: Option<&prost_types::Timestamp>) -> i128 {
    let time = time.unwrap();
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

#[tokio::test]
async fn a_partner_expires_by_a_commit_of_the_service_at_the_time() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let expiry = moment(SOON);
    let before = admin
        .create("contoso.com", AllowedPartner { owner: "ops".into(), ..until(expiry) })
        .await
        .unwrap();
    assert!(!before.expired);

    let expired = after(&admin, "contoso.com", before.revision).await;
    let late = nanos(expired.update_time.as_ref()) - expiry.as_nanosecond();
    assert!((0..5_000_000_000).contains(&late), "{late} ns late");
    let expected = AllowedPartner {
        expired: true,
        updater: "partnerd".into(),
        update_time: expired.update_time,
        revision: before.revision + 1,
        etag: expired.etag.clone(),
        ..before.clone()
    };
    assert_eq!(expired, expected);
    assert_ne!(expired.etag, before.etag);
    let denied = server.viewer().resolve("contoso.com").await.unwrap();
    assert_eq!(denied.denial_reason(), DenialReason::Expired);

    let told = newest(&admin, "contoso.com").await;
    assert_eq!(told.changed_fields, ["expired"]);
    assert_eq!((told.subject.as_str(), told.issuer.as_str()), ("partnerd", ""));
    assert_eq!(told.reason, "expire_time has passed");
}

#[tokio::test]
async fn partners_that_expire_together_expire_in_one_commit_and_others_do_not() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let expiry = moment(SOON);
    for domain in ["a.example", "b.example"] {
        admin.create(domain, until(expiry)).await.unwrap();
    }
    admin.create("later.example", until(moment(SignedDuration::from_hours(1)))).await.unwrap();
    admin.create_plain("never.example").await;
    admin.create("gone.example", until(expiry)).await.unwrap();
    let last = admin.delete("gone.example").await.unwrap().revision;
    let first = after(&admin, "a.example", last).await;
    let second = admin.get("b.example").await.unwrap();
    assert!(first.expired && second.expired);
    assert_eq!((first.revision, second.revision), (last + 1, last + 1));
    assert_eq!(admin.names("expired = true").await, ["a.example", "b.example"]);
    let events = server.sync_agent().watch_from(last).await.until(last + 1).await;
    let told = ["a.example", "b.example"].map(|it| (Type::Modified, it.to_owned(), last + 1));
    assert_eq!(brief(&events), told);
    assert!(events.iter().all(|event| event.subject == "partnerd"));
    assert_eq!(admin.revision().await, last + 1);
}

#[tokio::test]
async fn a_time_that_ran_out_while_no_server_ran_is_marked_at_the_start() {
    let server = TestServer::start().await;
    let expiry = moment(SOON);
    let before = server.admin().create("contoso.com", until(expiry)).await.unwrap();
    let stopped = server.stop().await;
    clock_at(expiry).await;
    let restarted = Timestamp::now();
    let server = stopped.start().await;
    let expired = after(&server.admin(), "contoso.com", before.revision).await;
    assert!(expired.expired);
    assert!(nanos(expired.update_time.as_ref()) > restarted.as_nanosecond());

    // It is marked once.
    let server = server.restart().await;
    let other = server.admin().create_plain("other.example").await;
    assert_eq!(other.revision, expired.revision + 1);
    assert_eq!(server.admin().get("contoso.com").await.unwrap(), expired);
}

#[tokio::test]
async fn a_later_time_clears_the_mark_and_an_earlier_one_is_seen_at_once() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let later = moment(SignedDuration::from_hours(1));
    let before = admin.create("contoso.com", until(later)).await.unwrap();
    let sooner = update("contoso.com", &["expire_time"], until(moment(SOON)));
    let sooner = admin.update(sooner).await.unwrap();
    assert_eq!(sooner.revision, before.revision + 1);
    let expired = after(&admin, "contoso.com", sooner.revision).await;
    assert!(expired.expired);

    let longer = admin.update(update("contoso.com", &["expire_time"], until(later))).await.unwrap();
    assert!(!longer.expired);
    assert!(server.viewer().resolve("contoso.com").await.unwrap().allowed);
}

#[tokio::test]
async fn what_expired_comes_back_expired_and_no_rollback_revives_it() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let expiry = moment(SOON);
    let deleted = admin.create("deleted.example", until(expiry)).await.unwrap();
    let changed = admin.create("changed.example", until(expiry)).await.unwrap();
    admin.delete("deleted.example").await.unwrap();
    let cleared = update("changed.example", &["expire_time"], AllowedPartner::default());
    let last = admin.update(cleared).await.unwrap().revision;
    clock_at(expiry).await;

    let undeleted = admin.undelete("deleted.example").await.unwrap();
    assert!(undeleted.expired);
    assert_eq!((undeleted.uid, undeleted.revision), (deleted.uid, last + 1));

    let request = partnerd::proto::v1::RollbackAllowedPartnerRequest {
        name: name("changed.example"),
        revision: changed.revision,
        ..Default::default()
    };
    let refused = admin.partners().rollback_allowed_partner(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "FIELD_INVALID")
    );
    assert_eq!(fields(&refused), ["expire_time"]);
    // Nothing was left to mark: neither what was deleted at the time, nor what has none any more.
    assert_eq!(admin.revision().await, last + 1);
}
