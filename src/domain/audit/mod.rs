//! The audit trail: what was done, by whom, when and why, chained by SHA-256.
//!
//! An entry's hash covers the hash of the entry before it and everything the entry says, so no
//! entry can be changed, moved or taken out without breaking every hash after it. Some entries are
//! signed checkpoints: kept elsewhere too, they show when the end of the chain is missing. What is
//! kept no longer goes from the beginning, and an entry signed in the same way vouches for it.
//!
//! No token, key or passphrase is ever in an entry.

pub mod chain;
pub mod checkpoint;
pub mod removal;

use std::{fmt::Write as _, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;

pub use self::{
    chain::{Fault, Walk},
    checkpoint::{Checkpoint, PublicKey, SigningKey},
    removal::Removal,
};
use super::{
    backup::{Origin, Restored},
    revision::Revision,
};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Who did it and how, as the authentication layer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The subject of the token.
    pub subject: Arc<str>,
    /// The issuer of the token.
    pub issuer: Arc<str>,
    /// The id of the request, which the log repeats.
    pub request_id: Arc<str>,
    /// The reason given with the request, empty if none was.
    pub reason: Arc<str>,
}

/// The subject of what the service does by itself.
pub const SERVICE: &str = "partnerd";

impl Actor {
    /// The service itself, which does something for this reason.
    pub fn service(reason: &str) -> Self {
        Self {
            subject: SERVICE.into(),
            issuer: "".into(),
            request_id: "".into(),
            reason: reason.into(),
        }
    }
}

/// One field of one resource, before and after. Secrets are never in here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// The field's path.
    pub field: String,
    /// Its value before, as text; empty if it had none.
    pub before: String,
    /// Its value after, as text; empty if it has none.
    pub after: String,
}

/// What was done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It did not exist before, not even deleted.
    Create,
    /// It was changed.
    Update,
    /// It was deleted and can be undeleted.
    Delete,
    /// It was brought back.
    Undelete,
}

impl Verb {
    /// The verb as the audit shows and hashes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Undelete => "undelete",
        }
    }
}

/// What happened to one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceChange {
    /// The resource name, for example `allowedPartners/contoso.com`.
    pub resource: String,
    /// What was done.
    pub verb: Verb,
    /// What changed, field by field.
    pub fields: Vec<FieldChange>,
}

impl ResourceChange {
    /// About how many bytes it takes on the wire.
    pub fn weight(&self) -> usize {
        let Self { resource, verb: _, fields } = self;
        let fields = fields.iter().map(|FieldChange { field, before, after }| {
            12 + field.len() + before.len() + after.len()
        });
        16 + resource.len() + fields.sum::<usize>()
    }
}

/// Something that was refused, and how often: what is the same about all of them is one entry, so
/// that nobody fills the disk by being refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable reason that the answer had.
    pub reason: String,
    /// The permission that was missing, empty if that was not the reason.
    pub permission: String,
    /// The address that it came from, empty if it is not known.
    pub source: String,
    /// The issuer that somebody unknown named. He can say anything.
    pub claimed_issuer: String,
    /// The subject that somebody unknown named. He can say anything.
    pub claimed_subject: String,
    /// How often.
    pub count: u64,
    /// When it happened first.
    pub first_time: Timestamp,
    /// When it happened last.
    pub last_time: Timestamp,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A commit.
    Commit {
        /// What it changed.
        changes: Vec<ResourceChange>,
    },
    /// Somebody known was not allowed to do something.
    Denial(Refusal),
    /// Somebody was not believed.
    LoginFailure(Refusal),
    /// The server began to serve.
    Start {
        /// The version of the server.
        version: String,
    },
    /// The server was told to stop.
    Stop,
    /// The server vouched for the entry before this one.
    Checkpoint(Checkpoint),
    /// The oldest entries were removed with this one, because they are kept no longer.
    Retention(Removal),
    /// The id of a replica was bound to a subject, or freed.
    Replica(ResourceChange),
    /// Somebody was given a backup, or part of one.
    Backup {
        /// The revision that it was of.
        revision: Revision,
        /// The records in it.
        records: u64,
    },
    /// A backup was restored. Its commit is told before this.
    Restore {
        /// Which backup.
        origin: Origin,
        /// What that came to.
        restored: Restored,
    },
}

impl Event {
    /// The kind as the audit shows and hashes it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Commit { .. } => "commit",
            Self::Denial(_) => "denial",
            Self::LoginFailure(_) => "login_failure",
            Self::Start { .. } => "start",
            Self::Stop => "stop",
            Self::Checkpoint(_) => "checkpoint",
            Self::Retention(_) => "retention",
            Self::Replica(_) => "replica",
            Self::Backup { .. } => "backup",
            Self::Restore { .. } => "restore",
        }
    }

    /// What was changed, resource by resource; nothing unless something was.
    pub const fn changes(&self) -> &[ResourceChange] {
        match self {
            Self::Commit { changes } => changes.as_slice(),
            Self::Replica(change) => std::slice::from_ref(change),
            Self::Denial(_)
            | Self::LoginFailure(_)
            | Self::Start { .. }
            | Self::Stop
            | Self::Checkpoint(_)
            | Self::Retention(_)
            | Self::Backup { .. }
            | Self::Restore { .. } => &[],
        }
    }
}

