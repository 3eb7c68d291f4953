//! Who was here lately, and with which roles.
//!
//! Roles come with tokens, so the service does not know who has which role; it knows whom it has
//! seen with it since it was started. That is enough to tell who would lose what if a role were
//! deleted, and what somebody may do who is not asking himself. Nothing is decided by it.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::Timestamp;

use super::Caller;

/// The subjects that are remembered unless told otherwise. One takes some hundred bytes.
pub const MAX_SIGHTINGS: usize = 10_000;

/// A subject as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The token's `sub`.
    pub subject: Arc<str>,
    /// The token's `iss`.
    pub issuer: Arc<str>,
    /// The roles that the token gave, known here or not.
    pub roles: Vec<String>,
    /// When, to the second.
    pub time: Timestamp,
}

/// The subjects seen since the start, the latest so many of them.
#[derive(Debug)]
pub struct Sightings {
    most: usize,
    seen: RwLock<HashMap<Subject, Seen>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    subject: Arc<str>,
    issuer: Arc<str>,
}

#[derive(Debug)]
struct Seen {
    roles: Vec<String>,
    second: AtomicI64,
}

impl Default for Sightings {
    fn default() -> Self {
        Self::new(MAX_SIGHTINGS)
    }
}

impl Sightings {
    /// Remembers at most `most` subjects, at least 1.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), seen: RwLock::default() }
    }

    /// Remembers that `caller` was here at `now`. Cheap for one who was here before.
    pub fn note(&self, caller: &Caller, now: Timestamp) {
        let key =
            Subject { subject: Arc::clone(&caller.subject), issuer: Arc::clone(&caller.issuer) };
        let second = now.as_second();
        {
            let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = seen.get(&key).filter(|known| known.roles == caller.roles) {
                known.second.store(second, Ordering::Relaxed);
                return;
            }
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= self.most && !seen.contains_key(&key) {
            forget_the_oldest(&mut seen);
        }
        seen.insert(key, Seen { roles: caller.roles.clone(), second: second.into() });
    }

    /// Those who came with this role when they were last here, by subject and issuer.
    pub fn with_role(&self, role: &str) -> Vec<Sighting> {
        self.find(|_, seen| seen.roles.iter().any(|held| held == role))
    }

    /// Those with this subject, of `issuer` if it is given.
    pub fn of(&self, subject: &str, issuer: Option<&str>) -> Vec<Sighting> {
        self.find(|key, _| {
            *key.subject == *subject && issuer.is_none_or(|issuer| *key.issuer == *issuer)
        })
    }

    fn find(&self, is_meant: impl Fn(&Subject, &Seen) -> bool) -> Vec<Sighting> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let found = seen.iter().filter(|(key, seen)| is_meant(key, seen));
        let mut found: Vec<_> = found.map(|(key, seen)| sighting(key, seen)).collect();
        found.sort_by(|a, b| (&a.subject, &a.issuer).cmp(&(&b.subject, &b.issuer)));
        found
    }
}

fn sighting(key: &Subject, seen: &Seen) -> Sighting {
    Sighting {
        subject: Arc::clone(&key.subject),
        issuer: Arc::clone(&key.issuer),
        roles: seen.roles.clone(),
        time: Timestamp::from_second(seen.second.load(Ordering::Relaxed)).unwrap_or_default(),
    }
}

/// Forgets the tenth that was not here for longest, so that this is not done for each newcomer.
fn forget_the_oldest(seen: &mut HashMap<Subject, Seen>) {
    let mut seconds: Vec<_> =
        seen.values().map(|seen| seen.second.load(Ordering::Relaxed)).collect();
    let place = seconds.len() / 10;
    let (_, last, _) = seconds.select_nth_unstable(place);
    let last = *last;
    let mut left = place + 1;
    seen.retain(|_, seen| {
        let goes = left > 0 && seen.second.load(Ordering::Relaxed) <= last;
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(subject: &str, issuer: &str, roles: &[&str]) -> Caller {
        Caller {
            subject: subject.into(),
            issuer: issuer.into(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            expire_time: Timestamp::MAX,
            good_until: Timestamp::MAX,
            token_id: None,
            key_id: "k".into(),
            key_fingerprint: [0; 32],
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_subject_is_remembered_as_it_was_last_seen() {
        let sightings = Sightings::new(10);
        sightings.note(&caller("jo", "one", &["viewer"]), at(1));
        sightings.note(&caller("jo", "one", &["admin", "viewer"]), at(2));
        sightings.note(&caller("jo", "two", &["viewer"]), at(3));
        let found = sightings.of("jo", Some("one"));
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].roles.as_slice(), found[0].time),
            (&["admin".into(), "viewer".into()][..], at(2))
        );
        assert_eq!(sightings.of("jo", None).len(), 2);
        assert_eq!(sightings.with_role("viewer").len(), 2);
        assert_eq!(sightings.with_role("admin").len(), 1);
        sightings.note(&caller("jo", "one", &["viewer"]), at(4));
        assert!(sightings.with_role("admin").is_empty());
    }

    #[test]
    fn there_are_never_more_than_allowed_and_those_here_last_are_kept() {
        let sightings = Sightings::new(20);
        for number in 0..100 {
            sightings.note(&caller(&format!("s{number}"), "one", &["viewer"]), at(number));
            assert!(sightings.with_role("viewer").len() <= 20);
        }
        assert!(sightings.of("s0", None).is_empty());
        assert_eq!(sightings.of("s99", None).len(), 1);
        assert_eq!(sightings.of("s90", None).len(), 1);
    }
}
