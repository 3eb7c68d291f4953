//! The embedded store.
//!
//! # The folder
//!
//! | file | what |
//! |---|---|
//! | `partnerd-store` | the marker: that the folder is ours, the format, the store's id |
//! | `lock` | locked by the process that has the store open |
//! | `head` | what was acknowledged last, for the check at start (`head.rs`) |
//! | `sled/` | sled's files: `db` is the log with all data, `snap.*` an index into it, `conf` |
//!
//! New folders are for their owner alone (0700, files 0600). The dialback passphrase is in there in
//! the clear, so a copy of the folder is as secret as the passphrase.
//!
//! # The keys
//!
//! One sled tree, the default one, because a batch is atomic within one tree. The first byte of a
//! key says what is there (`layout.rs`):
//!
//! | key | value |
//! |---|---|
//! | `p` domain | a partner |
//! | `s` | the settings; missing until they are first changed |
//! | `o` id | a role that somebody made |
//! | `w` id | a revocation |
//! | `l` revision, big-endian | a commit |
//! | `a` sequence, big-endian | an audit entry |
//! | `r` SHA-256 of the request's key | a kept answer |
//! | `x` expiry, sortable, and the same SHA-256 | nothing: finds answers whose time has run out |
//! | `n` id | a replica, as far as it outlives the server |
//! | `c` key, index | a part of the value at that key, if it is longer than 4 KiB |
//! | `m` | the note: store id, last and oldest revision, counts, audit head, tally of all values |
//!
//! Every value carries a format, a kind and a CRC over its key and itself (`codec`).
//!
//! # A commit
//!
//! A group is one sled batch with the note in it. Then `flush`, which hands sled's buffers to the
//! operating system; then `sync_data` on a handle of our own on the log, because sled's flush is
//! `sync_file_range` on Linux and no sync. Only then is the group acknowledged, and the head file
//! follows.
//!
//! Values stay at or below 4 KiB, because a large page would go to a blob file, which nothing ever
//! syncs. sled's `watch_prefix` is not used: one subscriber that stops reading stops every writer.
//!
//! # Compaction
//!
//! Old commits leave the log a batch at a time, and with them the deleted partners that nobody can
//! bring back any more. The oldest revision that readers are told of moves before the batch is
//! applied, so a reader that misses a commit finds out that it was compacted.
//!
//! sled writes its log in segments and fills one anew once nothing in it is needed. Its periodic
//! flush empties those that are half needed, and is therefore on, but only after the check at start:
//! a store in doubt is not to be moved about.
//!
//! # A crash
//!
//! sled recovers a batch whole or not at all. A group that was not acknowledged may be there after
//! a crash; one that was acknowledged must be. At start everything is read: every CRC, the log
//! without gaps up to the note's revision, the counts, each domain owned once, the end of the audit
//! chain, and a tally by which a value is found that fell back to an older version. The head file
//! guards against the end of the log being lost as a whole. After a power loss the head file may be
//! some seconds old; damage to exactly those last groups would be taken for a crash before them.
//!
//! What does not pass is refused, and the files are put back as they were: sled itself overwrites
//! the end of a damaged log while it opens it (`keepsake.rs` has the limits of this). A snapshot
//! file that a power loss left torn does not count as damage: the store is copied aside and opened
//! from its log alone.
//!
//! # Deliberately unsupported
//!
//! - Two processes on one folder, and network file systems without working locks: a second opener
//!   is refused. Those who need more than one server use another store.
//! - Copying the folder of a running server: its files change independently of each other. A copy
//!   made while it is stopped is a backup.
//! - Repair: a damaged store would have to guess what was allowed. It is refused, and a backup
//!   takes its place.
//! - Going on after a failed write: whether the group is durable is unknown, and on Linux a sync
//!   that succeeds after one that failed proves nothing about the same bytes. Reads of the log and
//!   the audit go on up to the last acknowledged group; the rest waits for a restart, which finds
//!   the group whole or not at all. A disk that fails to sync should be replaced before it.

mod census;
mod check;
mod folder;
mod group;
mod head;
mod keepsake;
mod layout;
mod open;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::File,
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
};

use jiff::Timestamp;
use sled::Db;

