//! How long the history is kept, and how the rest of it goes.
//!
//! History goes in steps, each through the writer's queue like a write, so that no write waits for
//! more than one of them. With a commit that deleted a partner goes the deleted partner.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{Error, Kind, Registry};
use crate::{domain::Revision, store::StoreError};

/// The most commits that go in one step.
pub(super) const STEP: usize = 256;

/// Which commits are kept: those that are within both bounds. So the age says how far back one can
/// look as long as there are not too many commits, and the count bounds the disk.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// A commit older than this goes.
    pub max_age: Duration,
    /// Of more commits than this the oldest go. At least 1.
    pub max_commits: u64,
}

impl Registry {
    /// Removes a step's worth of the history that is kept no longer. Returns how many commits
    /// went; with 0 there is nothing more to remove at this time.
    ///
    /// # Errors
    /// [`Kind::ReadOnly`] once the store has failed; [`Kind::Overloaded`] or [`Kind::Draining`] if
    /// the writer takes nothing now; [`Kind::Internal`] if the history cannot be read.
    pub async fn compact_history(&self) -> Result<u64, Error> {
        let (retention, store) = (self.retention, Arc::clone(&self.store));
        let snapshot = self.snapshot();
        let (oldest, newest) = (snapshot.oldest_revision(), snapshot.revision());
        let due = tokio::task::spawn_blocking(move || {
            retention.oldest_to_keep(oldest..=newest, Timestamp::now(), |revision| {
                let commits = store.commits_after(revision.before(1), 1)?;
                Ok::<_, StoreError>(commits.first().map(|commit| commit.time))
            })
        });
        let before = due.await.map_err(|error| Kind::Internal(error.to_string()))??;
        if before <= oldest {
            return Ok(0);
        }
        let reached = self.writer.compact(before).await?;
        Ok(reached.get() - oldest.get())
    }
}

impl Retention {
    /// The first of the `kept` commits that is to be kept further, as far as the next step can tell.
    /// Commits are looked at from the oldest on, up to the first that is young enough: their times
    /// rise with their revisions, but for steps of the clock.
    fn oldest_to_keep<E>(
        self,
        kept: RangeInclusive<Revision>,
        now: Timestamp,
        time_of: impl Fn(Revision) -> Result<Option<Timestamp>, E>,
    ) -> Result<Revision, E> {
        let (oldest, after_newest) = (*kept.start(), kept.end().next());
        let by_count = after_newest.get().saturating_sub(self.max_commits.max(1));
        let mut keep = oldest.max(Revision::new(by_count));
        let Some(cutoff) = self.cutoff(now) else { return Ok(keep) };
        let end = after_newest.min(Revision::new(oldest.get().saturating_add(STEP as u64)));
        while keep < end && time_of(keep)?.is_some_and(|time| time < cutoff) {
            keep = keep.next();
        }
        Ok(keep)
    }

    /// Commits before it are too old; `None` if none can be.
    fn cutoff(self, now: Timestamp) -> Option<Timestamp> {
        now.checked_sub(SignedDuration::try_from(self.max_age).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn revision(number: u64) -> Revision {
        Revision::new(number)
    }

    /// The oldest of revisions 11 to 1,010 that is kept, if one was committed each minute up to
    /// now.
    fn kept(max_age: Duration, max_commits: u64) -> u64 {
        let now = Timestamp::from_second(2_000_000_000).unwrap();
        let minutes_ago = |number: Revision| i64::try_from(1_010 - number.get()).unwrap();
        let retention = Retention { max_age, max_commits };
        let kept = retention.oldest_to_keep(revision(11)..=revision(1_010), now, |number| {
            Ok::<_, Infallible>(Some(now - SignedDuration::from_mins(minutes_ago(number))))
        });
        kept.unwrap().get()
    }

    #[test]
    fn the_count_keeps_the_newest_commits() {
        for (max_commits, oldest) in [(1_000, 11), (999, 12), (1, 1_010), (0, 1_010)] {
            assert_eq!(kept(DAY, max_commits), oldest, "{max_commits}");
        }
    }

    #[test]
    fn the_age_keeps_the_younger_commits_and_looks_one_step_ahead() {
        for (minutes, oldest) in [(1_000, 11), (999, 11), (998, 12), (800, 210), (1, 11 + 256)] {
            let max_age = Duration::from_secs(minutes * 60);
            assert_eq!(kept(max_age, u64::MAX), oldest, "{minutes}");
        }
    }

    #[test]
    fn a_commit_is_kept_only_within_both_bounds() {
        let two_hours = Duration::from_secs(2 * 60 * 60);
        assert_eq!(kept(two_hours, 10), 1_001);
        assert_eq!(kept(DAY, 500), 511);
        assert_eq!(kept(two_hours, 900), 11 + 256);
    }

    #[test]
    fn an_age_that_reaches_before_all_time_removes_nothing() {
        assert_eq!(kept(Duration::MAX, u64::MAX), 11);
        assert_eq!(kept(Duration::from_secs(u64::MAX / 4), u64::MAX), 11);
    }

    #[test]
    fn an_empty_log_stays_as_it_is() {
        let retention = Retention { max_age: DAY, max_commits: 5 };
        let now = Timestamp::from_second(2_000_000_000).unwrap();
        for oldest in [1, 100] {
            let kept = revision(oldest)..=revision(oldest - 1);
            let keep = retention.oldest_to_keep(kept, now, |_| -> Result<_, Infallible> {
                panic!("none is there")
            });
            assert_eq!(keep.unwrap(), revision(oldest));
        }
    }
}
