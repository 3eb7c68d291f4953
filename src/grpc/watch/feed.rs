//! One stream: pulls its watcher forward, and ends when it must.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::{Standing, encode::Batch, places::Place};
use crate::{
    auth::{Caller, layer::Rejection},
    domain::Revision,
    grpc::status,
    registry::watch::{Sink as _, Stop, Watcher},
};

/// No timer is set nearer or further ahead.
const NEAR: Duration = Duration::from_millis(50);
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// A watcher, and what its stream rests on.
#[derive(Debug)]
pub(super) struct Feed {
    watcher: Watcher,
    standing: Arc<dyn Standing>,
    caller: Arc<Caller>,
    /// When the caller's token comes to its end.
    good_until: Instant,
    progress_interval: Duration,
    /// When the client wants to hear of progress again.
    progress_due: Instant,
    /// The revision of which the client has a part and waits for the rest, if there is any.
    unfinished: Option<Revision>,
    /// Set to the earlier of the two, or earlier still.
    timer: Pin<Box<Sleep>>,
    /// What is said last, once the rest has been said.
    farewell: Option<Status>,
    _place: Place,
}

/// What goes to the client next: a message on the wire, or several.
type Message = Result<Bytes, Status>;

impl Feed {
    pub fn new(
        watcher: Watcher,
        standing: Arc<dyn Standing>,
        caller: Arc<Caller>,
        progress_interval: Duration,
        place: Place,
    ) -> Self {
        let good_until = good_until(&caller);
        let progress_due = Instant::now() + progress_interval;
        Self {
            watcher,
            standing,
            caller,
            good_until,
            progress_interval,
            progress_due,
            unfinished: None,
            timer: Box::pin(sleep_until(good_until.min(progress_due))),
            farewell: None,
            _place: place,
        }
    }

    /// Reads what the start needs from the store, if anything.
    ///
    /// # Errors
    /// OUT_OF_RANGE if that is no longer kept.
    pub async fn start(&mut self) -> Result<(), Status> {
        if self.watcher.is_behind() {
            self.watcher.catch_up().await?;
        }
        Ok(())
    }

    /// Whether it is still telling the state at its start, and so holds on to it.
    pub fn tells_state(&self) -> bool {
        self.watcher.progress().is_none()
    }

    /// The next message, once there is one.
    ///
    /// # Errors
    /// How the stream ends.
    pub async fn next(&mut self) -> Message {
        if let Some(farewell) = self.farewell.take() {
            return Err(farewell);
        }
        let mut batch = Batch::default();
        loop {
            // What it rests on does not change unheard, but for the time.
            let rung = self.watcher.hears();
            if rung && self.standing.is_draining() {
                return self.leave();
            }
            if rung || Instant::now() >= self.good_until {
                self.check()?;
            }
            let stop = self.watcher.advance(&mut batch)?;
            let synced = stop == Stop::Synced;
            if !batch.is_empty() || synced || self.owes_progress() {
                return Ok(self.message(batch, synced));
            }
            match stop {
                Stop::Bell => self.wait().await,
                Stop::Behind => self.watcher.catch_up().await?,
                Stop::Full | Stop::Synced | Stop::Turn => tokio::task::yield_now().await,
            }
        }
    }

    /// Whether the caller may go on.
    ///
    /// # Errors
    /// UNAUTHENTICATED or PERMISSION_DENIED.
    pub fn check(&mut self) -> Result<(), Status> {
        self.standing.check(&self.caller, Timestamp::now()).map_err(Rejection::Token)?;
        if Instant::now() >= self.good_until {
            // The clock on the wall is behind the one that the timer goes by.
            self.good_until = good_until(&self.caller);
        }
        Ok(self.watcher.renew()?)
    }

    fn owes_progress(&self) -> bool {
        let Some(progress) = self.watcher.progress() else { return false };
        // The rest may be nothing that this client is told of.
        let finished = self.unfinished.is_some_and(|revision| revision <= progress);
        finished || Instant::now() >= self.progress_due
    }

    fn message(&mut self, batch: Batch, synced: bool) -> Bytes {
        self.progress_due = Instant::now() + self.progress_interval;
        let progress = self.watcher.progress();
        self.unfinished = batch
            .last()
            .or(self.unfinished)
            .filter(|revision| progress.is_none_or(|progress| progress < *revision));
        batch.finish(progress, self.unfinished.is_some(), synced)
    }

    /// A last word about progress, and then the end.
    fn leave(&mut self) -> Message {
        let end = status::draining();
        if self.tells_state() {
            return Err(end);
        }
        self.farewell = Some(end);
        Ok(self.message(Batch::default(), false))
    }

    async fn wait(&mut self) {
        let until = self.good_until.min(self.progress_due);
        // Too early is as good, and costs less than to move it after each message.
        if self.timer.is_elapsed() || self.timer.deadline() > until {
            self.timer.as_mut().reset(until);
        }
        tokio::select! {
            () = self.watcher.rung() => {}
            () = self.timer.as_mut() => {}
        }
    }
}

/// When to look whether the caller's token has come to its end.
fn good_until(caller: &Caller) -> Instant {
    let left = Duration::try_from(Timestamp::now().duration_until(caller.good_until));
    Instant::now() + left.unwrap_or_default().clamp(NEAR, FAR)
}