use self::{
    folder::Folder,
    group::Group,
    head::{Head, HeadFile},
    layout::Note,
    open::Opened,
};
use super::{
    Answer, Commit, Compacted, RequestKey, State, Store, StoreError, Write,
    codec::{self, Damage, Stored, Texts},
};
use crate::domain::{Revision, audit::AuditEntry};

/// How the embedded store is opened.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// The bytes of pages that sled keeps in memory, 64 MiB unless told. Reads are served from a
    /// snapshot outside the store, so the cache is for writes and history alone and can be small.
    pub cache_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1_024 * 1_024 }
    }
}

/// The embedded store. See the module for what it keeps and how.
pub struct SledStore {
    tree: Db,
    /// Held for reading by those that must not see half a group.
    writer: RwLock<Writer>,
    /// The note of the last acknowledged group, up to which the log and the audit are read.
    published: Mutex<Note>,
    /// The state found by the check at start, until somebody takes it or it has changed.
    found: Mutex<Option<State>>,
    /// The last field, so that the folder is unlocked once all else is closed.
    folder: Folder,
}

/// Puts what was written to the log file on the disk.
type Sync = Box<dyn Fn(&File) -> io::Result<()> + Send + std::marker::Sync>;

struct Writer {
    note: Note,
    head: HeadFile,
    log: File,
    sync: Sync,
    /// Why nothing is written any more.
    failure: Option<String>,
}

impl SledStore {
    /// Opens the store in the folder `dir`, or makes one if the folder is empty or not there. Reads
    /// and checks all of it, which takes seconds for a million partners.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it open; [`StoreError::Damaged`] if it is not
    /// whole, of another format, or somebody else's folder; [`StoreError::Io`] if it cannot be read
    /// or written.
    pub fn open(dir: &Path, options: &SledOptions) -> Result<Self, StoreError> {
        Self::open_with(dir, options, Box::new(File::sync_data))
    }

    /// Opens the store with another way to sync, so that a test can make it fail.
    fn open_with(dir: &Path, options: &SledOptions, sync: Sync) -> Result<Self, StoreError> {
        let (folder, opened) = open::open(dir, options)?;
        let Opened { tree, note, state, head, log } = opened;
        Ok(Self {
            tree,
            writer: RwLock::new(Writer { note, head, log, sync, failure: None }),
            published: Mutex::new(note),
            found: Mutex::new(Some(state)),
            folder,
        })
    }

