//! What one caller may see, by the roles of one revision.

use std::sync::Arc;

use crate::{
    auth::{
        Call, Denial, Permit, Policy,
        permit::{GetDialbackPassphrase, GetSettings, Purpose, WatchPartners},
    },
    domain::AllowedPartner,
};

/// What a caller may see as long as these roles are in force.
#[derive(Debug)]
pub(super) struct Sight {
    policy: Arc<Policy>,
    partners: Option<Permit<WatchPartners>>,
    settings: Option<Permit<GetSettings>>,
    passphrase: Option<Permit<GetDialbackPassphrase>>,
}

impl Sight {
    /// What `call` may see under `policy`; nothing, if it may not watch then.
    pub fn under(policy: &Arc<Policy>, call: &Call) -> Self {
        let partners = policy.permit(call, Purpose::Commit).ok();
        let watches = partners.is_some();
        Self {
            policy: Arc::clone(policy),
            partners,
            settings: policy.permit(call, Purpose::Commit).ok().filter(|_| watches),
            passphrase: policy.permit(call, Purpose::Commit).ok().filter(|_| watches),
        }
    }

    /// The same, if `call` may watch at all.
    ///
    /// # Errors
    /// A [`Denial`] that names the missing permission.
    pub fn granted(policy: &Arc<Policy>, call: &Call) -> Result<Self, Denial> {
        policy.allow::<WatchPartners>(call, Purpose::Commit)?;
        Ok(Self::under(policy, call))
    }

    /// Whether it rests on these very roles.
    pub fn is_under(&self, policy: &Arc<Policy>) -> bool {
        Arc::ptr_eq(&self.policy, policy)
    }

    /// The roles it rests on.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    pub fn covers(&self, partner: &AllowedPartner) -> bool {
        self.partners.as_ref().is_some_and(|permit| permit.covers(partner))
    }

    /// Whether all partners can be seen.
    pub fn is_everything(&self) -> bool {
        self.partners.as_ref().is_some_and(|permit| permit.reach().is_everything())
    }

    pub const fn settings(&self) -> bool {
        self.settings.is_some()
    }

    pub const fn passphrase(&self) -> bool {
        self.passphrase.is_some()
    }

    /// Whether just the same can be seen.
    pub fn equals(&self, other: &Self) -> bool {
        let reach = |sight: &Self| sight.partners.as_ref().map(|permit| permit.reach().clone());
        self.settings() == other.settings()
            && self.passphrase() == other.passphrase()
            && reach(self) == reach(other)
    }
}
