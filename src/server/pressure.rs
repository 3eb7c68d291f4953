//! Turns calls away when calls wait too long for a processor.
//!
//! A count of calls does not bound their time: where the machine is slower than its clients, what
//! waits is not the call but its turn on a thread. That wait is measured, on every call, from the
//! moment its head was read to the moment something is done for it. When the mean stays above the
//! target, calls are turned away at odds that rise while it does and fall when it no longer does,
//! as in CoDel (RFC 8289) and PIE (RFC 8033).
//!
//! The odds of a call are those times the calls under way on its connection, so whoever has two
//! hundred there is turned away long before one who has a single call. And while the odds are not
//! none, what has itself waited for a few times the target goes, which empties the queue that
//! has built up. What is turned away costs
//! no more than its HTTP/2 frames: no layer has seen it, no token was looked at, no line is
//! logged for it.
//!
//! Those frames are still half of what a small read costs, so a client that asks again as soon as
//! it is refused would keep the server busy with refusing: measured with four thousand calls under
//! way, nine tenths of what it could have served. So who has others under way on its connection is
//! answered only after a pause, and HTTP/2's own limit on streams slows it down. And a part is
//! admitted whatever happens.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, Response};
use tokio::time::sleep;

use super::refusal::Refusal;

/// How often the odds are set anew, in microseconds.
const TICK: u64 = 10_000;

/// So long the wait must be too long before the first call is turned away: bursts pass.
const PATIENCE: u64 = 3 * TICK;

/// After so long without a call nothing is known any more.
const PAUSE: u64 = 10 * TICK;

/// Certainty, as odds.
const ALL: u64 = 1 << 32;

/// The lowest odds that are not none: a connection with a whole window of 256 calls is nearly
/// sure to be refused the next, and one with a single call hardly ever.
const LEAST: u64 = ALL / 256;

/// The highest: one call of sixteen is always let through.
const MOST: u64 = ALL / 16 * 15;

/// So many times the target a call may wait before it is turned away for that, once others are.
const LONG: u64 = 2;

/// The same of a call that is the only one on its connection: it waits for others.
const LONGER: u64 = 4;

/// So many calls are turned away at the highest odds, whatever those of one call.
const CERTAIN: u64 = ALL;

/// A step through all 32-bit numbers that spreads evenly over any stretch of them: 2^32 over the
/// golden ratio.
const STRIDE: u32 = 0x9E37_79B9;

/// How long the answer to a call that is turned away is held back if its client has others under
/// way: so much at least, in milliseconds. Less than it is told to wait in any case.
const HOLD: u64 = 100;

/// And up to so much more, so that those who are held back do not come again all at once.
const HOLD_SPREAD: u64 = 200;

/// So many are held back at a time, at about a kilobyte each; others are answered at once.
const MOST_HELD: u32 = 10_000;

/// The bits of a tick's sum that count its calls. The rest, in microseconds, is their wait.
const COUNT_BITS: u32 = 20;

/// How often the operator is told.
const TELL_EVERY: u64 = 1_000_000;

/// What all connections know together of the wait for a processor.
#[derive(Debug)]
pub struct Pressure {
    target: u64,
    start: Instant,
    waits: AtomicU64,
    /// When this tick ends, in microseconds since the start, as are the other times.
    tick_end: AtomicU64,
    /// Since when the wait is too long; 0 while it is not.
    long_since: AtomicU64,
    odds: AtomicU64,
    dice: AtomicU32,
    turned_away: AtomicU64,
    held: AtomicU32,
    told: AtomicU64,
}

/// How calls enter from one connection.
#[derive(Debug)]
pub(super) struct Entrance {
    pressure: Arc<Pressure>,
    /// The calls from it that wait or run.
    calls: AtomicU32,
}

/// A call whose head has been read.
#[derive(Debug)]
pub(super) struct Arrival {
    under_way: UnderWay,
    at: Instant,
}

/// A call that is turned away.
#[derive(Debug)]
pub(super) struct TurnedAway(Option<Held>);

/// A refusal that is held back, until this is dropped.
#[derive(Debug)]
struct Held(Arc<Entrance>);

/// A call counts on its connection until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Entrance>);

