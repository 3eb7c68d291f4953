//! Word to systemd, for units of `Type=notify` (sd_notify(3)). Without systemd nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service can be used.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The service is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The service is alive. To be said within [`watchdog_interval`].
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Gives signs of life for as long as the runtime does its work; never ends.
pub async fn stay_alive() {
    let Some(period) = watchdog_interval() else { return std::future::pending().await };
    loop {
        alive();
        tokio::time::sleep(period).await;
    }
}

/// How often a sign of life is wanted: half of the unit's `WatchdogSec`, as sd_watchdog_enabled(3)
/// recommends. `None` if none is wanted.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
