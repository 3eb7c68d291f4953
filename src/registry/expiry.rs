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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{AllowedPartner, Revision, Terms},
        registry::memory::{Log, opened},
        store::Change,
    };

    /// A partner whose time ran out so many seconds after 1970.
    fn due(at: i64) -> AllowedPartner {
        let expiry = Timestamp::from_second(at).unwrap();
        AllowedPartner {
            domain: format!("p{at}.example").parse().unwrap(),
            uid: Uuid::from_u128(at.unsigned_abs().into()),
            terms: Terms { expire_time: Some(expiry), ..Terms::default() },
            create_time: Timestamp::UNIX_EPOCH,
            update_time: Timestamp::UNIX_EPOCH,
            creator: "jo".into(),
            updater: "jo".into(),
            revision: Revision::new(1),
            delete_time: None,
            expired: false,
        }
    }

    #[tokio::test]
    async fn many_that_are_due_are_marked_in_commits_that_are_not_too_large() {
        let log = Arc::new(Log::of((1..=2_500).map(due)));
        let registry = opened(&log);
        for expected in [1_000, 1_000, 500] {
            registry.expiry_due().await;
            assert_eq!(registry.expire_due().await.unwrap(), expected);
        }
        assert_eq!(registry.snapshot().next_expiry(), None);

        let commits = log.commits();
        let marked: Vec<_> = commits[1..].iter().map(|commit| commit.changes.len()).collect();
        assert_eq!(marked, [1_000, 1_000, 500]);
        assert_eq!((&*commits[1].actor.subject, &*commits[1].actor.issuer), (SERVICE, ""));
        for change in commits[1..].iter().flat_map(|commit| &commit.changes) {
            let Change::Partner { before: Some(before), after } = change else {
                panic!("{change:?}")
            };
            assert!(after.expired && !before.expired);
            assert_eq!((&after.terms, after.uid), (&before.terms, before.uid));
        }
    }

    #[tokio::test]
    async fn what_is_not_due_is_left_alone_and_nothing_is_committed() {
        let mut later = due(1);
        later.terms.expire_time = Some(Timestamp::MAX);
        let mut marked = due(2);
        marked.expired = true;
        let mut deleted = due(3);
        deleted.delete_time = Some(Timestamp::UNIX_EPOCH);
        let log = Arc::new(Log::of([later, marked, deleted]));
        let registry = opened(&log);
        assert_eq!(registry.expire_due().await.unwrap(), 0);
        assert_eq!(registry.snapshot().next_expiry(), Some(Timestamp::MAX));
        assert_eq!(log.commits().len(), 1);
    }
}
