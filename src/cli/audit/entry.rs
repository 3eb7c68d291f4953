//! Audit entries from the wire, exactly as they were hashed.

use jiff::Timestamp;

use crate::{
    domain::{
        Revision,
        audit::{
            Actor, AuditEntry, ChainHead, Checkpoint, Event, FieldChange, Refusal, Removal,
            ResourceChange, Verb, from_hex,
        },
        backup::{Origin, Restored},
    },
    proto::v1::{AuditCheckpoint, AuditEntry as WireEntry, AuditRemoval, audit_entry as wire},
};

/// The entry in a message.
///
/// # Errors
/// What is missing in it or makes no sense.
pub fn entry(entry: &WireEntry) -> Result<AuditEntry, String> {
    if entry.name != format!("auditEntries/{}", entry.sequence) {
        return Err("the name is not that of the sequence".into());
    }
    only_what_belongs(entry)?;
    let actor = Actor {
        subject: entry.subject.as_str().into(),
        issuer: entry.issuer.as_str().into(),
        request_id: entry.request_id.as_str().into(),
        reason: entry.reason.as_str().into(),
    };
    Ok(AuditEntry {
        sequence: number(entry.sequence, "sequence")?,
        time: moment(entry.create_time.as_ref(), "createTime")?,
        actor,
        revision: Revision::new(number(entry.revision, "revision")?),
        event: event(entry)?,
        previous_hash: digits(&entry.previous_hash, "previousHash")?,
        hash: digits(&entry.hash, "hash")?,
    })
}

/// The checkpoint in a message.
///
/// # Errors
/// What is missing in it or makes no sense.
pub fn checkpoint(checkpoint: &AuditCheckpoint) -> Result<Checkpoint, String> {
    Ok(Checkpoint {
        head: ChainHead {
            sequence: number(checkpoint.sequence, "sequence")?,
            hash: digits(&checkpoint.hash, "hash")?,
        },
        time: moment(checkpoint.sign_time.as_ref(), "signTime")?,
        public_key: digits(&checkpoint.public_key, "publicKey")?,
        signature: digits(&checkpoint.signature, "signature")?,
    })
}

/// Whether an entry has only what entries of its kind have: the rest is in no hash.
fn only_what_belongs(entry: &WireEntry) -> Result<(), String> {
    use wire::Kind;
    let kind = entry.kind();
    let details: [(&str, bool, &[Kind]); 5] = [
        ("changes", !entry.changes.is_empty(), &[Kind::Commit, Kind::Replica]),
        ("refusal", entry.refusal.is_some(), &[Kind::Denial, Kind::LoginFailure]),
        ("version", !entry.version.is_empty(), &[Kind::Start]),
        ("checkpoint", entry.checkpoint.is_some(), &[Kind::Checkpoint]),
        ("retention", entry.retention.is_some(), &[Kind::Retention]),
    ];
    match details.iter().find(|(_, is_there, kinds)| *is_there && !kinds.contains(&kind)) {
        Some((field, ..)) => Err(format!("{field} does not belong into an entry of this kind")),
        None => Ok(()),
    }
}

fn removal(removal: &AuditRemoval) -> Result<Removal, String> {
    Ok(Removal {
        last: ChainHead {
            sequence: number(removal.sequence, "sequence")?,
            hash: digits(&removal.hash, "hash")?,
        },
        count: number(removal.count, "count")?,
        time: moment(removal.sign_time.as_ref(), "signTime")?,
        public_key: digits(&removal.public_key, "publicKey")?,
        signature: digits(&removal.signature, "signature")?,
    })
}

fn event(entry: &WireEntry) -> Result<Event, String> {
    use wire::Kind;
    let refused = || entry.refusal.as_ref().ok_or("the refusal is missing".to_owned());
    Ok(match entry.kind() {
        Kind::Commit => {
            let changes = entry.changes.iter().map(change);
            Event::Commit { changes: changes.collect::<Result<_, _>>()? }
        }
        Kind::Denial => Event::Denial(refusal(refused()?)?),
        Kind::LoginFailure => Event::LoginFailure(refusal(refused()?)?),
        Kind::Start => Event::Start { version: entry.version.clone() },
        Kind::Stop => Event::Stop,
        Kind::Checkpoint => {
            let signed = entry.checkpoint.as_ref().ok_or("the checkpoint is missing")?;
            Event::Checkpoint(checkpoint(signed)?)
        }
        Kind::Retention => {
            let removed = entry.retention.as_ref().ok_or("the removal is missing")?;
            Event::Retention(removal(removed)?)
        }
        Kind::Replica => match entry.changes.as_slice() {
            [changed] => Event::Replica(change(changed)?),
            _ => return Err("the change of the replica is missing, or not alone".into()),
        },
        Kind::Backup => {
            let backup = entry.backup.as_ref().ok_or("the backup is missing")?;
            Event::Backup {
                revision: Revision::new(number(backup.revision, "revision")?),
                records: number(backup.record_count, "recordCount")?,
            }
        }
        Kind::Restore => restore(entry.restore.as_ref().ok_or("the restore is missing")?)?,
        Kind::Unspecified => return Err("the kind is missing, or of a later version".into()),
    })
}

fn change(change: &wire::Change) -> Result<ResourceChange, String> {
    let verb = match change.verb() {
        wire::Verb::Create => Verb::Create,
        wire::Verb::Update => Verb::Update,
        wire::Verb::Delete => Verb::Delete,
        wire::Verb::Undelete => Verb::Undelete,
        wire::Verb::Unspecified => return Err("a verb is missing, or of a later version".into()),
    };
    let field = |field: &wire::Field| FieldChange {
        field: field.path.clone(),
        before: field.before.clone(),
        after: field.after.clone(),
    };
    let fields = change.fields.iter().map(field).collect();
    Ok(ResourceChange { resource: change.resource.clone(), verb, fields })
}

fn refusal(refusal: &wire::Refusal) -> Result<Refusal, String> {
    Ok(Refusal {
        reason: refusal.reason.clone(),
        permission: refusal.permission.clone(),
        source: refusal.source.clone(),
        claimed_issuer: refusal.claimed_issuer.clone(),
        claimed_subject: refusal.claimed_subject.clone(),
        count: number(refusal.count, "count")?,
        first_time: moment(refusal.first_time.as_ref(), "firstTime")?,
        last_time: moment(refusal.last_time.as_ref(), "lastTime")?,
    })
}

fn restore(restore: &wire::Restore) -> Result<Event, String> {
    let origin = Origin {
        revision: Revision::new(number(restore.backup_revision, "backupRevision")?),
        time: moment(restore.backup_time.as_ref(), "backupTime")?,
        digest: digits(&restore.backup_digest, "backupDigest")?,
    };
    let restored = Restored {
        created: number(restore.created_count, "createdCount")?,
        updated: number(restore.updated_count, "updatedCount")?,
        deleted: number(restore.deleted_count, "deletedCount")?,
        unchanged: number(restore.unchanged_count, "unchangedCount")?,
    };
    Ok(Event::Restore { origin, restored })
}

fn moment(time: Option<&prost_types::Timestamp>, what: &str) -> Result<Timestamp, String> {
    let time = time.ok_or_else(|| format!("{what} is missing"))?;
    Timestamp::new(time.seconds, time.nanos).map_err(|_| format!("{what} is out of range"))
}

fn number(number: i64, what: &str) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("{what} is negative"))
}

fn digits<const N: usize>(text: &str, what: &str) -> Result<[u8; N], String> {
    from_hex(text).ok_or_else(|| format!("{what} is not {} hexadecimal digits", 2 * N))
}
