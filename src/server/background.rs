//! What the server does by itself now and then.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Shutdown;

/// How often the answers that were kept for retries, and whose time has run out, are forgotten.
pub const ANSWER_SWEEP_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How often what the replicas report is written to the store, if it has to outlive the server.
pub const REPLICA_SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the end of the audit is signed, if something has happened.
pub const AUDIT_SEAL_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// How often a development server makes its administrator's token anew, which lives for a day.
pub const DEV_REFRESH_INTERVAL: Duration = Duration::from_secs(60 * 60);

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
