//! Serves calls: connections, the layers around every call, and an orderly end.
//!
//! [`serve`] takes listeners, a service and a [`Shutdown`], so that a test runs on port 0 and ends
//! when it likes. From the outside in, a call passes: [`Telemetry`], which reports it whatever
//! happens; [`GrpcOnly`]; [`CatchPanic`]; [`Deadline`]; [`Concurrency`]; then what
//! [`layered`] is given, authentication first.

mod accept;
mod assembly;
mod audit_key;
mod background;
mod concurrency;
mod connection;
mod deadline;
mod door;
mod grpc_only;
mod health;
mod panics;
mod refusal;
mod reload;
mod shutdown;
mod standing;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, pin::Pin};

use http::{Request, Response};
use tonic::body::Body;
use tower::Service;

use crate::{config::Limits, telemetry::Telemetry};

pub use self::{
    accept::{Security, serve},
    assembly::{Assembly, StartError, credentials, listen},
    background::{
        ANSWER_SWEEP_INTERVAL, AUDIT_SEAL_INTERVAL, DEV_REFRESH_INTERVAL, HISTORY_SWEEP_INTERVAL,
        REFUSALS_INTERVAL, REPLICA_SAVE_INTERVAL, STREAM_SWEEP_INTERVAL, every, expire_in_time,
    },
    concurrency::Concurrency,
    deadline::Deadline,
    grpc_only::GrpcOnly,
    health::{EndsWithServer, Health, health, reflection},
    panics::CatchPanic,
    reload::{Reload, on_hangup, reload_on_change},
    shutdown::{Shutdown, ShutdownTrigger, on_signals, shutdown},
};

/// A service as the layers see it: it always answers, if need be with an error.
pub trait CallService:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> CallService for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// What a layer's call gives.
type CallFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Puts the layers that every call passes around a service, the outermost first.
pub fn layered<S>(service: S, limits: &Limits) -> impl CallService + Sync + use<S>
where
    S: CallService + Sync,
{
    let service = Concurrency::new(service, limits.max_concurrent_requests);
    let service =
        Deadline::new(service, limits.default_request_timeout, limits.max_request_timeout)
            .with_restores(limits.max_restore_time);
    Telemetry::new(GrpcOnly::new(CatchPanic::new(service)))
}
