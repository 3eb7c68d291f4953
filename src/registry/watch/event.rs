//! From a change to the event that a stream is told, if any.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Sink, sight::Sight};
use crate::{
    domain::{AllowedPartner, DomainName, Revision, filter::Filter, settings::FederationSettings},
    registry::log::Entry,
    store::{Change, Commit},
};

/// What happened to one resource, as one stream is told.
#[derive(Debug)]
pub struct Event<'a> {
    /// What happened.
    pub kind: EventKind,
    /// To what.
    pub subject: Subject<'a>,
    /// When; for the state at the start, the revision of the state.
    pub revision: Revision,
    /// The commit that did it; `None` for the state at the start.
    pub origin: Option<&'a Commit>,
    /// Where the event is kept encoded for all who are told just this.
    pub shared: Option<&'a OnceLock<Bytes>>,
}

/// What happened, as a stream sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It came into being, into the filter or into sight.
    Added,
    /// It was changed.
    Modified,
    /// It was deleted, or left the filter or the sight.
    Removed,
}

/// What an event is about. A side is there if it may be shown.
#[derive(Debug)]
pub enum Subject<'a> {
    /// A partner.
    Partner {
        /// Its primary domain.
        domain: &'a DomainName,
        /// As it was in force.
        before: Option<&'a AllowedPartner>,
        /// As it is, deleted perhaps.
        after: Option<&'a AllowedPartner>,
    },
    /// The settings.
    Settings {
        /// As they were.
        before: Option<&'a FederationSettings>,
        /// As they are.
        after: Option<&'a FederationSettings>,
        /// Whether the dialback passphrase goes with them.
        with_passphrase: bool,
    },
}

impl EventKind {
    /// The kind of a change that is seen before, after, or both; `None` if neither.
    const fn seen(before: bool, after: bool) -> Option<Self> {
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(Self::Added),
            (true, true) => Some(Self::Modified),
            (true, false) => Some(Self::Removed),
        }
    }
}

/// What it takes to tell of one revision.
pub(super) struct Telling<'a> {
    /// What could be seen before it.
    pub before: &'a Sight,
    /// What can be seen after it.
    pub after: &'a Sight,
    /// What may be shown now.
    pub now: &'a Sight,
    pub filter: &'a Filter<AllowedPartner>,
    pub revision: Revision,
    /// `None` for the state at the start.
    pub entry: Option<&'a Entry>,
}

impl<'a> Telling<'a> {
    /// The same, of what this entry did.
    pub const fn by(self, entry: &'a Entry) -> Self {
        Self { entry: Some(entry), ..self }
    }

    /// A partner in the state at the start.
    pub fn present(&self, partner: &AllowedPartner, sink: &mut impl Sink) {
        if self.sees(self.after, partner) {
            self.tell_partner(EventKind::Added, None, Some(partner), false, None, sink);
        }
    }

    /// The settings in the state at the start.
    pub fn present_settings(&self, settings: &FederationSettings, sink: &mut impl Sink) {
        if self.after.settings() {
            self.tell_settings(EventKind::Added, None, Some(settings), None, sink);
        }
    }

    /// A change, the one with this index in its commit.
    pub fn change(&self, index: usize, change: &Change, sink: &mut impl Sink) {
        let shared = self.entry.and_then(|entry| entry.encoding(index));
        match change {
            Change::Partner { before, after } => {
                self.partner(before.as_ref(), after, shared, sink);
            }
            Change::Settings { before, after } => {
                let seen = EventKind::seen(self.before.settings(), self.after.settings());
                let Some(kind) = seen else { return };
                self.tell_settings(kind, Some(before), Some(after), shared, sink);
            }
            // What becomes of them is seen in what they give and take: see `turned`.
            Change::Role { .. } | Change::Revocation { .. } => {}
        }
    }

    /// A partner that has not changed, while what can be seen has.
    pub fn turned(&self, partner: &AllowedPartner, sink: &mut impl Sink) {
        if !self.filter.matches(partner) {
            return;
        }
        match EventKind::seen(self.before.covers(partner), self.after.covers(partner)) {
            Some(kind @ EventKind::Added) => {
                self.tell_partner(kind, None, Some(partner), false, None, sink);
            }
            Some(kind @ EventKind::Removed) => {
                self.tell_partner(kind, Some(partner), None, false, None, sink);
            }
            Some(EventKind::Modified) | None => {}
        }
    }

