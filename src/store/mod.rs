//! Where the state lives: the contract that every store keeps.
//!
//! A store is a log with a state. The log is a sequence of [`Commit`]s, one for each revision,
//! without gaps. The state is what the commits add up to. A store holds both, changes them
//! together, and knows nothing of rules or rights: what it is given has been checked.

pub mod codec;
#[cfg(test)]
mod conformance;
pub mod sled;

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::{
    AllowedPartner, DomainName, Revision,
    audit::{Actor, AuditEntry, Chain},
    backup::Restored,
    replica::{Replica, ReplicaId},
    revocation::Revocation,
    role::Role,
    settings::FederationSettings,
};

/// One resource, before and after a commit. At least one side is there.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A partner. A deleted one is there with its `delete_time`.
    Partner {
        /// What was under its name: as it was, or a partner with another uid, deleted unless a
        /// restore took its place; `None` if there was nothing.
        before: Option<Arc<AllowedPartner>>,
        /// As it is.
        after: Arc<AllowedPartner>,
    },
    /// The settings.
    Settings {
        /// As they were.
        before: Arc<FederationSettings>,
        /// As they are.
        after: Arc<FederationSettings>,
    },
    /// A role that somebody made. Both sides, when there, have the same id.
    Role {
        /// As it was; `None` if there was none.
        before: Option<Arc<Role>>,
        /// As it is; `None` if it was deleted.
        after: Option<Arc<Role>>,
    },
    /// A revocation. Both sides, when there, have the same id.
    Revocation {
        /// As it was; `None` if there was none.
        before: Option<Arc<Revocation>>,
        /// As it is; `None` if it was taken back.
        after: Option<Arc<Revocation>>,
    },
}

/// Everything that happened at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The revision; one more than that of the commit before.
    pub revision: Revision,
    /// When.
    pub time: Timestamp,
    /// Who, and why.
    pub actor: Actor,
    /// What, at most once for each resource.
    pub changes: Vec<Change>,
}

/// Names a request whose answer is kept, so that a retry gets the same (AIP-155).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// The issuer of the caller's token.
    pub issuer: Arc<str>,
    /// The subject of the caller's token.
    pub subject: Arc<str>,
    /// The id that the caller gave the request.
    pub id: Uuid,
}

/// The answer to a request, kept for its retries.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whose request it answers.
    pub key: RequestKey,
    /// A SHA-256 of the request's method and content: another content is no retry.
    pub fingerprint: [u8; 32],
    /// When it may be forgotten.
    pub expire_time: Timestamp,
    /// The revision at which the request was answered.
    pub revision: Revision,
    /// What the request gave back.
    pub result: AnswerResult,
}

/// What a mutating request gave back.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerResult {
    /// Partners, in the order of the request. `None` stands for one that was deleted with
    /// `allow_missing` and did not exist.
    Partners(Vec<Option<Arc<AllowedPartner>>>),
    /// The settings.
    Settings(Arc<FederationSettings>),
    /// A role; `None` for one that was deleted.
    Role(Option<Arc<Role>>),
    /// A revocation; `None` for one that was taken back.
    Revocation(Option<Arc<Revocation>>),
    /// What a restore did.
    Restored(Restored),
}

/// What becomes of a replica. Replicas are no part of the log: they change without a revision.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplicaWrite {
    /// It is there, like this. What a report says of the moment is not kept.
    Keep(Arc<Replica>),
    /// It is not there any more; no fault if it never was.
    Forget(ReplicaId),
}

/// What is written together: a commit with its audit entries, an answer to keep, replicas.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Write {
    /// The commit and its audit entry; `None` when only an answer is kept, because the request
    /// changed nothing.
    pub commit: Option<(Commit, AuditEntry)>,
    /// Audit entries after that: of the same commit, if it is too large for one, and of no commit.
    pub entries: Vec<AuditEntry>,
    /// The answer to keep.
    pub answer: Option<Answer>,
    /// What becomes of replicas, in order.
    pub replicas: Vec<ReplicaWrite>,
}

/// What a compaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The oldest revision whose commit is still in the log; the next one if the log is empty.
    pub oldest_revision: Revision,
    /// The deleted partners that went with their history, by domain.
    pub purged: Vec<DomainName>,
}

