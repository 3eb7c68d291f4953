//! What is measured: how long an event takes, how many there are, and what they cost the server.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::Notify,
    task::LocalSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    Effort,
    subject::{Caller, Subject},
};

/// Writes at a steady rate, a second.
const RATE: u32 = 100;

/// Writes under way when they come flat out.
const IN_FLIGHT: usize = 64;

/// Writes before the streams are opened.
const WARM_UP: u64 = 2_000;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(300);

/// A server and those who follow it.
pub struct Crowd {
    pub subject: Subject,
    pub figures: Figures,
    effort: Effort,
    writer: Caller,
    written: u64,
    followers: LocalSet,
    receipts: Rc<Receipts>,
}

/// What was found, round by round.
#[derive(Debug, Default)]
pub struct Figures {
    /// Resident memory before the streams were opened, and once they have been told something.
    pub resident: (u64, u64),
    /// At a steady rate: from before the write to the receipt.
    pub p50: Vec<Duration>,
    pub p99: Vec<Duration>,
    /// At a steady rate: the server's processor time for one delivery.
    pub steady: Vec<Duration>,
    /// Flat out: deliveries a second, and the processor time for one.
    pub deliveries: Vec<f64>,
    pub burst: Vec<Duration>,
    /// Resident memory at the end.
    pub resident_at_the_end: u64,
}

/// What the followers have been told.
#[derive(Default)]
struct Receipts {
    /// Revision and time of each event, on all streams.
    all: RefCell<Vec<(i64, Instant)>>,
    awaited: Cell<usize>,
    complete: Notify,
}

impl Receipts {
    fn add(&self, revisions: &[i64]) {
        let now = Instant::now();
        let mut all = self.all.borrow_mut();
        all.extend(revisions.iter().map(|revision| (*revision, now)));
        if all.len() >= self.awaited.get() {
            self.complete.notify_one();
        }
    }

    /// Waits until there are so many.
    async fn taken(&self, count: usize) -> Vec<(i64, Instant)> {
        self.awaited.set(count);
        while self.all.borrow().len() < count {
            self.complete.notified().await;
        }
        let all = self.all.take();
        assert_eq!(all.len(), count, "every stream is told of every write once");
        all
    }
}

impl Crowd {
    /// Opens the streams.
    pub async fn gathered(subject: Subject, effort: Effort) -> Self {
        let writer = subject.caller().await;
        // Writes that nobody follows, so that what the server needs for them is there before.
        let mut revision = 0;
        for number in 0..WARM_UP {
            revision = (subject.protocol.write)(writer.clone(), number).await;
        }
        let receipts = Rc::new(Receipts::default());
        let followers = LocalSet::new();
        let before = subject.footprint().resident;
        let per_connection = effort.streams / effort.connections;
        for _ in 0..effort.connections {
            let line = subject.line().await;
            for _ in 0..per_connection {
                let mut told = (subject.protocol.follow)(line.clone(), revision).await;
                let receipts = Rc::clone(&receipts);
                followers.spawn_local(async move {
                    let mut revisions = Vec::new();
                    while told.next(&mut revisions).await {
                        receipts.add(&revisions);
                        revisions.clear();
                    }
                });
            }
        }
        let figures =
            Figures { resident: (before, subject.footprint().resident), ..Figures::default() };
        let mut crowd =
            Self { subject, figures, effort, writer, written: WARM_UP, followers, receipts };
        // The first events of all streams are no measure.
        crowd.burst(IN_FLIGHT).await;
        crowd
    }

    pub async fn at_a_steady_rate(&mut self) {
        let writes = (self.effort.seconds * RATE) as usize;
        let before = self.subject.threads();
        let mut sent = HashMap::new();
        let numbers = self.numbers(writes);
        let work = async {
            let mut ticks = interval(Duration::from_secs(1) / RATE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in numbers {
                ticks.tick().await;
                let start = Instant::now();
                let revision = (self.subject.protocol.write)(self.writer.clone(), number).await;
                sent.insert(revision, start);
            }
            self.receipts.taken(writes * self.effort.streams).await
        };
        let receipts = timeout(PATIENCE, self.followers.run_until(work)).await.expect("in time");
        let processor = self.subject.threads().since(&before);
        let mut latencies: Vec<_> =
            receipts.iter().map(|(revision, at)| at.duration_since(sent[revision])).collect();
        latencies.sort_unstable();
        let quantile = |part: usize| latencies[(latencies.len() - 1) * part / 100];
        self.figures.p50.push(quantile(50));
        self.figures.p99.push(quantile(99));
        self.figures.steady.push(processor / u32::try_from(receipts.len()).expect("it is below"));
    }

    pub async fn flat_out(&mut self) {
        let before = self.subject.threads();
        let start = Instant::now();
        let receipts = self.burst(self.effort.burst as usize).await;
        let time = start.elapsed();
        let processor = self.subject.threads().since(&before);
        self.figures.deliveries.push(receipts as f64 / time.as_secs_f64());
        self.figures.burst.push(processor / u32::try_from(receipts).expect("it is below"));
        self.figures.resident_at_the_end = self.subject.footprint().resident;
    }

    /// Writes as fast as the server takes it; gives the deliveries.
    async fn burst(&mut self, writes: usize) -> usize {
        let numbers = self.numbers(writes);
        let work = async {
            stream::iter(numbers)
                .map(|number| (self.subject.protocol.write)(self.writer.clone(), number))
                .buffer_unordered(IN_FLIGHT)
                .for_each(async |_revision| {})
                .await;
            self.receipts.taken(writes * self.effort.streams).await.len()
        };
        timeout(PATIENCE, self.followers.run_until(work)).await.expect("in time")
    }

    fn numbers(&mut self, writes: usize) -> std::ops::Range<u64> {
        let first = self.written;
        self.written += writes as u64;
        first..self.written
    }
}
