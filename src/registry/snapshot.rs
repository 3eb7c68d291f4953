//! An immutable view of everything at one revision.
//!
//! The maps are persistent: a clone shares all it has in common with its original, so a snapshot
//! costs a writer only what a change touches, and a listing under way keeps its own for little.

use std::{
    ops::Bound,
    sync::{Arc, LazyLock},
    thread,
};

use imbl::{OrdMap, OrdSet};
use jiff::Timestamp;
use uuid::Uuid;

use super::{bulk, owners::Owners};
use crate::{
    auth::Policy,
    domain::{
        AllowedPartner, DomainName, Revision,
        revocation::{Revocation, Revocations},
        role::{Role, built_in_roles},
        settings::{FederationMode, FederationSettings},
    },
    store::{Change, Commit, State},
};

static BUILT_IN_ROLES: LazyLock<Vec<Arc<Role>>> =
    LazyLock::new(|| built_in_roles().into_iter().map(Arc::new).collect());

/// Everything at one revision. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    revision: Revision,
    oldest_revision: Revision,
    /// The partners in force by primary domain, for listings in order.
    partners: OrdMap<DomainName, Arc<AllowedPartner>>,
    /// The deleted partners by primary domain; never one that is in force as well.
    deleted: OrdMap<DomainName, Arc<AllowedPartner>>,
    /// Every domain in force and the partner that owns it, for point reads.
    owners: Owners,
    /// The partners in force that are not marked as expired and will be, by when.
    expiries: OrdSet<(Timestamp, DomainName)>,
    settings: Arc<FederationSettings>,
    /// The roles that somebody made, by id.
    roles: OrdMap<Arc<str>, Arc<Role>>,
    revocations: Arc<Revocations>,
    /// What all roles give, built in or made.
    policy: Arc<Policy>,
    /// The last revision that changed a partner or the settings.
    list_revision: Revision,
}

/// Whether we federate with a domain, and what that rests on.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Why not; `None` when it is allowed.
    pub denial: Option<DenialReason>,
    /// The partner that owns the domain, allowed or not.
    pub partner: Option<Arc<AllowedPartner>>,
    /// The settings in force.
    pub settings: Arc<FederationSettings>,
    /// The most connections with the domain's partner; 0 when it is not allowed.
    pub connection_limit: i32,
    /// The revision that the decision comes from.
    pub revision: Revision,
}

/// Why a domain is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialReason {
    /// No partner owns it.
    NotListed,
    /// Its partner is suspended.
    Suspended,
    /// Its partner's time has run out.
    Expired,
    /// The mode denies everybody.
    ModeDenyAll,
}

impl Snapshot {
    /// The state as a store loaded it.
    pub fn of(state: State) -> Self {
        let State {
            revision,
            oldest_revision,
            partners,
            settings,
            replicas: _,
            roles,
            revocations,
            audit: _,
        } = state;
        let changed = partners.iter().map(|partner| partner.revision);
        let last_change = changed.chain([settings.revision]).max().unwrap_or_default();
        // A deleted partner may be forgotten together with the commit that deleted it.
        let forgotten = Revision::new(oldest_revision.get().saturating_sub(1));
        let (deleted, live): (Vec<_>, _) =
            partners.into_iter().partition(|partner| partner.delete_time.is_some());
        let by_domain = |partners: &[Arc<AllowedPartner>]| {
            let pairs = partners.iter().map(|it| (it.domain.clone(), Arc::clone(it)));
            bulk::map_of_sorted(&pairs.collect::<Vec<_>>())
        };
        // The larger half of the work, which has a core of its own if there is one.
        let (owners, partners) = thread::scope(|scope| {
            let owners = scope.spawn(|| Owners::of(live.iter()));
            let partners = by_domain(&live);
            (owners.join().expect("making a map does not panic"), partners)
        });
        let mut snapshot = Self {
            revision,
            oldest_revision,
            partners,
            deleted: by_domain(&deleted),
            owners,
            expiries: live.iter().filter_map(|partner| expiry(partner)).collect(),
            settings,
            roles: roles.into_iter().map(|role| (Arc::clone(&role.id), role)).collect(),
            revocations: Arc::new(revocations.into_iter().collect()),
            policy: Arc::default(),
            list_revision: last_change.max(forgotten).min(revision),
        };
        snapshot.compile_policy();
        snapshot
    }

    /// The revision of this view.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision whose commit was in the log when this view was made; the next one if the
    /// log was empty. A later view of the same revision may have less.
    pub const fn oldest_revision(&self) -> Revision {
        self.oldest_revision
    }

    /// The last revision that changed a partner or the settings: what the XMPP servers follow.
    pub const fn list_revision(&self) -> Revision {
        self.list_revision
    }

