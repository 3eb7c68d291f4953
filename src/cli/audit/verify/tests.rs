//! Exports that were changed by a byte.

use jiff::Timestamp;

use super::*;
use crate::{
    domain::{
        Revision,
        audit::{
            Actor, AuditEntry as Entry, Checkpoint, Event, FieldChange, Refusal, ResourceChange,
            SigningKey, Verb,
        },
        backup::{Origin, Restored},
    },
    proto::v1::{AuditRemoval, audit_entry as wire},
};

fn time(second: i64) -> Timestamp {
    Timestamp::new(1_800_000_000 + second, 250_000_000).unwrap()
}

/// An entry of every kind, the last of them a checkpoint.
fn chain() -> Vec<Entry> {
    let key = SigningKey::generate();
    let change = |resource: &str, verb| ResourceChange {
        resource: resource.into(),
        verb,
        fields: vec![FieldChange {
            field: "owner".into(),
            before: "a".into(),
            after: "Zoë".into(),
        }],
    };
    let refusal = Refusal {
        reason: "TOKEN_EXPIRED".into(),
        permission: "allowedPartners.get".into(),
        source: "192.0.2.1".into(),
        claimed_issuer: "one".into(),
        claimed_subject: "mallory".into(),
        count: 3,
        first_time: time(1),
        last_time: time(2),
    };
    let origin = Origin { revision: Revision::new(6), time: time(3), digest: [0x5a; 32] };
    let restored = Restored { created: 1, updated: 2, deleted: 3, unchanged: 4 };
    let mut entries: Vec<Entry> = Vec::new();
    for number in 1..=10 {
        let head = entries.last().map(Entry::head).unwrap_or_default();
        let event = match number {
            1 => Event::Start { version: "1.0.0".into() },
            2 => Event::Commit { changes: vec![change("allowedPartners/a.example", Verb::Create)] },
            3 => Event::Denial(refusal.clone()),
            4 => Event::LoginFailure(refusal.clone()),
            5 => Event::Replica(change("replicas/one", Verb::Delete)),
            6 => Event::Retention(key.sign_removal(head, entries[1].head(), 2, time(6))),
            7 => Event::Stop,
            8 => Event::Backup { revision: Revision::new(6), records: 4 },
            9 => Event::Restore { origin, restored },
            _ => Event::Checkpoint(key.sign(head, time(10))),
        };
        let actor = Actor { subject: "jo".into(), ..Actor::service("ticket 17") };
        entries.push(Entry::after(head, time(number), actor, Revision::new(7), event));
    }
    entries
}

