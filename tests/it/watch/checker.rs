//! The six promises of a watch, as a function over what a stream was told and what is true.
//!
//! Ordered, unique, reliable, atomic, resumable, bookmarkable: as etcd promises them for its own.
//! The checker knows nothing of a server. That it sees every fault is tested at its end, by faults
//! planted into recordings that are sound.

use std::{collections::BTreeMap, fmt};

use partnerd::proto::v1::watch_event::Type;
use proptest::{collection::vec, prelude::*, sample::Index};

/// What really happened: the resources in force at revision 0 and after each later one.
#[derive(Clone, Debug)]
pub struct History(Vec<State>);

/// The resources in force, as one stream may see them: each with something that tells one version
/// of it from another.
pub type State = BTreeMap<String, Version>;

/// One version of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Tells it from others.
    pub etag: String,
    /// What filters go by.
    pub owner: String,
}

/// An event as it was told.
#[derive(Clone, PartialEq, Eq)]
pub struct Told {
    pub kind: Type,
    pub name: String,
    pub revision: i64,
    /// The etag of the version after it; `None` if it is no longer in force.
    pub etag: Option<String>,
}

/// A message as it was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub events: Vec<Told>,
    pub progress: i64,
    pub more: bool,
    pub synced: bool,
}

/// All that was told on one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// What it asked for.
    pub start: i64,
    pub messages: Vec<Message>,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An event of a revision that had been told already.
    OutOfOrder(Told),
    /// An event that did not happen, or not so, or has been told.
    Untrue(Told),
    /// Events of this revision were never told.
    Skipped(i64),
    /// Progress to a revision of which not everything had been told.
    TooEarly(i64),
    /// Progress went back.
    Back(i64),
    /// The events of this revision were split without a word.
    Torn(i64),
    /// A new connection did not go on where the one before had ended.
    NotResumed(i64),
}

impl History {
    /// A history that begins with this state.
    pub fn new(state: State) -> Self {
        Self(vec![state])
    }

    /// Adds the state after the next revision.
    pub fn push(&mut self, state: State) {
        self.0.push(state);
    }

    /// The last revision.
    pub fn last(&self) -> i64 {
        i64::try_from(self.0.len()).expect("a test is short") - 1
    }

    /// The state after a revision.
    pub fn at(&self, revision: i64) -> &State {
        &self.0[usize::try_from(revision).expect("revisions are not negative")]
    }

    /// What a stream must be told of a revision, by name.
    pub fn events(&self, revision: i64, sees: &dyn Fn(&str, &Version) -> bool) -> Vec<Told> {
        let (before, after) = (self.at(revision - 1), self.at(revision));
        let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
        let mut events: Vec<_> = names
            .filter_map(|name| {
                let (old, new) = (before.get(name), after.get(name));
                let seen = |version: &&Version| sees(name, version);
                let kind = match (old.filter(seen), new.filter(seen)) {
                    (Some(_), Some(_)) => Type::Modified,
                    (None, Some(_)) => Type::Added,
                    (Some(_), None) => Type::Removed,
                    (None, None) => return None,
                };
                let etag = new.map(|version| version.etag.clone());
                let told = Told { kind, name: name.clone(), revision, etag };
                (old != new).then_some(told)
            })
            .collect();
        events.sort_by(|a, b| a.name.cmp(&b.name));
        events
    }
}

/// Holds what a stream was told, over all its connections, against what is true.
///
/// # Errors
/// The first promise that was broken.
pub fn check(
    history: &History,
    sees: &dyn Fn(&str, &Version) -> bool,
    sessions: &[Session],
) -> Result<(), Fault> {
    let mut resumed = None;
    for session in sessions {
        if resumed.is_some_and(|progress| progress != session.start) {
            return Err(Fault::NotResumed(session.start));
        }
        let mut check = Check { history, sees, told: session.start, progress: 0, open: None };
        let rest = match session.start {
            0 => check.state(&session.messages)?,
            _ => &session.messages[..],
        };
        for message in rest {
            check.message(message)?;
        }
        let last = session.messages.iter().rev().map(|message| message.progress);
        resumed = last.into_iter().find(|progress| *progress > 0).or(Some(session.start));
    }
    Ok(())
}

struct Check<'a> {
    history: &'a History,
    sees: &'a dyn Fn(&str, &Version) -> bool,
    /// Everything up to here has been told.
    told: i64,
    progress: i64,
    /// The revision that is being told, and its events so far.
    open: Option<(i64, Vec<Told>)>,
}

