//! How long the audit is kept, and how the rest of it goes.
//!
//! Entries go in steps, each through the writer's queue like a write and in one batch with a signed
//! entry that says what went. Since each step leaves such an entry, small ones would fill the audit
//! with themselves: a step waits until it is worth its entry. What does not verify is not removed,
//! so that nobody gets rid of the traces of what he changed by waiting.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{Error, Kind, Registry};
use crate::{
    domain::audit::{ChainHead, Fault, PublicKey, Walk},
    store::{Store, StoreError},
};

/// The most entries that go in one step. Of large ones fewer go: a step ends with the entry that
/// makes it so many changes.
const STEP: u64 = 256;
const MOST_CHANGES: usize = 1_024;

/// How long an entry may outlast its time at most, until it is worth a step.
const LONGEST_DELAY: Duration = Duration::from_secs(86_400);

/// Which audit entries are kept: all, or those that are within both bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditRetention {
    /// An entry older than this goes, within a sixteenth of that time and a day at the latest;
    /// `None` for never.
    pub max_age: Option<Duration>,
    /// When there are more entries than this, the oldest go, 256 at a time; `None` for never.
    pub max_entries: Option<u64>,
}

/// What is to go in the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    last: ChainHead,
    count: u64,
}

/// Why nothing can be said of it.
enum Obstacle {
    Fault(Fault),
    Store(StoreError),
}

/// Whether retention has come upon what does not verify. It goes on after a restart at the earliest.
#[derive(Debug, Default)]
pub(in crate::registry) struct Halted(AtomicBool);

impl Registry {
    /// Removes a step's worth of the audit that is kept no longer. Returns how many entries went;
    /// with 0 there is nothing more to remove at this time.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`] once the store has failed; [`Kind::Overloaded`] or [`Kind::Draining`] if
    /// the writer takes nothing now; [`Kind::Internal`] if the audit cannot be read, or does not
    /// verify. Nothing is removed any more then.
    pub async fn compact_audit(&self) -> Result<u64, Error> {
        let (retention, signer) = (self.audit_retention, self.audit_key.public_key());
        if retention == AuditRetention::default() || self.audit_halted.0.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let store = Arc::clone(&self.store);
        let due =
            tokio::task::spawn_blocking(move || retention.due(&*store, signer, Timestamp::now()));
        let due = due.await.map_err(|error| Kind::Internal(error.to_string()))?;
        match due {
            Ok(None) => Ok(0),
            Ok(Some(Due { last, count })) => {
                self.writer.compact_audit(last, count).await?;
                Ok(count)
            }
            Err(Obstacle::Store(error @ StoreError::Io(_))) => Err(error.into()),
            Err(obstacle) => {
                self.audit_halted.0.store(true, Ordering::Relaxed);
                let (sequence, text) = match obstacle {
                    Obstacle::Fault(Fault { sequence, text }) => (sequence, text),
                    Obstacle::Store(error) => (0, error.to_string()),
                };
                tracing::error!(
                    sequence,
                    fault = text,
                    "the audit does not verify, and nothing is removed from it any more; \
                     `partnerctl audit verify` says more"
                );
                Err(Kind::Internal("the audit does not verify".into()).into())
            }
        }
    }
}

impl AuditRetention {
    /// What is to go in the next step, if it is worth one.
    fn due(
        self,
        store: &dyn Store,
        signer: PublicKey,
        now: Timestamp,
    ) -> Result<Option<Due>, Obstacle> {
        let chain = store.audit();
        let too_many = self.max_entries.map_or(0, |most| surplus(chain.length(), most.max(1)));
        let (cutoff, overdue) = self.cutoffs(now);
        let mut walk = Walk::new(chain.base, Some(signer), Vec::new())?;
        let (mut changes, mut is_urgent) = (0, too_many > 0);
        while walk.length() < STEP && changes < MOST_CHANGES {
            let entry = store.audit_after(walk.head().sequence, 1)?.pop();
            let Some(entry) = entry else { break };
            let is_old = cutoff.is_some_and(|cutoff| entry.time < cutoff);
            if walk.length() >= too_many && !is_old {
                break;
            }
            is_urgent |= overdue.is_some_and(|overdue| entry.time < overdue);
            changes += entry.event.changes().len();
            walk.step(&entry)?;
        }
        let is_full = walk.length() >= STEP || changes >= MOST_CHANGES;
        let due = Due { last: walk.head(), count: walk.length() };
        Ok(Some(due).filter(|due| due.count > 0 && (is_full || is_urgent)))
    }

    /// Entries before the first time are too old, and those before the second have been for long.
    fn cutoffs(self, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
        let before = |age: Duration| now.checked_sub(SignedDuration::try_from(age).ok()?).ok();
        let Some(age) = self.max_age else { return (None, None) };
        (before(age), before(age.saturating_add((age / 16).min(LONGEST_DELAY))))
    }
}

/// How many of so many entries go by their number: none up to the most there may be, and then
/// enough that those of the next steps have room again.
const fn surplus(length: u64, most: u64) -> u64 {
    let room = if most / 2 < STEP { most / 2 } else { STEP };
    // The entry that says so takes a place too.
    if length > most { length - most + room + 1 } else { 0 }
}

impl From<Fault> for Obstacle {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StoreError> for Obstacle {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_up_to_the_most_there_may_be_and_then_a_step_at_least() {
        assert_eq!(surplus(1_000, 1_000), 0);
        assert_eq!(surplus(1_001, 1_000), 258);
        assert_eq!(surplus(2_000, 1_000), 1_257);
        assert_eq!(surplus(11, 10), 7);
        assert_eq!((surplus(1, 1), surplus(2, 1)), (0, 2));
    }

    #[test]
    fn an_entry_outlasts_its_time_by_a_sixteenth_and_a_day_at_most() {
        let now = Timestamp::from_second(2_000_000_000).unwrap();
        let ages = |hours: u64| {
            let max_age = Some(Duration::from_secs(hours * 3_600));
            let (old, overdue) = AuditRetention { max_age, max_entries: None }.cutoffs(now);
            [old, overdue].map(|it| now.duration_since(it.unwrap()).as_secs() / 60)
        };
        assert_eq!(ages(16), [16 * 60, 17 * 60]);
        assert_eq!(ages(24 * 160), [24 * 160 * 60, 24 * 161 * 60]);
        let never = AuditRetention { max_age: Some(Duration::MAX), max_entries: None };
        assert_eq!(never.cutoffs(now), (None, None));
    }
}
