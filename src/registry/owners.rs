//! Which partner owns a domain: every domain in force, for point reads.
//!
//! A persistent map ordered by a hash of the domain. Comparing two numbers is quick, nothing is
//! looked at outside the nodes on the way, and the nodes are full to a known degree. The hash map
//! of the same crate finds a domain a little sooner, and takes 190 bytes for each of two million
//! domains: its nodes have room for 16 or 32 entries, and at that size most have two or three.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use imbl::OrdMap;

use super::bulk;
use crate::domain::{AllowedPartner, DomainName};

/// Every domain in force and its partner. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Owners(OrdMap<Place, Arc<AllowedPartner>>);

/// Where a domain stands: by its hash, and by its name among those that have the same. The hash
/// needs no secret: whoever finds domains of one hash gains a comparison of their names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hash: u64,
    domain: DomainName,
}

impl Place {
    fn of(domain: &DomainName) -> Self {
        let mut hasher = DefaultHasher::new();
        domain.hash(&mut hasher);
        Self { hash: hasher.finish(), domain: domain.clone() }
    }
}

impl Owners {
    /// Those of `partners`, of which no two own the same domain.
    pub fn of<'a>(partners: impl Iterator<Item = &'a Arc<AllowedPartner>>) -> Self {
        let mut owned: Vec<_> = partners
            .flat_map(|partner| partner.domains().map(|it| (Place::of(it), Arc::clone(partner))))
            .collect();
        owned.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Self(bulk::map_of_sorted(&owned))
    }

    /// The partner that owns `domain`, as primary or additional.
    pub fn get(&self, domain: &DomainName) -> Option<&Arc<AllowedPartner>> {
        self.0.get(&Place::of(domain))
    }

    /// Gives all its domains to `partner`.
    pub fn insert(&mut self, partner: &Arc<AllowedPartner>) {
        for domain in partner.domains() {
            self.0.insert(Place::of(domain), Arc::clone(partner));
        }
    }

    /// Takes all its domains from `partner`.
    pub fn remove(&mut self, partner: &AllowedPartner) {
        for domain in partner.domains() {
            self.0.remove(&Place::of(domain));
        }
    }

    /// How many domains there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
