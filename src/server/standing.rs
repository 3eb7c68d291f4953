//! What streams rest on while they live: the server itself, and their callers' tokens.

use std::sync::Arc;

use jiff::Timestamp;

use super::Shutdown;
use crate::{
    auth::{
        Caller,
        token::{TokenError, Verifier},
    },
    grpc::watch::Standing,
    registry::Registry,
};

/// Asks the verifier and the shutdown.
#[derive(Clone, Debug)]
pub(super) struct StreamStanding {
    verifier: Arc<Verifier>,
    shutdown: Shutdown,
}

impl StreamStanding {
    pub const fn new(verifier: Arc<Verifier>, shutdown: Shutdown) -> Self {
        Self { verifier, shutdown }
    }

    /// Wakes the streams when their callers may be believed no longer and, last of all, when the
    /// server drains.
    pub async fn ring(self, registry: Arc<Registry>) {
        let mut changes = self.verifier.changes();
        loop {
            let changed = tokio::select! {
                changed = changes.changed() => changed.is_ok(),
                () = self.shutdown.draining() => false,
            };
            registry.ring();
            if !changed {
                return;
            }
        }
    }
}

impl Standing for StreamStanding {
    fn is_draining(&self) -> bool {
        self.shutdown.is_draining()
    }

    fn check(&self, caller: &Caller, now: Timestamp) -> Result<(), TokenError> {
        self.verifier.still_valid(caller, now)
    }
}
