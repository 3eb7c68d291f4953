//! Making the state what a backup says: gathered record by record, decided as one commit.
//!
//! An [`Intake`] takes the records of a backup as they come and holds each to the rules that need no
//! state; only when all have kept them it gives [`Contents`]. The writer then compares those with
//! the state that its commit will follow, and changes what differs.
//!
//! What the backup does not have is deleted, but for revocations: what was revoked since stays
//! revoked, so that a restore never lets in who was shut out.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{
    Committed, Error, Kind, Registry, Request,
    audit_log::off_thread,
    draft::{Draft, Staged},
    revocations::{MAX_REASON_CHARS, MAX_REVOCATIONS},
    writer::Work,
};
use crate::{
    auth::{
        Caller, Permit,
        permit::{Purpose, RestoreBackup, RestoredBy},
    },
    domain::{
        AllowedPartner, DomainName, Revision, Violation,
        audit::{Event, PublicKey},
        backup::{Origin, Restored},
        revocation::{Revocation, Revocations},
        role::{MAX_ROLES, Origin as RoleOrigin, Role, RoleRecord, check_role_id},
        settings::FederationSettings,
        violation::check_text,
    },
    store::AnswerResult,
};

/// What a record takes in memory beside its texts.
const RECORD_BYTES: usize = 512;

/// The records of a backup that have come so far.
#[derive(Debug)]
pub struct Intake {
    contents: Contents,
    has_settings: bool,
    is_sound: bool,
    /// The partner in force that each domain belongs to.
    owners: HashMap<DomainName, DomainName>,
    bytes: usize,
}

/// Everything that a backup says, once all of it has kept the rules.
#[derive(Debug)]
pub struct Contents {
    settings: FederationSettings,
    roles: BTreeMap<Arc<str>, Role>,
    revocations: BTreeMap<Uuid, Revocation>,
    partners: BTreeMap<DomainName, AllowedPartner>,
    _place: OwnedSemaphorePermit,
}

/// A backup to be restored.
#[derive(Debug)]
pub struct Restoration {
    /// Leave to do it.
    pub permit: Permit<RestoreBackup>,
    /// Which backup it is.
    pub origin: Origin,
    /// What it says.
    pub contents: Contents,
    /// The revision that the state must have, if any.
    pub expected_revision: Option<Revision>,
    /// Whether it is meant though it revokes what the caller himself came with.
    pub force: bool,
    /// The most resources that may be changed.
    pub max_changes: usize,
}

impl Registry {
    /// Room for the records of a backup; there is room for one at a time.
    ///
    /// # Errors
    /// [`Kind::RestoreUnderWay`].
    pub fn intake(&self) -> Result<Intake, Error> {
        let place = Arc::clone(&self.restoring).try_acquire_owned();
        let place = place.map_err(|_| Error::from(Kind::RestoreUnderWay))?;
        let contents = Contents {
            settings: FederationSettings::default(),
            roles: BTreeMap::new(),
            revocations: BTreeMap::new(),
            partners: BTreeMap::new(),
            _place: place,
        };
        let owners = HashMap::new();
        Ok(Intake { contents, has_settings: false, is_sound: true, owners, bytes: 0 })
    }

    /// Makes the state what a backup says, or tells what that would come to.
    ///
    /// # Errors
    /// [`Kind::RevisionMismatch`]; [`Kind::RestoreTooLarge`]; [`Kind::Denied`] if a role gives, or
    /// gave, more than the caller holds; [`Kind::BuiltInRole`]; [`Kind::SelfRevocation`];
    /// [`Kind::TooMany`]; [`Kind::Invalid`] for domains that the server itself serves.
    pub async fn restore(
        self: &Arc<Self>,
        restoration: Restoration,
        request: Option<Request>,
    ) -> Result<Committed<Restored>, Error> {
        let (actor, purpose) = (restoration.permit.actor().clone(), restoration.permit.purpose());
        let work: Work = Box::new(move |draft: &mut Draft<'_>| restored(draft, &restoration));
        let Committed { result, revision } = match purpose {
            Purpose::Commit => self.writer.commit(actor, request, work).await?,
            // As much work as the commit, and not for async threads.
            Purpose::Preview => {
                off_thread(self, move |registry| registry.writer.preview(&actor, &work)).await?
            }
        };
        match result {
            AnswerResult::Restored(result) => Ok(Committed { result, revision }),
            _ => Err(Error::wrong_answer("a restore")),
        }
    }

    /// The public half of the key that this server seals backups with.
    pub fn public_key(&self) -> PublicKey {
        self.audit_key.public_key()
    }
}

impl Intake {
    /// About how many bytes it takes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the settings. Gives the rules that they break, by their paths.
    pub fn settings(&mut self, settings: FederationSettings) -> Vec<Violation> {
        let mut broken = settings.values.violations();
        if self.has_settings {
            broken.push(Violation::new("", "the settings are in the backup twice"));
        }
        self.has_settings = true;
        self.bytes += RECORD_BYTES;
        self.contents.settings = settings;
        self.judged(broken)
    }

