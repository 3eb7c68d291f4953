//! Following the log: what one stream is told, and in which order.
//!
//! A [`Watcher`] stands at a revision of the log and is pulled forward by its stream, as fast as
//! that can send and never past the bell. It reads the end of the log in memory; where that begins
//! too late it reads the store (`replay.rs`). So the state at the start, what was missed and
//! what happens now are one path, and nothing waits for a stream.
//!
//! What a stream is told goes by the roles at the revision told of: whatever comes into its
//! filter or its sight is added, whatever leaves is removed, by a change of the partner or of the
//! roles. The roles in force now bound it once more: a stream that lags behind is not shown what
//! its caller may see no longer.

mod event;
mod replay;
mod sight;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch as bell;

use event::Telling;
pub use event::{Event, EventKind, Subject};
use replay::Turns;
use sight::Sight;

use super::{Error, Kind, Registry, Snapshot, log::Entry};
use crate::{
    auth::{Call, Permit, Policy, permit::WatchPartners},
    domain::{AllowedPartner, DomainName, Revision, filter::Filter},
    store::Change,
};

/// The partners and changes looked at before others get a turn: some 100 us.
const LOOKS: usize = 1_000;

/// What a stream is to follow.
#[derive(Debug, Default)]
pub struct WatchQuery {
    /// Which partners. The settings are followed whatever it says.
    pub filter: Filter<AllowedPartner>,
    /// From where on.
    pub start: Start,
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the state as it is.
    #[default]
    State,
    /// With the first change after this revision, which may lie ahead.
    After(Revision),
}

/// What takes the events of a stream.
pub trait Sink: Default {
    /// Takes the next event.
    fn take(&mut self, event: Event<'_>);

    /// Whether it wants no more for now.
    fn is_full(&self) -> bool;

    /// Whether it has taken nothing yet.
    fn is_empty(&self) -> bool;

    /// The message that tells of all it has taken, which is the whole of this revision.
    fn into_message(self, revision: Revision) -> Bytes;

    /// Takes messages as [`Sink::into_message`] makes them. It wants no more then.
    fn take_messages(&mut self, messages: Bytes);
}

/// Why a watcher stopped going forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The sink is full.
    Full,
    /// The state has been told.
    Synced,
    /// It has told everything there is: wait for [`Watcher::rung`].
    Bell,
    /// The log in memory begins too late: call [`Watcher::catch_up`].
    Behind,
    /// It has looked at much: give others a turn.
    Turn,
}

/// One stream's place in the log.
#[derive(Debug)]
pub struct Watcher {
    registry: Arc<Registry>,
    call: Call,
    filter: Filter<AllowedPartner>,
    bell: bell::Receiver<Revision>,
    /// The revision that the bell rang with when it was last listened to: as far as is told.
    heard: Revision,
    /// Everything up to here has been told, or lies before the start.
    position: Revision,
    /// What the caller may see by the roles at `position`.
    then: Arc<Sight>,
    /// What he may see by those in force now.
    now: Arc<Sight>,
    stage: Stage,
    /// Entries read from the store, the next one first.
    replayed: VecDeque<Arc<Entry>>,
    turns: Option<Turns>,
}

/// What a watcher is in the middle of.
#[derive(Debug)]
enum Stage {
    /// The state at the start.
    State(Walk),
    /// Nothing yet: what could be seen at the start has to be found out.
    Start,
    /// Nothing: the next entry is due.
    Between,
    /// An entry.
    Entry(Reading),
}

/// An entry that is being told.
#[derive(Debug)]
struct Reading {
    entry: Arc<Entry>,
    /// The change that is due.
    change: usize,
    /// What could be seen before it; afterwards it is the watcher's `then`.
    before: Arc<Sight>,
    /// If what can be seen has changed: the whole state, to be told how.
    turn: Option<Walk>,
}

/// A walk over everything in a state.
#[derive(Debug)]
struct Walk {
    state: Arc<Snapshot>,
    /// Whether the settings are done; they come first.
    settings: bool,
    /// The last partner that is done.
    partner: Option<DomainName>,
}

impl Registry {
    /// A stream's place in the log, at the start that it asks for.
    ///
    /// The permit is for the start; for every change of the roles the watcher gets itself a new
    /// one with `call`, which must be the call that the permit was given to.
    ///
    /// # Errors
    /// [`Kind::Compacted`] if what follows the start is no longer kept, whether or not it
    /// is still in memory.
    pub fn watch(
        self: &Arc<Self>,
        _permit: &Permit<WatchPartners>,
        call: Call,
        query: WatchQuery,
    ) -> Result<Watcher, Error> {
        let mut bell = self.current.bell.subscribe();
        let heard = *bell.borrow();
        // Whatever was so at the permit is looked at once more before anything is told.
        bell.mark_changed();
        let state = self.snapshot();
        let now = Arc::new(Sight::under(state.policy(), &call));
        let oldest = state.oldest_revision();
        if matches!(query.start, Start::After(revision) if revision.next() < oldest) {
            return Err(Kind::Compacted { oldest }.into());
        }
        let (position, stage) = match query.start {
            Start::State => (state.revision(), Stage::State(Walk::over(state))),
            Start::After(revision) => (revision, Stage::Start),
        };
        Ok(Watcher {
            registry: Arc::clone(self),
            call,
            filter: query.filter,
            bell,
            heard,
            position,
            then: Arc::clone(&now),
            now,
            stage,
            replayed: VecDeque::new(),
            turns: None,
        })
    }
}

