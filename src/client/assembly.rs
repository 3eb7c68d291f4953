//! From the messages of one connection to whole commits. No I/O.
//!
//! A commit, and the state at the beginning, may come in several messages. Nothing is handed out
//! before it is whole, and what breaks the rules of the stream is a [`Fault`]: it never reaches
//! the reader.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use prost::Message as _;
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

/// What one commit did, as far as this stream may see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The revision of the commit.
    pub revision: i64,
    /// The events, at least one, in the order in which they came.
    pub events: Vec<WatchEvent>,
    /// When the last of them was received.
    pub received_at: Instant,
}

/// The whole state, as far as this stream may see it. It is kept as it came, which takes a fraction
/// of the room that decoded events take.
#[derive(Clone)]
pub struct Listing {
    /// The revision at which the state holds.
    pub revision: i64,
    /// When the end of it was received.
    pub received_at: Instant,
    events: Vec<Bytes>,
}

impl Listing {
    /// The ADDED events that the state is told in, one at a time.
    pub fn events(&self) -> impl Iterator<Item = WatchEvent> {
        let decoded = |event: &Bytes| WatchEvent::decode(event.as_ref());
        self.events.iter().map(move |event| decoded(event).expect("it was decoded to check it"))
    }
}

impl fmt::Debug for Listing {
    /// Without the events, which may hold the dialback passphrase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing")
            .field("revision", &self.revision)
            .field("events", &self.events.len())
            .finish_non_exhaustive()
    }
}

impl Batch {
    /// When the commit was made, by the service's clock.
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
    #[error("revision {revision} came with or after revision {after}")]
    Disorder {
        /// The last revision that was whole.
        after: i64,
        /// The one that came then.
        revision: i64,
    },
    /// More of a revision was announced, and that all of it is here.
    #[error("revision {0} is over and goes on")]
    Torn(i64),
    /// The service's history ends before what it told earlier, as after an old backup was restored.
    #[error("the service's history ends at revision {now}, before revision {before}")]
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
    /// What is here of the state.
    listed: Vec<Bytes>,
    /// The revision at which the state holds, by its first event.
    listed_at: Option<i64>,
    /// What is here of a revision.
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
            listed: Vec::new(),
            listed_at: None,
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
        if self.listing {
            self.list(response, now, ready)
        } else {
            let events = response.decode_events().map_err(|_| Fault::Unreadable)?;
            events.iter().try_for_each(check)?;
            self.follow(events, response.more_of_this_revision, now, ready)?;
            self.progress(response, now, ready)
        }
    }

    fn list(
        &mut self,
        response: &WatchAllowedPartnersResponse,
        now: Instant,
        ready: &mut VecDeque<Message>,
    ) -> Result<(), Fault> {
        for bytes in &response.events {
            let event = WatchEvent::decode(bytes.as_ref()).map_err(|_| Fault::Unreadable)?;
            check(&event)?;
            let first = *self.listed_at.get_or_insert(event.revision);
            if first != event.revision {
                return Err(Fault::Disorder { after: first, revision: event.revision });
            }
            self.listed.push(bytes.clone());
        }
        if !response.synced {
            return Ok(());
        }
        let revision = response.progress_revision;
        if let Some(other) = self.listed_at.filter(|listed_at| *listed_at != revision) {
            return Err(Fault::Disorder { after: other, revision });
        }
        (self.listing, self.start, self.whole) = (false, revision, revision);
        let events = std::mem::take(&mut self.listed);
        ready.push_back(Message::Listed(Listing { revision, received_at: now, events }));
        Ok(())
    }

    fn follow(
        &mut self,
        events: Vec<WatchEvent>,
        more: bool,
        now: Instant,
        ready: &mut VecDeque<Message>,
    ) -> Result<(), Fault> {
        for event in events {
            if self.pending.first().is_none_or(|first| first.revision != event.revision) {
                // What was announced of the one before may come to nothing that can be seen here.
                self.hand_out(now, ready);
                if self.is_repeated(event.revision)? {
                    continue;
                }
            }
            self.unfinished = false;
            self.pending.push(event);
        }
        // A message without events says nothing about a revision under way.
        if more {
            self.unfinished = true;
        } else if !self.unfinished {
            self.hand_out(now, ready);
        }
        Ok(())
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
        self.unfinished = false;
        let events = std::mem::take(&mut self.pending);
        if let Some(first) = events.first() {
            let revision = first.revision;
            self.whole = revision;
            ready.push_back(Message::Changed(Batch { revision, events, received_at: now }));
        }
    }

    fn progress(
        &mut self,
        response: &WatchAllowedPartnersResponse,
        now: Instant,
        ready: &mut VecDeque<Message>,
    ) -> Result<(), Fault> {
        let progress = response.progress_revision;
        if progress == 0 {
            return Ok(());
        }
        if progress < self.start {
            // Once may be a server that has yet to hear of the last commits.
            self.behind += 1;
            if self.behind > 1 {
                return Err(Fault::WentBack { before: self.start, now: progress });
            }
            return Ok(());
        }
        if let Some(pending) = self.pending.first().map(|event| event.revision)
            && progress >= pending
        {
            if response.more_of_this_revision {
                return Err(Fault::Torn(pending));
            }
            self.hand_out(now, ready);
        }
        let told =
            matches!(ready.back(), Some(Message::Changed(last)) if last.revision == progress);
        if !told && progress >= self.whole {
            self.whole = progress;
            ready.push_back(Message::InStep { revision: progress });
        }
        Ok(())
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
