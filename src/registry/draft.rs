//! A commit in the making: a private copy of the state that a use case changes.
//!
//! What a use case decides on a draft, it decides on the state that its commit will follow, since
//! the writer makes one draft after the other. A draft that is dropped leaves no trace; that is
//! also how a preview works.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use uuid::Uuid;

use super::{Error, Kind, Snapshot};
use crate::{
    auth::permit::{Action, Permit},
    domain::{
        AllowedPartner, DomainName, Revision, Violation,
        audit::{Actor, Event},
        revocation::Revocation,
        role::Role,
        settings::FederationSettings,
    },
    store::Change,
};

/// A private copy of the state, and what has been changed in it.
#[derive(Debug)]
pub struct Draft<'a> {
    snapshot: Snapshot,
    changes: Vec<Change>,
    events: Vec<Event>,
    revision: Revision,
    now: Timestamp,
    actor: &'a Actor,
    local_domains: &'a BTreeSet<DomainName>,
}

/// What came of a draft.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The changes; at least one.
    pub changes: Vec<Change>,
    /// The state they lead to.
    pub snapshot: Snapshot,
    /// What the audit is told after them.
    pub events: Vec<Event>,
}

/// A partner to be put in place, and where in the request it stands.
#[derive(Debug)]
pub struct Staged {
    /// What is under its name now, in force or deleted; `None` if there is nothing.
    pub before: Option<Arc<AllowedPartner>>,
    /// As it shall be.
    pub after: Arc<AllowedPartner>,
    /// The index in the batch.
    pub index: usize,
    /// The path of the partner in the request.
    pub path: String,
}

impl<'a> Draft<'a> {
    /// A draft of the commit that follows `base`.
    pub fn after(
        base: &Snapshot,
        now: Timestamp,
        actor: &'a Actor,
        local_domains: &'a BTreeSet<DomainName>,
    ) -> Self {
        Self {
            snapshot: base.clone(),
            changes: Vec::new(),
            events: Vec::new(),
            revision: base.revision().next(),
            now,
            actor,
            local_domains,
        }
    }

