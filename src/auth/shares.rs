//! How much one subject has of what all share.
//!
//! Subjects are counted in a fixed number of places that a keyed hash chooses, so counting takes two
//! atomic operations, no lock and no memory, whoever comes. Two subjects may fall into one place
//! and then share its bound. Nobody can bring that about for another: the key is made anew with
//! every start. (Stochastic fairness queueing, McKenney 1990, has the idea.)

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// So many places that a thousand subjects at once seldom meet in one.
const PLACES: usize = 4_096;

/// Counts what each subject has. Clones count together.
#[derive(Clone)]
pub struct Shares(Arc<Places>);

struct Places {
    most: usize,
    hasher: RandomState,
    taken: Box<[AtomicUsize]>,
}

/// One subject's hold on one of what is shared, given back when this is dropped.
pub struct Share {
    places: Arc<Places>,
    place: usize,
    before: usize,
}

impl Shares {
    /// At most `most` for each subject at a time.
    pub fn new(most: usize) -> Self {
        let taken = (0..PLACES).map(|_| AtomicUsize::new(0)).collect();
        Self(Arc::new(Places { most, hasher: RandomState::new(), taken }))
    }

    /// The most that one subject may have.
    pub fn most(&self) -> usize {
        self.0.most
    }

    /// One more for this subject of this issuer; `None` if it has as many as it may.
    pub fn take(&self, issuer: &str, subject: &str) -> Option<Share> {
        let Places { most, hasher, taken } = &*self.0;
        let place = (hasher.hash_one((issuer, subject)) % PLACES as u64) as usize;
        // Relaxed: a count that guards nothing but itself.
        let before = taken[place].fetch_add(1, Ordering::Relaxed);
        let share = Share { places: Arc::clone(&self.0), place, before };
        (before < *most).then_some(share)
    }
}

impl Share {
    /// Where the subject is counted: the same number for the same subject, as long as the server
    /// runs.
    pub const fn place(&self) -> usize {
        self.place
    }

    /// How many the subject had when this was taken.
    pub const fn before(&self) -> usize {
        self.before
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.places.taken[self.place].fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").field("most", &self.0.most).finish_non_exhaustive()
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("before", &self.before).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_its_share_and_no_more_until_it_gives_one_back() {
        let shares = Shares::new(2);
        let first = shares.take("issuer", "jo").unwrap();
        let second = shares.take("issuer", "jo").unwrap();
        assert_eq!((first.before(), second.before()), (0, 1));
        assert!(shares.take("issuer", "jo").is_none());
        assert!(shares.take("issuer", "jo").is_none(), "a refusal takes nothing");
        drop(first);
        assert!(shares.take("issuer", "jo").is_some());
    }

    #[test]
    fn hardly_anybody_is_counted_with_another() {
        let shares = Shares::new(1);
        let held: Vec<_> = (0..100).map(|n| shares.take("issuer", &n.to_string())).collect();
        let others = held.iter().filter(|share| share.is_some()).count();
        // 1.2 meetings are to be expected, and ten not once in a million runs.
        assert!(others > 90, "{others} of 100 have a place of their own");
    }
}
