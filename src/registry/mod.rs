//! The use cases: take permits, read the snapshot, commit through the one writer.
//!
//! Reads come from an immutable [`Snapshot`] and never wait. Writes go to the writer (see
//! [`writer`]), one thread that decides them one after the other, so a rule that spans partners
//! holds without locks.

pub mod audit;
pub mod audit_log;
pub mod backup;
mod bulk;
pub mod draft;
pub mod error;
pub mod expiry;
pub mod history;
pub mod listing;
pub mod log;
#[cfg(test)]
mod memory;
mod owners;
pub mod pages;
pub mod partners;
pub mod replicas;
mod replies;
pub mod restore;
pub mod retention;
pub mod revocations;
pub mod roles;
pub mod settings;
pub mod snapshot;
pub mod watch;
pub mod writer;

use std::{
    collections::BTreeSet,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch as bell};

pub use audit_log::AuditRetention;
pub use error::{Error, Kind};
pub use retention::Retention;
pub use snapshot::Snapshot;
pub use writer::{Committed, Request};

use crate::{
    auth::{Permit, Policy, permit::ReadStatus, sightings::Sightings},
    domain::{
        DomainName, Revision,
        audit::{ChainHead, SigningKey},
        revocation::Revocations,
    },
    store::{Store, StoreError},
};
use log::{Entry, Tail, TailLimits};
use pages::Pages;
use replicas::{ReplicaOptions, Replicas};
use writer::Writer;

/// What a registry allows itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// Domains that the server itself serves; they cannot be partners.
    pub local_domains: BTreeSet<DomainName>,
    /// The key that signs the audit's checkpoints.
    pub audit_key: SigningKey,
    /// The most writes that wait for the disk, at least 1; further ones are refused with a retry
    /// hint.
    pub write_queue_length: usize,
    /// The most of them of one subject, at least 1.
    pub write_queue_share: usize,
    /// The most snapshots that are kept for listings under way.
    pub retained_listings: usize,
    /// How long a snapshot is kept for a listing under way.
    pub listing_ttl: Duration,
    /// How long the history is kept.
    pub retention: Retention,
    /// How long the audit is kept.
    pub audit_retention: AuditRetention,
    /// How much of the log is kept in memory for the streams that keep up.
    pub tail: TailLimits,
    /// What the replicas are allowed.
    pub replicas: ReplicaOptions,
}

#[cfg(test)]
impl Options {
    /// Small ones, for a registry that a test opens by itself.
    fn for_tests() -> Self {
        Self {
            audit_key: SigningKey::generate(),
            local_domains: BTreeSet::new(),
            write_queue_length: 16,
            write_queue_share: 16,
            retained_listings: 1,
            listing_ttl: Duration::from_secs(60),
            tail: TailLimits { commits: 16, bytes: 1 << 20 },
            replicas: ReplicaOptions {
                max_count: 10,
                silent_after: Duration::from_secs(90),
                id_is_subject: false,
            },
            retention: Retention { max_age: Duration::from_secs(86_400), max_commits: 1_000 },
            audit_retention: AuditRetention::default(),
        }
    }
}

/// The partners and settings at their last revision, and the only way to change them.
#[derive(Debug)]
pub struct Registry {
    store: Arc<dyn Store>,
    current: Arc<Current>,
    writer: Writer,
    pages: Pages,
    retention: Retention,
    audit_retention: AuditRetention,
    /// As many readers of the store's log at a time as there are cores.
    replays: Arc<Semaphore>,
    replicas: Replicas,
    sightings: Sightings,
    /// One restore at a time, since all of it is in memory.
    restoring: Arc<Semaphore>,
    audit_key: SigningKey,
    audit_halted: audit_log::Halted,
    start_time: Timestamp,
}

/// What readers see: the snapshot, the end of the log that led to it, and a bell that rings with
/// its revision when it changes.
struct Current {
    snapshot: ArcSwap<Snapshot>,
    tail: ArcSwap<Tail>,
    bell: bell::Sender<Revision>,
    /// Who must know of revocations before they are answered.
    listener: Mutex<Option<RevocationListener>>,
    /// A bell of its own for the audit, which rings with the end of the chain.
    audit: bell::Sender<ChainHead>,
}

type RevocationListener = Box<dyn Fn(Arc<Revocations>) + Send + Sync>;

impl Current {
    fn at(snapshot: Snapshot, audit: ChainHead, limits: TailLimits) -> Self {
        Self {
            bell: bell::Sender::new(snapshot.revision()),
            tail: ArcSwap::from_pointee(Tail::after(&snapshot, limits)),
            snapshot: ArcSwap::from_pointee(snapshot),
            listener: Mutex::default(),
            audit: bell::Sender::new(audit),
        }
    }

