//! Limits on how often a source or a subject may be refused before it is told to wait.
//!
//! Who is over his limit gets RESOURCE_EXHAUSTED with the time to try again, in place of the reason
//! of his refusal. A token that is good is accepted all the same: one broken client must not lock
//! out the others behind the same address, nor a stranger the subject whose name he uses. Only a
//! source that goes far beyond its limit is no longer looked at, but for tokens that are known to
//! be good; what its strangers cost is then bounded.
//!
//! A subject is charged only with what is certain to be his: tokens whose signature holds, and
//! denials.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Caller,
    incident::{Identity, Incidents, What},
    token::TokenError,
};
use crate::domain::role::Permission;

/// How many may be refused a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureLimits {
    /// Failed logins from one source: an IPv4 address, or the /64 of an IPv6 address. At least 1.
    pub per_source: u32,
    /// Failed logins with genuine tokens, and denials, of one subject. At least 1.
    pub per_subject: u32,
}

/// Counts refusals and says when they are too many.
#[derive(Debug)]
pub struct Failures {
    sources: Meter<Option<IpAddr>>,
    subjects: Meter<(Arc<str>, Arc<str>)>,
    incidents: Arc<Incidents>,
}

/// The time in which the limit may be used up, all at once if need be.
const PERIOD: Duration = Duration::from_secs(60);

/// How far beyond its limit a source is no longer looked at.
const SHUT: Duration = Duration::from_secs(4 * 60);

/// How many sources, and how many subjects, are kept in mind.
const TRACKED: usize = 4096;

/// A leaky bucket for each key: how long it takes until everything it was charged with is
/// forgotten (the generic cell rate algorithm of ITU-T I.371).
#[derive(Debug)]
struct Meter<K> {
    cost: Duration,
    settled: Mutex<HashMap<K, Instant>>,
}

impl Failures {
    /// Nothing has been refused so far. What is will be told to `incidents`.
    pub fn new(limits: FailureLimits, incidents: Arc<Incidents>) -> Self {
        let FailureLimits { per_source, per_subject } = limits;
        Self { sources: Meter::new(per_source), subjects: Meter::new(per_subject), incidents }
    }

    /// For how long a source is not looked at any more, if it is not.
    pub fn shut_out(&self, source: Option<IpAddr>) -> Option<Duration> {
        let owed = self.sources.owed(&source.map(network), Instant::now());
        (owed >= SHUT).then(|| owed - PERIOD)
    }

    /// Takes note of a failed login. Gives the time to wait if there were too many.
    pub fn failed(
        &self,
        source: Option<IpAddr>,
        identity: Identity,
        error: TokenError,
        now: Timestamp,
    ) -> Option<Duration> {
        let of_subject = match &identity {
            Identity::Verified { issuer, subject } => {
                self.subjects.charge((Arc::clone(issuer), Arc::clone(subject)), Instant::now())
            }
            Identity::Unknown | Identity::Claimed { .. } => None,
        };
        let of_source = self.sources.charge(source.map(network), Instant::now());
        let what = What { source, identity, reason: error.reason(), permission: None };
        self.incidents.record(what, now);
        of_source.max(of_subject)
    }

    /// Takes note that a caller lacked a permission. Gives the time to wait if there were too many.
    pub fn denied(
        &self,
        source: Option<IpAddr>,
        caller: &Caller,
        permission: Option<Permission>,
        now: Timestamp,
    ) -> Option<Duration> {
        let identity = Identity::of(caller);
        let what = What { source, identity, reason: "PERMISSION_DENIED", permission };
        self.incidents.record(what, now);
        let subject = (Arc::clone(&caller.issuer), Arc::clone(&caller.subject));
        self.subjects.charge(subject, Instant::now())
    }
}

impl Default for FailureLimits {
    fn default() -> Self {
        Self { per_source: 120, per_subject: 120 }
    }
}

impl<K: Eq + Hash + Clone> Meter<K> {
    fn new(per_minute: u32) -> Self {
        Self { cost: PERIOD / per_minute.max(1), settled: Mutex::default() }
    }

    /// Charges a refusal. Gives how long to wait for the next if the limit is passed.
    fn charge(&self, key: K, now: Instant) -> Option<Duration> {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if settled.len() >= TRACKED && !settled.contains_key(&key) {
            forget_half(&mut settled);
        }
        let at = settled.entry(key).or_insert(now);
        // Beyond this nobody looks any more; more would only make the way back longer.
        *at = (*at).max(now).min(now + SHUT) + self.cost;
        let owed = at.duration_since(now);
        (owed > PERIOD).then(|| owed - PERIOD)
    }

    /// How long it takes until all is forgotten.
    fn owed(&self, key: &K, now: Instant) -> Duration {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.get(key).map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

/// Makes room: those who owe the least go.
fn forget_half<K: Eq + Hash>(settled: &mut HashMap<K, Instant>) {
    let mut times: Vec<Instant> = settled.values().copied().collect();
    let middle = times.len() / 2;
    let (_, &mut limit, _) = times.select_nth_unstable(middle);
    settled.retain(|_, at| *at > limit);
}

/// What one party can be expected to have: an IPv4 address, but a whole /64 of IPv6.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(network).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> (Meter<u32>, Instant) {
        (Meter::new(60), Instant::now())
    }

    #[test]
    fn so_many_may_fail_at_once_and_then_so_many_a_minute() {
        let (meter, now) = meter();
        assert!((0..60).all(|_| meter.charge(1, now).is_none()));
        assert_eq!(meter.charge(1, now), Some(Duration::from_secs(1)));
        assert_eq!(meter.charge(2, now), None, "another is not concerned");
        assert!(meter.charge(1, now + Duration::from_secs(1)).is_some());
        assert_eq!(meter.charge(1, now + Duration::from_secs(4)), None);
        assert!((0..60).all(|_| meter.charge(1, now + Duration::from_secs(600)).is_none()));
    }

    #[test]
    fn whoever_goes_on_for_ever_owes_no_more_than_a_few_minutes() {
        let (meter, now) = meter();
        (0..10_000).for_each(|_| _ = meter.charge(1, now));
        assert!(meter.owed(&1, now) >= SHUT);
        assert!(meter.owed(&1, now) <= SHUT + Duration::from_secs(1));
    }

    #[test]
    fn many_sources_push_out_those_who_owe_little_and_take_no_more_room() {
        let (meter, now) = meter();
        (0..100).for_each(|_| _ = meter.charge(u32::MAX, now));
        (0..100_000).for_each(|key| _ = meter.charge(key, now));
        assert!(meter.settled.lock().unwrap().len() <= TRACKED);
        assert!(meter.charge(u32::MAX, now).is_some(), "who owes much is kept in mind");
    }

    #[test]
    fn a_source_is_an_address_or_a_network_of_ipv6() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
