//! Failed logins and denials, counted for whoever keeps the audit.
//!
//! An attacker chooses how often he fails, and under how many names and from how many addresses
//! besides. So what is the same is one row with a count; a minute has a bounded number of rows, and
//! what is beyond is one more row that says how much. Recording never waits and never fails.

use std::{
    collections::HashMap,
    mem,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{sync::Notify, time::sleep_until};

use super::Caller;
use crate::domain::role::Permission;

/// How many different rows a minute may have.
const ROWS_PER_PERIOD: usize = 64;

/// How many rows may wait for somebody to take them.
const MOST_ROWS: usize = 1024;

/// The period in which so many rows may begin.
const PERIOD: Duration = Duration::from_secs(60);

/// The reason of the row that counts what had no row of its own any more.
pub const OTHERS: &str = "OTHERS";

/// Something that was refused, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// When it happened first.
    pub first_time: Timestamp,
    /// When it happened last.
    pub last_time: Timestamp,
    /// How often.
    pub count: u64,
    /// What is the same about all of them.
    pub what: What,
}

/// What tells one incident from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct What {
    /// The address that it came from, if it is known.
    pub source: Option<IpAddr>,
    /// Who it was, or said he was.
    pub identity: Identity,
    /// The stable reason: that of the answer, or [`OTHERS`].
    pub reason: &'static str,
    /// The permission that a denied caller lacked.
    pub permission: Option<Permission>,
}

/// Who somebody is, and whether anybody vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// He said nothing, or nothing that can be read.
    Unknown,
    /// He said so. A stranger can say anything. What he did not say is empty.
    Claimed {
        /// The issuer.
        issuer: Arc<str>,
        /// The subject.
        subject: Arc<str>,
    },
    /// An issuer has signed it, or an authority has certified it.
    Verified {
        /// The issuer.
        issuer: Arc<str>,
        /// The subject.
        subject: Arc<str>,
    },
}

/// The incidents that nobody has taken yet. Bounded, whatever happens.
#[derive(Debug)]
pub struct Incidents {
    rows: Mutex<Rows>,
    something: Notify,
}

#[derive(Debug)]
struct Rows {
    rows: HashMap<What, Incident>,
    /// What came when the period had no more room.
    others: Option<Incident>,
    period: Instant,
    begun: usize,
}

impl Identity {
    /// A caller.
    pub fn of(caller: &Caller) -> Self {
        let Caller { issuer, subject, .. } = caller;
        Self::Verified { issuer: Arc::clone(issuer), subject: Arc::clone(subject) }
    }

    /// The same, now that a signature is found to be good.
    #[must_use]
    pub(super) fn vouched_for(self) -> Self {
        match self {
            Self::Claimed { issuer, subject } => Self::Verified { issuer, subject },
            other => other,
        }
    }
}

impl Incidents {
    /// None so far.
    pub fn new() -> Self {
        Self { rows: Mutex::new(Rows::new(Instant::now())), something: Notify::new() }
    }

    /// Counts something that has just happened.
    pub fn record(&self, what: What, now: Timestamp) {
        self.current().record(what, now);
        self.something.notify_one();
    }

    /// Waits until there is something to [`take`](Self::take). For one who waits at a time.
    pub async fn ready(&self) {
        loop {
            let (ready, others_at) = {
                let rows = self.current();
                let others_at = rows.others.is_some().then(|| rows.period + PERIOD);
                (!rows.rows.is_empty(), others_at)
            };
            if ready {
                return;
            }
            match others_at {
                None => self.something.notified().await,
                Some(at) => tokio::select! {
                    () = self.something.notified() => {}
                    () = sleep_until(at.into()) => {}
                },
            }
        }
    }

    /// Takes the rows there are, the oldest first. The row of what had no room comes when its
    /// minute is over.
    pub fn take(&self) -> Vec<Incident> {
        in_order(mem::take(&mut self.current().rows).into_values())
    }

    /// Takes everything, before the end.
    pub fn take_rest(&self) -> Vec<Incident> {
        let mut current = self.current();
        let others = current.others.take();
        in_order(mem::take(&mut current.rows).into_values().chain(others))
    }

    fn current(&self) -> MutexGuard<'_, Rows> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.begin_period_if_due(Instant::now());
        rows
    }
}

impl Default for Incidents {
    fn default() -> Self {
        Self::new()
    }
}

impl Rows {
    fn new(now: Instant) -> Self {
        Self { rows: HashMap::new(), others: None, period: now, begun: 0 }
    }

