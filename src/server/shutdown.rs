//! The end of the server, told to everybody who must know.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Makes the pair: who ends the server, and who is told.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

/// Ends the server, first gently. Dropping it ends the server at once.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<Phase>);

/// Tells that the server is ending. Every long stream selects on [`Shutdown::draining`].
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Ended,
}

impl ShutdownTrigger {
    /// No new calls; those that run may finish, within the drain timeout.
    pub fn drain(&self) {
        self.0.send_if_modified(|phase| {
            let before = *phase;
            *phase = before.max(Phase::Draining);
            *phase != before
        });
    }

    /// Nothing more, at once.
    pub fn end(&self) {
        self.0.send_replace(Phase::Ended);
    }
}

impl Shutdown {
    /// Waits until the server takes no new calls.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits until nothing may go on.
    pub async fn ended(&self) {
        self.reached(Phase::Ended).await;
    }

    /// Whether the server takes no new calls any more.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    async fn reached(&self, phase: Phase) {
        // An error means that the trigger is gone, and with it the server's owner.
        let _ = self.0.clone().wait_for(|now| *now >= phase).await;
    }
}

/// Drains on the first SIGTERM or SIGINT and ends on the second.
///
/// # Errors
/// If the signals cannot be listened to.
pub fn on_signals(trigger: ShutdownTrigger) -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for ending in [ShutdownTrigger::drain, ShutdownTrigger::end] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            ending(&trigger);
        }
        // Until the process is over, so that the trigger lives as long.
        std::future::pending::<()>().await;
    })
}