/// As the service puts it on the wire, for which it has code that this side must not know.
fn exported(entry: &Entry) -> String {
    let number = |number: u64| i64::try_from(number).unwrap();
    let stamp = |time: Timestamp| {
        Some(prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
    };
    let mut message = AuditEntry {
        name: format!("auditEntries/{}", entry.sequence),
        sequence: number(entry.sequence),
        create_time: stamp(entry.time),
        subject: entry.actor.subject.to_string(),
        issuer: entry.actor.issuer.to_string(),
        request_id: entry.actor.request_id.to_string(),
        reason: entry.actor.reason.to_string(),
        revision: entry.revision.as_i64(),
        previous_hash: hex(&entry.previous_hash),
        hash: hex(&entry.hash),
        ..AuditEntry::default()
    };
    let changes = entry.event.changes().iter().map(|change| wire::Change {
        resource: change.resource.clone(),
        verb: match change.verb {
            Verb::Create => wire::Verb::Create,
            Verb::Update => wire::Verb::Update,
            Verb::Delete => wire::Verb::Delete,
            Verb::Undelete => wire::Verb::Undelete,
        }
        .into(),
        fields: change
            .fields
            .iter()
            .map(|it| wire::Field {
                path: it.field.clone(),
                before: it.before.clone(),
                after: it.after.clone(),
            })
            .collect(),
    });
    message.changes = changes.collect();
    let kind = match &entry.event {
        Event::Commit { .. } => wire::Kind::Commit,
        Event::Denial(refusal) | Event::LoginFailure(refusal) => {
            message.refusal = Some(wire::Refusal {
                reason: refusal.reason.clone(),
                permission: refusal.permission.clone(),
                source: refusal.source.clone(),
                claimed_issuer: refusal.claimed_issuer.clone(),
                claimed_subject: refusal.claimed_subject.clone(),
                count: number(refusal.count),
                first_time: stamp(refusal.first_time),
                last_time: stamp(refusal.last_time),
            });
            match entry.event {
                Event::Denial(_) => wire::Kind::Denial,
                _ => wire::Kind::LoginFailure,
            }
        }
        Event::Start { version } => {
            message.version.clone_from(version);
            wire::Kind::Start
        }
        Event::Stop => wire::Kind::Stop,
        Event::Checkpoint(Checkpoint { head, time, public_key, signature }) => {
            message.checkpoint = Some(AuditCheckpoint {
                sequence: number(head.sequence),
                hash: hex(&head.hash),
                sign_time: stamp(*time),
                public_key: hex(public_key),
                signature: hex(signature),
            });
            wire::Kind::Checkpoint
        }
        Event::Retention(removal) => {
            message.retention = Some(AuditRemoval {
                sequence: number(removal.last.sequence),
                hash: hex(&removal.last.hash),
                count: number(removal.count),
                sign_time: stamp(removal.time),
                public_key: hex(&removal.public_key),
                signature: hex(&removal.signature),
            });
            wire::Kind::Retention
        }
        Event::Replica(_) => wire::Kind::Replica,
        Event::Backup { revision, records } => {
            message.backup =
                Some(wire::Backup { revision: revision.as_i64(), record_count: number(*records) });
            wire::Kind::Backup
        }
        Event::Restore {
            origin: Origin { revision, time, digest },
            restored: Restored { created, updated, deleted, unchanged },
        } => {
            message.restore = Some(wire::Restore {
                backup_revision: revision.as_i64(),
                backup_time: stamp(*time),
                backup_digest: hex(digest),
                created_count: number(*created),
                updated_count: number(*updated),
                deleted_count: number(*deleted),
                unchanged_count: number(*unchanged),
            });
            wire::Kind::Restore
        }
    };
    message.kind = kind.into();
    serde_json::to_string(&Json(&message)).unwrap() + "\n"
}

/// Whether an export is taken for whole.
fn passes(export: &[u8]) -> bool {
    let walk = Walk::of_export(None, Vec::new()).unwrap();
    matches!(walk_on(export, walk), Ok(Ok(walk)) if walk.clone().end().is_ok() && walk.length() == 10)
}

#[test]
fn no_byte_of_an_export_can_be_changed_unseen() {
    let export: String = chain().iter().map(exported).collect();
    let export = export.trim_end().as_bytes();
    assert!(passes(export));
    for at in 0..export.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = export.to_vec();
            changed[at] ^= flip;
            let near =
                String::from_utf8_lossy(&changed[at.saturating_sub(20)..][..21]).into_owned();
            assert!(!passes(&changed), "byte {at} by {flip:#04x}: {near}");
        }
    }
}

#[test]
fn what_no_hash_covers_cannot_be_added() {
    let entries = chain();
    let export: String = entries.iter().map(exported).collect();
    let stop = exported(&entries[6]);
    let stop = stop.trim_end().strip_suffix('}').unwrap();
    for added in [r#","version":"2.0.0""#, r#","changes":[{"resource":"x"}]"#, r#","more":1"#] {
        let changed = export.replace(stop, &format!("{stop}{added}"));
        assert_ne!(changed, export);
        assert!(!passes(changed.as_bytes()), "{added}");
    }
}

#[test]
fn what_says_the_same_in_another_way_is_no_export() {
    let export: String = chain().iter().map(exported).collect();
    for (written, otherwise) in [
        ("\"sequence\":\"7\"", "\"sequence\":7"),
        ("KIND_STOP", "5"),
        ("\"createTime\"", "\"create_time\""),
    ] {
        let changed = export.replacen(written, otherwise, 1);
        assert_ne!(changed, export, "{written}");
        assert!(!passes(changed.as_bytes()), "{otherwise}");
    }
}