    /// The settings that have not changed, while what can be seen has.
    pub fn turned_settings(&self, settings: &FederationSettings, sink: &mut impl Sink) {
        let same = self.before.passphrase() == self.after.passphrase();
        match EventKind::seen(self.before.settings(), self.after.settings()) {
            None => {}
            Some(EventKind::Modified) if same => {}
            Some(kind) => self.tell_settings(kind, Some(settings), Some(settings), None, sink),
        }
    }

    fn partner(
        &self,
        before: Option<&Arc<AllowedPartner>>,
        after: &AllowedPartner,
        shared: Option<&OnceLock<Bytes>>,
        sink: &mut impl Sink,
    ) {
        let before = before.map(|before| &**before).filter(|before| is_in_force(before));
        let seen_before = before.is_some_and(|before| self.sees(self.before, before));
        let seen_after = is_in_force(after) && self.sees(self.after, after);
        let Some(kind) = EventKind::seen(seen_before, seen_after) else { return };
        let in_sight =
            before.is_none_or(|before| self.before.covers(before)) && self.after.covers(after);
        let whole = in_sight && seen_before == before.is_some() && seen_after == is_in_force(after);
        let before = before.filter(|before| self.before.covers(before));
        let after = Some(after).filter(|after| self.after.covers(after));
        self.tell_partner(kind, before, after, whole, shared, sink);
    }

    /// Tells of a partner, of which these sides were in sight, so far as they may be shown now.
    fn tell_partner(
        &self,
        kind: EventKind,
        before: Option<&AllowedPartner>,
        after: Option<&AllowedPartner>,
        whole: bool,
        shared: Option<&OnceLock<Bytes>>,
        sink: &mut impl Sink,
    ) {
        let Some(domain) = after.or(before).map(|partner| &partner.domain) else { return };
        let shown = |partner: &&AllowedPartner| self.now.covers(partner);
        let (shown_before, shown_after) = (before.filter(shown), after.filter(shown));
        if kind != EventKind::Removed && shown_after.is_none() {
            return;
        }
        let whole = whole
            && shown_before.is_some() == before.is_some()
            && shown_after.is_some() == after.is_some();
        let subject = Subject::Partner { domain, before: shown_before, after: shown_after };
        self.tell(kind, subject, shared.filter(|_| whole), sink);
    }

    fn tell_settings(
        &self,
        kind: EventKind,
        before: Option<&FederationSettings>,
        after: Option<&FederationSettings>,
        shared: Option<&OnceLock<Bytes>>,
        sink: &mut impl Sink,
    ) {
        let removed = kind == EventKind::Removed;
        if !self.now.settings() && !removed {
            return;
        }
        let before = before.filter(|_| self.before.settings() && self.now.settings());
        let after = after.filter(|_| !removed);
        let secret = after.and_then(|settings| settings.values.dialback_passphrase.as_ref());
        let with_passphrase = self.now.passphrase() && secret.is_some();
        let whole = kind == EventKind::Modified && before.is_some() && !with_passphrase;
        let subject = Subject::Settings { before, after, with_passphrase };
        self.tell(kind, subject, shared.filter(|_| whole), sink);
    }

    fn tell(
        &self,
        kind: EventKind,
        subject: Subject<'_>,
        shared: Option<&OnceLock<Bytes>>,
        sink: &mut impl Sink,
    ) {
        let origin = self.entry.map(Entry::commit);
        sink.take(Event { kind, subject, revision: self.revision, origin, shared });
    }

    fn sees(&self, sight: &Sight, partner: &AllowedPartner) -> bool {
        sight.covers(partner) && self.filter.matches(partner)
    }
}

/// Suspended and expired partners are refused, but they are in force: on the list.
const fn is_in_force(partner: &AllowedPartner) -> bool {
    partner.delete_time.is_none()
}