    /// Takes a role. Gives the rules that it breaks, by their paths.
    pub fn role(&mut self, role: Role) -> Vec<Violation> {
        let mut broken = role.terms.violations();
        if let Err(text) = check_role_id(&role.id) {
            broken.push(Violation::new("name", text));
        }
        self.bytes += RECORD_BYTES + role.terms.description.len();
        let id = Arc::clone(&role.id);
        if self.contents.roles.insert(id, role).is_some() {
            broken.push(Violation::new("name", "this role is in the backup twice"));
        }
        if self.contents.roles.len() > MAX_ROLES {
            let text = format!("there can be {MAX_ROLES} roles and no more");
            broken.push(Violation::new("name", text));
        }
        self.judged(broken)
    }

    /// Takes a revocation. Gives the rules that it breaks, by their paths.
    pub fn revocation(&mut self, revocation: Revocation) -> Vec<Violation> {
        let mut broken = revocation.target.violations();
        check_text(&mut broken, "reason", &revocation.reason, MAX_REASON_CHARS);
        self.bytes += RECORD_BYTES + revocation.reason.len();
        if self.contents.revocations.insert(revocation.id, revocation).is_some() {
            broken.push(Violation::new("name", "this revocation is in the backup twice"));
        }
        self.judged(broken)
    }

    /// Takes a partner. Gives the rules that it breaks, by their paths.
    pub fn partner(&mut self, partner: AllowedPartner) -> Vec<Violation> {
        let mut broken = partner.terms.violations(&partner.domain);
        self.bytes += partner.weight().max(RECORD_BYTES);
        if partner.delete_time.is_none() {
            self.claim_domains(&partner, &mut broken);
        }
        let domain = partner.domain.clone();
        if self.contents.partners.insert(domain, partner).is_some() {
            broken.push(Violation::new("name", "this partner is in the backup twice"));
        }
        self.judged(broken)
    }

    /// What the backup says; `None` if anything in it broke a rule, or the settings are missing.
    pub fn finish(self) -> Option<Contents> {
        (self.is_sound && self.has_settings).then_some(self.contents)
    }

    fn claim_domains(&mut self, partner: &AllowedPartner, broken: &mut Vec<Violation>) {
        for domain in partner.domains() {
            match self.owners.entry(domain.clone()) {
                Entry::Vacant(free) => drop(free.insert(partner.domain.clone())),
                Entry::Occupied(taken) if *taken.get() == partner.domain => {}
                Entry::Occupied(taken) => {
                    let text = format!("{domain} belongs to {} in the backup, too", taken.get());
                    let field =
                        if *domain == partner.domain { "name" } else { "additional_domains" };
                    broken.push(Violation::new(field, text));
                }
            }
        }
    }