/// The state at the last revision, as it is found when a store is opened.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The last revision.
    pub revision: Revision,
    /// The oldest revision whose commit is still in the log; the next one if the log is empty.
    pub oldest_revision: Revision,
    /// Every partner, deleted ones included, sorted by domain.
    pub partners: Vec<Arc<AllowedPartner>>,
    /// The settings.
    pub settings: Arc<FederationSettings>,
    /// Every replica, by id, as far as it was kept.
    pub replicas: Vec<Arc<Replica>>,
    /// Every role that somebody made, sorted by id.
    pub roles: Vec<Arc<Role>>,
    /// Every revocation, sorted by id.
    pub revocations: Vec<Arc<Revocation>>,
    /// How far the audit chain reaches.
    pub audit: Chain,
}

/// Why a store did not do what it was asked, by what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another server has the store open.
    #[error("{0}")]
    Locked(String),
    /// The data is damaged, of another format, or somebody else's. Nothing was overwritten.
    #[error("{0}")]
    Damaged(String),
    /// Reading or writing failed. After a failed write the store takes no more writes.
    #[error("{0}")]
    Io(String),
    /// The history asked for is no longer kept.
    #[error("the history before revision {oldest} is no longer kept")]
    Compacted {
        /// The oldest revision whose commit is still in the log.
        oldest: Revision,
    },
    /// The audit entries asked for are no longer kept.
    #[error("the audit before entry {oldest} is no longer kept")]
    AuditCompacted {
        /// The sequence of the oldest entry that is.
        oldest: u64,
    },
}

/// The contract of a store. One writer calls [`Store::write`]; anybody may call the rest, at any
/// time, from any thread. Every call may block on a disk or a network: not for async threads.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// What kind of store it is, for people: `sled`.
    fn kind(&self) -> &'static str;

    /// The whole state as of the last write.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if any value does not pass its check, with the key at fault;
    /// [`StoreError::Io`] after a failed write, because the state is in doubt then.
    fn load(&self) -> Result<State, StoreError>;

    /// Writes a group: all of it or nothing, in order, and on the disk before it returns.
    ///
    /// The revisions of the group's commits follow the last one without gaps; so do the
    /// sequences of its audit entries.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the group may not be durable. The caller must not believe that it
    /// is, nor that it is not; the store refuses every later write until it is opened anew. A
    /// group that does not follow the last one is refused in the same way, and not written: its
    /// writer is at odds with the store.
    fn write(&self, group: &[Write]) -> Result<(), StoreError>;

    /// The commits after `after`, oldest first, at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] if some of them are no longer kept.
    fn commits_after(&self, after: Revision, limit: usize) -> Result<Vec<Commit>, StoreError>;

    /// How far the audit chain reaches, both ends as of one group.
    fn audit(&self) -> Chain;

    /// The audit entries with a sequence after `after`, oldest first, at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError::AuditCompacted`] if some of them are no longer kept; [`StoreError::Damaged`] if
    /// one does not pass its check.
    fn audit_after(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError>;

    /// The answer kept for a request, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it does not pass its check; [`StoreError::Io`] after a failed
    /// write, because the answer may not be durable then.
    fn answer(&self, key: &RequestKey) -> Result<Option<Answer>, StoreError>;

    /// Forgets the answers whose time had run out at `now`; at most a few thousand a call.
    /// Returns how many it forgot.
    ///
    /// # Errors
    /// [`StoreError::Io`] as for [`Store::write`].
    fn forget_answers(&self, now: Timestamp) -> Result<usize, StoreError>;

    /// Removes the commits before `before` from the log, oldest first, at most `limit` of them.
    /// Fewer go if they are large, so that a writer is not kept waiting for long, but one goes if
    /// there is any. With the commit that deleted a partner goes the deleted partner, if nothing
    /// was done to it since. The audit and the kept answers stay. All of it is on the disk when
    /// this returns. A reader of the history that is under way gets [`StoreError::Compacted`].
    ///
    /// # Errors
    /// [`StoreError::Io`] as for [`Store::write`]; [`StoreError::Damaged`] if a commit does not
    /// pass its check, and no later write is taken then.
    fn compact(&self, before: Revision, limit: usize) -> Result<Compacted, StoreError>;

    /// Removes the oldest audit entries, up to the one that `statement`, an audit entry about their
    /// removal, says was the last, and chains that: both or neither, and on the disk when this
    /// returns. A reader of those entries that is under way gets [`StoreError::AuditCompacted`].
    ///
    /// # Errors
    /// [`StoreError::Io`] as for [`Store::write`], which goes for a statement that is not linked to
    /// the last entry, is about another thing, or says otherwise than what is stored;
    /// [`StoreError::Damaged`] if an entry does not pass its check, and no later write is taken then.
    fn compact_audit(&self, statement: &AuditEntry) -> Result<(), StoreError>;

    /// The bytes taken on disk.
    fn size_on_disk(&self) -> u64;
}
