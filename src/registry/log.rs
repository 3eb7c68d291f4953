//! The end of the log, in memory: what the streams read that keep up.
//!
//! Every group that the writer has made durable is appended here before the bell rings. Readers
//! take the whole of it and never wait; a reader that has fallen behind its beginning reads the
//! store instead (see [`super::watch`]). So a slow reader costs the writer nothing.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use imbl::Vector;

use super::Snapshot;
use crate::{
    auth::Policy,
    domain::Revision,
    store::{Change, Commit, Write},
};

/// How much of the log is kept in memory. The last commit is kept whatever it weighs.
#[derive(Clone, Copy, Debug)]
pub struct TailLimits {
    /// The most commits.
    pub commits: usize,
    /// The most bytes that they weigh together, by estimate.
    pub bytes: usize,
}

/// A commit, with what the streams need beside it.
#[derive(Debug)]
pub struct Entry {
    commit: Commit,
    /// The roles after it.
    policy: Arc<Policy>,
    /// The state after it, if it changed the roles: what a caller sees may be anything then.
    turn: Option<Snapshot>,
    /// For each change the event as everybody sees it who sees it whole. Whoever needs it first
    /// fills it in; what is in it is for the rim to know.
    encodings: Box<[OnceLock<Bytes>]>,
    /// The message that tells of it to everybody who sees everything, once somebody needed it.
    message: OnceLock<Message>,
    weight: usize,
}

/// The message of an entry, and those of the entries that follow and were told together with it.
#[derive(Clone, Debug)]
struct Message {
    passage: Arc<Passage>,
    /// Where it begins.
    start: usize,
}

/// The messages of entries without gaps.
#[derive(Debug)]
struct Passage {
    messages: Bytes,
    last: Revision,
}

/// What makes the message of an entry, for everybody who sees everything; `None` if it has none
/// that goes with others.
pub type Teller<'a> = &'a dyn Fn(&Arc<Entry>) -> Option<Bytes>;

/// What a commit did to the roles, noted while it is decided.
#[derive(Debug)]
pub struct Mark {
    policy: Arc<Policy>,
    turn: Option<Snapshot>,
}

/// The last commits, without gaps.
#[derive(Clone, Debug)]
pub struct Tail {
    entries: Vector<Arc<Entry>>,
    /// The revision before that of the first entry.
    base: Revision,
    /// The roles at `base`.
    base_policy: Arc<Policy>,
    weight: usize,
    limits: TailLimits,
    /// Held by whoever makes messages, so that nobody makes the same beside him.
    making: Arc<Mutex<()>>,
}

impl Mark {
    /// Notes what the commit that led from `before` to `after` did to the roles.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let turned = !Arc::ptr_eq(before.policy(), after.policy());
        Self { policy: Arc::clone(after.policy()), turn: turned.then(|| after.clone()) }
    }
}

impl Entry {
    /// The entry of a commit after which these roles are in force; `turn` is the state after it, if
    /// it changed them.
    pub fn new(commit: Commit, policy: Arc<Policy>, turn: Option<Snapshot>) -> Self {
        let encodings = commit.changes.iter().map(|_| OnceLock::new()).collect();
        let weight = weight(&commit) + turn.as_ref().map_or(0, |_| TURN_WEIGHT);
        Self { commit, policy, turn, encodings, message: OnceLock::new(), weight }
    }

    /// The entries of a group that has been written, with the marks of its commits.
    pub fn of_group(
        group: Vec<Write>,
        marks: impl IntoIterator<Item = Mark>,
    ) -> impl Iterator<Item = Self> {
        let commits = group.into_iter().filter_map(|write| write.commit);
        commits
            .zip(marks)
            .map(|((commit, _), Mark { policy, turn })| Self::new(commit, policy, turn))
    }

    /// What happened.
    pub const fn commit(&self) -> &Commit {
        &self.commit
    }

    /// The roles after it.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The state after it, if it changed the roles.
    pub const fn turn(&self) -> Option<&Snapshot> {
        self.turn.as_ref()
    }

    /// The place for the event of a change as everybody sees it who sees it whole.
    pub fn encoding(&self, change: usize) -> Option<&OnceLock<Bytes>> {
        self.encodings.get(change)
    }

    /// About how many bytes it takes in memory, its encodings included.
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// Its message and those that were made together with it, as one; and the last revision that
    /// they tell of.
    fn messages(&self) -> Option<(Bytes, Revision)> {
        let Message { passage, start } = self.message.get()?;
        Some((passage.messages.slice(start..), passage.last))
    }
}

