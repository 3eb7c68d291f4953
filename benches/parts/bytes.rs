//! To bytes: messages, events, the audit's hash and what is stored.

use std::hint::black_box;

use bytes::Bytes;
use jiff::Timestamp;
use partnerd::{
    domain::{
        Revision,
        audit::{AuditEntry, ChainHead, Event},
    },
    grpc::convert,
    proto::v1 as pb,
    registry::audit::resource_changes,
    store::{
        Change, Commit,
        codec::{self, Texts},
    },
};
use prost::Message as _;

use crate::{Parts, model};

pub fn measure(parts: &mut Parts<'_>) {
    let partner = model::partner(1);
    parts.add("encode-partner", "a partner to a message, and to bytes", |bencher| {
        bencher.iter(|| convert::partner(black_box(&partner)).encode_to_vec());
    });
    let thousand: Vec<_> = (0..1_000).map(model::partner).collect();
    parts.add("encode-page", "a page of 1,000 to a message, and to bytes", |bencher| {
        bencher.iter(|| {
            let allowed_partners = black_box(&thousand).iter().map(convert::partner).collect();
            pb::ListAllowedPartnersResponse { allowed_partners, ..Default::default() }
                .encode_to_vec()
        });
    });
    let commit = model::commit();
    parts.add("event-own", "an event of a change, made and encoded for one stream", |bencher| {
        bencher.iter(|| event(black_box(&commit)));
    });
    let shared = Bytes::from(event(&commit));
    parts.add("event-shared", "the same, encoded before for another", |bencher| {
        bencher.iter(|| black_box(&shared).clone());
    });
    let changes = resource_changes(&commit.changes);
    parts.add("audit-entry", "the audit entry of a change, hashed", |bencher| {
        bencher.iter(|| {
            let event = Event::Commit { changes: black_box(&changes).clone() };
            let (head, actor) = (ChainHead::default(), commit.actor.clone());
            AuditEntry::after(head, Timestamp::UNIX_EPOCH, actor, Revision::new(2), event)
        });
    });
    let key = [b"l".as_slice(), &2_u64.to_be_bytes()].concat();
    parts.add("commit-store", "a commit of one change to what is stored", |bencher| {
        bencher.iter(|| codec::encode(&key, black_box(&commit)));
    });
    let stored = codec::encode(&key, &commit);
    parts.add("commit-read", "and back, past its checksum", |bencher| {
        let mut texts = Texts::default();
        bencher.iter(|| {
            codec::decode::<Commit>(&key, black_box(&stored), &mut texts).expect("it was stored")
        });
    });
}

/// The event of a commit that changed one partner, as a stream is told it.
fn event(commit: &Commit) -> Vec<u8> {
    let [Change::Partner { before, after }] = commit.changes.as_slice() else {
        panic!("the commit changes one partner");
    };
    let event = pb::WatchEvent {
        r#type: pb::watch_event::Type::Modified.into(),
        name: convert::partner_name(after),
        allowed_partner: Some(convert::partner(after)),
        previous_allowed_partner: before.as_deref().map(convert::partner),
        revision: commit.revision.as_i64(),
        commit_time: Some(convert::timestamp(commit.time)),
        subject: commit.actor.subject.to_string(),
        reason: commit.actor.reason.to_string(),
        ..Default::default()
    };
    event.encode_to_vec()
}
