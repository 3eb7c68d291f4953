//! What streams rest on while they live: the server itself, and their callers' tokens.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;

use super::Shutdown;
use crate::{
    auth::{
        Caller,
        incident::{Identity, Incidents, What},
        layer::Rejection,
        token::{TokenError, Verifier},
    },
    grpc::watch::Standing,
    registry::Registry,
};

/// Asks the verifier and the shutdown, and tells the incidents.
#[derive(Clone, Debug)]
pub(super) struct StreamStanding {
    verifier: Arc<Verifier>,
    incidents: Arc<Incidents>,
    shutdown: Shutdown,
}

impl StreamStanding {
    pub const fn new(
        verifier: Arc<Verifier>,
        incidents: Arc<Incidents>,
        shutdown: Shutdown,
    ) -> Self {
        Self { verifier, incidents, shutdown }
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

    /// Counted for the audit, but charged to nobody: a thousand streams of one caller end at once
    /// when his token does, and that is no attempt at anything.
    fn lost(&self, caller: &Caller, source: Option<IpAddr>, why: &Rejection) {
        let (reason, permission) = match why {
            // An outage of the issuer is no failure of its callers.
            Rejection::Token(TokenError::KeysUnavailable) | Rejection::TooOften { .. } => return,
            Rejection::Token(error) => (error.reason(), None),
            Rejection::Denied(denial) => ("PERMISSION_DENIED", denial.permission()),
        };
        let what = What { source, identity: Identity::of(caller), reason, permission };
        self.incidents.record(what, Timestamp::now());
    }
}