impl Pressure {
    /// `target` is the mean wait that is put up with.
    pub fn new(target: Duration) -> Self {
        Self {
            target: micros(target),
            start: Instant::now(),
            waits: AtomicU64::new(0),
            tick_end: AtomicU64::new(TICK),
            long_since: AtomicU64::new(0),
            odds: AtomicU64::new(0),
            dice: AtomicU32::new(0),
            turned_away: AtomicU64::new(0),
            held: AtomicU32::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// Takes note of a call that has waited from `arrival` until `now`, and says whether it is
    /// turned away, given how many calls are under way where it comes from, itself included.
    fn turns_away(&self, arrival: Instant, now: Instant, calls: u32) -> bool {
        let wait = micros(now.saturating_duration_since(arrival));
        // Relaxed throughout: these are measurements, and nothing is read by way of them.
        self.waits.fetch_add((wait << COUNT_BITS) | 1, Relaxed);
        let time = micros(now.saturating_duration_since(self.start));
        let end = self.tick_end.load(Relaxed);
        if time >= end && self.tick_end.compare_exchange(end, time + TICK, Relaxed, Relaxed).is_ok()
        {
            self.settle(time, time - end);
        }
        let put_up_with = if calls > 1 { LONG } else { LONGER } * self.target;
        self.loses(if wait > put_up_with { CERTAIN } else { calls.into() })
    }

    /// Whether a call is turned away because of the others that its subject has under way. Who has
    /// none besides is not.
    pub fn singles_out(&self, others: usize) -> bool {
        self.loses(others as u64)
    }

    fn loses(&self, calls: u64) -> bool {
        let odds = self.odds.load(Relaxed);
        if odds == 0 {
            return false;
        }
        let odds = odds.saturating_mul(calls).min(MOST);
        let away = u64::from(self.dice.fetch_add(STRIDE, Relaxed)) < odds;
        if away {
            self.turned_away.fetch_add(1, Relaxed);
        }
        away
    }

    /// Sets the odds by the waits of the tick that has ended. One call does it for all.
    fn settle(&self, time: u64, overdue: u64) {
        let waits = self.waits.swap(0, Relaxed);
        let mean = (waits >> COUNT_BITS) / (waits & ((1 << COUNT_BITS) - 1)).max(1);
        let odds = self.odds.load(Relaxed);
        if overdue > PAUSE || mean <= self.target {
            self.long_since.store(0, Relaxed);
            // By as much as the wait is shorter, but no more than to the half.
            let fewer = odds * mean.max(self.target / 2) / self.target.max(1);
            let fewer = fewer.min(odds - odds / 16);
            let none = overdue > PAUSE || fewer < LEAST / 2;
            self.odds.store(if none { 0 } else { fewer }, Relaxed);
            return;
        }
        let since = match self.long_since.load(Relaxed) {
            0 => time,
            since => since,
        };
        self.long_since.store(since, Relaxed);
        if odds == 0 && time - since < PATIENCE {
            return;
        }
        // By as much as the wait is too long, but no more than twofold: the waits of this tick
        // began before the odds of the last one showed.
        let more = odds * (mean.min(2 * self.target)) / self.target.max(1);
        self.odds.store(more.clamp(LEAST, ALL), Relaxed);
        self.tell(time, mean);
    }

    fn tell(&self, time: u64, mean: u64) {
        let told = self.told.load(Relaxed);
        if time < told + TELL_EVERY && told != 0 {
            return;
        }
        self.told.store(time, Relaxed);
        tracing::warn!(
            wait_ms = mean / 1_000,
            turned_away = self.turned_away.swap(0, Relaxed),
            "calls wait longer for a processor than limits.max_queue_delay allows; turning some away"
        );
    }
}

impl Entrance {
    /// For a new connection.
    pub fn new(pressure: Arc<Pressure>) -> Arc<Self> {
        Arc::new(Self { pressure, calls: AtomicU32::new(0) })
    }

    /// Takes the time at which a call's head was read.
    pub fn arrive(self: &Arc<Self>) -> Arrival {
        self.calls.fetch_add(1, Relaxed);
        Arrival { under_way: UnderWay(Arc::clone(self)), at: Instant::now() }
    }
}

impl Arrival {
    /// Lets the call in or turns it away. To be asked when there is a thread to serve it.
    pub fn enter(self) -> Result<UnderWay, TurnedAway> {
        let Self { under_way, at } = self;
        let entrance = &under_way.0;
        let calls = entrance.calls.load(Relaxed);
        match entrance.pressure.turns_away(at, Instant::now(), calls) {
            true if calls > 1 => Err(TurnedAway(Held::new(entrance))),
            true => Err(TurnedAway(None)),
            false => Ok(under_way),
        }
    }
}

impl TurnedAway {
    /// What its client is told, when it is time.
    pub async fn response<B: Default>(self) -> Response<B> {
        if let Some(held) = self.0 {
            // In a box: every call would carry the room for it.
            Box::pin(sleep(held.time())).await;
        }
        turned_away()
    }
}

impl Held {
    fn new(entrance: &Arc<Entrance>) -> Option<Self> {
        let held = Self(Arc::clone(entrance));
        (entrance.pressure.held.fetch_add(1, Relaxed) < MOST_HELD).then_some(held)
    }

    fn time(&self) -> Duration {
        let dice = u64::from(self.0.pressure.dice.fetch_add(STRIDE, Relaxed));
        Duration::from_millis(HOLD + ((dice * HOLD_SPREAD) >> 32))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.pressure.held.fetch_sub(1, Relaxed);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Relaxed);
    }
}

/// The same response every time, so its status is put into words once.
fn turned_away<B: Default>() -> Response<B> {
    static HEADERS: LazyLock<HeaderMap> =
        LazyLock::new(|| Refusal::Overloaded.response::<()>().headers().clone());
    let mut response = Response::new(B::default());
    *response.headers_mut() = HEADERS.clone();
    response
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(5);

    /// A clock and a wait for the calls that a test makes.
    struct Load {
        pressure: Pressure,
        now: Instant,
    }

    impl Load {
        fn new() -> Self {
            let pressure = Pressure::new(TARGET);
            let now = pressure.start;
            Self { pressure, now }
        }

        /// The share of calls turned away, of one every millisecond that waits for `wait`.
        fn turned_away(&mut self, millis: u32, wait: Duration, calls: u32) -> f64 {
            let mut away = 0;
            for _ in 0..millis {
                self.now += Duration::from_millis(1);
                away += u32::from(self.pressure.turns_away(self.now - wait, self.now, calls));
            }
            f64::from(away) / f64::from(millis)
        }
    }

    #[test]
    fn nobody_is_turned_away_while_the_wait_is_short() {
        let mut load = Load::new();
        assert_eq!(load.turned_away(1_000, TARGET, 256), 0.0);
    }

    #[test]
    fn a_burst_passes_and_a_standing_queue_does_not() {
        let mut load = Load::new();
        assert_eq!(load.turned_away(25, 10 * TARGET, 1), 0.0);
        load.turned_away(20, Duration::ZERO, 1);
        assert_eq!(load.turned_away(25, 10 * TARGET, 1), 0.0);
        load.turned_away(1_000, 10 * TARGET, 1);
        let share = load.turned_away(1_000, 10 * TARGET, 1);
        assert!((0.90..0.96).contains(&share), "nearly all, but never all: {share}");
    }

    #[test]
    fn the_odds_fall_when_the_wait_is_short_again_or_nobody_comes() {
        let mut load = Load::new();
        load.turned_away(1_000, 10 * TARGET, 1);
        load.turned_away(1_000, Duration::ZERO, 1);
        assert_eq!(load.turned_away(1_000, Duration::ZERO, 1), 0.0);
        load.turned_away(1_000, 10 * TARGET, 1);
        load.now += Duration::from_secs(1);
        assert_eq!(load.turned_away(1, Duration::ZERO, 1), 0.0);
    }

    #[test]
    fn what_has_waited_for_long_is_turned_away_once_anything_is() {
        let mut load = Load::new();
        assert_eq!(load.turned_away(20, 10 * TARGET, 2), 0.0);
        load.turned_away(20, 2 * TARGET, 1);
        assert!(load.turned_away(5, 3 * TARGET, 2) >= 0.8);
        assert!(load.turned_away(5, 3 * TARGET, 1) <= 0.2, "for longer, if it is the only one");
        assert!(load.turned_away(5, 5 * TARGET, 1) >= 0.8);
    }

    #[test]
    fn who_has_many_calls_is_turned_away_first() {
        let mut load = Load::new();
        load.turned_away(45, 2 * TARGET, 1);
        assert!(load.turned_away(10, 2 * TARGET, 1) <= 0.2);
        assert!(load.turned_away(10, 2 * TARGET, 200) >= 0.8);
    }
}
