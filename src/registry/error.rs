//! What a use case reports when it does not do what it was asked.
//!
//! [`Kind`] names what the caller can do about it. The rim turns it into a status in one
//! exhaustive match; nothing in here is meant for the log alone but [`Kind::Internal`].

use super::roles::Loss;
use crate::{
    auth::Denial,
    domain::{
        DomainName, Revision, Violation, replica::ReplicaId, revision::Etag, role::Permission,
    },
    store::StoreError,
};

/// Why a use case failed, and for a batch which item was at fault.
#[derive(Debug)]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// The index of the item at fault, in a batch.
    pub index: Option<usize>,
}

/// What went wrong, by what the caller can do about it.
#[derive(Debug)]
pub enum Kind {
    /// Mend the request.
    Invalid(Vec<Violation>),
    /// The resource is not there, or not for this caller.
    NotFound {
        /// The resource name.
        resource: String,
        /// What the caller may do instead, empty if nothing is known.
        hint: String,
    },
    /// A partner of this name is in force already.
    AlreadyExists {
        /// The resource name.
        resource: String,
    },
    /// A domain belongs to a partner already.
    DomainTaken {
        /// The domain.
        domain: DomainName,
        /// The partner, if the caller may read it.
        owner: Option<DomainName>,
    },
    /// The resource is there, and the caller may not know: for him it is missing.
    Hidden {
        /// The resource name.
        resource: String,
        /// What he would be told if it were missing.
        hint: String,
        /// The permission that does not reach it.
        permission: Permission,
    },
    /// The resource has changed: read it again.
    StaleEtag {
        /// The resource name.
        resource: String,
        /// The stored etag, if the caller may read the resource.
        current: Option<Etag>,
    },
    /// The role comes with the service: make another one.
    BuiltInRole {
        /// The resource name.
        resource: String,
    },
    /// Somebody would lose rights: say that it is meant.
    RoleInUse {
        /// The resource name.
        resource: String,
        /// Who would lose what; at least one.
        losses: Vec<Loss>,
    },
    /// The caller would cut himself off: say that it is meant.
    SelfRevocation,
    /// There are as many as can be: delete some.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there can be.
        most: usize,
    },
    /// The state has another revision than the caller expects: look again.
    RevisionMismatch {
        /// The revision expected.
        expected: Revision,
        /// The last revision there is.
        current: Revision,
    },
    /// A backup is being restored: wait for its end.
    RestoreUnderWay,
    /// A restore would change too much: raise the limit.
    RestoreTooLarge {
        /// How many resources it would change.
        changes: usize,
        /// How many it may.
        most: usize,
    },
    /// The caller may not.
    Denied(Denial),
    /// The revision asked for lies ahead: wait for it.
    RevisionToCome {
        /// The last revision there is.
        current: Revision,
    },
    /// The listing's snapshot is gone: list again.
    PageTokenExpired {
        /// The revision of the listing.
        revision: Revision,
    },
    /// The history asked for is no longer kept: list anew.
    Compacted {
        /// The oldest revision whose commit is still kept.
        oldest: Revision,
    },
    /// The audit asked for is no longer kept: begin with the oldest entry.
    AuditCompacted {
        /// The sequence of the oldest entry that is kept.
        oldest: u64,
    },
    /// Another subject reports as this replica: choose another id, or have it deleted.
    ReplicaOfAnother {
        /// The replica.
        replica: ReplicaId,
    },
    /// A replica's id must be its subject here: report as that.
    ReplicaNotSubject,
    /// No further replica is taken: delete one.
    TooManyReplicas {
        /// The most there may be.
        limit: usize,
    },
    /// A revision that was never committed here: start anew from what is here.
    RevisionAhead {
        /// The revision given.
        given: Revision,
        /// The last one there is.
        last: Revision,
    },
    /// Too many writes wait: try again.
    Overloaded,
    /// Too many writes of this subject wait: try again when some are answered.
    SubjectOverloads {
        /// As many as may.
        most: usize,
    },
    /// The server is going away: try another one.
    Draining,
    /// The store takes no writes.
    ReadOnly {
        /// Why, for the log.
        reason: String,
    },
    /// A defect or a damaged store. The text is for the log, never for the caller.
    Internal(String),
}

impl Error {
    /// The same error, of item `index` of a batch.
    #[must_use]
    pub const fn at(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    /// A defect: what was kept as the answer to a request is about something else.
    pub(super) fn wrong_answer(about: &str) -> Self {
        Kind::Internal(format!("the answer kept for a request is not about {about}")).into()
    }

    /// One broken rule.
    pub fn invalid(violation: Violation) -> Self {
        Kind::Invalid(vec![violation]).into()
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self { kind, index: None }
    }
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        Kind::Denied(denial).into()
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted { oldest } => Kind::Compacted { oldest }.into(),
            StoreError::AuditCompacted { oldest } => Kind::AuditCompacted { oldest }.into(),
            other => Kind::Internal(other.to_string()).into(),
        }
    }
}