    /// For the writer alone. What the bell tells of is there when it rings.
    fn publish(&self, snapshot: Snapshot, entries: impl IntoIterator<Item = Entry>) {
        let revision = snapshot.revision();
        self.tail.store(Arc::new(self.tail.load().extended(entries)));
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot.swap(Arc::new(snapshot));
        let now = self.snapshot.load();
        if let Some(hear) = &*listener
            && !Arc::ptr_eq(before.revocations(), now.revocations())
        {
            hear(Arc::clone(now.revocations()));
        }
        drop(listener);
        self.bell.send_replace(revision);
    }

    fn listen(&self, hear: RevocationListener) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        hear(Arc::clone(self.snapshot.load().revocations()));
        *listener = Some(hear);
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("revision", &*self.bell.borrow()).finish_non_exhaustive()
    }
}

/// How the server is.
#[derive(Clone, Debug)]
pub struct Status {
    /// The last revision.
    pub revision: Revision,
    /// The oldest revision whose change is kept.
    pub oldest_revision: Revision,
    /// The partners in force.
    pub partners: usize,
    /// The partners that are deleted and can be undeleted.
    pub deleted_partners: usize,
    /// The domains of all partners in force.
    pub domains: usize,
    /// When the registry was opened.
    pub start_time: Timestamp,
    /// The kind of store.
    pub store: &'static str,
    /// The bytes it takes on disk.
    pub store_size_bytes: u64,
    /// Why it takes no writes, if it does not.
    pub read_only_reason: Option<String>,
}

impl Registry {
    /// Loads the state from `store` and starts the writer. Blocks while it loads.
    ///
    /// # Errors
    /// What [`Store::load`] reports.
    pub fn open(store: Arc<dyn Store>, options: Options) -> Result<Self, StoreError> {
        let mut state = store.load()?;
        let kept = std::mem::take(&mut state.replicas);
        let replicas = Replicas::new(kept, options.replicas.clone());
        let audit_head = state.audit.head;
        let snapshot = Snapshot::of(state);
        let current = Arc::new(Current::at(snapshot, audit_head, options.tail));
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let replays = Arc::new(Semaphore::new(cores));
        let pages = Pages::new(options.retained_listings, options.listing_ttl);
        let (retention, audit_retention) = (options.retention, options.audit_retention);
        let audit_key = options.audit_key.clone();
        let writer = Writer::start(Arc::clone(&store), Arc::clone(&current), audit_head, options);
        Ok(Self {
            store,
            current,
            writer,
            pages,
            retention,
            audit_retention,
            replays,
            replicas,
            sightings: Sightings::default(),
            restoring: Arc::new(Semaphore::new(1)),
            audit_key,
            audit_halted: audit_log::Halted::default(),
            start_time: Timestamp::now(),
        })
    }

    /// The roles in force.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(self.current.snapshot.load().policy())
    }

    /// Who was here lately, and with which roles.
    pub const fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    /// The last revision.
    pub fn revision(&self) -> Revision {
        self.current.snapshot.load().revision()
    }

    /// How many partners there are, deleted ones included: what a scan has to look at.
    pub fn scan_length(&self) -> usize {
        let snapshot = self.current.snapshot.load();
        snapshot.partner_count() + snapshot.deleted_count()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.current.snapshot.load_full()
    }

    /// Waits until `revision` is visible to readers. The caller bounds the wait.
    pub async fn wait_for(&self, revision: Revision) {
        let mut bell = self.current.bell.subscribe();
        // The sender lives in `self`, so the channel cannot close while this borrow lasts.
        let _ = bell.wait_for(|visible| *visible >= revision).await;
    }

    /// What rings with every commit, and when what a call rests on may have changed.
    pub fn bell(&self) -> bell::Receiver<Revision> {
        self.current.bell.subscribe()
    }

    /// Wakes every stream although nothing was committed: what it rests on may have changed.
    pub fn ring(&self) {
        self.current.bell.send_modify(|_same| {});
        self.current.audit.send_modify(|_same| {});
    }

    /// How the server is. Asks the store for its size, so not for async threads.
    pub fn status(&self, _permit: &Permit<ReadStatus>) -> Status {
        let snapshot = self.snapshot();
        Status {
            revision: snapshot.revision(),
            oldest_revision: snapshot.oldest_revision(),
            partners: snapshot.partner_count(),
            deleted_partners: snapshot.deleted_count(),
            domains: snapshot.domain_count(),
            start_time: self.start_time,
            store: self.store.kind(),
            store_size_bytes: self.store.size_on_disk(),
            read_only_reason: self.writer.failure(),
        }
    }

    /// Forgets answers to requests that can no longer be retried. To be called now and then.
    pub async fn forget_old_answers(&self) -> Result<usize, Error> {
        self.writer.forget_answers().await
    }

    /// Refuses further writes, waits for those under way to be on the disk, and ends the writer.
    pub async fn close(&self) {
        if let Err(error) = self.save_replicas().await {
            tracing::warn!(?error, "what the replicas reported last was not kept");
        }
        self.writer.close().await;
    }
}
