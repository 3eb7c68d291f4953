//! What the server does by itself now and then.

use std::time::Duration;

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::Shutdown;

/// How often the answers that were kept for retries, and whose time has run out, are forgotten.
pub const ANSWER_SWEEP_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Does a piece of blocking work every `period`, the first time at once, until the server drains.
/// A panic in the work is logged by the process's panic hook, and the next period comes anyway.
pub async fn every(period: Duration, shutdown: Shutdown, work: impl Fn() + Clone + Send + 'static) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.draining() => return,
        }
        // The only error is a panic, and the hook has logged that.
        let _ = spawn_blocking(work.clone()).await;
    }
}
