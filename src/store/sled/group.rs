//! A group on its way to the disk: what its one batch writes, and the note that goes with it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sled::{Batch, Db, IVec};

use super::{
    folder::Folder,
    layout::{self, Note},
};
use crate::{
    domain::{
        AllowedPartner, Revision,
        audit::{AuditEntry, Chain, Event},
    },
    store::{
        Answer, Change, Commit, Compacted, ReplicaWrite, StoreError, Write,
        codec::{self, Damage, Kind, Stored, Texts},
    },
};

/// The most answers that one call forgets, so that a writer is never kept waiting for long.
const MOST_FORGOTTEN: usize = 4_096;

/// Once so many changes have left the log, the rest waits for the next call.
const MOST_CHANGES_COMPACTED: usize = 1_024;

/// The writes gathered so far, over what the tree holds.
pub(super) struct Group<'a> {
    tree: &'a Db,
    folder: &'a Folder,
    note: Note,
    /// The new value of each key touched; `None` removes it.
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Group<'a> {
    /// A group that comes after `note`.
    pub(super) fn after(note: Note, tree: &'a Db, folder: &'a Folder) -> Self {
        let note = Note { groups: note.groups + 1, ..note };
        Self { tree, folder, note, writes: BTreeMap::new() }
    }

    /// Whether nothing would be written.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The one batch, and the note as it is once the batch is written.
    pub(super) fn into_batch(self) -> (Batch, Note) {
        let mut batch = Batch::default();
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch.insert(layout::NOTE, self.note.sealed());
        (batch, self.note)
    }

    /// Adds what is written together.
    pub(super) fn add(
        &mut self,
        Write { commit, entries, answer, replicas }: &Write,
    ) -> Result<(), StoreError> {
        if let Some((commit, entry)) = commit {
            self.add_commit(commit)?;
            self.add_audit_entry(entry)?;
        }
        entries.iter().try_for_each(|entry| self.add_audit_entry(entry))?;
        if let Some(answer) = answer {
            self.add_answer(answer)?;
        }
        replicas.iter().try_for_each(|replica| self.write_replica(replica))
    }

    /// Removes answers that expire at `now` or before. Returns how many.
    pub(super) fn forget_answers(&mut self, now: Timestamp) -> Result<usize, StoreError> {
        let tree = self.tree;
        let expired: Vec<IVec> = self.folder.shielded("reading", || {
            let range = vec![layout::EXPIRIES]..layout::expiry_end(now);
            tree.range(range).keys().take(MOST_FORGOTTEN).collect()
        })?;
        for expiry in &expired {
            self.remove(expiry)?;
            if self.remove(&layout::expiring_answer_key(expiry))? {
                self.note.answers = self.note.answers.saturating_sub(1);
            }
        }
        Ok(expired.len())
    }

    /// Removes commits before `before`, at most `limit`, and the deleted partners that go with them.
    pub(super) fn compact(
        &mut self,
        before: Revision,
        limit: usize,
    ) -> Result<Compacted, StoreError> {
        let end = before.min(self.note.revision.next());
        let mut changes = 0;
        let mut purged = Vec::new();
        for _ in 0..limit {
            let oldest = self.note.oldest_revision;
            if oldest >= end || changes >= MOST_CHANGES_COMPACTED {
                break;
            }
            let key = layout::commit_key(oldest);
            let commit: Commit = self.stored(&key)?.ok_or_else(|| {
                self.folder.damaged_at(&key, &Damage::Content("it is missing".into()))
            })?;
            changes += commit.changes.len();
            for change in &commit.changes {
                if let Change::Partner { after, .. } = change
                    && after.delete_time.is_some()
                    && self.purge(after)?
                {
                    purged.push(after.domain.clone());
                }
            }
            self.remove(&key)?;
            self.note.oldest_revision = oldest.next();
        }
        Ok(Compacted { oldest_revision: self.note.oldest_revision, purged })
    }

    /// Removes the audit entries that `statement` says are removed, and adds it.
    pub(super) fn compact_audit(&mut self, statement: &AuditEntry) -> Result<(), StoreError> {
        let Event::Retention(removal) = &statement.event else {
            return Err(self.refused("audit entries were to go, and no entry says so".to_owned()));
        };
        let Chain { base, head } = self.note.audit;
        let last = removal.last;
        let stated = last.sequence.checked_sub(removal.count);
        if stated != Some(base.sequence) || removal.count == 0 || last.sequence > head.sequence {
            return Err(self.refused(format!(
                "{} audit entries up to {} were to go, and there are those from {} to {}",
                removal.count,
                last.sequence,
                base.sequence + 1,
                head.sequence
            )));
        }
        let key = layout::audit_key(last.sequence);
        let stored: Option<AuditEntry> = self.stored(&key)?;
        if stored.is_some_and(|stored| stored.head() != last) {
            return Err(self.refused(format!("audit entry {} is another one", last.sequence)));
        }
        for sequence in base.sequence + 1..=last.sequence {
            let key = layout::audit_key(sequence);
            if !self.remove(&key)? {
                let missing = Damage::Content("it is missing".into());
                return Err(self.folder.damaged_at(&key, &missing));
            }
        }
        self.note.audit.base = last;
        self.add_audit_entry(statement)
    }

    /// Removes a deleted partner, unless something was done to it later. Returns whether it did.
    fn purge(&mut self, deleted: &AllowedPartner) -> Result<bool, StoreError> {
        let key = layout::partner_key(&deleted.domain);
        let stored: Option<AllowedPartner> = self.stored(&key)?;
        if stored.is_none_or(|stored| stored.revision != deleted.revision) {
            return Ok(false);
        }
        self.note.deleted = self.note.deleted.saturating_sub(1);
        self.remove(&key)
    }

    fn add_commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let expected = self.note.revision.next();
        if commit.revision != expected {
            let revision = commit.revision;
            return Err(self.refused(format!("revision {revision} came instead of {expected}")));
        }
        for change in &commit.changes {
            match change {
                Change::Partner { before, after } => {
                    self.replace_partner(before.as_deref(), after)?;
                }
                Change::Settings { after, .. } => {
                    self.remove(layout::SETTINGS)?;
                    let value = codec::encode(layout::SETTINGS, after.as_ref());
                    self.put(layout::SETTINGS.to_vec(), value);
                }
                Change::Role { before, after } => {
                    let role = after.as_ref().or(before.as_ref());
                    let key = role.map(|role| layout::role_key(&role.id));
                    let key = key.ok_or_else(|| self.refused("a change of no role".to_owned()))?;
                    self.replace(key, before.is_some(), after.as_deref())?;
                }
                Change::Revocation { before, after } => {
                    let revocation = after.as_ref().or(before.as_ref());
                    let key = revocation.map(|it| layout::revocation_key(it.id));
                    let key =
                        key.ok_or_else(|| self.refused("a change of no revocation".to_owned()))?;
                    self.replace(key, before.is_some(), after.as_deref())?;
                }
            }
        }
        let key = layout::commit_key(commit.revision);
        let value = codec::encode(&key, commit);
        self.put(key, value);
        self.note.revision = commit.revision;
        Ok(())
    }

    fn replace_partner(
        &mut self,
        before: Option<&AllowedPartner>,
        after: &AllowedPartner,
    ) -> Result<(), StoreError> {
        let key = layout::partner_key(&after.domain);
        let existed = self.remove(&key)?;
        if existed != before.is_some() {
            let domain = &after.domain;
            return Err(self.refused(format!("the change of {domain} is not from what is stored")));
        }
        if let Some(before) = before {
            let count = self.count_of(before);
            *count = count.saturating_sub(1);
        }
        *self.count_of(after) += 1;
        let value = codec::encode(&key, after);
        self.put(key, value);
        Ok(())
    }

    /// Puts a resource where it was, or takes it away.
    fn replace<T: Stored>(
        &mut self,
        key: Vec<u8>,
        existed_before: bool,
        after: Option<&T>,
    ) -> Result<(), StoreError> {
        if self.remove(&key)? != existed_before {
            let place = layout::place(&key);
            return Err(self.refused(format!("the change of {place} is not from what is stored")));
        }
        if let Some(after) = after {
            let value = codec::encode(&key, after);
            self.put(key, value);
        }
        Ok(())
    }

    fn count_of(&mut self, partner: &AllowedPartner) -> &mut u64 {
        match partner.delete_time {
            None => &mut self.note.live,
            Some(_) => &mut self.note.deleted,
        }
    }

    fn add_audit_entry(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let head = self.note.audit.head;
        if entry.sequence != head.sequence + 1 || entry.previous_hash != head.hash {
            let sequence = entry.sequence;
            return Err(self.refused(format!(
                "audit entry {sequence} is not linked to entry {}",
                head.sequence
            )));
        }
        let key = layout::audit_key(entry.sequence);
        let value = codec::encode(&key, entry);
        self.put(key, value);
        self.note.audit.head = entry.head();
        Ok(())
    }

    fn write_replica(&mut self, write: &ReplicaWrite) -> Result<(), StoreError> {
        match write {
            ReplicaWrite::Keep(replica) => {
                let key = layout::replica_key(&replica.id);
                self.remove(&key)?;
                let value = codec::encode(&key, replica.as_ref());
                self.put(key, value);
            }
            ReplicaWrite::Forget(id) => {
                self.remove(&layout::replica_key(id))?;
            }
        }
        Ok(())
    }

    fn add_answer(&mut self, answer: &Answer) -> Result<(), StoreError> {
        let key = layout::answer_key(&answer.key);
        if let Some(old) = self.stored::<Answer>(&key)? {
            self.remove(&key)?;
            self.remove(&layout::expiry_key(old.expire_time, &key))?;
            self.note.answers = self.note.answers.saturating_sub(1);
        }
        let expiry_key = layout::expiry_key(answer.expire_time, &key);
        let expiry = codec::seal(Kind::Note, &expiry_key, &[]);
        self.put(expiry_key, expiry);
        let value = codec::encode(&key, answer);
        self.put(key, value);
        self.note.answers += 1;
        Ok(())
    }

    fn stored<T: Stored>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.get(key)? else { return Ok(None) };
        let sealed = layout::whole(self.folder, key, &bytes, |part| self.get(part))?;
        codec::decode(key, &sealed, &mut Texts::default())
            .map(Some)
            .map_err(|damage| self.folder.damaged_at(key, &damage))
    }

    /// Stores a sealed value where nothing is stored.
    fn put(&mut self, key: Vec<u8>, sealed: Vec<u8>) {
        for (key, value) in layout::pairs(key, sealed) {
            self.note.tally.add(&value);
            self.writes.insert(key, Some(value));
        }
    }

    /// Removes the value at `key` with its parts. Returns whether there was one.
    fn remove(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        let Some(old) = self.get(key)? else { return Ok(false) };
        let parts =
            layout::part_count(key, &old).map_err(|damage| self.folder.damaged_at(key, &damage))?;
        self.note.tally.take(&old);
        self.writes.insert(key.to_vec(), None);
        for index in 0..parts {
            self.remove(&layout::part_key(key, index))?;
        }
        Ok(true)
    }

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        match self.writes.get(key) {
            Some(written) => Ok(written.as_deref().map(IVec::from)),
            None => self.folder.shielded("reading", || self.tree.get(key)),
        }
    }

    fn refused(&self, what: String) -> StoreError {
        self.folder.failed("writing", &format!("the group does not follow the last one: {what}"))
    }
}
