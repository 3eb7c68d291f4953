//! From the messages of one connection to whole commits. No I/O.
//!
//! A commit, and the state at the beginning, may come in several messages. Nothing is handed out
//! before it is whole, and what breaks the rules of the stream is a [`Fault`]: it never reaches
//! the reader.

use std::collections::VecDeque;

use prost_types::Timestamp;
use tokio::time::Instant;

use super::stream::Message;
use crate::proto::{
    v1::{WatchEvent, watch_event::Type},
    watch::WatchAllowedPartnersResponse,
};

/// What the name of every partner begins with.
pub(super) const PARTNERS: &str = "allowedPartners/";
/// The name of the settings.
pub(super) const SETTINGS: &str = "federationSettings";

/// Events that belong together: what one commit did as far as this stream may see it, or the
/// whole state.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The revision of the commit, or at which the state holds.
    pub revision: i64,
    /// The events, in the order in which they came. Empty for a state without anything to see.
    pub events: Vec<WatchEvent>,
    /// When the last of them was received.
    pub received_at: Instant,
}

impl Batch {
    /// When the commit was made, by the service's clock; `None` for a state.
    pub fn commit_time(&self) -> Option<Timestamp> {
        self.events.first()?.commit_time
    }
}

/// A stream that breaks its own rules. What was built on it cannot be trusted to go on from, so the
/// state is read anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no event.
    #[error("an event cannot be read")]
    Unreadable,
    /// An event without its revision, its kind or its resource.
    #[error("the event of `{0}` is incomplete")]
    Incomplete(String),
    /// A revision that was over comes again, or one that should have come before.
    #[error("revision {revision} came after revision {after}")]
    Disorder {
        /// The last revision that was whole.
        after: i64,
        /// The one that came then.
        revision: i64,
    },
    /// Less came of a revision than was announced.
    #[error("revision {0} broke off")]
    Torn(i64),
    /// The service's history ends before what it told earlier, as after an old backup was restored.
    #[error("the service is at revision {now}, but was at {before} before")]
    WentBack {
        /// The revision up to which it told everything earlier.
        before: i64,
        /// The revision up to which it says that there is anything.
        now: i64,
    },
}

/// What the messages of one connection have come to.
#[derive(Debug)]
pub struct Assembly {
    /// Whether the state is still being read.
    listing: bool,
    /// The revision that the connection began after.
    start: i64,
    /// The revision up to which everything was handed out.
    whole: i64,
    /// What is here of a revision, or of the state.
    pending: Vec<WatchEvent>,
    /// Whether more of it was announced.
    unfinished: bool,
    /// How often progress short of `start` was told.
    behind: u32,
}

impl Assembly {
    /// For a connection that began after this revision; at 0, with the state.
    pub fn new(start: i64) -> Self {
        Self {
            listing: start == 0,
            start,
            whole: start,
            pending: Vec::new(),
            unfinished: false,
            behind: 0,
        }
    }

    /// Takes a message in, and puts what is whole with it into `ready`.
    ///
    /// # Errors
    /// The stream breaks its rules; nothing more may be taken from it.
    pub fn take(
        &mut self,
        response: &WatchAllowedPartnersResponse,
        now: Instant,
        ready: &mut VecDeque<Message>,
    ) -> Result<(), Fault> {
        let events = response.decode_events().map_err(|_| Fault::Unreadable)?;
        events.iter().try_for_each(check)?;
        if self.listing {
            self.list(events, response, now, ready)
        } else {
            let told = self.follow(events, response.more_of_this_revision, now, ready)?;
            self.progress(response.progress_revision, told, ready)
        }
    }

    fn list(
        &mut self,
        events: Vec<WatchEvent>,
        response: &WatchAllowedPartnersResponse,
        now: Instant,
        ready: &mut VecDeque<Message>,
    ) -> Result<(), Fault> {
        self.pending.extend(events);
        if !response.synced {
            return Ok(());
        }
        let revision = response.progress_revision;
        if let Some(other) = self.pending.iter().find(|event| event.revision != revision) {
            return Err(Fault::Disorder { after: revision, revision: other.revision });
        }
        (self.listing, self.start, self.whole) = (false, revision, revision);
        let events = std::mem::take(&mut self.pending);
        ready.push_back(Message::Listed(Batch { revision, events, received_at: now }));
        Ok(())
    }

    /// Gives the last revision handed out, if there is one.
    fn follow(
        &mut self,
        events: Vec<WatchEvent>,
        more: bool,
        now: Instant,
        ready: &mut VecDeque<Message>,
    ) -> Result<Option<i64>, Fault> {
        let before = self.whole;
        for event in events {
            if self.pending.first().is_none_or(|first| first.revision != event.revision) {
                if self.unfinished {
                    return Err(Fault::Torn(self.pending_revision()));
                }
                self.hand_out(now, ready);
                if self.is_repeated(event.revision)? {
                    continue;
                }
            }
            self.unfinished = false;
            self.pending.push(event);
        }
        match (more, self.pending.is_empty()) {
            (true, empty) => self.unfinished = !empty,
            // A message without events says nothing about a revision under way.
            (false, _) if self.unfinished => {}
            (false, _) => self.hand_out(now, ready),
        }
        Ok((self.whole > before).then_some(self.whole))
    }

    /// Whether a revision was told before this connection.
    fn is_repeated(&self, revision: i64) -> Result<bool, Fault> {
        if revision > self.whole {
            return Ok(false);
        }
        let nothing_new_yet = self.whole == self.start;
        if nothing_new_yet {
            return Ok(true);
        }
        Err(Fault::Disorder { after: self.whole, revision })
    }

    fn hand_out(&mut self, now: Instant, ready: &mut VecDeque<Message>) {
        let events = std::mem::take(&mut self.pending);
        if let Some(first) = events.first() {
            let revision = first.revision;
            self.whole = revision;
            ready.push_back(Message::Changed(Batch { revision, events, received_at: now }));
        }
    }

    fn progress(
        &mut self,
        progress: i64,
        told: Option<i64>,
        ready: &mut VecDeque<Message>,
    ) -> Result<(), Fault> {
        if progress == 0 {
            return Ok(());
        }
        if !self.pending.is_empty() && progress >= self.pending_revision() {
            return Err(Fault::Torn(self.pending_revision()));
        }
        if progress < self.start {
            // Once may be a server that has yet to hear of the last commits.
            self.behind += 1;
            if self.behind > 1 {
                return Err(Fault::WentBack { before: self.start, now: progress });
            }
            return Ok(());
        }
        if told != Some(progress) && progress >= self.whole {
            self.whole = progress;
            ready.push_back(Message::InStep { revision: progress });
        }
        Ok(())
    }

    fn pending_revision(&self) -> i64 {
        self.pending.first().map_or(self.whole, |event| event.revision)
    }
}

/// Whether an event has what its kind must have. Resources of other kinds pass: a newer service may
/// tell of some that this client does not know.
fn check(event: &WatchEvent) -> Result<(), Fault> {
    let removed = event.r#type() == Type::Removed;
    let has_resource = if event.name.starts_with(PARTNERS) {
        event.allowed_partner.is_some()
    } else if event.name == SETTINGS {
        event.federation_settings.is_some()
    } else {
        true
    };
    let complete = event.revision >= 0
        && event.r#type() != Type::Unspecified
        && (removed || has_resource)
        && !event.name.is_empty();
    if complete { Ok(()) } else { Err(Fault::Incomplete(event.name.clone())) }
}