    /// Writes what `fill` puts into a group, durably. Any failure is the last: see [`Writer`].
    fn commit<T>(
        &self,
        fill: impl FnOnce(&mut Group<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer.write().unwrap_or_else(PoisonError::into_inner);
        writer.refuse_after_failure(&self.folder)?;
        let result = self.commit_as(&mut writer, fill);
        if let Err(error) = &result {
            writer.failure = Some(error.to_string());
        }
        result
    }

    fn commit_as<T>(
        &self,
        writer: &mut Writer,
        fill: impl FnOnce(&mut Group<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut group = Group::after(writer.note, &self.tree, &self.folder);
        let result = fill(&mut group)?;
        if group.is_empty() {
            return Ok(result);
        }
        let (batch, note) = group.into_batch();
        *lock(&self.found) = None;
        lock(&self.published).oldest_revision = note.oldest_revision;
        self.folder.shielded("writing", || {
            self.tree.apply_batch(batch)?;
            self.tree.flush()
        })?;
        (writer.sync)(&writer.log).map_err(|error| self.folder.failed("syncing", &error))?;
        let head = writer.head.write(Head::from(&note));
        head.map_err(|error| self.folder.failed("writing the head file", &error))?;
        writer.note = note;
        *lock(&self.published) = note;
        Ok(result)
    }

    /// The values of a family with numbers in `from..=to`, at most `limit`, without gaps.
    fn numbered<T: Stored>(
        &self,
        from: u64,
        to: u64,
        limit: usize,
        key_of: impl Fn(u64) -> Vec<u8>,
    ) -> Result<Vec<T>, StoreError> {
        if from > to {
            return Ok(Vec::new());
        }
        let mut texts = Texts::default();
        let mut values = Vec::new();
        let wanted = usize::try_from(to - from).unwrap_or(usize::MAX).saturating_add(1).min(limit);
        let pairs: Vec<_> = self.folder.shielded("reading", || {
            self.tree.range(key_of(from)..=key_of(to)).take(wanted).collect()
        })?;
        for (expected, (key, bytes)) in (from..).zip(pairs) {
            if key != key_of(expected) {
                break;
            }
            values.push(self.value(&key, &bytes, &mut texts)?);
        }
        if values.len() < wanted {
            let key = key_of(from + values.len() as u64);
            return Err(self.folder.damaged_at(&key, &Damage::Content("it is missing".into())));
        }
        Ok(values)
    }

    fn value<T: Stored>(
        &self,
        key: &[u8],
        bytes: &[u8],
        texts: &mut Texts,
    ) -> Result<T, StoreError> {
        let sealed = layout::whole(&self.folder, key, bytes, |part| {
            self.folder.shielded("reading", || self.tree.get(part))
        })?;
        codec::decode(key, &sealed, texts).map_err(|damage| self.folder.damaged_at(key, &damage))
    }
}

impl Store for SledStore {
    fn kind(&self) -> &'static str {
        "sled"
    }

    fn load(&self) -> Result<State, StoreError> {
        let writer = self.writer.read().unwrap_or_else(PoisonError::into_inner);
        writer.refuse_after_failure(&self.folder)?;
        match lock(&self.found).take() {
            Some(state) => Ok(state),
            None => check::whole_tree(&self.tree, &self.folder, &writer.note),
        }
    }

    fn write(&self, group: &[Write]) -> Result<(), StoreError> {
        self.commit(|batch| group.iter().try_for_each(|write| batch.add(write)))
    }

    fn commits_after(&self, after: Revision, limit: usize) -> Result<Vec<Commit>, StoreError> {
        let Note { revision, oldest_revision: oldest, .. } = *lock(&self.published);
        if after >= revision {
            return Ok(Vec::new());
        }
        if after.next() < oldest {
            return Err(StoreError::Compacted { oldest });
        }
        let commits = self.numbered(after.next().get(), revision.get(), limit, |number| {
            layout::commit_key(Revision::new(number))
        });
        commits.map_err(|error| match lock(&self.published).oldest_revision {
            // They went while they were being read.
            oldest if after.next() < oldest => StoreError::Compacted { oldest },
            _ => error,
        })
    }

    fn audit_after(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let last = lock(&self.published).audit.sequence;
        if after >= last {
            return Ok(Vec::new());
        }
        self.numbered(after + 1, last, limit, layout::audit_key)
    }

    fn answer(&self, key: &RequestKey) -> Result<Option<Answer>, StoreError> {
        let writer = self.writer.read().unwrap_or_else(PoisonError::into_inner);
        // An answer of the group that failed may be there and yet not be durable.
        writer.refuse_after_failure(&self.folder)?;
        let stored_key = layout::answer_key(key);
        let bytes = self.folder.shielded("reading", || self.tree.get(&stored_key))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let answer: Answer = self.value(&stored_key, &bytes, &mut Texts::default())?;
        if answer.key != *key {
            let damage = Damage::Content("it answers another request".into());
            return Err(self.folder.damaged_at(&stored_key, &damage));
        }
        Ok(Some(answer))
    }

    fn forget_answers(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.commit(|batch| batch.forget_answers(now))
    }

    fn compact(&self, before: Revision, limit: usize) -> Result<Compacted, StoreError> {
        self.commit(|batch| batch.compact(before, limit))
    }

    fn size_on_disk(&self) -> u64 {
        self.folder.shielded("measuring", || self.tree.size_on_disk()).unwrap_or(0)
    }
}

impl Writer {
    fn refuse_after_failure(&self, folder: &Folder) -> Result<(), StoreError> {
        self.failure.as_ref().map_or(Ok(()), |failure| {
            let what = format!("an earlier write failed ({failure}); restart the server");
            Err(folder.failed("reading and writing", &what))
        })
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writer.head.sync() {
            // The store is whole without it; only the check at the next start is less strict.
            tracing::warn!(%error, "the head file could not be synced at the end");
        }
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
