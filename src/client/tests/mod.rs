//! The stream and the informer against a service that follows a script, faults included.

mod assembly;
mod fake;
mod informer;
mod memory;
mod stream;

use bytes::Bytes;
use prost::Message as _;
use prost_types::Timestamp;

use crate::proto::{
    v1::{AllowedPartner, FederationMode, FederationSettings, WatchEvent, watch_event::Type},
    watch::WatchAllowedPartnersResponse,
};

fn partner(domain: &str, owner: &str) -> AllowedPartner {
    AllowedPartner {
        name: format!("allowedPartners/{domain}"),
        owner: owner.to_owned(),
        ..AllowedPartner::default()
    }
}

fn event(kind: Type, revision: i64, domain: &str, owner: &str) -> WatchEvent {
    WatchEvent {
        r#type: kind.into(),
        name: format!("allowedPartners/{domain}"),
        allowed_partner: (kind != Type::Removed).then(|| partner(domain, owner)),
        revision,
        commit_time: Some(Timestamp { seconds: revision, nanos: 0 }),
        ..WatchEvent::default()
    }
}

fn added(revision: i64, domain: &str) -> WatchEvent {
    event(Type::Added, revision, domain, "")
}

fn changed(revision: i64, domain: &str, owner: &str) -> WatchEvent {
    event(Type::Modified, revision, domain, owner)
}

fn removed(revision: i64, domain: &str) -> WatchEvent {
    event(Type::Removed, revision, domain, "")
}

fn settings(revision: i64, mode: FederationMode, passphrase: &str) -> WatchEvent {
    WatchEvent {
        r#type: Type::Modified.into(),
        name: "federationSettings".to_owned(),
        federation_settings: Some(FederationSettings {
            mode: mode.into(),
            ..FederationSettings::default()
        }),
        dialback_passphrase: passphrase.to_owned(),
        revision,
        ..WatchEvent::default()
    }
}

/// A message with these events and nothing else.
fn of(events: &[WatchEvent]) -> WatchAllowedPartnersResponse {
    let events = events.iter().map(|event| Bytes::from(event.encode_to_vec())).collect();
    WatchAllowedPartnersResponse { events, ..WatchAllowedPartnersResponse::default() }
}

/// A message whose last revision goes on in the next one.
fn torn(events: &[WatchEvent]) -> WatchAllowedPartnersResponse {
    WatchAllowedPartnersResponse { more_of_this_revision: true, ..of(events) }
}

fn progress(progress_revision: i64) -> WatchAllowedPartnersResponse {
    WatchAllowedPartnersResponse { progress_revision, ..of(&[]) }
}

/// The end of the state.
fn synced(progress_revision: i64) -> WatchAllowedPartnersResponse {
    WatchAllowedPartnersResponse { synced: true, ..progress(progress_revision) }
}