    /// The partner in force whose primary domain this is.
    pub fn partner(&self, domain: &DomainName) -> Option<&Arc<AllowedPartner>> {
        self.owners.get(domain).filter(|partner| partner.domain == *domain)
    }

    /// The deleted partner whose primary domain this was.
    pub fn deleted(&self, domain: &DomainName) -> Option<&Arc<AllowedPartner>> {
        self.deleted.get(domain)
    }

    /// The partner in force to which the domain belongs, as primary or additional.
    pub fn owner_of(&self, domain: &DomainName) -> Option<&Arc<AllowedPartner>> {
        self.owners.get(domain)
    }

    /// The settings.
    pub const fn settings(&self) -> &Arc<FederationSettings> {
        &self.settings
    }

    /// The roles, and what each gives.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// What was revoked.
    pub const fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// The roles that somebody made, by id.
    pub fn custom_roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.values()
    }

    /// How many roles there are beside those that are built in.
    pub fn custom_role_count(&self) -> usize {
        self.roles.len()
    }

    /// How many partners are in force.
    pub fn partner_count(&self) -> usize {
        self.partners.len()
    }

    /// How many partners are deleted.
    pub fn deleted_count(&self) -> usize {
        self.deleted.len()
    }

    /// How many domains the partners in force have together.
    pub fn domain_count(&self) -> usize {
        self.owners.len()
    }

    /// When the first partner's time runs out of those that are not marked as expired.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.expiries.get_min().map(|(time, _)| *time)
    }

    /// The partners whose time has run out at `now` and that are not marked as expired, the earliest
    /// first.
    pub fn expiries_until(&self, now: Timestamp) -> impl Iterator<Item = &Arc<AllowedPartner>> {
        let due = self.expiries.iter().take_while(move |(time, _)| *time <= now);
        due.filter_map(|(_, domain)| self.partner(domain))
    }

    /// The partners after `start` by name, those deleted too if `with_deleted`.
    pub fn partners_after<'a>(
        &'a self,
        start: Option<&DomainName>,
        with_deleted: bool,
    ) -> Box<dyn Iterator<Item = &'a Arc<AllowedPartner>> + 'a> {
        let range = || (start.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let live = self.partners.range::<_, DomainName>(range()).map(|(_, partner)| partner);
        if !with_deleted || self.deleted.is_empty() {
            return Box::new(live);
        }
        let deleted = self.deleted.range::<_, DomainName>(range()).map(|(_, partner)| partner);
        Box::new(merged(live, deleted))
    }

    /// Whether we federate with `domain` at `now`.
    pub fn resolve(&self, domain: &DomainName, now: Timestamp) -> Decision {
        let partner = self.owner_of(domain);
        let values = &self.settings.values;
        let denial = match (values.mode, partner) {
            (FederationMode::Unspecified | FederationMode::DenyAll, _) => {
                Some(DenialReason::ModeDenyAll)
            }
            (_, Some(partner)) if partner.terms.suspended => Some(DenialReason::Suspended),
            (_, Some(partner)) if partner.is_expired(now) => Some(DenialReason::Expired),
            (FederationMode::AllowListed, None) => Some(DenialReason::NotListed),
            (FederationMode::AllowListed | FederationMode::AllowAllExceptSuspended, _) => None,
        };
        let own_limit = partner.and_then(|partner| partner.terms.connection_limit);
        Decision {
            denial,
            partner: partner.cloned(),
            settings: Arc::clone(&self.settings),
            connection_limit: match denial {
                Some(_) => 0,
                None => own_limit.unwrap_or(values.partner_connection_limit),
            },
            revision: self.revision,
        }
    }

    /// Puts a partner where it belongs, in place of what was there under its name. The domains
    /// that it no longer has must have been released.
    pub(super) fn insert(&mut self, partner: Arc<AllowedPartner>) {
        let domain = partner.domain.clone();
        self.list_revision = self.list_revision.max(partner.revision);
        if partner.delete_time.is_some() {
            let before = self.partners.remove(&domain);
            self.reschedule(before.as_deref(), None);
            self.deleted.insert(domain, partner);
            return;
        }
        self.deleted.remove(&domain);
        self.owners.insert(&partner);
        let before = self.partners.insert(domain, Arc::clone(&partner));
        self.reschedule(before.as_deref(), Some(&partner));
    }

    fn reschedule(&mut self, before: Option<&AllowedPartner>, after: Option<&AllowedPartner>) {
        if let Some(gone) = before.and_then(expiry) {
            self.expiries.remove(&gone);
        }
        self.expiries.extend(after.and_then(expiry));
    }

    /// Frees the domains of a partner in force, which is about to be replaced or deleted.
    pub(super) fn release(&mut self, partner: &AllowedPartner) {
        self.owners.remove(partner);
    }

    /// Forgets the history before `oldest`, and the deleted partners that went with it.
    pub(super) fn forget(&mut self, oldest: Revision, purged: &[DomainName]) {
        self.oldest_revision = oldest;
        for domain in purged {
            self.deleted.remove(domain);
        }
    }

    /// Takes back the commit that led to this state.
    pub(super) fn undo(&mut self, commit: &Commit) {
        // All at once, as they were made: domains may have moved between partners.
        for change in &commit.changes {
            match change {
                Change::Partner { before: _, after } => self.remove(after),
                Change::Settings { before, after: _ } => self.settings = Arc::clone(before),
                Change::Role { before, after } => self.undo_role(before.as_ref(), after.as_ref()),
                Change::Revocation { before, after } => {
                    after.iter().for_each(|after| drop(self.remove_revocation(after.id)));
                    before.iter().for_each(|it| drop(self.put_revocation(Arc::clone(it))));
                }
            }
        }
        let partners = commit.changes.iter().filter_map(|change| match change {
            Change::Partner { before, .. } => before.as_ref(),
            Change::Settings { .. } | Change::Role { .. } | Change::Revocation { .. } => None,
        });
        partners.for_each(|before| self.insert(Arc::clone(before)));
        self.revision = commit.revision.before(1);
    }

    fn undo_role(&mut self, before: Option<&Arc<Role>>, after: Option<&Arc<Role>>) {
        match (before, after) {
            (Some(before), _) => drop(self.put_role(Arc::clone(before))),
            (None, Some(after)) => drop(self.remove_role(&after.id)),
            (None, None) => {}
        }
    }

    fn remove(&mut self, partner: &AllowedPartner) {
        if partner.delete_time.is_some() {
            self.deleted.remove(&partner.domain);
        } else {
            self.release(partner);
            let gone = self.partners.remove(&partner.domain);
            self.reschedule(gone.as_deref(), None);
        }
    }

    pub(super) fn set_settings(&mut self, settings: Arc<FederationSettings>) {
        self.list_revision = self.list_revision.max(settings.revision);
        self.settings = settings;
    }

    /// Puts a role in force. Returns the one whose place it takes.
    pub(super) fn put_role(&mut self, role: Arc<Role>) -> Option<Arc<Role>> {
        let before = self.roles.insert(Arc::clone(&role.id), role);
        self.compile_policy();
        before
    }

    /// Takes a role out of force. Returns it, if it was there.
    pub(super) fn remove_role(&mut self, id: &str) -> Option<Arc<Role>> {
        let before = self.roles.remove(id);
        self.compile_policy();
        before
    }

    /// Puts a revocation in force. Returns the one whose place it takes.
    pub(super) fn put_revocation(
        &mut self,
        revocation: Arc<Revocation>,
    ) -> Option<Arc<Revocation>> {
        let revocations = Arc::make_mut(&mut self.revocations);
        let before = revocations.remove(revocation.id);
        revocations.insert(revocation);
        before
    }

    /// Takes a revocation back. Returns it, if it was there.
    pub(super) fn remove_revocation(&mut self, id: Uuid) -> Option<Arc<Revocation>> {
        Arc::make_mut(&mut self.revocations).remove(id)
    }

    fn compile_policy(&mut self) {
        let built_in = BUILT_IN_ROLES.iter().cloned();
        self.policy = Arc::new(Policy::new(self.roles.values().cloned().chain(built_in)));
    }

    pub(super) const fn set_revision(&mut self, revision: Revision) {
        self.revision = revision;
    }
}

/// When a partner is to be marked as expired, unless it is already.
fn expiry(partner: &AllowedPartner) -> Option<(Timestamp, DomainName)> {
    let time = partner.terms.expire_time.filter(|_| !partner.expired)?;
    Some((time, partner.domain.clone()))
}

/// Two sequences, each by name, as one by name.
fn merged<'a>(
    left: impl Iterator<Item = &'a Arc<AllowedPartner>> + 'a,
    right: impl Iterator<Item = &'a Arc<AllowedPartner>> + 'a,
) -> impl Iterator<Item = &'a Arc<AllowedPartner>> + 'a {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(a), Some(b)) if b.domain < a.domain => right.next(),
        (Some(_), _) => left.next(),
        (None, _) => right.next(),
    })
}

#[cfg(test)]
impl Snapshot {
    /// Puts roles in force that no commit has made.
    pub(super) fn set_policy(&mut self, policy: Arc<Policy>) {
        self.policy = policy;
    }
}
