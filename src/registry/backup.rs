//! A backup: one revision, record by record, at the pace of whoever reads it.
//!
//! It holds a snapshot and a place in it; nothing is copied. What is in it is everything that a
//! commit can change. The history and the audit are not: they are what happened here.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Error, Registry, Snapshot};
use crate::{
    auth::{Permit, permit::TakeBackup},
    domain::{
        AllowedPartner, DomainName, Revision,
        audit::{Event, Hash, SigningKey},
        backup::Seal,
        revocation::Revocation,
        role::Role,
        settings::FederationSettings,
    },
};

/// A backup under way.
#[derive(Debug)]
pub struct Backup {
    snapshot: Arc<Snapshot>,
    time: Timestamp,
    key: SigningKey,
    place: Place,
}

/// What comes next.
#[derive(Clone, Debug)]
enum Place {
    Settings,
    /// The roles after this one.
    Roles(Option<Arc<str>>),
    /// The revocations after this one.
    Revocations(Option<Uuid>),
    /// The partners after this one.
    Partners(Option<DomainName>),
}

/// One resource of a backup.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// The settings, with their secret.
    Settings(&'a FederationSettings),
    /// A role that somebody made.
    Role(&'a Role),
    /// A revocation.
    Revocation(&'a Revocation),
    /// A partner, in force or deleted.
    Partner(&'a AllowedPartner),
}

/// What is in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The revision that all of it comes from.
    pub revision: Revision,
    /// When it was made.
    pub time: Timestamp,
    /// The partners in force.
    pub partners: usize,
    /// The partners that are deleted and can be undeleted.
    pub deleted_partners: usize,
    /// The roles that somebody made.
    pub roles: usize,
    /// The revocations.
    pub revocations: usize,
}

impl Registry {
    /// A backup of the last revision. That it is taken is in the audit when this returns.
    ///
    /// # Errors
    /// [`super::Kind::Overloaded`], [`super::Kind::ReadOnly`], [`super::Kind::Draining`]: what
    /// cannot be written down is not given away.
    pub async fn backup(&self, permit: &Permit<TakeBackup>) -> Result<Backup, Error> {
        let backup = Backup {
            snapshot: self.snapshot(),
            time: Timestamp::now(),
            key: self.audit_key.clone(),
            place: Place::Settings,
        };
        let revision = backup.snapshot.revision();
        let event = Event::Backup { revision, records: backup.inventory().records() };
        self.record(vec![(permit.actor().clone(), event)]).await?;
        Ok(backup)
    }
}

impl Backup {
    /// What is in it.
    pub fn inventory(&self) -> Inventory {
        Inventory {
            revision: self.snapshot.revision(),
            time: self.time,
            partners: self.snapshot.partner_count(),
            deleted_partners: self.snapshot.deleted_count(),
            roles: self.snapshot.custom_role_count(),
            revocations: self.snapshot.revocations().len(),
        }
    }

    /// Goes on from where it was: hands records to `take` until that has had enough and says
    /// `false`. Tells whether there may be more.
    pub fn advance(&mut self, mut take: impl FnMut(Record<'_>) -> bool) -> bool {
        let snapshot = &*self.snapshot;
        loop {
            let next = match &mut self.place {
                Place::Settings => {
                    self.place = Place::Roles(None);
                    if !take(Record::Settings(snapshot.settings())) {
                        return true;
                    }
                    continue;
                }
                Place::Roles(last) => {
                    let rest = snapshot.custom_roles();
                    let after = last.clone();
                    for role in rest.filter(|it| after.as_ref().is_none_or(|last| it.id > *last)) {
                        *last = Some(Arc::clone(&role.id));
                        if !take(Record::Role(role)) {
                            return true;
                        }
                    }
                    Place::Revocations(None)
                }
                Place::Revocations(last) => {
                    let rest = snapshot.revocations().iter();
                    let after = *last;
                    for it in rest.filter(|it| after.is_none_or(|last| it.id > last)) {
                        *last = Some(it.id);
                        if !take(Record::Revocation(it)) {
                            return true;
                        }
                    }
                    Place::Partners(None)
                }
                Place::Partners(last) => {
                    let after = last.clone();
                    for partner in snapshot.partners_after(after.as_ref(), true) {
                        *last = Some(partner.domain.clone());
                        if !take(Record::Partner(partner)) {
                            return true;
                        }
                    }
                    return false;
                }
            };
            self.place = next;
        }
    }

    /// Vouches for what was made of it.
    pub fn seal(&self, digest: Hash) -> Seal {
        self.key.seal(digest)
    }
}

impl Inventory {
    /// How many records that makes, the settings among them.
    pub const fn records(&self) -> u64 {
        let Self { revision: _, time: _, partners, deleted_partners, roles, revocations } = self;
        (1 + *roles + *revocations + *partners + *deleted_partners) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Terms, revocation::Target, role::RoleTerms},
        store::State,
    };

    fn snapshot() -> Snapshot {
        let partner = |domain: &str, delete_time| {
            Arc::new(AllowedPartner {
                domain: domain.parse().unwrap(),
                uid: Uuid::nil(),
                terms: Terms::default(),
                create_time: Timestamp::UNIX_EPOCH,
                update_time: Timestamp::UNIX_EPOCH,
                creator: "jo".into(),
                updater: "jo".into(),
                revision: Revision::new(1),
                delete_time,
                expired: false,
            })
        };
        let revocation = |id| {
            Arc::new(Revocation {
                id: Uuid::from_u128(id),
                target: Target::Subject { issuer: "one".into(), subject: "mallory".into() },
                reason: "".into(),
                creator: "jo".into(),
                create_time: Timestamp::UNIX_EPOCH,
                expire_time: None,
                revision: Revision::new(1),
            })
        };
        let role = |id| Arc::new(Role::custom(id, RoleTerms::default()));
        Snapshot::of(State {
            revision: Revision::new(1),
            partners: vec![
                partner("a.example", None),
                partner("b.example", Some(Timestamp::UNIX_EPOCH)),
                partner("c.example", None),
            ],
            roles: vec![role("one"), role("two")],
            revocations: vec![revocation(1), revocation(2)],
            ..State::default()
        })
    }

    #[test]
    fn every_record_is_told_once_however_little_is_taken_at_a_time() {
        for most in 1..9 {
            let mut backup = Backup {
                snapshot: Arc::new(snapshot()),
                time: Timestamp::UNIX_EPOCH,
                key: SigningKey::generate(),
                place: Place::Settings,
            };
            assert_eq!(backup.inventory().records(), 8);
            let mut told = Vec::new();
            loop {
                let mut room = most;
                let more = backup.advance(|record| {
                    told.push(match record {
                        Record::Settings(_) => "settings".to_owned(),
                        Record::Role(role) => role.id.to_string(),
                        Record::Revocation(revocation) => revocation.id.as_u128().to_string(),
                        Record::Partner(partner) => partner.domain.to_string(),
                    });
                    room -= 1;
                    room > 0
                });
                if !more {
                    break;
                }
            }
            let all = ["settings", "one", "two", "1", "2", "a.example", "b.example", "c.example"];
            assert_eq!(told, all, "{most} at a time");
        }
    }
}