/// Something that happened, as the audit keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// The place in the chain, from 1 on, without gaps.
    pub sequence: u64,
    /// When it was written.
    pub time: Timestamp,
    /// Who did it; nobody for a login that failed.
    pub actor: Actor,
    /// The revision of the commit, or the last one before the event.
    pub revision: Revision,
    /// What happened.
    pub event: Event,
    /// The hash of the entry before; zeros for the first.
    pub previous_hash: Hash,
    /// The hash of this entry.
    pub hash: Hash,
}

/// The end of the chain: what the next entry is linked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainHead {
    /// The sequence of the last entry; 0 when there is none.
    pub sequence: u64,
    /// The hash of the last entry; zeros when there is none.
    pub hash: Hash,
}

/// How far the chain reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// What the first entry that is there is linked to: the last one that was removed, or nothing.
    pub base: ChainHead,
    /// The last entry.
    pub head: ChainHead,
}

impl Chain {
    /// How many entries there are.
    pub const fn length(&self) -> u64 {
        self.head.sequence - self.base.sequence
    }
}

impl AuditEntry {
    /// The entry that comes after `head`, linked to it.
    pub fn after(
        head: ChainHead,
        time: Timestamp,
        actor: Actor,
        revision: Revision,
        event: Event,
    ) -> Self {
        let mut entry = Self {
            sequence: head.sequence + 1,
            time,
            actor,
            revision,
            event,
            previous_hash: head.hash,
            hash: Hash::default(),
        };
        entry.hash = entry.computed_hash();
        entry
    }

    /// About how many bytes it takes in memory and on the wire, by what can be long in it.
    pub fn weight(&self) -> usize {
        let changes = self.event.changes().iter().map(ResourceChange::weight);
        1_024 + self.actor.reason.len() + changes.sum::<usize>()
    }

    /// The end of the chain once this entry is in it.
    pub const fn head(&self) -> ChainHead {
        ChainHead { sequence: self.sequence, hash: self.hash }
    }

    /// The end of the chain before this entry was in it.
    pub const fn previous(&self) -> ChainHead {
        ChainHead { sequence: self.sequence.saturating_sub(1), hash: self.previous_hash }
    }

    /// Whether the entry is what it was when it was made.
    pub fn is_intact(&self) -> bool {
        self.hash == self.computed_hash()
    }

    /// The hash over the previous hash and every field, each with its length before it, so that
    /// no two entries have the same bytes.
    fn computed_hash(&self) -> Hash {
        // Exhaustive: a new field must be hashed before this compiles.
        let Self { sequence, time, actor, revision, event, previous_hash, hash: _ } = self;
        let Actor { subject, issuer, request_id, reason } = actor;
        let mut digest = Context::new(&SHA256);
        let mut add = |bytes: &[u8]| {
            digest.update(&(bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        add(previous_hash);
        add(&sequence.to_be_bytes());
        add(&time.as_nanosecond().to_be_bytes());
        for text in [subject, issuer, request_id, reason] {
            add(text.as_bytes());
        }
        add(&revision.get().to_be_bytes());
        add(event.kind().as_bytes());
        match event {
            Event::Commit { changes } => add_changes(changes, &mut add),
            Event::Denial(refusal) | Event::LoginFailure(refusal) => add_refusal(refusal, &mut add),
            Event::Start { version } => add(version.as_bytes()),
            Event::Stop => {}
            Event::Checkpoint(Checkpoint { head, time, public_key, signature }) => {
                add(&head.sequence.to_be_bytes());
                add(&head.hash);
                add(&time.as_nanosecond().to_be_bytes());
                add(public_key);
                add(signature);
            }
            Event::Retention(Removal { last, count, time, public_key, signature }) => {
                add(&last.sequence.to_be_bytes());
                add(&last.hash);
                add(&count.to_be_bytes());
                add(&time.as_nanosecond().to_be_bytes());
                add(public_key);
                add(signature);
            }
            Event::Replica(change) => add_changes(std::slice::from_ref(change), &mut add),
            Event::Backup { revision, records } => {
                add(&revision.get().to_be_bytes());
                add(&records.to_be_bytes());
            }
            Event::Restore { origin, restored } => add_restore(origin, restored, &mut add),
        }
        let mut hash = Hash::default();
        hash.copy_from_slice(digest.finish().as_ref());
        hash
    }
}

fn add_changes(changes: &[ResourceChange], add: &mut impl FnMut(&[u8])) {
    add(&(changes.len() as u64).to_be_bytes());
    for ResourceChange { resource, verb, fields } in changes {
        add(resource.as_bytes());
        add(verb.as_str().as_bytes());
        add(&(fields.len() as u64).to_be_bytes());
        for FieldChange { field, before, after } in fields {
            for text in [field, before, after] {
                add(text.as_bytes());
            }
        }
    }
}

fn add_refusal(refusal: &Refusal, add: &mut impl FnMut(&[u8])) {
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
    for text in [reason, permission, source, claimed_issuer, claimed_subject] {
        add(text.as_bytes());
    }
    add(&count.to_be_bytes());
    for time in [first_time, last_time] {
        add(&time.as_nanosecond().to_be_bytes());
    }
}

fn add_restore(origin: &Origin, restored: &Restored, add: &mut impl FnMut(&[u8])) {
    let Origin { revision, time, digest } = origin;
    let Restored { created, updated, deleted, unchanged } = restored;
    add(&revision.get().to_be_bytes());
    add(&time.as_nanosecond().to_be_bytes());
    add(digest);
    for count in [created, updated, deleted, unchanged] {
        add(&count.to_be_bytes());
    }
}

/// Bytes as lower-case hexadecimal digits, as hashes and signatures are shown.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that lower-case hexadecimal digits stand for, if they are as many.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}
