//! What a call rests on that lasts: the server, its caller's token, and his roles.
//!
//! A watch looks after this by itself, since there are thousands of them. Here it is for the few calls
//! that move a whole state.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{sync::watch as bell, time::sleep};
use tonic::Status;

use super::{status, watch::Standing};
use crate::{
    auth::{
        Call,
        layer::Rejection,
        permit::{Action, Purpose},
    },
    domain::Revision,
    registry::Registry,
};

/// No look at the clock is nearer or further ahead.
const NEAR: Duration = Duration::from_millis(50);
const FAR: Duration = Duration::from_secs(3_600);

/// Whether a call may go on that was let in to do `A`.
pub(super) struct Tenure<A> {
    registry: Arc<Registry>,
    standing: Arc<dyn Standing>,
    call: Call,
    bell: bell::Receiver<Revision>,
    action: PhantomData<fn() -> A>,
}

impl<A: Action> Tenure<A> {
    pub fn new(registry: Arc<Registry>, standing: Arc<dyn Standing>, call: Call) -> Self {
        let bell = registry.bell();
        Self { registry, standing, call, bell, action: PhantomData }
    }

    /// Whether the call may go on.
    ///
    /// # Errors
    /// Why not: UNAVAILABLE, UNAUTHENTICATED or PERMISSION_DENIED.
    pub fn check(&self) -> Result<(), Status> {
        if self.standing.is_draining() {
            return Err(status::draining());
        }
        let caller = &self.call.caller;
        self.standing.check(caller, Timestamp::now()).map_err(Rejection::Token)?;
        Ok(self.registry.policy().allow::<A>(&self.call, Purpose::Commit)?)
    }

    /// Waits until the call may not go on, and tells why.
    pub async fn end(&mut self) -> Status {
        loop {
            self.bell.borrow_and_update();
            if let Err(end) = self.check() {
                return end;
            }
            let left = Timestamp::now().duration_until(self.call.caller.good_until);
            let left = Duration::try_from(left).unwrap_or_default().clamp(NEAR, FAR);
            tokio::select! {
                // The sender lives in the registry, so the channel cannot close meanwhile.
                _ = self.bell.changed() => {}
                () = sleep(left) => {}
            }
        }
    }
}

impl<A> fmt::Debug for Tenure<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenure").field("call", &self.call).finish_non_exhaustive()
    }
}
