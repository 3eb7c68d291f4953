//! Keys that an issuer publishes: fetched ahead of need by one task for each issuer.
//!
//! That task alone fetches, so there is never more than one fetch of an issuer under way. It goes
//! by what the issuer says about freshness, within bounds; after a failure it tries again, at
//! growing intervals, and the keys stay as they were. A token with an unknown key can prompt a
//! fetch before its time, once in [`FetchLimits::unknown_key_interval`], and waits for it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::rand;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    fetch::{FetchError, FetchLimits, Fetcher, authorities},
    ring::KeyRing,
    source::{Published, load_published},
    url::Url,
};

/// For how long keys are fresh when the issuer does not say, within the bounds.
const USUAL_AGE: Duration = Duration::from_secs(5 * 60);

/// The pause after the first failure; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How many requests may wait for one fetch. A stranger can make tokens with unknown keys at no
/// cost, and must not fill the server with requests that wait.
const MOST_WAITING: usize = 256;

/// An online source of an issuer.
#[derive(Debug)]
pub(in crate::auth) struct Endpoint {
    /// Its place among the issuer's sources.
    index: usize,
    place: Place,
    algorithm: Option<Algorithm>,
    fetcher: Fetcher,
}

/// Where the keys are.
#[derive(Debug)]
enum Place {
    Jwks(Url),
    Discovery { issuer: String, document: Url },
}

/// The online sources of an issuer, and what is going on with them.
#[derive(Debug)]
pub(in crate::auth) struct Online {
    endpoints: Vec<Endpoint>,
    accepted: Vec<Algorithm>,
    limits: FetchLimits,
    wake: Notify,
    rounds: watch::Sender<Rounds>,
    room: Arc<Semaphore>,
}

/// How often the keys have been fetched, or tried to.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    /// Whether there is a task that fetches.
    kept: bool,
    begun: u64,
    ended: u64,
    /// Whether one more was asked for that has not begun yet, and when one was last.
    asked: bool,
    last_asked: Option<Instant>,
}

/// The end of a fetch.
pub(in crate::auth) type Wait = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// What came of one round.
#[derive(Debug, Default)]
struct Outcome {
    changed: bool,
    fresh_for: Option<Duration>,
    failures: Vec<EndpointError>,
}

/// What an OpenID provider says about itself, as far as it matters here.
#[derive(Deserialize)]
struct Provider {
    issuer: String,
    jwks_uri: String,
}

/// Why an endpoint gave no keys.
#[derive(Debug, thiserror::Error)]
enum EndpointError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("its discovery document is not one (OpenID Connect Discovery 1.0 section 3)")]
    NoProvider,
    #[error("its discovery document speaks of another issuer; correct `issuer`, letter by letter")]
    OtherIssuer,
    #[error("its jwks_uri {0}")]
    Link(String),
    #[error("{0}")]
    Unusable(String),
}

/// Says that no task fetches any more when that task ends, however it ends.
struct Keeping<'a>(&'a Online);

impl Endpoint {
    /// Keys at an address.
    ///
    /// # Errors
    /// If the address or the `ca_file` cannot be used.
    pub fn jwks(
        index: usize,
        url: &str,
        algorithm: Option<Algorithm>,
        ca_file: Option<PathBuf>,
        limits: &FetchLimits,
    ) -> Result<Self, String> {
        let place = Place::Jwks(Url::parse(url)?);
        Self::new(index, place, algorithm, ca_file, limits)
    }

    /// Keys at the address that the issuer's discovery document names.
    ///
    /// # Errors
    /// If the issuer is no address, or the `ca_file` cannot be used.
    pub fn discovery(
        index: usize,
        issuer: &str,
        algorithm: Option<Algorithm>,
        ca_file: Option<PathBuf>,
        limits: &FetchLimits,
    ) -> Result<Self, String> {
        let document = Url::discovery(issuer)?;
        let place = Place::Discovery { issuer: issuer.to_owned(), document };
        Self::new(index, place, algorithm, ca_file, limits)
    }

    fn new(
        index: usize,
        place: Place,
        algorithm: Option<Algorithm>,
        ca_file: Option<PathBuf>,
        limits: &FetchLimits,
    ) -> Result<Self, String> {
        if ca_file.is_some() {
            authorities(ca_file.clone())?;
        }
        let fetcher = Fetcher { ca_file, limits: limits.clone() };
        Ok(Self { index, place, algorithm, fetcher })
    }

