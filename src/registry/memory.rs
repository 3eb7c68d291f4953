//! A store in memory, for tests of the use cases. It keeps nothing and acknowledges all.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;

use super::{Options, Registry};
use crate::{
    domain::{
        AllowedPartner, Revision,
        audit::{Actor, AuditEntry, Chain},
    },
    store::{Answer, Change, Commit, Compacted, RequestKey, State, Store, StoreError, Write},
};

/// A log in memory, which can forget its beginning.
#[derive(Debug, Default)]
pub struct Log {
    commits: Mutex<Vec<Commit>>,
    oldest: AtomicU64,
}

impl Log {
    /// A log whose first commit, by an actor without a name, put these partners in force.
    pub fn of(partners: impl IntoIterator<Item = AllowedPartner>) -> Self {
        let changes = partners
            .into_iter()
            .map(|partner| Change::Partner { before: None, after: Arc::new(partner) })
            .collect();
        let nobody = Actor {
            subject: "".into(),
            issuer: "".into(),
            request_id: "".into(),
            reason: "".into(),
        };
        let (revision, time) = (Revision::new(1), Timestamp::UNIX_EPOCH);
        let commits = vec![Commit { revision, time, actor: nobody, changes }];
        Self { commits: Mutex::new(commits), ..Self::default() }
    }

    /// Forgets the commits before `oldest`.
    pub fn forget_before(&self, oldest: Revision) {
        self.oldest.store(oldest.get(), Ordering::Relaxed);
    }

    /// Adds a commit as if it had been written.
    pub fn append(&self, commit: Commit) {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).push(commit);
    }

    /// The commits that were ever written.
    pub fn commits(&self) -> Vec<Commit> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn oldest(&self) -> Revision {
        Revision::new(self.oldest.load(Ordering::Relaxed).max(1))
    }
}

impl Store for Log {
    fn kind(&self) -> &'static str {
        "memory"
    }

    /// A deleted partner is gone with the commit that deleted it, as in every store.
    fn load(&self) -> Result<State, StoreError> {
        let mut partners = BTreeMap::new();
        let commits = self.commits();
        for change in commits.iter().flat_map(|commit| &commit.changes) {
            if let Change::Partner { after, .. } = change {
                partners.insert(after.domain.clone(), Arc::clone(after));
            }
        }
        partners.retain(|_, partner| {
            partner.delete_time.is_none() || partner.revision >= self.oldest()
        });
        Ok(State {
            revision: commits.last().map_or(Revision::ZERO, |commit| commit.revision),
            oldest_revision: self.oldest(),
            partners: partners.into_values().collect(),
            ..State::default()
        })
    }

    fn write(&self, group: &[Write]) -> Result<(), StoreError> {
        let commits = group.iter().filter_map(|write| write.commit.clone());
        let mut kept = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(commits.map(|(commit, _)| commit));
        Ok(())
    }

    fn commits_after(&self, after: Revision, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let oldest = self.oldest();
        if after.next() < oldest {
            return Err(StoreError::Compacted { oldest });
        }
        Ok(self.commits().into_iter().filter(|it| it.revision > after).take(limit).collect())
    }

    fn audit(&self) -> Chain {
        Chain::default()
    }

    fn audit_after(&self, _after: u64, _limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        Ok(Vec::new())
    }

    fn answer(&self, _key: &RequestKey) -> Result<Option<Answer>, StoreError> {
        Ok(None)
    }

    fn forget_answers(&self, _now: Timestamp) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn compact(&self, before: Revision, _limit: usize) -> Result<Compacted, StoreError> {
        self.oldest.fetch_max(before.get(), Ordering::Relaxed);
        Ok(Compacted { oldest_revision: self.oldest(), purged: Vec::new() })
    }

    fn compact_audit(&self, _statement: &AuditEntry) -> Result<(), StoreError> {
        Ok(())
    }

    fn size_on_disk(&self) -> u64 {
        0
    }
}

/// A registry upon the log.
pub fn opened(log: &Arc<Log>) -> Registry {
    Registry::open(Arc::clone(log) as Arc<dyn Store>, Options::for_tests()).unwrap()
}