impl Watcher {
    /// Everything up to here has been told; `None` while the state is being told.
    ///
    /// Of a start that lies ahead it says what there is, and no more.
    pub fn progress(&self) -> Option<Revision> {
        match self.stage {
            Stage::State(_) => None,
            Stage::Start => Some(self.position.min(self.heard)),
            // What is there to be told is there a moment before the bell rings.
            Stage::Between | Stage::Entry(_) => Some(self.position),
        }
    }

    /// Whether the log in memory begins too late for it.
    pub fn is_behind(&self) -> bool {
        // The log in memory may already begin after a revision for which the bell has yet to ring.
        let base = self.registry.current.tail.load().base().min(*self.bell.borrow());
        matches!(self.stage, Stage::Start | Stage::Between) && self.position < base
    }

    /// Whether the bell has rung since this was last asked. What happened up to then may be told
    /// once the right to it has been looked at.
    pub fn hears(&mut self) -> bool {
        // The sender lives in the registry, which this holds.
        let rung = self.bell.has_changed().is_ok_and(|rung| rung);
        if rung {
            self.heard = *self.bell.borrow_and_update();
        }
        rung
    }

    /// Takes note of the roles in force now.
    ///
    /// # Errors
    /// [`Kind::Denied`] if they no longer let the caller watch.
    pub fn renew(&mut self) -> Result<(), Error> {
        let current = self.registry.current.snapshot.load();
        if !self.now.is_under(current.policy()) {
            self.now = Arc::new(Sight::granted(current.policy(), &self.call)?);
        }
        Ok(())
    }

    /// Waits for something new in the log, or about what the stream rests on, to be heard.
    pub async fn rung(&mut self) {
        // The sender lives in the registry, which this holds.
        let _ = self.bell.changed().await;
        self.bell.mark_changed();
    }

    /// Tells the sink what comes next, up to what was last heard of.
    ///
    /// # Errors
    /// [`Kind::Internal`] if the log contradicts itself.
    pub fn advance(&mut self, sink: &mut impl Sink) -> Result<Stop, Error> {
        let last = self.heard;
        let mut looks = LOOKS;
        loop {
            if sink.is_full() {
                return Ok(Stop::Full);
            }
            if looks == 0 {
                return Ok(Stop::Turn);
            }
            match std::mem::replace(&mut self.stage, Stage::Between) {
                stage @ (Stage::Start | Stage::Between) if self.position >= last => {
                    self.stage = stage;
                    return Ok(Stop::Bell);
                }
                Stage::Start => {
                    let Some(policy) = self.policy_at_start() else {
                        self.stage = Stage::Start;
                        return Ok(Stop::Behind);
                    };
                    self.then = Arc::new(Sight::under(&policy, &self.call));
                }
                Stage::Between if self.tells_shared(last, sink) => return Ok(Stop::Full),
                Stage::Between => match self.next_entry() {
                    Some(entry) => self.begin(entry)?,
                    None => return Ok(Stop::Behind),
                },
                Stage::State(mut walk) => {
                    if self.tell_state(&mut walk, sink, &mut looks) {
                        return Ok(Stop::Synced);
                    }
                    self.stage = Stage::State(walk);
                }
                Stage::Entry(mut reading) => {
                    if self.tell_entry(&mut reading, sink, &mut looks) {
                        self.position = reading.entry.commit().revision;
                    } else {
                        self.stage = Stage::Entry(reading);
                    }
                }
            }
        }
    }

    fn policy_at_start(&self) -> Option<Arc<Policy>> {
        self.registry.current.tail.load().policy_at(self.position).cloned()
    }

    fn next_entry(&mut self) -> Option<Arc<Entry>> {
        if let Some(entry) = self.replayed.pop_front() {
            return Some(entry);
        }
        self.registry.current.tail.load().next(self.position).cloned()
    }

