//! A copy of the partners and settings at one revision.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
};

use imbl::OrdMap;
use secrecy::{ExposeSecret, SecretString};

use super::assembly::{Batch, Listing, PARTNERS, SETTINGS};
use crate::proto::v1::{AllowedPartner, FederationSettings, WatchEvent, watch_event::Type};

/// The partners and settings as they are at one revision, as far as the caller may see them.
/// Cheap to clone: copies share what they have in common.
#[derive(Clone, Default)]
pub struct State {
    /// The revision at which all of this holds.
    pub revision: i64,
    /// The partners, by primary domain (A-labels, lower case).
    pub partners: OrdMap<Arc<str>, Arc<AllowedPartner>>,
    /// The settings; `None` when the caller may not read them.
    pub settings: Option<Arc<FederationSettings>>,
    /// The dialback passphrase (XEP-0185); `None` when there is none, or the caller may not have it.
    pub dialback_passphrase: Option<SecretString>,
}

/// What has to be done to one state to make it another.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub upserts: Vec<Arc<AllowedPartner>>,
    pub removals: Vec<Arc<str>>,
    pub settings: bool,
}

impl fmt::Debug for State {
    /// The passphrase shows no more than whether there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("revision", &self.revision)
            .field("partners", &self.partners.len())
            .field("settings", &self.settings)
            .field("dialback_passphrase_set", &self.dialback_passphrase.is_some())
            .finish()
    }
}

impl State {
    pub(super) fn of_listing(listing: &Listing) -> Self {
        let mut state = Self { revision: listing.revision, ..Self::default() };
        for event in listing.events() {
            state.take(event);
        }
        state
    }

    /// Makes this the state after a commit, and tells what that changed.
    pub(super) fn apply(&mut self, batch: Batch) -> Difference {
        self.revision = batch.revision;
        let mut partners = BTreeMap::new();
        let mut settings = false;
        for event in batch.events {
            match self.take(event) {
                Touched::Partner(domain) => {
                    let now = self.partners.get(&domain).cloned();
                    match partners.entry(domain) {
                        Entry::Vacant(slot) => _ = slot.insert(now),
                        Entry::Occupied(mut slot) => _ = slot.insert(now),
                    }
                }
                Touched::Settings => settings = true,
                Touched::Nothing => {}
            }
        }
        let mut difference = Difference { settings, ..Difference::default() };
        for (domain, partner) in partners {
            match partner {
                Some(partner) => difference.upserts.push(partner),
                None => difference.removals.push(domain),
            }
        }
        difference
    }

    /// What has to be done to `before` to make it this state.
    pub(super) fn since(&self, before: &Self) -> Difference {
        let is_new = |(domain, partner): (&Arc<str>, &Arc<AllowedPartner>)| {
            (before.partners.get(domain) != Some(partner)).then(|| Arc::clone(partner))
        };
        let gone = before.partners.keys().filter(|domain| !self.partners.contains_key(*domain));
        Difference {
            upserts: self.partners.iter().filter_map(is_new).collect(),
            removals: gone.cloned().collect(),
            settings: self.settings != before.settings || self.passphrase() != before.passphrase(),
        }
    }

    fn passphrase(&self) -> Option<&str> {
        self.dialback_passphrase.as_ref().map(ExposeSecret::expose_secret)
    }

    fn take(&mut self, event: WatchEvent) -> Touched {
        let removed = event.r#type() == Type::Removed;
        if let Some(domain) = event.name.strip_prefix(PARTNERS) {
            let domain: Arc<str> = domain.into();
            match event.allowed_partner.filter(|_| !removed) {
                Some(partner) => self.partners.insert(Arc::clone(&domain), Arc::new(partner)),
                None => self.partners.remove(&domain),
            };
            Touched::Partner(domain)
        } else if event.name == SETTINGS {
            let passphrase = event.dialback_passphrase;
            self.settings = event.federation_settings.filter(|_| !removed).map(Arc::new);
            self.dialback_passphrase =
                (!removed && !passphrase.is_empty()).then(|| passphrase.into());
            Touched::Settings
        } else {
            Touched::Nothing
        }
    }
}

/// What an event was about.
enum Touched {
    Partner(Arc<str>),
    Settings,
    /// A resource that this client does not know.
    Nothing,
}
