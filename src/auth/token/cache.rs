//! Tokens that were found good, so that the next request with one need not check it again.
//!
//! A table of fixed size without locks: a token has its places by its hash, and a newcomer takes
//! the place of one that is no longer good, or else of any. Only a token that was found good gets
//! in, so whoever has none cannot push anybody out. An answer is good for the very key set and the
//! very revocations it was found with: any change of either leaves nothing of it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use super::believed::Issuer;
use crate::{
    auth::{
        Caller,
        certificate::{Thumbprint, sha256},
        keys::KeySet,
    },
    domain::revocation::Revocations,
};

/// In how many places a token may be.
const WAYS: usize = 8;

/// Verified tokens by their SHA-256.
#[derive(Debug)]
pub(super) struct TokenCache {
    places: Box<[ArcSwapOption<Verified>]>,
}

/// A token that was found good, and on what grounds.
#[derive(Debug)]
pub(super) struct Verified {
    pub hash: TokenHash,
    pub caller: Arc<Caller>,
    /// The certificate that it is bound to.
    pub binding: Option<Thumbprint>,
    pub issuer: Arc<Issuer>,
    pub keys: Arc<KeySet>,
    pub revocations: Arc<Revocations>,
}

/// The SHA-256 of a token. The token itself is nowhere kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenHash([u8; 32]);

impl TokenCache {
    /// Room for so many tokens, rounded up to a multiple of 8; none at all if it is 0.
    pub fn new(tokens: usize) -> Self {
        let places = tokens.div_ceil(WAYS) * WAYS;
        Self { places: (0..places).map(|_| ArcSwapOption::empty()).collect() }
    }

    /// What was found about a token, if it holds at the time `now` with these revocations.
    pub fn get(
        &self,
        hash: TokenHash,
        revocations: &Arc<Revocations>,
        now: Timestamp,
    ) -> Option<Arc<Verified>> {
        let found = self.places_of(hash).iter().find_map(|place| {
            let verified = place.load();
            verified.as_ref().filter(|verified| verified.hash == hash).cloned()
        })?;
        found.holds(revocations, now).then_some(found)
    }

    /// Remembers a token.
    pub fn put(&self, verified: Verified, now: Timestamp) {
        let places = self.places_of(verified.hash);
        let replaceable = |place: &ArcSwapOption<Verified>| {
            place.load().as_ref().is_none_or(|other| {
                other.hash == verified.hash || !other.holds(&verified.revocations, now)
            })
        };
        let any = usize::from(verified.hash.0[31]) % WAYS;
        let free = places.iter().position(replaceable).unwrap_or(any);
        if let Some(place) = places.get(free) {
            place.store(Some(Arc::new(verified)));
        }
    }

    fn places_of(&self, hash: TokenHash) -> &[ArcSwapOption<Verified>] {
        let [a, b, c, d, ..] = hash.0;
        let sets = (self.places.len() / WAYS).max(1);
        let set = u32::from_be_bytes([a, b, c, d]) as usize % sets;
        self.places.get(set * WAYS..(set + 1) * WAYS).unwrap_or_default()
    }
}

impl Verified {
    fn holds(&self, revocations: &Arc<Revocations>, now: Timestamp) -> bool {
        now < self.caller.good_until
            && Arc::ptr_eq(&self.revocations, revocations)
            && Arc::ptr_eq(&self.keys, &self.issuer.keys.current())
    }
}

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(sha256(token.as_bytes()))
    }
}
