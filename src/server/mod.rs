//! Serves calls: connections, the layers around every call, and an orderly end.
//!
//! [`serve`] takes listeners, a service and a [`Shutdown`], so that a test runs on port 0 and ends
//! when it likes. From the outside in, a call passes: [`Pressure`], on its connection still, which
//! turns calls away when they wait too long; [`Telemetry`], which reports it whatever
//! happens; [`GrpcOnly`]; [`CatchPanic`]; [`Deadline`]; [`Concurrency`]; then what
//! [`layered`] is given, authentication first and [`Subjects`] after it.

mod accept;
mod assembly;
mod audit_key;
mod background;
mod body;
mod concurrency;
mod connection;
mod deadline;
mod door;
mod gathering;
mod grpc_only;
mod health;
mod panics;
mod pressure;
mod refusal;
mod reload;
mod room;
mod services;
mod shutdown;
mod standing;
mod subjects;
#[cfg(test)]
mod tests;
mod unread;
mod workers;

use tonic::body::Body;

use crate::{config::Limits, service::CallService, telemetry::Telemetry};

pub use self::{
    accept::{Security, serve},
    assembly::{Assembly, StartError, credentials, listen},
    background::{
        ANSWER_SWEEP_INTERVAL, AUDIT_SEAL_INTERVAL, AUDIT_SWEEP_INTERVAL, DEV_REFRESH_INTERVAL,
        HISTORY_SWEEP_INTERVAL, REFUSALS_INTERVAL, REPLICA_SAVE_INTERVAL, STREAM_SWEEP_INTERVAL,
        every, expire_in_time,
    },
    body::ResponseBody,
    concurrency::Concurrency,
    deadline::Deadline,
    grpc_only::GrpcOnly,
    health::{EndsWithServer, Health, health, reflection},
    panics::CatchPanic,
    pressure::Pressure,
    reload::{Reload, on_hangup, reload_on_change},
    shutdown::{Shutdown, ShutdownTrigger, on_signals, shutdown},
    subjects::Subjects,
};

/// Puts the layers that every call passes around a service, the outermost first.
pub fn layered<S>(
    service: S,
    limits: &Limits,
) -> impl CallService<Body, Body: ResponseBody> + use<S>
where
    S: CallService<Body, Body: ResponseBody>,
{
    let service = Concurrency::new(service, limits.max_concurrent_requests);
    let service =
        Deadline::new(service, limits.default_request_timeout, limits.max_request_timeout)
            .with_restores(limits.max_restore_time);
    Telemetry::new(GrpcOnly::new(CatchPanic::new(service)))
}