    async fn fetch(
        &self,
        accepted: &[Algorithm],
    ) -> Result<(Published, Option<Duration>), EndpointError> {
        let linked;
        let url = match &self.place {
            Place::Jwks(url) => url,
            Place::Discovery { issuer, document } => {
                linked = self.discover(issuer, document).await?;
                &linked
            }
        };
        let answer = self.fetcher.get(url).await?;
        let published = load_published(&answer.content, self.algorithm, accepted)
            .map_err(EndpointError::Unusable)?;
        Ok((published, answer.fresh_for))
    }

    /// Where the provider's keys are. A document that speaks of another issuer is somebody else's
    /// (OpenID Connect Discovery 1.0 section 4.3).
    async fn discover(&self, issuer: &str, document: &Url) -> Result<Url, EndpointError> {
        let answer = self.fetcher.get(document).await?;
        let provider: Provider =
            serde_json::from_slice(&answer.content).map_err(|_| EndpointError::NoProvider)?;
        if provider.issuer != issuer {
            return Err(EndpointError::OtherIssuer);
        }
        document.parse_linked(&provider.jwks_uri).map_err(EndpointError::Link)
    }
}

impl Online {
    /// What is to be fetched; nothing is, until [`keep`](Self::keep) runs.
    pub fn new(endpoints: Vec<Endpoint>, accepted: Vec<Algorithm>, limits: FetchLimits) -> Self {
        Self {
            endpoints,
            accepted,
            limits,
            wake: Notify::new(),
            rounds: watch::Sender::default(),
            room: Arc::new(Semaphore::new(MOST_WAITING)),
        }
    }

