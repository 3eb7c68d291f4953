//! Watch streams, as those who follow them see them.

use std::time::Duration;

use partnerd::proto::{
    v1::{WatchAllowedPartnersRequest, WatchEvent, watch_event::Type},
    watch::WatchAllowedPartnersResponse,
};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::actor::{Actor, Outcome};

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A watch stream.
pub struct Watch(Streaming<WatchAllowedPartnersResponse>);

/// An event in short: what happened, to whom, at which revision.
pub type Brief = (Type, String, i64);

impl Actor {
    /// Follows what the request asks for.
    pub async fn watch(&self, request: WatchAllowedPartnersRequest) -> Outcome<Watch> {
        Ok(Watch(self.partners().watch_allowed_partners(request).await?.into_inner()))
    }

    /// Follows everything after a revision; 0 begins with the state.
    pub async fn watch_from(&self, start_revision: i64) -> Watch {
        let request = WatchAllowedPartnersRequest { start_revision, ..Default::default() };
        self.watch(request).await.expect("the caller may watch")
    }

    /// Follows the partners that match a filter, and has their state.
    pub async fn watch_filtered(&self, filter: &str) -> (Watch, Vec<WatchEvent>) {
        let request = WatchAllowedPartnersRequest { filter: filter.into(), ..Default::default() };
        let mut watch = self.watch(request).await.expect("the filter is valid");
        let state = watch.state().await;
        (watch, state.0)
    }
}

impl Watch {
    /// The next message; `None` at the end of the stream.
    pub async fn try_next(&mut self) -> Outcome<Option<WatchAllowedPartnersResponse>> {
        timeout(PATIENCE, self.0.message()).await.expect("something comes in time")
    }

    /// The next message of a stream that is expected to go on.
    pub async fn next(&mut self) -> WatchAllowedPartnersResponse {
        self.try_next().await.expect("the stream goes on").expect("it does not just end")
    }

    /// The state at the start, and its revision.
    pub async fn state(&mut self) -> (Vec<WatchEvent>, i64) {
        let mut state = Vec::new();
        loop {
            let message = self.next().await;
            state.extend(events(&message));
            if message.synced {
                return (state, message.progress_revision);
            }
            assert_eq!(message.progress_revision, 0, "there is no progress before the state");
        }
    }

    /// The events until all up to `revision` has been told.
    pub async fn until(&mut self, revision: i64) -> Vec<WatchEvent> {
        let mut found = Vec::new();
        loop {
            let message = self.next().await;
            found.extend(events(&message));
            if message.progress_revision >= revision {
                return found;
            }
        }
    }

    /// How the stream ends, whatever it says before.
    pub async fn end(&mut self) -> Status {
        loop {
            match self.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a status"),
                Err(status) => return status,
            }
        }
    }
}

/// The events of a message.
pub fn events(message: &WatchAllowedPartnersResponse) -> Vec<WatchEvent> {
    message.decode_events().expect("the server sends events")
}

/// Events in short.
pub fn brief(events: &[WatchEvent]) -> Vec<Brief> {
    let domain = |event: &WatchEvent| event.name.replace("allowedPartners/", "");
    events.iter().map(|event| (event.r#type(), domain(event), event.revision)).collect()
}
