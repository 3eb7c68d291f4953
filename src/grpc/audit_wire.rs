//! Audit entries and checkpoints on the wire.

use super::convert::timestamp;
use crate::{
    domain::{
        audit::{
            Actor, AuditEntry, ChainHead, Checkpoint, Event, FieldChange, Refusal, Removal,
            ResourceChange, Verb, from_hex, hex,
        },
        backup::{Origin, Restored},
    },
    proto::v1::{self as pb, audit_entry as entry_pb},
};

/// An entry.
pub fn entry(entry: &AuditEntry) -> pb::AuditEntry {
    use entry_pb::Kind;
    // Exhaustive: a new field must be shown before this compiles.
    let AuditEntry { sequence, time, actor, revision, event, previous_hash, hash } = entry;
    let Actor { subject, issuer, request_id, reason } = actor;
    let mut wire = pb::AuditEntry {
        name: format!("auditEntries/{sequence}"),
        sequence: number(*sequence),
        create_time: Some(timestamp(*time)),
        subject: subject.to_string(),
        issuer: issuer.to_string(),
        request_id: request_id.to_string(),
        reason: reason.to_string(),
        revision: revision.as_i64(),
        previous_hash: hex(previous_hash),
        hash: hex(hash),
        ..pb::AuditEntry::default()
    };
    let kind = match event {
        Event::Commit { changes } => {
            wire.changes = changes.iter().map(change).collect();
            Kind::Commit
        }
        Event::Denial(refused) => {
            wire.refusal = Some(refusal(refused));
            Kind::Denial
        }
        Event::LoginFailure(refused) => {
            wire.refusal = Some(refusal(refused));
            Kind::LoginFailure
        }
        Event::Start { version } => {
            wire.version.clone_from(version);
            Kind::Start
        }
        Event::Stop => Kind::Stop,
        Event::Checkpoint(signed) => {
            wire.checkpoint = Some(checkpoint(signed));
            Kind::Checkpoint
        }
        Event::Retention(removed) => {
            wire.retention = Some(removal(removed));
            Kind::Retention
        }
        Event::Replica(changed) => {
            wire.changes = vec![change(changed)];
            Kind::Replica
        }
        Event::Backup { revision, records } => {
            let revision = revision.as_i64();
            wire.backup = Some(entry_pb::Backup { revision, record_count: number(*records) });
            Kind::Backup
        }
        Event::Restore { origin, restored } => {
            wire.restore = Some(restore(origin, restored));
            Kind::Restore
        }
    };
    wire.kind = kind.into();
    wire
}

/// A checkpoint.
pub fn checkpoint(checkpoint: &Checkpoint) -> pb::AuditCheckpoint {
    let Checkpoint { head, time, public_key, signature } = checkpoint;
    pb::AuditCheckpoint {
        sequence: number(head.sequence),
        hash: hex(&head.hash),
        sign_time: Some(timestamp(*time)),
        public_key: hex(public_key),
        signature: hex(signature),
    }
}

fn removal(removal: &Removal) -> pb::AuditRemoval {
    let Removal { last, count, time, public_key, signature } = removal;
    pb::AuditRemoval {
        sequence: number(last.sequence),
        hash: hex(&last.hash),
        count: number(*count),
        sign_time: Some(timestamp(*time)),
        public_key: hex(public_key),
        signature: hex(signature),
    }
}

/// The checkpoint in a message.
///
/// # Errors
/// Which part of it is none.
pub fn checkpoint_of(wire: &pb::AuditCheckpoint) -> Result<Checkpoint, &'static str> {
    let pb::AuditCheckpoint { sequence, hash, sign_time, public_key, signature } = wire;
    let time = sign_time.as_ref().ok_or("the sign_time is missing")?;
    Ok(Checkpoint {
        head: ChainHead {
            sequence: u64::try_from(*sequence).map_err(|_| "the sequence is negative")?,
            hash: from_hex(hash).ok_or("the hash is not 64 hexadecimal digits")?,
        },
        time: jiff::Timestamp::new(time.seconds, time.nanos)
            .map_err(|_| "the sign_time is out of range")?,
        public_key: from_hex(public_key).ok_or("the public_key is not 64 hexadecimal digits")?,
        signature: from_hex(signature).ok_or("the signature is not 128 hexadecimal digits")?,
    })
}

fn change(ResourceChange { resource, verb, fields }: &ResourceChange) -> entry_pb::Change {
    let field = |FieldChange { field, before, after }: &FieldChange| entry_pb::Field {
        path: field.clone(),
        before: before.clone(),
        after: after.clone(),
    };
    let verb = match verb {
        Verb::Create => entry_pb::Verb::Create,
        Verb::Update => entry_pb::Verb::Update,
        Verb::Delete => entry_pb::Verb::Delete,
        Verb::Undelete => entry_pb::Verb::Undelete,
    };
    entry_pb::Change {
        resource: resource.clone(),
        verb: verb.into(),
        fields: fields.iter().map(field).collect(),
    }
}

fn refusal(refusal: &Refusal) -> entry_pb::Refusal {
    let Refusal {
        reason,
        permission,
        source,
        claimed_issuer,
        claimed_subject,
        count,
        first_time,
        last_time,
    } = refusal;
    entry_pb::Refusal {
        reason: reason.clone(),
        permission: permission.clone(),
        source: source.clone(),
        claimed_issuer: claimed_issuer.clone(),
        claimed_subject: claimed_subject.clone(),
        count: number(*count),
        first_time: Some(timestamp(*first_time)),
        last_time: Some(timestamp(*last_time)),
    }
}

fn restore(origin: &Origin, restored: &Restored) -> entry_pb::Restore {
    let Origin { revision, time, digest } = origin;
    let Restored { created, updated, deleted, unchanged } = *restored;
    entry_pb::Restore {
        backup_revision: revision.as_i64(),
        backup_time: Some(timestamp(*time)),
        backup_digest: hex(digest),
        created_count: number(created),
        updated_count: number(updated),
        deleted_count: number(deleted),
        unchanged_count: number(unchanged),
    }
}

/// A number as it goes over the wire.
pub fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