    fn judged(&mut self, broken: Vec<Violation>) -> Vec<Violation> {
        self.is_sound &= broken.is_empty();
        broken
    }
}

fn restored(draft: &mut Draft<'_>, restoration: &Restoration) -> Result<AnswerResult, Error> {
    let Restoration { permit, origin, contents, expected_revision, force, max_changes } =
        restoration;
    let RestoredBy(caller) = permit.target();
    let current = draft.state().revision();
    if let Some(expected) = expected_revision.filter(|expected| *expected != current) {
        return Err(Kind::RevisionMismatch { expected, current }.into());
    }
    let mut tally = Restored::default();
    restore_settings(draft, &contents.settings, &mut tally);
    restore_roles(draft, caller, &contents.roles, &mut tally)?;
    restore_revocations(draft, caller, *force, &contents.revocations, &mut tally)?;
    let staged = staged_partners(draft, &contents.partners, &mut tally);
    let changes = usize::try_from(tally.changes()).unwrap_or(usize::MAX);
    if changes > *max_changes {
        return Err(Kind::RestoreTooLarge { changes, most: *max_changes }.into());
    }
    draft.replace(staged)?;
    draft.tell(Event::Restore { origin: *origin, restored: tally });
    Ok(AnswerResult::Restored(tally))
}

fn restore_settings(draft: &mut Draft<'_>, wanted: &FederationSettings, tally: &mut Restored) {
    if draft.state().settings().values == wanted.values {
        tally.unchanged += 1;
        return;
    }
    tally.updated += 1;
    draft.put_settings(Arc::new(FederationSettings {
        values: wanted.values.clone(),
        update_time: Some(draft.now()),
        updater: draft.subject(),
        revision: draft.revision(),
    }));
}

/// Nobody grants what he does not hold, nor takes away what he could not have granted: by the roles
/// as they are before the restore.
fn restore_roles(
    draft: &mut Draft<'_>,
    caller: &Caller,
    wanted: &BTreeMap<Arc<str>, Role>,
    tally: &mut Restored,
) -> Result<(), Error> {
    let policy = Arc::clone(draft.state().policy());
    let present: Vec<_> = draft.state().custom_roles().cloned().collect();
    for role in wanted.values() {
        let before = policy.role(&role.id);
        if before.is_some_and(|before| before.is_built_in()) {
            return Err(Kind::BuiltInRole { resource: format!("roles/{}", role.id) }.into());
        }
        if before.is_some_and(|before| is_same_role(before, role)) {
            tally.unchanged += 1;
            continue;
        }
        policy.check_escalation(caller, &role.terms)?;
        match before {
            Some(before) => {
                policy.check_escalation(caller, &before.terms)?;
                tally.updated += 1;
            }
            None => tally.created += 1,
        }
        let after = role_now(draft, role);
        draft.put_role(Arc::new(after));
    }
    for role in present.iter().filter(|role| !wanted.contains_key(&role.id)) {
        policy.check_escalation(caller, &role.terms)?;
        tally.deleted += 1;
        draft.remove_role(&role.id);
    }
    Ok(())
}

/// Whether two roles are the same but for who last changed them, and when.
fn is_same_role(one: &Role, other: &Role) -> bool {
    let (Some(record), Some(wanted)) = (one.record(), other.record()) else { return false };
    let RoleRecord { uid, template, create_time, creator, update_time: _, updater: _, revision: _ } =
        record;
    one.terms == other.terms
        && (uid, template) == (&wanted.uid, &wanted.template)
        && (create_time, creator) == (&wanted.create_time, &wanted.creator)
}

/// The role of a backup as this commit makes it.
fn role_now(draft: &Draft<'_>, wanted: &Role) -> Role {
    let mut role = wanted.clone();
    if let RoleOrigin::Custom(record) = &mut role.origin {
        record.update_time = draft.now();
        record.updater = draft.subject();
        record.revision = draft.revision();
    }
    role
}

fn restore_revocations(
    draft: &mut Draft<'_>,
    caller: &Caller,
    force: bool,
    wanted: &BTreeMap<Uuid, Revocation>,
    tally: &mut Restored,
) -> Result<(), Error> {
    let (now, revision) = (draft.now(), draft.revision());
    for revocation in wanted.values().filter(|it| it.is_in_force(now)) {
        let present = draft.state().revocations().get(revocation.id);
        let after = Revocation { revision, ..revocation.clone() };
        match present {
            Some(before) if Revocation { revision, ..(**before).clone() } == after => {
                tally.unchanged += 1;
                continue;
            }
            Some(_) => tally.updated += 1,
            None => tally.created += 1,
        }
        let after = Arc::new(after);
        let alone: Revocations = [Arc::clone(&after)].into_iter().collect();
        if !force && alone.find(caller.credential(), now).is_some() {
            return Err(Kind::SelfRevocation.into());
        }
        draft.put_revocation(after);
    }
    if draft.state().revocations().len() > MAX_REVOCATIONS {
        return Err(Kind::TooMany { what: "revocations", most: MAX_REVOCATIONS }.into());
    }
    Ok(())
}

/// The partners that differ from what they shall be.
fn staged_partners(
    draft: &Draft<'_>,
    wanted: &BTreeMap<DomainName, AllowedPartner>,
    tally: &mut Restored,
) -> Vec<Staged> {
    let state = draft.state();
    let mut staged = Vec::new();
    let mut stage = |before: Option<&Arc<AllowedPartner>>, after: AllowedPartner| {
        let path = format!("allowedPartners/{}", after.domain);
        let after = Arc::new(after);
        staged.push(Staged { before: before.cloned(), after, index: 0, path });
    };
    for partner in wanted.values() {
        let domain = &partner.domain;
        let before = state.partner(domain).or_else(|| state.deleted(domain));
        if before.is_some_and(|before| is_same_partner(before, partner)) {
            tally.unchanged += 1;
            continue;
        }
        *match (before.map(|before| before.delete_time), partner.delete_time) {
            (None, _) | (Some(Some(_)), None) => &mut tally.created,
            (Some(None), Some(_)) => &mut tally.deleted,
            (Some(None), None) | (Some(Some(_)), Some(_)) => &mut tally.updated,
        } += 1;
        let after = draft.touched(partner, partner.terms.clone());
        stage(before, AllowedPartner { delete_time: partner.delete_time, ..after });
    }
    for partner in state.partners_after(None, false) {
        if !wanted.contains_key(&partner.domain) {
            tally.deleted += 1;
            let after = draft.touched(partner, partner.terms.clone());
            stage(Some(partner), AllowedPartner { delete_time: Some(draft.now()), ..after });
        }
    }
    staged
}

/// Whether two partners are the same but for who last changed them, and when. Whether one has
/// expired goes by the clock.
fn is_same_partner(one: &AllowedPartner, other: &AllowedPartner) -> bool {
    let AllowedPartner {
        domain,
        uid,
        terms,
        create_time,
        update_time: _,
        creator,
        updater: _,
        revision: _,
        delete_time,
        expired: _,
    } = one;
    (domain, uid) == (&other.domain, &other.uid)
        && (create_time, creator) == (&other.create_time, &other.creator)
        && delete_time == &other.delete_time
        && terms == &other.terms
}
