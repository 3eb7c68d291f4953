//! Where the load comes from: people with tokens, and what became of their calls.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use partnerd::dev::DevFolder;
use secrecy::ExposeSecret as _;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tonic::{Code, Status};

use crate::harness::actor::Actor;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many faults are told; one is enough to fail.
const MOST_FAULTS: usize = 20;

/// The surroundings of a server under load.
pub struct Site {
    folder: PathBuf,
    dev: DevFolder,
    start: Instant,
    time: Duration,
    outcomes: Mutex<Outcomes>,
}

/// What was done how often, and what did not come out as it should.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// How often, by kind.
    pub done: BTreeMap<&'static str, u64>,
    /// What was not as it should be.
    pub faults: Vec<String>,
}

impl Site {
    /// Around the server whose folder this is, for so long from now on.
    pub fn around(folder: &Path, time: Duration) -> Self {
        let dev = DevFolder::open(&folder.join("partnerd-data")).expect("the server made it");
        Self {
            folder: folder.to_owned(),
            dev,
            start: Instant::now(),
            time,
            outcomes: Mutex::default(),
        }
    }

    /// Whether the load goes on.
    pub fn goes_on(&self) -> bool {
        self.start.elapsed() < self.time
    }

    /// How long it takes altogether.
    pub const fn time(&self) -> Duration {
        self.time
    }

    /// Somebody with this name and role, on a connection of his own.
    pub async fn somebody(&self, subject: &str, role: &str) -> Actor {
        self.with_token(&self.token(subject, role, SignedDuration::from_hours(24))).await
    }

    /// Somebody who shows this as his token, on a connection of his own.
    pub async fn with_token(&self, token: &str) -> Actor {
        Actor::of_dev_server_with(&self.folder, token).await
    }

    /// A token of the server's own issuer.
    pub fn token(&self, subject: &str, role: &str, lifetime: SignedDuration) -> String {
        let token = self.dev.issue_token(&[role], subject, lifetime, Timestamp::now());
        token.expect("the subject is valid").expose_secret().to_owned()
    }

    /// Where the server listens, as `host:port`.
    pub fn endpoint(&self) -> String {
        let config = std::fs::read_to_string(self.dev.path().join("partnerctl.toml"));
        let config: partnerd::dev::ClientConfig =
            toml::from_str(&config.expect("the server wrote it")).expect("it is TOML");
        let (_, port) = config.endpoint.rsplit_once(':').expect("it has a port");
        format!("127.0.0.1:{port}")
    }

    /// Makes a call that is to end in one of the `wanted` ways; gives what it brought.
    pub async fn call<T>(
        &self,
        kind: &'static str,
        wanted: &[Code],
        call: impl Future<Output = Result<T, Status>>,
    ) -> Option<T> {
        let outcome = timeout(PATIENCE, call).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        let code = outcome.as_ref().map_or_else(Status::code, |_| Code::Ok);
        if wanted.contains(&code) {
            self.count(kind);
        } else {
            let why = outcome.as_ref().map_or_else(|status| status.message(), |_| "");
            self.fault(format!("{kind}: {code:?} in place of {wanted:?}: {why}"));
        }
        outcome.ok()
    }

    /// Counts something that was done.
    pub fn count(&self, kind: &'static str) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        *outcomes.done.entry(kind).or_default() += 1;
    }

    /// Notes something that is not as it should be.
    pub fn fault(&self, what: String) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if outcomes.faults.len() < MOST_FAULTS {
            eprintln!("FAULT: {what}");
            outcomes.faults.push(what);
        }
    }

    /// What was done so far.
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Beats that are not made up for when they were missed, so that the load does not grow.
pub fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