    fn begin_period_if_due(&mut self, now: Instant) {
        if now.duration_since(self.period) >= PERIOD {
            (self.period, self.begun) = (now, 0);
            if let Some(others) = self.others.take() {
                let Incident { first_time: _, last_time, count, .. } = others;
                let row = self.rows.entry(others.what.clone());
                row.and_modify(|row| row.and_so_often(count, last_time)).or_insert(others);
            }
        }
    }

    fn record(&mut self, what: What, now: Timestamp) {
        if let Some(row) = self.rows.get_mut(&what) {
            return row.and_so_often(1, now);
        }
        if self.begun < ROWS_PER_PERIOD && self.rows.len() < MOST_ROWS {
            self.begun += 1;
            self.rows.insert(what.clone(), Incident::first(what, now));
            return;
        }
        match &mut self.others {
            Some(others) => others.and_so_often(1, now),
            others => *others = Some(Incident::first(What::others(), now)),
        }
    }
}

impl Incident {
    const fn first(what: What, now: Timestamp) -> Self {
        Self { first_time: now, last_time: now, count: 1, what }
    }

    fn and_so_often(&mut self, count: u64, last_time: Timestamp) {
        self.last_time = self.last_time.max(last_time);
        self.count = self.count.saturating_add(count);
    }
}

impl What {
    const fn others() -> Self {
        Self { source: None, identity: Identity::Unknown, reason: OTHERS, permission: None }
    }
}

fn in_order(rows: impl Iterator<Item = Incident>) -> Vec<Incident> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|row| row.first_time);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn failed(source: u8, subject: &str) -> What {
        What {
            source: Some(IpAddr::from([192, 0, 2, source])),
            identity: Identity::Claimed { issuer: "one".into(), subject: subject.into() },
            reason: "TOKEN_EXPIRED",
            permission: None,
        }
    }

    #[tokio::test]
    async fn what_is_the_same_is_one_row_with_a_count() {
        let incidents = Incidents::new();
        for second in 1..=1_000 {
            incidents.record(failed(1, "alice"), at(second));
        }
        incidents.record(failed(2, "alice"), at(7));
        incidents.record(failed(1, "bob"), at(8));
        incidents.ready().await;
        let rows = incidents.take();
        let counts: Vec<_> = rows.iter().map(|row| row.count).collect();
        assert_eq!(counts, [1_000, 1, 1]);
        assert_eq!((rows[0].first_time, rows[0].last_time), (at(1), at(1_000)));
        assert!(incidents.take().is_empty());
    }

    #[test]
    fn an_attacker_with_a_thousand_names_makes_65_rows_a_minute_however_often_they_are_taken() {
        let start = Instant::now();
        let mut rows = Rows::new(start);
        let mut taken = 0;
        for number in 0..1_000 {
            rows.begin_period_if_due(start + PERIOD / 2);
            rows.record(failed(1, &number.to_string()), at(number));
            taken += mem::take(&mut rows.rows).len();
        }
        assert_eq!(taken, ROWS_PER_PERIOD);
        // The next minute begins with a row for the rest, and has room again.
        rows.begin_period_if_due(start + PERIOD);
        let rest: Vec<_> = mem::take(&mut rows.rows).into_values().collect();
        assert_eq!(rest.len(), 1);
        assert_eq!((rest[0].what.reason, rest[0].count), (OTHERS, 1_000 - 64));
        rows.record(failed(1, "alice"), at(2_000));
        assert_eq!(rows.rows.len(), 1);
    }

    #[test]
    fn rows_that_nobody_takes_are_bounded_too() {
        let start = Instant::now();
        let mut rows = Rows::new(start);
        for number in 0..100_u32 * 100 {
            rows.begin_period_if_due(start + PERIOD * (number / 100));
            rows.record(failed(1, &number.to_string()), at(number.into()));
        }
        assert!(rows.rows.len() <= MOST_ROWS + 1, "{}", rows.rows.len());
        let counted: u64 = rows.rows.values().chain(&rows.others).map(|row| row.count).sum();
        assert_eq!(counted, 10_000);
    }

    #[tokio::test]
    async fn the_rest_of_a_minute_comes_without_anybody_failing_again() {
        let incidents = Incidents::new();
        {
            let mut rows = incidents.current();
            rows.others = Some(Incident::first(What::others(), at(1)));
            rows.period = Instant::now() - PERIOD + Duration::from_millis(20);
        }
        assert!(incidents.take().is_empty());
        incidents.ready().await;
        assert_eq!(incidents.take().len(), 1);
    }

    #[test]
    fn before_the_end_everything_is_handed_over() {
        let incidents = Incidents::new();
        for number in 0..100 {
            incidents.record(failed(1, &number.to_string()), at(number));
        }
        let rows = incidents.take_rest();
        assert_eq!(rows.len(), 65);
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 100);
    }
}
