//! The check at start: every value is read, and nothing is believed that does not fit the rest.

use std::{sync::Arc, thread};

use sled::{Db, IVec};

use super::{
    census::{self, Census},
    folder::Folder,
    head::Head,
    layout::{self, Note, Tally},
};
use crate::{
    domain::{
        audit::AuditEntry, replica::Replica, revocation::Revocation, role::Role,
        settings::FederationSettings,
    },
    store::{
        Commit, State, StoreError,
        codec::{self, Damage, Kind, Stored, Texts},
    },
};

/// Reads the whole tree and gives the state, if all of it is as `note` says.
pub(super) fn whole_tree(tree: &Db, folder: &Folder, note: &Note) -> Result<State, StoreError> {
    let check = Check { tree, folder, note };
    let (partners, rest) = thread::scope(|scope| {
        let partners = scope.spawn(|| census::take(check));
        let rest = scope.spawn(|| check.all_but_partners());
        (partners.join(), rest.join())
    });
    let panicked = |_| folder.damaged("reading it failed: sled panicked");
    let Census { partners, tally: tally_of_partners } = partners.map_err(panicked)??;
    let (rest, tally_of_rest) = rest.map_err(panicked)??;
    let Rest { settings, replicas, roles, revocations } = rest;
    let tally = tally_of_partners.plus(tally_of_rest);
    if tally != note.tally {
        return Err(folder.damaged(&format!(
            "there are {} values, and {} were written; or some are older than they should be",
            tally.count, note.tally.count
        )));
    }
    Ok(State {
        revision: note.revision,
        oldest_revision: note.oldest_revision,
        partners,
        settings,
        replicas,
        roles,
        revocations,
        audit_head: note.audit,
    })
}

/// The store's note about itself.
pub(super) fn note(tree: &Db, folder: &Folder) -> Result<Note, StoreError> {
    let bytes = folder
        .shielded("reading", || tree.get(layout::NOTE))?
        .ok_or_else(|| folder.damaged("the store's note about itself is missing"))?;
    Note::unsealed(&bytes).map_err(|damage| folder.damaged_at(layout::NOTE, &damage))
}

/// Whether the tree has everything that was acknowledged when `head` was written.
pub(super) fn reaches(
    tree: &Db,
    folder: &Folder,
    note: &Note,
    head: &Head,
) -> Result<(), StoreError> {
    if note.store_id != head.store_id {
        return Err(folder.damaged("the head file belongs to another store"));
    }
    let is_behind = note.groups < head.groups
        || note.revision < head.revision
        || note.audit.sequence < head.audit.sequence;
    if is_behind {
        return Err(folder.damaged(&format!(
            "it ends at revision {}, and revision {} was acknowledged",
            note.revision, head.revision
        )));
    }
    let check = Check { tree, folder, note };
    if head.audit.sequence > 0 && check.audit_entry(head.audit.sequence)?.head() != head.audit {
        let sequence = head.audit.sequence;
        return Err(folder.damaged(&format!("audit entry {sequence} is not the one written")));
    }
    Ok(())
}

/// What there is beside the partners.
struct Rest {
    settings: Arc<FederationSettings>,
    replicas: Vec<Arc<Replica>>,
    roles: Vec<Arc<Role>>,
    revocations: Vec<Arc<Revocation>>,
}

/// What is checked, and by which note.
#[derive(Clone, Copy)]
pub(super) struct Check<'a> {
    pub(super) tree: &'a Db,
    pub(super) folder: &'a Folder,
    pub(super) note: &'a Note,
}