impl Check<'_> {
    /// Checks the state at the start, and gives what follows it. A connection may have ended before
    /// the state was whole.
    fn state<'m>(&mut self, messages: &'m [Message]) -> Result<&'m [Message], Fault> {
        let Some(end) = messages.iter().position(|message| message.synced) else {
            let progress = messages.iter().find(|message| message.progress != 0);
            return progress.map_or(Ok(&[]), |message| Err(Fault::TooEarly(message.progress)));
        };
        let (state, rest) = messages.split_at(end + 1);
        let revision = state[end].progress;
        if revision > self.history.last() {
            return Err(Fault::TooEarly(revision));
        }
        let mut expected = self.history.at(revision).clone();
        expected.retain(|name, version| (self.sees)(name, version));
        for (index, message) in state.iter().enumerate() {
            if index < end && (message.progress != 0 || !message.more) {
                return Err(Fault::TooEarly(message.progress));
            }
            for told in &message.events {
                let version = expected.remove(&told.name);
                let etag = version.map(|version| version.etag);
                let sound = told.kind == Type::Added && told.revision == revision;
                if !sound || etag.is_none() || etag != told.etag {
                    return Err(Fault::Untrue(told.clone()));
                }
            }
        }
        if !expected.is_empty() {
            return Err(Fault::Skipped(revision));
        }
        (self.told, self.progress) = (revision, revision);
        Ok(rest)
    }

    fn message(&mut self, message: &Message) -> Result<(), Fault> {
        for told in &message.events {
            self.event(told)?;
        }
        if let Some((revision, _)) = self.open
            && !message.more
        {
            // Whatever is left of it would come without a word.
            self.close().map_err(|fault| match fault {
                Fault::Skipped(at) if at == revision => Fault::Torn(at),
                other => other,
            })?;
        }
        if message.progress != 0 { self.progressed(message.progress) } else { Ok(()) }
    }

    fn event(&mut self, told: &Told) -> Result<(), Fault> {
        let open = self.open.as_ref().map(|(revision, _)| *revision);
        if told.revision <= self.told || open.is_some_and(|open| told.revision < open) {
            return Err(Fault::OutOfOrder(told.clone()));
        }
        if open.is_some_and(|open| told.revision > open) {
            self.close()?;
        }
        self.nothing_between(told.revision - 1)?;
        let (_, events) = self.open.get_or_insert((told.revision, Vec::new()));
        events.push(told.clone());
        Ok(())
    }

    /// The open revision is whole.
    fn close(&mut self) -> Result<(), Fault> {
        let Some((revision, mut events)) = self.open.take() else { return Ok(()) };
        events.sort_by(|a, b| a.name.cmp(&b.name));
        let expected = self.expected(revision);
        let mut left = expected.iter().peekable();
        for told in &events {
            if left.peek() == Some(&told) {
                left.next();
            } else if left.peek().is_some_and(|next| next.name < told.name) {
                return Err(Fault::Skipped(revision));
            } else {
                return Err(Fault::Untrue(told.clone()));
            }
        }
        if left.next().is_some() {
            return Err(Fault::Skipped(revision));
        }
        self.told = revision;
        Ok(())
    }

    fn progressed(&mut self, progress: i64) -> Result<(), Fault> {
        if progress > self.history.last() {
            return Err(Fault::TooEarly(progress));
        }
        if progress < self.progress {
            return Err(Fault::Back(progress));
        }
        if self.open.as_ref().is_some_and(|(revision, _)| *revision <= progress) {
            return Err(Fault::TooEarly(progress));
        }
        self.nothing_between(progress).map_err(|_| Fault::TooEarly(progress))?;
        self.progress = progress;
        Ok(())
    }

    /// Nothing was to be told between what was and `last`, this included.
    fn nothing_between(&mut self, last: i64) -> Result<(), Fault> {
        let open = self.open.as_ref().map_or(self.told, |(revision, _)| *revision);
        for revision in open + 1..=last.min(self.history.last()) {
            if !self.expected(revision).is_empty() {
                return Err(Fault::Skipped(revision));
            }
        }
        if self.open.is_none() {
            self.told = self.told.max(last);
        }
        Ok(())
    }

    fn expected(&self, revision: i64) -> Vec<Told> {
        if revision > self.history.last() {
            return Vec::new();
        }
        self.history.events(revision, self.sees)
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, revision, etag } = self;
        write!(f, "{revision}: {kind:?} {name} {}", etag.as_deref().unwrap_or("-"))
    }
}

/// A history of a few names that come, change and go, several at a revision.
fn histories() -> impl Strategy<Value = History> {
    let step = vec(("[a-f]", proptest::option::of("[xy]")), 1..5);
    vec(step, 4..20).prop_map(|steps| {
        let mut state = State::new();
        let mut history = History::new(state.clone());
        for (at, step) in steps.into_iter().enumerate() {
            for (place, (name, owner)) in step.into_iter().enumerate() {
                let version = |owner| Version { etag: format!("{at}-{place}"), owner };
                match owner {
                    Some(owner) => drop(state.insert(name, version(owner))),
                    None => drop(state.remove(&name)),
                }
            }
            history.push(state.clone());
        }
        history
    })
}