    /// Fetches the keys of `issuer` into `ring`, now and whenever it is time, for as long as it is
    /// polled. Calls `changed` after each change.
    pub async fn keep(&self, issuer: &str, ring: &KeyRing, changed: impl Fn() + Send + Sync) {
        let _keeping = Keeping::new(self);
        let mut failures = 0;
        loop {
            self.rounds.send_modify(Rounds::begin);
            let outcome = self.round(issuer, ring).await;
            if outcome.changed {
                tracing::info!(issuer, keys = ring.current().len(), "keys fetched, and changed");
                changed();
            }
            self.rounds.send_modify(|rounds| rounds.ended += 1);
            let pause = self.pause(&outcome, &mut failures);
            self.report(issuer, ring, &outcome, pause);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Fetches as soon as possible, as when somebody asks for it who may.
    pub fn refresh(&self) {
        self.wake.notify_one();
    }

    /// For a token whose key is not known: the end of the fetch that may bring it, or `None` if
    /// there is none to wait for. It ends in [`FetchLimits::unknown_key_wait`] at the latest.
    /// `join` is for a token that came before the first keys: it needs no fetch but that which runs.
    pub fn prompt(&self, join: bool) -> Option<Wait> {
        let permit = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let FetchLimits { unknown_key_interval, unknown_key_wait, .. } = self.limits;
        let mut awaited = None;
        self.rounds.send_if_modified(|rounds| {
            let was_asked = rounds.asked;
            awaited = rounds.awaited(join, Instant::now(), unknown_key_interval);
            // Once: a second bell would be heard after the round, and begin another.
            if rounds.asked && !was_asked {
                self.wake.notify_one();
            }
            // Nothing that anybody waits for.
            false
        });
        let (awaited, mut rounds) = (awaited?, self.rounds.subscribe());
        Some(Box::pin(async move {
            let over = rounds.wait_for(|rounds| rounds.ended >= awaited || !rounds.kept);
            // Too late or not at all: the keys are then as they were, and the token as unknown.
            let _ = timeout(unknown_key_wait, over).await;
            drop(permit);
        }))
    }

    async fn round(&self, issuer: &str, ring: &KeyRing) -> Outcome {
        let mut outcome = Outcome::default();
        for endpoint in &self.endpoints {
            match endpoint.fetch(&self.accepted).await {
                Ok((Published { keys, problems }, fresh_for)) => {
                    for problem in problems {
                        tracing::warn!(issuer, problem, "a published key is not used");
                    }
                    if keys.is_empty() {
                        tracing::error!(
                            issuer,
                            "it publishes no usable key; its tokens are refused"
                        );
                    }
                    outcome.changed |= ring.put(endpoint.index, keys);
                    let fresh_for = fresh_for.unwrap_or(USUAL_AGE);
                    outcome.fresh_for =
                        Some(outcome.fresh_for.map_or(fresh_for, |other| other.min(fresh_for)));
                }
                Err(error) => outcome.failures.push(error),
            }
        }
        outcome
    }

    /// The time until the next fetch. A tenth of it, or after a failure half of it, is left to
    /// chance, so that a hundred servers do not come all at once.
    fn pause(&self, outcome: &Outcome, failures: &mut u32) -> Duration {
        if outcome.failures.is_empty() {
            *failures = 0;
            let FetchLimits { least_age, most_age, .. } = self.limits;
            let age =
                outcome.fresh_for.unwrap_or(USUAL_AGE).clamp(least_age, most_age.max(least_age));
            return age.mul_f64(1.0 - 0.1 * chance());
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (*failures).min(6)).min(LONGEST_PAUSE);
        *failures += 1;
        pause.mul_f64(1.0 - 0.5 * chance())
    }

    fn report(&self, issuer: &str, ring: &KeyRing, outcome: &Outcome, pause: Duration) {
        let set = ring.current();
        for error in &outcome.failures {
            let error = causes(error);
            let again = format!("{:.1?}", pause);
            if set.is_missing_some() {
                tracing::error!(issuer, error, again, "cannot fetch keys; its tokens are refused");
            } else {
                tracing::error!(issuer, error, again, "cannot fetch keys; the old stay in force");
            }
        }
    }
}

impl Rounds {
    fn begin(&mut self) {
        self.begun += 1;
        self.asked = false;
    }

    /// The round that a token with an unknown key should see the end of, and asks for it if need
    /// be: one that begins after the token was seen. What runs may have read the keys before they
    /// changed.
    fn awaited(&mut self, join: bool, now: Instant, interval: Duration) -> Option<u64> {
        let running = self.begun > self.ended;
        let rested = self.last_asked.is_none_or(|last| now.duration_since(last) >= interval);
        if self.kept && rested && !(join && running) {
            (self.asked, self.last_asked) = (true, Some(now));
        }
        let ahead = u64::from(running) + u64::from(self.asked);
        (self.kept && ahead > 0).then_some(self.ended + ahead)
    }
}

impl<'a> Keeping<'a> {
    fn new(online: &'a Online) -> Self {
        online.rounds.send_modify(|rounds| rounds.kept = true);
        Self(online)
    }
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        self.0
            .rounds
            .send_modify(|rounds| *rounds = Rounds { kept: false, ended: rounds.begun, ..*rounds });
    }
}

/// An error with what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// A number from 0 to 1 that nobody can foresee.
fn chance() -> f64 {
    let mut octets = [0; 4];
    match rand::fill(&mut octets) {
        Ok(()) => f64::from(u32::from_be_bytes(octets)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);

    #[test]
    fn a_token_with_an_unknown_key_waits_for_a_round_that_begins_after_it() {
        let now = Instant::now();
        let mut rounds = Rounds { kept: true, ..Rounds::default() };
        rounds.begin();
        rounds.ended += 1;
        assert_eq!(rounds.awaited(false, now, INTERVAL), Some(2), "the one it asked for");
        assert_eq!(rounds.awaited(false, now, INTERVAL), Some(2), "the same");
        rounds.begin();
        assert_eq!(rounds.awaited(false, now, INTERVAL), Some(2), "what runs, and no more");
        rounds.ended += 1;
        assert_eq!(rounds.awaited(false, now, INTERVAL), None, "it is too soon");
        rounds.begin();
        assert_eq!(rounds.awaited(false, now + INTERVAL, INTERVAL), Some(4), "the one after");
        rounds.ended += 1;
        rounds.begin();
        assert_eq!(rounds.awaited(false, now + INTERVAL, INTERVAL), Some(4));
    }

    #[test]
    fn before_the_first_keys_a_token_waits_for_what_runs_and_asks_for_nothing() {
        let now = Instant::now();
        let mut rounds = Rounds::default();
        assert_eq!(rounds.awaited(true, now, INTERVAL), None, "nobody fetches");
        rounds.kept = true;
        rounds.begin();
        assert_eq!(rounds.awaited(true, now, INTERVAL), Some(1));
        assert!(!rounds.asked);
        rounds.ended += 1;
        assert_eq!(rounds.awaited(true, now, INTERVAL), Some(2), "after a failure it asks");
    }
}