impl Check<'_> {
    fn all_but_partners(self) -> Result<(Rest, Tally), StoreError> {
        let mut tally = Tally::default();
        self.log(&mut tally)?;
        self.audit(&mut tally)?;
        self.answers(&mut tally)?;
        self.each([layout::PARTS], &mut tally, |key, bytes| {
            codec::unseal(Kind::Part, key, bytes).map(drop)
        })?;
        let settings = self.settings(&mut tally)?;
        let replicas = self.replicas(&mut tally)?;
        let roles = self.roles(&mut tally)?;
        let revocations = self.revocations(&mut tally)?;
        self.check_nothing_else_is_there()?;
        Ok((Rest { settings, replicas, roles, revocations }, tally))
    }

    fn log(self, tally: &mut Tally) -> Result<(), StoreError> {
        let mut next = self.note.oldest_revision.get();
        self.each([layout::COMMITS], tally, |key, bytes| {
            check_number(key, &mut next)?;
            check_kind::<Commit>(key, bytes)
        })?;
        let after_last = self.note.revision.next();
        if next != after_last.get() {
            return Err(self.folder.damaged(&format!(
                "the log ends before revision {next}, and should end before {after_last}"
            )));
        }
        if self.note.oldest_revision < after_last {
            let key = layout::commit_key(self.note.revision);
            let commit: Commit = self.required(&key)?;
            if commit.revision != self.note.revision {
                return Err(self.nonsense(&key, format!("it is of {}", commit.revision)));
            }
        }
        Ok(())
    }

    fn audit(self, tally: &mut Tally) -> Result<(), StoreError> {
        let mut next = 1;
        self.each([layout::AUDIT], tally, |key, bytes| {
            check_number(key, &mut next)?;
            check_kind::<AuditEntry>(key, bytes)
        })?;
        let head = self.note.audit;
        if next != head.sequence + 1 {
            return Err(self.folder.damaged(&format!(
                "the audit ends before entry {next}, and should end with {}",
                head.sequence
            )));
        }
        if head.sequence > 0 {
            let last = self.audit_entry(head.sequence)?;
            if last.head() != head || !last.is_intact() {
                let key = layout::audit_key(head.sequence);
                return Err(self.nonsense(&key, "it is not the one written".to_owned()));
            }
        }
        Ok(())
    }

    fn answers(self, tally: &mut Tally) -> Result<(), StoreError> {
        let mut answers = 0;
        self.each([layout::ANSWERS], tally, |key, bytes| {
            answers += 1;
            check_kind::<crate::store::Answer>(key, bytes)
        })?;
        let mut expiries = 0;
        self.each([layout::EXPIRIES], tally, |key, bytes| {
            expiries += 1;
            codec::unseal(Kind::Note, key, bytes).map(drop)
        })?;
        if (answers, expiries) != (self.note.answers, self.note.answers) {
            return Err(self.folder.damaged(&format!(
                "there are {answers} kept answers and {expiries} expiries, and there should be {}",
                self.note.answers
            )));
        }
        Ok(())
    }

    fn settings(self, tally: &mut Tally) -> Result<Arc<FederationSettings>, StoreError> {
        let key = layout::SETTINGS;
        let Some(bytes) = self.get(key)? else { return Ok(Arc::default()) };
        tally.add(&bytes);
        self.value(key, &bytes, &mut Texts::default()).map(Arc::new)
    }

    fn replicas(self, tally: &mut Tally) -> Result<Vec<Arc<Replica>>, StoreError> {
        self.resources(layout::REPLICAS, tally, |it: &Replica| layout::replica_key(&it.id))
    }

    fn roles(self, tally: &mut Tally) -> Result<Vec<Arc<Role>>, StoreError> {
        self.resources(layout::ROLES, tally, |role: &Role| layout::role_key(&role.id))
    }

    fn revocations(self, tally: &mut Tally) -> Result<Vec<Arc<Revocation>>, StoreError> {
        self.resources(layout::REVOCATIONS, tally, |it: &Revocation| layout::revocation_key(it.id))
    }

    /// Everything of a family that is small enough to be read one after the other.
    fn resources<T: Stored>(
        self,
        family: u8,
        tally: &mut Tally,
        key_of: impl Fn(&T) -> Vec<u8>,
    ) -> Result<Vec<Arc<T>>, StoreError> {
        let mut texts = Texts::default();
        let mut found = Vec::new();
        for pair in self.tree.scan_prefix([family]) {
            let (key, bytes) = self.folder.shielded("reading", || pair)?;
            tally.add(&bytes);
            let resource: T = self.value(&key, &bytes, &mut texts)?;
            if key != key_of(&resource) {
                return Err(self.nonsense(&key, "it is of another id".to_owned()));
            }
            found.push(Arc::new(resource));
        }
        Ok(found)
    }

    fn check_nothing_else_is_there(self) -> Result<(), StoreError> {
        let mut known = [
            layout::NOTE[0],
            layout::SETTINGS[0],
            layout::PARTNERS,
            layout::ROLES,
            layout::REVOCATIONS,
            layout::COMMITS,
            layout::AUDIT,
            layout::ANSWERS,
            layout::EXPIRIES,
            layout::PARTS,
            layout::REPLICAS,
        ];
        known.sort_unstable();
        let mut from = Vec::new();
        for family in known {
            let gap = self.folder.shielded("reading", || {
                self.tree.range(from..vec![family]).keys().next().transpose()
            })?;
            if let Some(key) = gap {
                return Err(self.folder.damaged(&layout::place(&key)));
            }
            from = vec![family + 1];
        }
        let beyond = self
            .folder
            .shielded("reading", || self.tree.range(from..).keys().next().transpose())?;
        beyond.map_or(Ok(()), |key| Err(self.folder.damaged(&layout::place(&key))))
    }

    /// Looks at every value of a family.
    fn each(
        self,
        family: [u8; 1],
        tally: &mut Tally,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<(), Damage>,
    ) -> Result<(), StoreError> {
        for pair in self.tree.scan_prefix(family) {
            let (key, bytes) = self.folder.shielded("reading", || pair)?;
            tally.add(&bytes);
            look(&key, &bytes).map_err(|damage| self.folder.damaged_at(&key, &damage))?;
        }
        Ok(())
    }

    fn audit_entry(self, sequence: u64) -> Result<AuditEntry, StoreError> {
        self.required(&layout::audit_key(sequence))
    }

    fn required<T: Stored>(self, key: &[u8]) -> Result<T, StoreError> {
        let missing = || self.nonsense(key, "it is missing".to_owned());
        let bytes = self.get(key)?.ok_or_else(missing)?;
        self.value(key, &bytes, &mut Texts::default())
    }

    pub(super) fn value<T: Stored>(
        self,
        key: &[u8],
        bytes: &[u8],
        texts: &mut Texts,
    ) -> Result<T, StoreError> {
        let sealed = layout::whole(self.folder, key, bytes, |part| self.get(part))?;
        codec::decode(key, &sealed, texts).map_err(|damage| self.folder.damaged_at(key, &damage))
    }

    fn get(self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.folder.shielded("reading", || self.tree.get(key))
    }

    pub(super) fn nonsense(self, key: &[u8], what: String) -> StoreError {
        self.folder.damaged_at(key, &Damage::Content(what))
    }
}

/// Checks that the numbers in the keys follow each other.
fn check_number(key: &[u8], next: &mut u64) -> Result<(), Damage> {
    if layout::number(key) != Some(*next) {
        return Err(Damage::Content(format!("number {next} is missing before it")));
    }
    *next = next.saturating_add(1);
    Ok(())
}

/// Checks a value, or the stand-in for one that is kept in parts, without taking it apart.
fn check_kind<T: Stored>(key: &[u8], bytes: &[u8]) -> Result<(), Damage> {
    match codec::unseal_any(key, bytes)? {
        (kind, _) if kind == T::KIND as u8 || kind == Kind::Split as u8 => Ok(()),
        (kind, _) => Err(Damage::Kind(kind)),
    }
}
