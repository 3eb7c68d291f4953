//! The end of a partner's time: a commit of its own, so that whoever watches is told of it.
//!
//! Whether a partner is refused goes by the clock, to the moment ([`Snapshot::resolve`]). That its
//! time has run out is also written down, as a change like any other: with a revision, an audit
//! entry and a place in the history. The service does this by itself, so there is nobody to
//! authorise: [`Registry::expire_due`] is the only write without a permit. It has nothing to
//! choose: it marks what the clock says, and what an administrator has decided stays as it is.

use std::time::Duration;

use jiff::Timestamp;

use super::{Error, Kind, Registry, draft::Draft};
use crate::{domain::audit::Actor, store::AnswerResult};

#[cfg(doc)]
use super::Snapshot;

/// Who the service itself is, where a subject is asked for. The issuer is empty, which no token's
/// can be, so nobody can pass for it.
pub const SERVICE: &str = "partnerd";

/// The reason that a commit of an expiry gives.
pub const REASON: &str = "expire_time has passed";

/// The most partners of one commit, so that those who write meanwhile do not wait for long.
const MAX_PER_COMMIT: usize = 1_000;

/// The longest sleep. The clock may be set forward, and a sleep does not notice.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

impl Registry {
    /// Waits until a partner's time has run out that is not yet marked as expired.
    pub async fn expiry_due(&self) {
        let mut bell = self.current.bell.subscribe();
        loop {
            let sleep = self.snapshot().next_expiry().map_or(LONGEST_SLEEP, time_until);
            if sleep.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(sleep.min(LONGEST_SLEEP)) => {}
                // The sender lives in `self`, so the channel cannot close while this borrow lasts.
                _ = bell.changed() => {}
            }
        }
    }

    /// Marks the partners whose time has run out as expired, in one commit, the first so many of
    /// them. Tells how many they were.
    ///
    /// # Errors
    /// [`Kind::Overloaded`], [`Kind::ReadOnly`], [`Kind::Draining`].
    pub async fn expire_due(&self) -> Result<usize, Error> {
        let actor = Actor {
            subject: SERVICE.into(),
            issuer: "".into(),
            request_id: "".into(),
            reason: REASON.into(),
        };
        let committed = self.writer.commit(actor, None, Box::new(expired)).await?;
        match committed.result {
            AnswerResult::Partners(partners) => Ok(partners.len()),
            _ => Err(Kind::Internal("an expiry answered about something else".into()).into()),
        }
    }
}

/// Zero once `moment` has come.
fn time_until(moment: Timestamp) -> Duration {
    let left = moment.duration_since(Timestamp::now());
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}

fn expired(draft: &mut Draft<'_>) -> Result<AnswerResult, Error> {
    let due: Vec<_> =
        draft.state().expiries_until(draft.now()).take(MAX_PER_COMMIT).cloned().collect();
    let marked = due.into_iter().map(|partner| Some(draft.stamp(partner)));
    Ok(AnswerResult::Partners(marked.collect()))
}