    /// The state with the changes so far.
    pub const fn state(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The revision that the commit will have.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// When the commit is made.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Who makes it.
    pub fn subject(&self) -> Arc<str> {
        Arc::clone(&self.actor.subject)
    }

    /// Puts partners in force, all at once, so that domains may move between them.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with every domain that the server itself serves;
    /// [`Kind::DomainTaken`] for the first domain that belongs to another partner.
    pub fn put<A: Action>(
        &mut self,
        staged: Vec<Staged>,
        permits: &[&Permit<A>],
    ) -> Result<(), Error> {
        self.refuse_local_domains(&staged)?;
        for Staged { before, after, .. } in &staged {
            if let Some(before) = before.as_ref().filter(|before| before.delete_time.is_none())
                && before.terms.additional_domains != after.terms.additional_domains
            {
                self.snapshot.release(before);
            }
        }
        for (item, permit) in staged.into_iter().zip(permits) {
            let taken = item.after.domains().find_map(|domain| {
                let owner = self.snapshot.owner_of(domain)?;
                (owner.domain != item.after.domain).then(|| (domain.clone(), Arc::clone(owner)))
            });
            if let Some((domain, owner)) = taken {
                let owner = permit.may_read(&owner).then(|| owner.domain.clone());
                return Err(Error::from(Kind::DomainTaken { domain, owner }).at(item.index));
            }
            self.record(item.before, item.after);
        }
        Ok(())
    }

    /// Makes partners what they shall be, in force or deleted, all at once. Whoever asks has seen to
    /// it that no domain is in two partners afterwards.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with every domain that the server itself serves.
    pub fn replace(&mut self, staged: Vec<Staged>) -> Result<(), Error> {
        self.refuse_local_domains(&staged)?;
        let before = staged.iter().filter_map(|item| item.before.as_ref());
        for before in before.filter(|before| before.delete_time.is_none()) {
            self.snapshot.release(before);
        }
        for Staged { before, after, .. } in staged {
            self.record(before, after);
        }
        Ok(())
    }

    /// Takes a partner out of force and keeps it as deleted.
    pub fn bury(&mut self, before: Arc<AllowedPartner>) -> Arc<AllowedPartner> {
        let after = Arc::new(AllowedPartner {
            delete_time: Some(self.now),
            ..self.touched(&before, before.terms.clone())
        });
        self.snapshot.release(&before);
        self.record(Some(before), Arc::clone(&after));
        after
    }

    /// Commits a partner in force as it is, so that what has become of it by the clock is written
    /// down.
    pub fn stamp(&mut self, before: Arc<AllowedPartner>) -> Arc<AllowedPartner> {
        let after = Arc::new(self.touched(&before, before.terms.clone()));
        self.record(Some(before), Arc::clone(&after));
        after
    }

    /// `partner` with other terms, as changed by this commit.
    pub fn touched(&self, partner: &AllowedPartner, terms: crate::domain::Terms) -> AllowedPartner {
        AllowedPartner {
            domain: partner.domain.clone(),
            uid: partner.uid,
            expired: terms.is_expired(self.now),
            terms,
            create_time: partner.create_time,
            update_time: self.now,
            creator: Arc::clone(&partner.creator),
            updater: self.subject(),
            revision: self.revision,
            delete_time: None,
        }
    }

    /// Puts settings in force.
    pub fn put_settings(&mut self, after: Arc<FederationSettings>) {
        let before = Arc::clone(self.snapshot.settings());
        self.snapshot.set_settings(Arc::clone(&after));
        self.changes.push(Change::Settings { before, after });
    }

    /// Puts a role in force, in place of the one with its id.
    pub fn put_role(&mut self, after: Arc<Role>) {
        let before = self.snapshot.put_role(Arc::clone(&after));
        self.changes.push(Change::Role { before, after: Some(after) });
    }

    /// Deletes the role with this id, if somebody made one.
    pub fn remove_role(&mut self, id: &str) {
        if let Some(before) = self.snapshot.remove_role(id) {
            self.changes.push(Change::Role { before: Some(before), after: None });
        }
    }

    /// Puts a revocation in force.
    pub fn put_revocation(&mut self, after: Arc<Revocation>) {
        let before = self.snapshot.put_revocation(Arc::clone(&after));
        self.changes.push(Change::Revocation { before, after: Some(after) });
    }

    /// Takes the revocation with this id back, if there is one.
    pub fn remove_revocation(&mut self, id: Uuid) {
        if let Some(before) = self.snapshot.remove_revocation(id) {
            self.changes.push(Change::Revocation { before: Some(before), after: None });
        }
    }

    /// Has the audit told of more than the changes, if there are any.
    pub fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// What came of it, or `None` if nothing was changed.
    pub(super) fn finish(mut self) -> Option<Outcome> {
        if self.changes.is_empty() {
            return None;
        }
        self.snapshot.set_revision(self.revision);
        let Self { changes, snapshot, events, .. } = self;
        Some(Outcome { changes, snapshot, events })
    }

    fn record(&mut self, before: Option<Arc<AllowedPartner>>, after: Arc<AllowedPartner>) {
        self.snapshot.insert(Arc::clone(&after));
        self.changes.push(Change::Partner { before, after });
    }

    fn refuse_local_domains(&self, staged: &[Staged]) -> Result<(), Error> {
        if self.local_domains.is_empty() {
            return Ok(());
        }
        let broken: Vec<_> = staged
            .iter()
            .filter(|item| item.after.delete_time.is_none())
            .flat_map(|item| {
                let local =
                    item.after.domains().filter(|domain| self.local_domains.contains(*domain));
                local.map(|domain| {
                    let field =
                        if *domain == item.after.domain { "name" } else { "additional_domains" };
                    let text = format!(
                        "{domain} is served by this organisation's own servers; leave it out"
                    );
                    Violation::new(field, text).under(&item.path)
                })
            })
            .collect();
        if broken.is_empty() { Ok(()) } else { Err(Kind::Invalid(broken).into()) }
    }
}
