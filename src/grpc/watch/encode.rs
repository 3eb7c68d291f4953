//! Events to bytes, and bytes to messages of bounded size.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;

use crate::{
    domain::Revision,
    grpc::convert,
    proto::{v1 as pb, watch::WatchAllowedPartnersResponse},
    registry::watch::{Event, EventKind, Sink, Subject},
};

/// A message takes no more events than this, and none after it weighs so many bytes: what one
/// stream has in memory.
const MAX_EVENTS: usize = 512;
const MAX_BYTES: usize = 32 << 10;

/// What stands before a message on the wire: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A message in the making, or messages that were made for everybody.
#[derive(Debug, Default)]
pub(super) struct Batch {
    events: Vec<Bytes>,
    bytes: usize,
    last: Revision,
    /// What is sent instead, as it is.
    shared: Option<Bytes>,
}

impl Batch {
    /// The revision of the last event, if there is one.
    pub fn last(&self) -> Option<Revision> {
        (!self.events.is_empty()).then_some(self.last)
    }

    /// What goes to the client, from a watcher that has told everything up to `progress`; `None`
    /// while it tells the state. `more` if the last revision of which there were events goes on.
    pub fn finish(self, progress: Option<Revision>, more: bool, synced: bool) -> Bytes {
        if let Some(shared) = self.shared {
            return shared;
        }
        framed(&WatchAllowedPartnersResponse {
            events: self.events,
            progress_revision: progress.map_or(0, Revision::as_i64),
            more_of_this_revision: more,
            synced,
        })
    }
}

impl Sink for Batch {
    fn take(&mut self, event: Event<'_>) {
        let bytes = match event.shared {
            Some(shared) => shared.get_or_init(|| encoded(&event)).clone(),
            None => encoded(&event),
        };
        self.bytes += bytes.len();
        self.last = event.revision;
        self.events.push(bytes);
    }

    fn is_full(&self) -> bool {
        self.shared.is_some() || self.events.len() >= MAX_EVENTS || self.bytes >= MAX_BYTES
    }

    fn is_empty(&self) -> bool {
        self.shared.is_none() && self.events.is_empty()
    }

    fn into_message(self, revision: Revision) -> Bytes {
        self.finish(Some(revision), false, false)
    }

    fn take_messages(&mut self, messages: Bytes) {
        self.shared = Some(messages);
    }
}

/// The message as gRPC has it on the wire, not compressed.
fn framed(message: &WatchAllowedPartnersResponse) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(length.try_into().expect("little more than the largest event"));
    message.encode(&mut frame).expect("there is room for all of it");
    frame.freeze()
}

fn encoded(event: &Event<'_>) -> Bytes {
    wire_event(event).encode_to_vec().into()
}

fn wire_event(event: &Event<'_>) -> pb::WatchEvent {
    use pb::watch_event::Type;
    let Event { kind, subject, revision, origin, shared: _ } = event;
    let kind = match kind {
        EventKind::Added => Type::Added,
        EventKind::Modified => Type::Modified,
        EventKind::Removed => Type::Removed,
    };
    let common = pb::WatchEvent {
        r#type: kind.into(),
        revision: revision.as_i64(),
        commit_time: origin.map(|commit| convert::timestamp(commit.time)),
        subject: origin.map_or_else(String::new, |commit| commit.actor.subject.to_string()),
        reason: origin.map_or_else(String::new, |commit| commit.actor.reason.to_string()),
        ..Default::default()
    };
    match subject {
        Subject::Partner { domain, before, after } => pb::WatchEvent {
            name: format!("allowedPartners/{domain}"),
            allowed_partner: after.map(convert::partner),
            previous_allowed_partner: before.map(convert::partner),
            ..common
        },
        Subject::Settings { before, after, with_passphrase } => pb::WatchEvent {
            name: convert::SETTINGS_NAME.into(),
            federation_settings: after.map(convert::settings),
            previous_federation_settings: before.map(convert::settings),
            dialback_passphrase: after
                .filter(|_| *with_passphrase)
                .map_or_else(String::new, convert::dialback_passphrase),
            ..common
        },
    }
}