/// What a sound stream tells of a history: the state, then messages of one event and more, and a
/// new connection halfway.
fn sound(history: &History, sees: &dyn Fn(&str, &Version) -> bool) -> Vec<Session> {
    let start = history.last() / 4;
    let middle = history.last() / 2;
    let of_state = |(name, version): (&String, &Version)| {
        let etag = Some(version.etag.clone());
        Told { kind: Type::Added, name: name.clone(), revision: start, etag }
    };
    let state = history.at(start).iter().filter(|(name, version)| sees(name, version));
    let events = state.map(of_state).collect();
    let first = Message { events, progress: start, synced: true, more: false };
    let mut sessions = vec![
        Session { start: 0, messages: vec![first] },
        Session { start: middle, messages: Vec::new() },
    ];
    for revision in start + 1..=history.last() {
        let session = &mut sessions[usize::from(revision > middle)].messages;
        let mut events = history.events(revision, sees);
        if events.len() > 2 {
            let rest = events.split_off(1);
            session.push(Message { events, progress: revision - 1, more: true, synced: false });
            events = rest;
        }
        session.push(Message { events, progress: revision, more: false, synced: false });
    }
    sessions
}

/// The eyes of a stream without a filter.
pub fn everything(_: &str, _: &Version) -> bool {
    true
}

/// Every event that comes after the state, by session, message and place.
fn places(sessions: &[Session]) -> Vec<(usize, usize, usize)> {
    let mut places = Vec::new();
    for (s, session) in sessions.iter().enumerate() {
        for (m, message) in session.messages.iter().enumerate().filter(|(_, it)| !it.synced) {
            places.extend((0..message.events.len()).map(|e| (s, m, e)));
        }
    }
    places
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_sound_recording_passes(history in histories()) {
        prop_assume!(history.last() >= 4);
        prop_assert_eq!(check(&history, &everything, &sound(&history, &everything)), Ok(()));
        let filter = |_: &str, version: &Version| version.owner == "x";
        prop_assert_eq!(check(&history, &filter, &sound(&history, &filter)), Ok(()));
        // What is right for one filter is wrong for another, unless they come to the same.
        let told = sound(&history, &filter);
        if told != sound(&history, &everything) {
            prop_assert!(check(&history, &everything, &told).is_err());
        }
    }

    #[test]
    fn every_planted_fault_is_found(history in histories(), which in any::<Index>(), fault in 0..9) {
        let sound = sound(&history, &everything);
        let places = places(&sound);
        prop_assume!(!places.is_empty());
        let (s, m, e) = places[which.index(places.len())];
        let mut broken = sound.clone();
        let session = &mut broken[s];
        let event = session.messages[m].events[e].clone();
        match fault {
            // An event skipped.
            0 => drop(session.messages[m].events.remove(e)),
            // An event doubled, at once.
            1 => session.messages[m].events.insert(e, event),
            // An event doubled, later.
            2 => {
                let progress = session.messages.last().map_or(0, |last| last.progress);
                let again = Message { events: vec![event], progress, ..Message::default() };
                session.messages.push(again);
            }
            // An event later than it should come.
            3 => {
                prop_assume!(m + 1 < session.messages.len() && !session.messages[m].more);
                session.messages[m].events.remove(e);
                session.messages[m + 1].events.push(event);
            }
            // Progress before the events.
            4 => {
                prop_assume!(session.messages[m].progress == event.revision);
                let early = Message { progress: event.revision, ..Message::default() };
                let at = session.messages[..m].iter().rposition(|it| !it.more).map_or(0, |at| at + 1);
                prop_assume!(s == 1 || at > 0);
                session.messages.insert(at, early);
            }
            // A revision torn into two messages without a word.
            5 => {
                prop_assume!(session.messages[m].events.len() > 1);
                let rest = session.messages[m].events.split_off(1);
                let torn = Message { events: rest, ..session.messages[m].clone() };
                session.messages[m].progress = 0;
                session.messages[m].more = false;
                session.messages.insert(m + 1, torn);
            }
            // Another kind of event.
            6 => {
                let kind = &mut session.messages[m].events[e].kind;
                *kind = if *kind == Type::Added { Type::Modified } else { Type::Added };
            }
            // Another version of the partner.
            7 => session.messages[m].events[e].etag = Some("another".into()),
            // A connection that goes on one revision too late.
            _ => {
                prop_assume!(s == 1);
                session.start += 1;
            }
        }
        prop_assert!(check(&history, &everything, &broken).is_err(), "{:?}", broken);
    }
}
