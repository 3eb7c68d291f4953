//! A copy of the partners and settings that keeps itself up to date.

use prost_types::Timestamp;
use std::sync::Arc;
use tokio::time::Instant;

use super::{
    assembly::{Batch, Listing},
    remote::Remote,
    state::{Difference, State},
    stream::{EventStream, Interruption, Message, Options},
};
use crate::proto::v1::AllowedPartner;

/// Keeps a copy of the partners and settings, always that of one whole revision, and tells every
/// change of it.
///
/// Losing the service never changes the copy; [`Self::last_contact`] tells how old it is.
#[derive(Debug)]
pub struct Informer {
    stream: EventStream,
    state: Option<State>,
}

/// What an [`Informer`] tells.
#[derive(Clone, Debug)]
pub enum Update {
    /// A stream is open; the copy is about to be brought up to date.
    Opened,
    /// The copy is now another one.
    Changed(Delta),
    /// The copy holds at this revision too. Told with every sign of life from the service.
    InStep {
        /// The revision, which is that of the copy.
        revision: i64,
    },
    /// There is no stream now; the copy stays as it is. Another attempt follows by itself.
    Interrupted(Interruption),
}

/// What became of the copy, from one revision to another.
#[derive(Clone, Debug)]
pub struct Delta {
    /// Where it comes from.
    pub origin: Origin,
    /// The revision of the copy before; `None` when there was none.
    pub base_revision: Option<i64>,
    /// The revision of the copy now.
    pub revision: i64,
    /// The partners that came or changed, as they are now, sorted by primary domain.
    pub upserts: Vec<Arc<AllowedPartner>>,
    /// The primary domains of those that went, sorted.
    pub removals: Vec<Arc<str>>,
    /// Whether the settings or the dialback passphrase changed.
    pub settings_changed: bool,
    /// When the commit was made, by the service's clock; `None` for a listing.
    pub commit_time: Option<Timestamp>,
    /// When the last message of it was received.
    pub received_at: Instant,
}

/// Where a delta comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The whole state was read: at the beginning, or because the history after the copy's revision
    /// is gone. The delta is the difference, which may be nothing.
    Listed,
    /// One commit.
    Commit,
}

impl Informer {
    /// An informer that begins with the whole state.
    pub fn new(remote: Remote, options: Options) -> Self {
        Self { stream: EventStream::new(remote, options, 0), state: None }
    }

    /// An informer that goes on from a copy that was kept. It must have been made with the same
    /// filter and the same rights.
    pub fn resume(remote: Remote, options: Options, state: State) -> Self {
        let stream = EventStream::new(remote, options, state.revision);
        Self { stream, state: Some(state) }
    }

    /// The next update. May be dropped and called again without a loss.
    pub async fn next(&mut self) -> Update {
        match self.stream.next().await {
            Message::Opened { .. } => Update::Opened,
            Message::Listed(listing) => Update::Changed(self.listed(&listing)),
            Message::Changed(batch) => Update::Changed(self.changed(batch)),
            Message::InStep { revision } => {
                if let Some(state) = &mut self.state {
                    state.revision = revision;
                }
                Update::InStep { revision }
            }
            Message::Interrupted(interruption) => Update::Interrupted(interruption),
        }
    }

    /// The copy, up to date with the last update; `None` before the first one is whole.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// When the service was last heard, if ever.
    pub fn last_contact(&self) -> Option<Instant> {
        self.stream.last_contact()
    }

    fn listed(&mut self, listing: &Listing) -> Delta {
        let received_at = listing.received_at;
        let state = State::of_listing(listing);
        let before = self.state.replace(state.clone());
        let difference = state.since(before.as_ref().unwrap_or(&State::default()));
        Delta {
            received_at,
            ..Delta::of(Origin::Listed, before.map(|before| before.revision), &state, difference)
        }
    }

    fn changed(&mut self, batch: Batch) -> Delta {
        let (received_at, commit_time) = (batch.received_at, batch.commit_time());
        let state = self.state.get_or_insert_default();
        let base = state.revision;
        let difference = state.apply(batch);
        Delta {
            received_at,
            commit_time,
            ..Delta::of(Origin::Commit, Some(base), state, difference)
        }
    }
}

impl Delta {
    fn of(
        origin: Origin,
        base_revision: Option<i64>,
        state: &State,
        Difference { upserts, removals, settings }: Difference,
    ) -> Self {
        Self {
            origin,
            base_revision,
            revision: state.revision,
            upserts,
            removals,
            settings_changed: settings,
            commit_time: None,
            received_at: Instant::now(),
        }
    }
}
