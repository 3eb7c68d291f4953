//! What is to be in force at one revision, rendered line by line.
//!
//! A roster is cheap to clone: copies share their lines. Its digest is the XOR of its lines'
//! SHA-256, so it is kept up to date in constant time for each change, and depends on nothing but
//! the content.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use imbl::OrdMap;
use secrecy::SecretString;

use super::{Rendered, line};
use crate::{
    client::{Delta, State},
    proto::v1::{AllowedPartner, FederationSettings},
};

type Hash = [u8; 32];

/// What is to be in force at one revision.
#[derive(Clone)]
pub struct Roster {
    generation: i64,
    settings: Arc<FederationSettings>,
    passphrase: Option<SecretString>,
    /// By primary domain, in the order of the file.
    entries: OrdMap<Arc<str>, Entry>,
    /// The XOR of the hashes of all partners' lines.
    sum: Hash,
    /// The bytes of all partners' lines, their ends included.
    bytes: u64,
}

/// A partner, and its line.
#[derive(Clone)]
pub struct Entry {
    /// As the service sent it.
    pub partner: Arc<AllowedPartner>,
    /// Its line, without its end.
    pub line: Arc<str>,
    hash: Hash,
}

/// A line of a delta.
#[derive(Debug, PartialEq, Eq)]
pub enum Edit {
    /// This partner is now so.
    Put(Arc<str>),
    /// This partner is gone.
    Remove(Arc<str>),
}

impl std::fmt::Debug for Roster {
    /// The passphrase is left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster")
            .field("generation", &self.generation)
            .field("partners", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl Roster {
    /// Everything in a state.
    ///
    /// # Errors
    /// Why the state cannot be put in force, for people.
    pub fn of(state: &State) -> Rendered<Self> {
        let mut roster = Self {
            generation: state.revision,
            settings: settings_of(state)?,
            passphrase: state.dialback_passphrase.clone(),
            entries: OrdMap::new(),
            sum: Hash::default(),
            bytes: 0,
        };
        for partner in state.partners.values() {
            roster.put(partner)?;
        }
        Ok(roster)
    }

    /// This roster after a change, of which `state` is the outcome.
    ///
    /// # Errors
    /// As for [`Roster::of`].
    pub fn changed_by(&self, delta: &Delta, state: &State) -> Rendered<Self> {
        let mut roster = Self {
            generation: state.revision,
            settings: settings_of(state)?,
            passphrase: state.dialback_passphrase.clone(),
            ..self.clone()
        };
        for domain in &delta.removals {
            roster.remove(domain);
        }
        for partner in &delta.upserts {
            roster.put(partner)?;
        }
        Ok(roster)
    }

    /// The revision.
    pub const fn generation(&self) -> i64 {
        self.generation
    }

    /// Says that the same content holds at a later revision.
    pub const fn set_generation(&mut self, revision: i64) {
        if revision > self.generation {
            self.generation = revision;
        }
    }

    /// The settings.
    pub const fn settings(&self) -> &Arc<FederationSettings> {
        &self.settings
    }

    /// The dialback passphrase, if there is one.
    pub const fn passphrase(&self) -> Option<&SecretString> {
        self.passphrase.as_ref()
    }

    /// The partners by primary domain.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.values()
    }

    /// The digest of the lines of the partners and of this line of the settings, in hex.
    pub fn digest_with(&self, settings: &str) -> String {
        let mut text = String::with_capacity(64);
        for byte in xor(self.sum, hash(settings)) {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// The bytes of all partners' lines, their ends included.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What makes `before` this roster, as far as the partners in `touched` are concerned.
    pub fn edits_since(&self, before: &Self, touched: &BTreeSet<Arc<str>>) -> Vec<Edit> {
        let edit = |domain: &Arc<str>| match (before.entries.get(domain), self.entries.get(domain))
        {
            (Some(old), Some(new)) if old.line == new.line => None,
            (_, Some(new)) => Some(Edit::Put(Arc::clone(&new.line))),
            (Some(_), None) => Some(Edit::Remove(Arc::clone(domain))),
            (None, None) => None,
        };
        touched.iter().filter_map(edit).collect()
    }

    fn put(&mut self, partner: &Arc<AllowedPartner>) -> Rendered<()> {
        let text = line::partner(partner)?;
        let domain: Arc<str> = line::domain(partner).into();
        self.remove(&domain);
        let hash = hash(&text);
        self.sum = xor(self.sum, hash);
        self.bytes += text.len() as u64 + 1;
        let entry = Entry { partner: Arc::clone(partner), line: text.into(), hash };
        self.entries.insert(domain, entry);
        Ok(())
    }

    fn remove(&mut self, domain: &Arc<str>) {
        if let Some(entry) = self.entries.remove(domain) {
            self.sum = xor(self.sum, entry.hash);
            self.bytes -= entry.line.len() as u64 + 1;
        }
    }
}

fn settings_of(state: &State) -> Rendered<Arc<FederationSettings>> {
    state.settings.clone().ok_or_else(|| {
        "the service does not show the federation settings; give this agent's subject a role with \
         federationSettings.get, such as sync-agent"
            .to_owned()
    })
}

fn hash(line: &str) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, line.as_bytes()).as_ref());
    hash
}

fn xor(mut left: Hash, right: Hash) -> Hash {
    for (left, right) in left.iter_mut().zip(right) {
        *left ^= right;
    }
    left
}
