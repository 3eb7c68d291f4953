//! How long the history is kept, and how the rest of it goes.
//!
//! History goes in steps, each through the writer's queue like a write, so that no write waits for
//! more than one of them. With a commit that deleted a partner goes the deleted partner.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{Error, Kind, Registry};
use crate::{
    domain::Revision,
    store::{Store, StoreError},
};

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
            retention.oldest_to_keep(store.as_ref(), oldest, newest, Timestamp::now())
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
    /// The first of the commits `oldest..=newest` that is to be kept, as far as the next step can
    /// tell. Commits are looked at from the oldest on, up to the first that is young enough: their
    /// times rise with their revisions, but for steps of the clock.
    fn oldest_to_keep(
        self,
        store: &dyn Store,
        oldest: Revision,
        newest: Revision,
        now: Timestamp,
    ) -> Result<Revision, StoreError> {
        let by_count = newest.next().get().saturating_sub(self.max_commits.max(1));
        let mut keep = oldest.max(Revision::new(by_count));
        let end = Revision::new(oldest.get().saturating_add(STEP as u64)).min(newest.next());
        let Some(cutoff) = self.cutoff(now) else { return Ok(keep) };
        while keep < end {
            let before = Revision::new(keep.get() - 1);
            match store.commits_after(before, 1)?.first() {
                Some(commit) if commit.time < cutoff => keep = keep.next(),
                _ => break,
            }
        }
        Ok(keep)
    }

    /// Commits before it are too old; `None` if none can be.
    fn cutoff(self, now: Timestamp) -> Option<Timestamp> {
        now.checked_sub(SignedDuration::try_from(self.max_age).ok()?).ok()
    }
}
