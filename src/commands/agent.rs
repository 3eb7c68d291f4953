//! `partnerd agent`: beside an XMPP server, until it is told to stop.

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use super::Failure;
use crate::{
    agent::{Agent, AgentArgs},
    config::{Log, LogFormat},
    telemetry,
};

/// Follows the service until the process is told to stop.
pub(super) fn run(args: &AgentArgs) -> Result<(), Failure> {
    telemetry::init(&Log { format: LogFormat::Text, filter: "info".into() });
    // One thread does what there is to do; files are written on another.
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let agent = Agent::new(args)?;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        agent
            .run(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await;
        tracing::info!("stopped");
        Ok(())
    })
}
