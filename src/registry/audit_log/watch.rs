//! Following the audit: what one stream is told, and in which order.
//!
//! An [`AuditWatcher`] stands at an entry of the chain and is pulled forward by its stream, as fast
//! as that can send and never past the bell. Entries come from the store, a bounded number at a
//! time; nothing waits for a stream. What its caller may see is decided when an entry is told, by
//! the roles in force then.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::{oneshot, watch as bell};

use super::{Error, Kind, Registry, is_visible};
use crate::{
    auth::{
        Call, Permit, Policy,
        permit::{Purpose, Reach, WatchAudit},
    },
    domain::{
        audit::{AuditEntry, ChainHead},
        filter::Filter,
    },
};

/// The most entries that are looked at in one reading, and what those that are told may weigh, by
/// estimate, before there are no more: little more than the largest entry is in memory.
const MOST_READ: usize = 1_000;
const MAX_WEIGHT: usize = 256 << 10;

/// One stream's place in the chain.
#[derive(Debug)]
pub struct AuditWatcher {
    registry: Arc<Registry>,
    call: Call,
    filter: Arc<Filter<AuditEntry>>,
    bell: bell::Receiver<ChainHead>,
    policy: Arc<Policy>,
    reach: Reach,
    /// Everything up to here has been told, or lies before the start.
    told: u64,
    /// Everything up to here has been read.
    read: u64,
    /// What is to be told of it.
    ready: VecDeque<AuditEntry>,
}

impl Registry {
    /// A stream's place in the chain: after the entry `start`, which may lie ahead, or after the
    /// last one there is.
    ///
    /// The permit is for the start; for every change of the roles the watcher gets itself a new one
    /// with `call`, which must be the call that the permit was given to.
    ///
    /// # Errors
    /// [`Kind::AuditCompacted`] if what follows the start is no longer kept.
    pub fn watch_audit(
        self: &Arc<Self>,
        permit: &Permit<WatchAudit>,
        call: Call,
        filter: Filter<AuditEntry>,
        start: Option<u64>,
    ) -> Result<AuditWatcher, Error> {
        let policy = self.policy();
        let mut bell = self.current.audit.subscribe();
        let start = start.unwrap_or_else(|| bell.borrow().sequence);
        let base = self.store.audit().base.sequence;
        if start < base {
            return Err(Kind::AuditCompacted { oldest: base + 1 }.into());
        }
        // Whatever was so at the permit is looked at once more before anything is told.
        bell.mark_changed();
        Ok(AuditWatcher {
            registry: Arc::clone(self),
            call,
            filter: Arc::new(filter),
            bell,
            policy,
            reach: permit.reach().clone(),
            told: start,
            read: start,
            ready: VecDeque::new(),
        })
    }
}

impl AuditWatcher {
    /// The sequence up to which everything has been told. Of a start that lies ahead it says what
    /// there is, and no more.
    pub fn progress(&self) -> u64 {
        self.told.min(self.bell.borrow().sequence)
    }

    /// Whether the bell has rung since this was last asked; what rings from now on wakes it.
    pub fn hears(&mut self) -> bool {
        // The sender lives in the registry, which this holds.
        let rung = self.bell.has_changed().is_ok_and(|rung| rung);
        if rung {
            self.bell.mark_unchanged();
        }
        rung
    }

    /// Takes note of the roles in force now.
    ///
    /// # Errors
    /// [`Kind::Denied`] if they no longer let the caller watch.
    pub fn renew(&mut self) -> Result<(), Error> {
        let policy = self.registry.policy();
        if !Arc::ptr_eq(&policy, &self.policy) {
            let permit = policy.permit::<WatchAudit>(&self.call, Purpose::Commit)?;
            self.reach = permit.reach().clone();
            self.policy = policy;
        }
        Ok(())
    }

    /// Waits for a new entry, or for something about what the stream rests on.
    pub async fn rung(&mut self) {
        // The sender lives in the registry, which this holds.
        let _ = self.bell.changed().await;
        self.bell.mark_changed();
    }

    /// The next entry to be told, if it is at hand.
    pub fn next_entry(&mut self) -> Option<AuditEntry> {
        let snapshot = self.registry.snapshot();
        while let Some(entry) = self.ready.pop_front() {
            self.told = entry.sequence;
            if is_visible(&entry, &self.reach, &snapshot) {
                return Some(entry);
            }
        }
        self.told = self.read;
        None
    }

    /// Whether there is something to [`read`](Self::read).
    pub fn is_behind(&self) -> bool {
        self.ready.is_empty() && self.read < self.bell.borrow().sequence
    }

    /// Reads on in the store.
    ///
    /// # Errors
    /// [`Kind::AuditCompacted`] if what follows is no longer kept; [`Kind::Internal`] if the store
    /// cannot be read.
    pub async fn read(&mut self) -> Result<(), Error> {
        let (registry, filter) = (Arc::clone(&self.registry), Arc::clone(&self.filter));
        let (after, until) = (self.read, self.bell.borrow().sequence);
        let replays = Arc::clone(&registry.replays);
        let turn = replays.acquire_owned().await.map_err(|_| Error::from(Kind::Draining))?;
        let (reply, answer) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            // Whoever waits may go away before the reading is done; the turn lasts until then.
            let _turn = turn;
            let read = registry.read_audit(after, until, &filter, &|| !reply.is_closed());
            // Fails only if nobody waits.
            let _ = reply.send(read);
        });
        let panicked = |_| Error::from(Kind::Internal("reading the audit panicked".into()));
        (self.read, self.ready) = answer.await.map_err(panicked)??;
        Ok(())
    }
}

impl Registry {
    /// The entries after `after` that match, and up to which one this was found out: as long as
    /// somebody waits, and not beyond `until`.
    fn read_audit(
        &self,
        after: u64,
        until: u64,
        filter: &Filter<AuditEntry>,
        waiting: &dyn Fn() -> bool,
    ) -> Result<(u64, VecDeque<AuditEntry>), Error> {
        let (mut read, mut weight, mut found) = (after, 0, VecDeque::new());
        for _ in 0..MOST_READ {
            if read >= until || weight >= MAX_WEIGHT || !waiting() {
                break;
            }
            // One by one, since one alone may be large.
            let entry = self.store.audit_after(read, 1)?.pop();
            let missing = || Kind::Internal(format!("there is no audit entry after {read}"));
            let entry = entry.ok_or_else(missing)?;
            read = entry.sequence;
            if filter.matches(&entry) {
                weight += entry.weight();
                found.push_back(entry);
            }
        }
        Ok((read, found))
    }
}
