//! Audit entries.

use prost::Message as _;

use super::{
    Damage, Kind, Stored, Texts, array,
    history::StoredActor,
    message,
    time::{self, StoredTime},
};
use crate::domain::{
    Revision,
    audit::{
        AuditEntry, ChainHead, Checkpoint, Event, FieldChange, Refusal, Removal, ResourceChange,
        Verb,
    },
    backup::{Origin, Restored},
};

#[derive(Clone, PartialEq, prost::Message)]
struct StoredAuditEntry {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(message, optional, tag = "2")]
    time: Option<StoredTime>,
    #[prost(message, optional, tag = "3")]
    actor: Option<StoredActor>,
    #[prost(uint64, tag = "4")]
    revision: u64,
    /// Looked at when it is of a commit, which is when nothing else is there.
    #[prost(message, repeated, tag = "5")]
    changes: Vec<StoredResourceChange>,
    #[prost(bytes = "vec", tag = "6")]
    previous_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    hash: Vec<u8>,
    #[prost(message, optional, tag = "8")]
    denial: Option<StoredRefusal>,
    #[prost(message, optional, tag = "9")]
    login_failure: Option<StoredRefusal>,
    #[prost(string, optional, tag = "10")]
    start: Option<String>,
    #[prost(bool, tag = "11")]
    stop: bool,
    #[prost(message, optional, tag = "12")]
    checkpoint: Option<StoredCheckpoint>,
    #[prost(message, optional, tag = "13")]
    backup: Option<StoredBackup>,
    #[prost(message, optional, tag = "14")]
    restore: Option<StoredRestore>,
    #[prost(message, optional, tag = "30")]
    retention: Option<StoredRemoval>,
    #[prost(message, optional, tag = "31")]
    replica: Option<StoredResourceChange>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredBackup {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(uint64, tag = "2")]
    records: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredRestore {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    time: Option<StoredTime>,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    restored: Option<StoredRestored>,
}

