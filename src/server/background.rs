//! What the server does by itself now and then.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Shutdown;
use crate::registry::{Error, Kind, Registry};

/// How often the answers that were kept for retries, and whose time has run out, are forgotten.
pub const ANSWER_SWEEP_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often the history is looked at for what is kept no longer.
pub const HISTORY_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How often the audit is looked at for what is kept no longer.
pub const AUDIT_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How often what the replicas report is written to the store, if it has to outlive the server.
pub const REPLICA_SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// How long refusals are gathered before they are written into the audit.
pub const REFUSALS_INTERVAL: Duration = Duration::from_secs(5);

/// How often the end of the audit is signed, if something has happened.
pub const AUDIT_SEAL_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// How often the streams that nobody reads are looked after.
pub const STREAM_SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// How often a development server makes its administrator's token anew, which lives for a day.
pub const DEV_REFRESH_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// How long to wait after partners could not be marked as expired.
const EXPIRY_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Marks partners as expired when their time has run out, until the server drains. What ran out
/// while no server ran is marked at once.
pub async fn expire_in_time(registry: Arc<Registry>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = registry.expiry_due() => {}
            () = shutdown.draining() => return,
        }
        match registry.expire_due().await {
            Ok(partners) => tracing::info!(partners, "marked as expired"),
            Err(Error { kind: Kind::ReadOnly { .. } | Kind::Draining, .. }) => return,
            Err(error) => {
                tracing::warn!(?error, "cannot mark partners as expired; trying again");
                sleep(EXPIRY_RETRY_INTERVAL).await;
            }
        }
    }
}

/// Does a piece of work every `period`, the first time after one of them, until the server drains.
pub async fn every<W>(period: Duration, shutdown: Shutdown, work: impl Fn() -> W)
where
    W: Future<Output = ()>,
{
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        tokio::select! {
            _ = ticks.tick() => work().await,
            () = shutdown.draining() => return,
        }
    }
}