impl Tail {
    /// The empty end of a log whose state is `snapshot`.
    pub fn after(snapshot: &Snapshot, limits: TailLimits) -> Self {
        Self {
            entries: Vector::new(),
            base: snapshot.revision(),
            base_policy: Arc::clone(snapshot.policy()),
            weight: 0,
            limits,
            making: Arc::default(),
        }
    }

    /// The same with more entries at its end, and fewer at its beginning.
    #[must_use]
    pub fn extended(&self, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut tail = self.clone();
        for entry in entries {
            tail.weight += entry.weight;
            tail.entries.push_back(Arc::new(entry));
        }
        while tail.entries.len() > 1
            && (tail.entries.len() > tail.limits.commits || tail.weight > tail.limits.bytes)
        {
            tail.forget_first();
        }
        tail
    }

    /// The entry that follows `revision`; `None` if there is none yet, or no longer.
    pub fn next(&self, revision: Revision) -> Option<&Arc<Entry>> {
        let index = revision.get().checked_sub(self.base.get())?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The messages of the entries from `first` on up to `last` or not so far, all under the same
    /// roles, and the revision they end with. They are made by whoever comes first, and shared.
    pub fn messages(
        &self,
        first: &Entry,
        last: Revision,
        teller: Teller<'_>,
    ) -> Option<(Bytes, Revision)> {
        if let Some(made) = first.messages() {
            return Some(made);
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = first.messages() {
            return Some(made);
        }
        self.make_messages(first, last, teller);
        first.messages()
    }

    fn make_messages(&self, first: &Entry, last: Revision, teller: Teller<'_>) {
        let mut messages = Vec::new();
        let mut told = Vec::new();
        let mut position = first.commit.revision.before(1);
        while let Some(entry) = self.next(position).filter(|_| position < last)
            && Arc::ptr_eq(&entry.policy, &first.policy)
            && entry.message.get().is_none()
            && messages.len() < PASSAGE_BYTES
            && let Some(message) = teller(entry)
        {
            told.push((entry, messages.len()));
            messages.extend_from_slice(&message);
            position = entry.commit.revision;
        }
        let passage = Arc::new(Passage { messages: messages.into(), last: position });
        for (entry, start) in told {
            // Nobody else fills it meanwhile.
            let _ = entry.message.set(Message { passage: Arc::clone(&passage), start });
        }
    }

    /// The roles at `revision`; `None` if it does not reach back so far.
    pub fn policy_at(&self, revision: Revision) -> Option<&Arc<Policy>> {
        match self.next(revision.before(1)) {
            Some(entry) if revision > self.base => Some(&entry.policy),
            _ if revision == self.base => Some(&self.base_policy),
            _ => None,
        }
    }

    /// The revision from which on it has everything.
    pub const fn base(&self) -> Revision {
        self.base
    }

    /// The roles at [`Tail::base`].
    pub const fn base_policy(&self) -> &Arc<Policy> {
        &self.base_policy
    }

    fn forget_first(&mut self) {
        let Some(first) = self.entries.pop_front() else { return };
        self.weight -= first.weight;
        self.base = first.commit.revision;
        self.base_policy = Arc::clone(&first.policy);
    }
}

/// Whether a commit changes the roles.
pub fn changes_roles(commit: &Commit) -> bool {
    commit.changes.iter().any(|change| match change {
        Change::Role { .. } => true,
        Change::Partner { .. } | Change::Settings { .. } | Change::Revocation { .. } => false,
    })
}

/// Messages are put together until they have so many bytes: it bounds how long it takes to make them,
/// and what a stream that rests keeps of a log that has moved on.
const PASSAGE_BYTES: usize = 32 << 10;

/// What the parts of a state weigh that nothing else keeps any more, by a generous guess.
const TURN_WEIGHT: usize = 64 << 10;

const SETTINGS_WEIGHT: usize = 2 << 10;

/// A role or a revocation, before and after, both as long as they can reasonably be.
const SMALL_WEIGHT: usize = 8 << 10;

/// About how many bytes a commit takes in memory, its encodings included.
pub fn weight(commit: &Commit) -> usize {
    let change = |change: &Change| match change {
        // As it is, as an event, and in a message.
        Change::Partner { before, after } => {
            3 * (before.as_ref().map_or(0, |before| before.weight()) + after.weight())
        }
        Change::Settings { .. } => SETTINGS_WEIGHT,
        Change::Role { .. } | Change::Revocation { .. } => SMALL_WEIGHT,
    };
    commit.changes.iter().map(change).sum()
}