/// What a restore did.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct StoredRestored {
    #[prost(uint64, tag = "1")]
    created: u64,
    #[prost(uint64, tag = "2")]
    updated: u64,
    #[prost(uint64, tag = "3")]
    deleted: u64,
    #[prost(uint64, tag = "4")]
    unchanged: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredRefusal {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    permission: String,
    #[prost(string, tag = "3")]
    source: String,
    #[prost(string, tag = "4")]
    claimed_issuer: String,
    #[prost(string, tag = "5")]
    claimed_subject: String,
    #[prost(uint64, tag = "6")]
    count: u64,
    #[prost(message, optional, tag = "7")]
    first_time: Option<StoredTime>,
    #[prost(message, optional, tag = "8")]
    last_time: Option<StoredTime>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredCheckpoint {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(bytes = "vec", tag = "2")]
    hash: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    time: Option<StoredTime>,
    #[prost(bytes = "vec", tag = "4")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    signature: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredRemoval {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(bytes = "vec", tag = "2")]
    hash: Vec<u8>,
    #[prost(uint64, tag = "3")]
    count: u64,
    #[prost(message, optional, tag = "4")]
    time: Option<StoredTime>,
    #[prost(bytes = "vec", tag = "5")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    signature: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredResourceChange {
    #[prost(string, tag = "1")]
    resource: String,
    #[prost(uint32, tag = "2")]
    verb: u32,
    #[prost(message, repeated, tag = "3")]
    fields: Vec<StoredFieldChange>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredFieldChange {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    before: String,
    #[prost(string, tag = "3")]
    after: String,
}

impl Stored for AuditEntry {
    const KIND: Kind = Kind::AuditEntry;

    fn to_payload(&self) -> Vec<u8> {
        let Self { sequence, time, actor, revision, event, previous_hash, hash } = self;
        let mut stored = StoredAuditEntry {
            sequence: *sequence,
            time: Some((*time).into()),
            actor: Some(actor.into()),
            revision: revision.get(),
            previous_hash: previous_hash.to_vec(),
            hash: hash.to_vec(),
            ..StoredAuditEntry::default()
        };
        match event {
            Event::Commit { changes } => {
                stored.changes = changes.iter().map(Into::into).collect();
            }
            Event::Denial(refusal) => stored.denial = Some(refusal.into()),
            Event::LoginFailure(refusal) => stored.login_failure = Some(refusal.into()),
            Event::Start { version } => stored.start = Some(version.clone()),
            Event::Stop => stored.stop = true,
            Event::Checkpoint(checkpoint) => stored.checkpoint = Some(checkpoint.into()),
            Event::Retention(removal) => stored.retention = Some(removal.into()),
            Event::Replica(change) => stored.replica = Some(change.into()),
            Event::Backup { revision, records } => {
                stored.backup = Some(StoredBackup { revision: revision.get(), records: *records });
            }
            Event::Restore { origin, restored } => {
                stored.restore = Some(StoredRestore::of(origin, restored));
            }
        }
        stored.encode_to_vec()
    }

    fn from_payload(payload: &[u8], texts: &mut Texts) -> Result<Self, Damage> {
        let StoredAuditEntry {
            sequence,
            time,
            actor,
            revision,
            changes,
            previous_hash,
            hash,
            denial,
            login_failure,
            start,
            stop,
            checkpoint,
            retention,
            replica,
            backup,
            restore,
        } = message(payload)?;
        // At most one of them is there; a commit is what has none.
        let mut told = [
            denial.map(|refusal| refusal.try_into().map(Event::Denial)),
            login_failure.map(|refusal| refusal.try_into().map(Event::LoginFailure)),
            start.map(|version| Ok(Event::Start { version })),
            stop.then_some(Ok(Event::Stop)),
            checkpoint.map(|checkpoint| checkpoint.try_into().map(Event::Checkpoint)),
            retention.map(|removal| removal.try_into().map(Event::Retention)),
            replica.map(|change| change.try_into().map(Event::Replica)),
            backup.map(|backup| Ok(backup.into_event())),
            restore.map(StoredRestore::into_event),
        ]
        .into_iter()
        .flatten();
        let event = match (told.next(), told.next()) {
            (None, _) => {
                let changes = changes.into_iter().map(ResourceChange::try_from);
                Event::Commit { changes: changes.collect::<Result<_, _>>()? }
            }
            (Some(event), None) => event?,
            (Some(_), Some(_)) => {
                return Err(Damage::content("an audit entry is about several things"));
            }
        };
        Ok(Self {
            sequence,
            time: time::required(time, "time")?,
            actor: StoredActor::into_actor(actor, texts)?,
            revision: Revision::new(revision),
            event,
            previous_hash: array(&previous_hash, "previous hash")?,
            hash: array(&hash, "hash")?,
        })
    }
}

impl StoredBackup {
    const fn into_event(self) -> Event {
        Event::Backup { revision: Revision::new(self.revision), records: self.records }
    }
}

impl StoredRestore {
    fn of(Origin { revision, time, digest }: &Origin, restored: &Restored) -> Self {
        Self {
            revision: revision.get(),
            time: Some((*time).into()),
            digest: digest.to_vec(),
            restored: Some(restored.into()),
        }
    }

    fn into_event(self) -> Result<Event, Damage> {
        let Self { revision, time, digest, restored } = self;
        let origin = Origin {
            revision: Revision::new(revision),
            time: time::required(time, "time of the backup")?,
            digest: array(&digest, "digest")?,
        };
        let restored = restored.ok_or_else(|| Damage::missing("counts"))?.into();
        Ok(Event::Restore { origin, restored })
    }
}

impl From<&Restored> for StoredRestored {
    fn from(&Restored { created, updated, deleted, unchanged }: &Restored) -> Self {
        Self { created, updated, deleted, unchanged }
    }
}

impl From<StoredRestored> for Restored {
    fn from(StoredRestored { created, updated, deleted, unchanged }: StoredRestored) -> Self {
        Self { created, updated, deleted, unchanged }
    }
}

impl From<&Refusal> for StoredRefusal {
    fn from(refusal: &Refusal) -> Self {
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
        Self {
            reason: reason.clone(),
            permission: permission.clone(),
            source: source.clone(),
            claimed_issuer: claimed_issuer.clone(),
            claimed_subject: claimed_subject.clone(),
            count: *count,
            first_time: Some((*first_time).into()),
            last_time: Some((*last_time).into()),
        }
    }
}

impl TryFrom<StoredRefusal> for Refusal {
    type Error = Damage;

    fn try_from(stored: StoredRefusal) -> Result<Self, Damage> {
        let StoredRefusal {
            reason,
            permission,
            source,
            claimed_issuer,
            claimed_subject,
            count,
            first_time,
            last_time,
        } = stored;
        Ok(Self {
            reason,
            permission,
            source,
            claimed_issuer,
            claimed_subject,
            count,
            first_time: time::required(first_time, "first_time")?,
            last_time: time::required(last_time, "last_time")?,
        })
    }
}

impl From<&Checkpoint> for StoredCheckpoint {
    fn from(Checkpoint { head, time, public_key, signature }: &Checkpoint) -> Self {
        Self {
            sequence: head.sequence,
            hash: head.hash.to_vec(),
            time: Some((*time).into()),
            public_key: public_key.to_vec(),
            signature: signature.to_vec(),
        }
    }
}

impl TryFrom<StoredCheckpoint> for Checkpoint {
    type Error = Damage;

    fn try_from(stored: StoredCheckpoint) -> Result<Self, Damage> {
        let StoredCheckpoint { sequence, hash, time, public_key, signature } = stored;
        Ok(Self {
            head: ChainHead { sequence, hash: array(&hash, "hash")? },
            time: time::required(time, "time")?,
            public_key: array(&public_key, "public key")?,
            signature: array(&signature, "signature")?,
        })
    }
}

impl From<&Removal> for StoredRemoval {
    fn from(Removal { last, count, time, public_key, signature }: &Removal) -> Self {
        Self {
            sequence: last.sequence,
            hash: last.hash.to_vec(),
            count: *count,
            time: Some((*time).into()),
            public_key: public_key.to_vec(),
            signature: signature.to_vec(),
        }
    }
}

impl TryFrom<StoredRemoval> for Removal {
    type Error = Damage;

    fn try_from(stored: StoredRemoval) -> Result<Self, Damage> {
        let StoredRemoval { sequence, hash, count, time, public_key, signature } = stored;
        Ok(Self {
            last: ChainHead { sequence, hash: array(&hash, "hash")? },
            count,
            time: time::required(time, "time")?,
            public_key: array(&public_key, "public key")?,
            signature: array(&signature, "signature")?,
        })
    }
}

impl From<&ResourceChange> for StoredResourceChange {
    fn from(ResourceChange { resource, verb, fields }: &ResourceChange) -> Self {
        Self {
            resource: resource.clone(),
            verb: verb_number(*verb),
            fields: fields.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<StoredResourceChange> for ResourceChange {
    type Error = Damage;

    fn try_from(stored: StoredResourceChange) -> Result<Self, Damage> {
        let StoredResourceChange { resource, verb, fields } = stored;
        Ok(Self {
            resource,
            verb: numbered_verb(verb)?,
            fields: fields.into_iter().map(FieldChange::from).collect(),
        })
    }
}

impl From<&FieldChange> for StoredFieldChange {
    fn from(FieldChange { field, before, after }: &FieldChange) -> Self {
        Self { field: field.clone(), before: before.clone(), after: after.clone() }
    }
}

impl From<StoredFieldChange> for FieldChange {
    fn from(StoredFieldChange { field, before, after }: StoredFieldChange) -> Self {
        Self { field, before, after }
    }
}

// The numbers are what is on the disk: one that was ever used keeps its meaning.

const fn verb_number(verb: Verb) -> u32 {
    match verb {
        Verb::Create => 1,
        Verb::Update => 2,
        Verb::Delete => 3,
        Verb::Undelete => 4,
    }
}

fn numbered_verb(number: u32) -> Result<Verb, Damage> {
    match number {
        1 => Ok(Verb::Create),
        2 => Ok(Verb::Update),
        3 => Ok(Verb::Delete),
        4 => Ok(Verb::Undelete),
        _ => Err(Damage::Content(format!("there is no verb {number}"))),
    }
}
