//! What a watcher reads of the store when the log in memory begins too late for it.
//!
//! A commit in the store says what it did to the roles, but not which roles there were. Whoever
//! has a role that can change needs to know: for him the way back from the present state to his
//! place is gone once, taking back commit by commit, and the states after changes of the roles are
//! kept on the way. Built-in roles never change, so most callers need none of this.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::oneshot;

use super::{Sight, Stage, Watcher};
use crate::{
    auth::{Caller, Policy},
    domain::Revision,
    registry::{
        Error, Kind, Registry, Snapshot,
        history::Waiting,
        log::{self, Entry},
    },
    store::{Commit, Store},
};

/// The most commits that are read at once. After [`MAX_WEIGHT`] bytes by estimate there are no
/// more either, so that little more than the largest commit is in memory.
const MAX_COMMITS: usize = 32;
const MAX_WEIGHT: usize = 1 << 20;

/// The longest way back. Further back, whoever has a role that can change must start anew.
const MAX_WAY_BACK: u64 = 100_000;

/// The states after the changes of the roles since a revision.
#[derive(Debug)]
pub(super) struct Turns {
    /// The roles at that revision.
    policy: Arc<Policy>,
    states: BTreeMap<Revision, Snapshot>,
    /// As far as the way back began.
    until: Revision,
}

/// What a watcher has to catch up on.
struct Missed {
    /// Everything up to here has been told.
    position: Revision,
    /// Whether it is not known yet which roles there were at `position`.
    starts: bool,
    /// The roles at `position`, or those in force now.
    policy: Arc<Policy>,
    /// Whether the caller has a role that can change.
    changeable: bool,
    /// From the last time.
    turns: Option<Turns>,
}

/// What was read: the entries, and what it took to make them.
struct Replayed {
    entries: Vec<Arc<Entry>>,
    /// The roles before the first of them.
    policy: Arc<Policy>,
    turns: Option<Turns>,
}

impl Watcher {
    /// Reads on in the store, after [`super::Stop::Behind`].
    ///
    /// # Errors
    /// [`Kind::Compacted`] if what follows is no longer kept; [`Kind::Internal`] if the store cannot
    /// be read.
    pub async fn catch_up(&mut self) -> Result<(), Error> {
        let registry = Arc::clone(&self.registry);
        let starts = matches!(self.stage, Stage::Start);
        let missed = Missed {
            position: self.position,
            starts,
            policy: Arc::clone(if starts { self.now.policy() } else { self.then.policy() }),
            changeable: !has_only_built_in_roles(&self.call.caller, self.now.policy()),
            turns: self.turns.take(),
        };
        let replays = Arc::clone(&registry.replays);
        let turn = replays.acquire_owned().await.map_err(|_| Error::from(Kind::Draining))?;
        let (reply, answer) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            // Whoever waits may go away before the reading is done; the turn lasts until then.
            let _turn = turn;
            let replayed = registry.replay(missed, &|| !reply.is_closed());
            // Fails only if nobody waits.
            let _ = reply.send(replayed);
        });
        let Replayed { entries, policy, turns } =
            answer.await.map_err(|_| Kind::Internal("reading the log panicked".into()))??;
        if starts {
            self.then = Arc::new(Sight::under(&policy, &self.call));
            self.stage = Stage::Between;
        }
        self.turns = turns;
        self.replayed = entries.into();
        Ok(())
    }
}

impl Registry {
    /// Reads what comes next, as long as somebody waits for it.
    fn replay(&self, missed: Missed, waiting: Waiting<'_>) -> Result<Replayed, Error> {
        let Missed { position, starts, policy, changeable, turns } = missed;
        let (base, base_policy) = {
            let tail = self.current.tail.load();
            (tail.base(), Arc::clone(tail.base_policy()))
        };
        let unsure = changeable && (starts || !Arc::ptr_eq(&policy, &base_policy));
        let turns = match turns {
            _ if !unsure => None,
            Some(turns) if turns.until >= base => Some(turns),
            _ => Some(self.way_back(position, waiting)?),
        };
        let policy = match &turns {
            Some(turns) if starts => Arc::clone(&turns.policy),
            _ => policy,
        };
        // Which roles there were is known so far and no further.
        let until = turns.as_ref().map_or(base, |turns| turns.until);
        let commits = next_commits(&*self.store, position, until)?;
        let entries = entries(commits, &policy, turns.as_ref());
        Ok(Replayed { entries, policy, turns })
    }

    /// Goes back from the present to `revision`, as long as somebody waits for it.
    fn way_back(&self, revision: Revision, waiting: Waiting<'_>) -> Result<Turns, Error> {
        let mut state = Snapshot::clone(&self.snapshot());
        let until = state.revision();
        let furthest = until.before(MAX_WAY_BACK);
        if revision < furthest {
            return Err(Kind::Compacted { oldest: furthest.next() }.into());
        }
        let mut states = BTreeMap::new();
        while state.revision() > revision {
            if !waiting() {
                return Err(Kind::Internal("nobody waits for this replay any more".into()).into());
            }
            let commit = next_commit(&*self.store, state.revision().before(1))?;
            if log::changes_roles(&commit) {
                states.insert(commit.revision, state.clone());
            }
            state.undo(&commit);
        }
        Ok(Turns { policy: Arc::clone(state.policy()), states, until })
    }
}

/// The commits after `after`, up to `until` and as many as may be kept.
fn next_commits(store: &dyn Store, after: Revision, until: Revision) -> Result<Vec<Commit>, Error> {
    let mut commits = Vec::new();
    let (mut last, mut weight) = (after, 0);
    while last < until && commits.len() < MAX_COMMITS && weight < MAX_WEIGHT {
        let commit = next_commit(store, last)?;
        last = commit.revision;
        weight += log::weight(&commit);
        commits.push(commit);
    }
    Ok(commits)
}

/// The commit after `after`. They are read one by one, since one alone may be large.
fn next_commit(store: &dyn Store, after: Revision) -> Result<Commit, Error> {
    let next = store.commits_after(after, 1)?.pop();
    next.filter(|commit| commit.revision == after.next()).ok_or_else(|| missing(after))
}

fn entries(commits: Vec<Commit>, policy: &Arc<Policy>, turns: Option<&Turns>) -> Vec<Arc<Entry>> {
    let mut policy = Arc::clone(policy);
    let entry = |commit: Commit| {
        let turn = turns.and_then(|turns| turns.states.get(&commit.revision)).cloned();
        if let Some(turn) = &turn {
            policy = Arc::clone(turn.policy());
        }
        Arc::new(Entry::new(commit, Arc::clone(&policy), turn))
    };
    commits.into_iter().map(entry).collect()
}

fn has_only_built_in_roles(caller: &Caller, policy: &Policy) -> bool {
    caller.roles.iter().all(|id| policy.role(id).is_some_and(|role| role.is_built_in()))
}

fn missing(after: Revision) -> Error {
    Kind::Internal(format!("the store has no commit after revision {after}")).into()
}
