//! The message of a watch stream, with its events as ready bytes.
//!
//! An event that a thousand streams carry is encoded once and shared. On the wire a repeated
//! message and repeated bytes are the same, so clients in any language see `WatchEvent`s; clients
//! of this crate decode them by [`WatchAllowedPartnersResponse::decode_events`]. A test holds the
//! fields against the descriptor.

use std::fmt;

use bytes::Bytes;
use prost::{DecodeError, Message};

use super::v1::WatchEvent;

/// One message of the stream of WatchAllowedPartners.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct WatchAllowedPartnersResponse {
    /// Encoded `WatchEvent`s, in the order of the revisions.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub events: Vec<Bytes>,
    /// When not 0: with this message the client has everything up to this revision.
    #[prost(int64, tag = "2")]
    pub progress_revision: i64,
    /// The last revision among the events goes on in the next message.
    #[prost(bool, tag = "3")]
    pub more_of_this_revision: bool,
    /// The state asked for is complete.
    #[prost(bool, tag = "4")]
    pub synced: bool,
}

impl WatchAllowedPartnersResponse {
    /// The events.
    ///
    /// # Errors
    /// If the server sent something else.
    pub fn decode_events(&self) -> Result<Vec<WatchEvent>, DecodeError> {
        self.events.iter().map(|event| WatchEvent::decode(event.as_ref())).collect()
    }
}

impl fmt::Debug for WatchAllowedPartnersResponse {
    /// Without the events, which may hold the dialback passphrase.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchAllowedPartnersResponse")
            .field("events", &self.events.len())
            .field("progress_revision", &self.progress_revision)
            .field("more_of_this_revision", &self.more_of_this_revision)
            .field("synced", &self.synced)
            .finish()
    }
}