    /// Tells of what comes next in messages that everybody shares who sees all partners, if this
    /// stream is one of those and has nothing else to tell first.
    fn tells_shared<S: Sink>(&mut self, last: Revision, sink: &mut S) -> bool {
        if !self.sees_everything() || !sink.is_empty() || !self.replayed.is_empty() {
            return false;
        }
        let tail = self.registry.current.tail.load();
        let entry = tail.next(self.position).filter(|entry| self.then.is_under(entry.policy()));
        let message = |entry: &Arc<Entry>| self.shared_message::<S>(entry);
        let messages = entry.and_then(|entry| tail.messages(entry, last, &message));
        let Some((messages, position)) = messages else { return false };
        sink.take_messages(messages);
        self.position = position;
        true
    }

    /// Whether its filter and its caller's roles, then and now, leave no partner out.
    fn sees_everything(&self) -> bool {
        self.filter.is_empty() && self.then.is_everything() && self.now.is_everything()
    }

    /// The message of an entry as everybody is told of it who sees all partners; `None` if it is too
    /// much for one.
    fn shared_message<S: Sink>(&self, entry: &Arc<Entry>) -> Option<Bytes> {
        let of_partner = |change: &Change| matches!(change, Change::Partner { .. });
        // What is seen of the settings depends on more.
        if !entry.commit().changes.iter().all(of_partner) {
            return None;
        }
        let mut sink = S::default();
        let before = Arc::clone(&self.then);
        let mut reading = Reading { entry: Arc::clone(entry), change: 0, before, turn: None };
        let whole = self.tell_entry(&mut reading, &mut sink, &mut { LOOKS });
        (whole && !sink.is_empty()).then(|| sink.into_message(entry.commit().revision))
    }

    fn begin(&mut self, entry: Arc<Entry>) -> Result<(), Error> {
        let before = Arc::clone(&self.then);
        let mut turn = None;
        if !before.is_under(entry.policy()) {
            self.then = Arc::new(Sight::under(entry.policy(), &self.call));
            if !before.equals(&self.then) {
                let state = entry.turn().ok_or_else(|| contradiction(&entry))?;
                turn = Some(Walk::over(Arc::new(state.clone())));
            }
        }
        self.stage = Stage::Entry(Reading { entry, change: 0, before, turn });
        Ok(())
    }

    /// Goes on telling the state. True when it is done.
    fn tell_state(&self, walk: &mut Walk, sink: &mut impl Sink, looks: &mut usize) -> bool {
        let telling = self.telling(&self.then, walk.state.revision());
        if !std::mem::replace(&mut walk.settings, true) {
            telling.present_settings(walk.state.settings(), sink);
        }
        walk.go_on(looks, |partner| {
            telling.present(partner, sink);
            sink.is_full()
        })
    }

    /// Goes on telling an entry. True when it is done.
    fn tell_entry(&self, reading: &mut Reading, sink: &mut impl Sink, looks: &mut usize) -> bool {
        let Reading { entry, change: next, before, turn } = reading;
        let commit = entry.commit();
        let telling = self.telling(before, commit.revision).by(entry);
        while let Some(change) = commit.changes.get(*next) {
            if sink.is_full() || *looks == 0 {
                return false;
            }
            telling.change(*next, change, sink);
            *next += 1;
            *looks -= 1;
        }
        let Some(walk) = turn else { return true };
        if !std::mem::replace(&mut walk.settings, true)
            && !commit.changes.iter().any(|change| matches!(change, Change::Settings { .. }))
        {
            telling.turned_settings(walk.state.settings(), sink);
        }
        walk.go_on(looks, |partner| {
            let changed = commit.changes.iter().any(|change| {
                matches!(change, Change::Partner { after, .. } if after.domain == partner.domain)
            });
            if !changed {
                telling.turned(partner, sink);
            }
            sink.is_full()
        })
    }

    fn telling<'a>(&'a self, before: &'a Sight, revision: Revision) -> Telling<'a> {
        let Self { filter, then, now, .. } = self;
        Telling { before, after: then, now, filter, revision, entry: None }
    }
}

impl Walk {
    const fn over(state: Arc<Snapshot>) -> Self {
        Self { state, settings: false, partner: None }
    }

    /// Shows the partners that are left to `visit`, until it has enough or as many as may have been
    /// looked at. True when all are done.
    fn go_on(
        &mut self,
        looks: &mut usize,
        mut visit: impl FnMut(&Arc<AllowedPartner>) -> bool,
    ) -> bool {
        let mut last = None;
        let mut enough = false;
        let mut left = self.state.partners_after(self.partner.as_ref(), false);
        let done = loop {
            let Some(partner) = left.next() else { break true };
            if enough || *looks == 0 {
                break false;
            }
            *looks -= 1;
            enough = visit(partner);
            last = Some(partner.domain.clone());
        };
        drop(left);
        self.partner = last.or_else(|| self.partner.take());
        done
    }
}

fn contradiction(entry: &Entry) -> Error {
    let revision = entry.commit().revision;
    Kind::Internal(format!("the state after revision {revision} is not at hand")).into()
}
