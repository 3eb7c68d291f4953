//! One stream: pulls its source forward, and ends when it must.

use std::{pin::Pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::{Source, Standing, streams::Seat};
use crate::{
    auth::{Caller, layer::Rejection},
    grpc::status,
    registry::{Kind, watch::Stop},
};

/// No timer is set nearer or further ahead.
const NEAR: Duration = Duration::from_millis(50);
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// A source, and what its stream rests on.
#[derive(Debug)]
pub(super) struct Feed<S> {
    source: S,
    standing: Arc<dyn Standing>,
    seat: Seat,
    /// When the caller's token comes to its end.
    good_until: Instant,
    progress_interval: Duration,
    /// When the client wants to hear of progress again.
    progress_due: Instant,
    /// Set to the earlier of the two, or earlier still.
    timer: Pin<Box<Sleep>>,
    /// What is said last, once the rest has been said.
    farewell: Option<Status>,
}

impl<S: Source> Feed<S> {
    pub fn new(
        source: S,
        standing: Arc<dyn Standing>,
        seat: Seat,
        progress_interval: Duration,
    ) -> Self {
        let good_until = good_until(&seat.caller);
        let progress_due = Instant::now() + progress_interval;
        Self {
            source,
            standing,
            seat,
            good_until,
            progress_interval,
            progress_due,
            timer: Box::pin(sleep_until(good_until.min(progress_due))),
            farewell: None,
        }
    }

    /// Reads what the start needs from the store, if anything.
    ///
    /// # Errors
    /// OUT_OF_RANGE if that is no longer kept.
    pub async fn start(&mut self) -> Result<(), Status> {
        if self.source.is_behind() {
            self.source.catch_up().await?;
        }
        Ok(())
    }

    /// Whether it is still telling the state at its start, and so holds on to it.
    pub fn tells_state(&self) -> bool {
        self.source.tells_state()
    }

    /// The next message, once there is one.
    ///
    /// # Errors
    /// How the stream ends.
    pub async fn next(&mut self) -> Result<S::Message, Status> {
        if let Some(farewell) = self.farewell.take() {
            return Err(farewell);
        }
        let mut batch = S::Batch::default();
        loop {
            // What it rests on does not change unheard, but for the time.
            let rung = self.source.hears();
            if rung && self.standing.is_draining() {
                return self.leave();
            }
            if rung || Instant::now() >= self.good_until {
                self.check()?;
            }
            let stop = self.source.advance(&mut batch)?;
            if self.source.has_news(&batch, stop) || self.owes_progress() {
                return Ok(self.message(batch, stop));
            }
            match stop {
                Stop::Bell => self.wait().await,
                Stop::Behind => self.source.catch_up().await?,
                Stop::Full | Stop::Synced | Stop::Turn => tokio::task::yield_now().await,
            }
        }
    }

    /// Whether the caller may go on. What he may no longer is noted for the audit; it is asked no
    /// further after that.
    ///
    /// # Errors
    /// UNAUTHENTICATED or PERMISSION_DENIED.
    pub fn check(&mut self) -> Result<(), Status> {
        let Seat { caller, address, .. } = &self.seat;
        let lost = |why: Rejection| {
            self.standing.lost(caller, *address, &why);
            Err(why.into())
        };
        if let Err(error) = self.standing.check(caller, Timestamp::now()) {
            return lost(Rejection::Token(error));
        }
        if Instant::now() >= self.good_until {
            // The clock on the wall is behind the one that the timer goes by.
            self.good_until = good_until(caller);
        }
        match self.source.renew() {
            Ok(()) => Ok(()),
            Err(error) => match error.kind {
                Kind::Denied(denial) => lost(Rejection::Denied(denial)),
                _ => Err(error.into()),
            },
        }
    }

    fn owes_progress(&self) -> bool {
        !self.tells_state() && Instant::now() >= self.progress_due
    }

    fn message(&mut self, batch: S::Batch, stop: Stop) -> S::Message {
        self.progress_due = Instant::now() + self.progress_interval;
        self.source.message(batch, stop)
    }

    /// A last word about progress, and then the end.
    fn leave(&mut self) -> Result<S::Message, Status> {
        let end = status::draining();
        if self.tells_state() {
            return Err(end);
        }
        self.farewell = Some(end);
        Ok(self.message(S::Batch::default(), Stop::Bell))
    }

    async fn wait(&mut self) {
        let until = self.good_until.min(self.progress_due);
        // Too early is as good, and costs less than to move it after each message.
        if self.timer.is_elapsed() || self.timer.deadline() > until {
            self.timer.as_mut().reset(until);
        }
        tokio::select! {
            () = self.source.rung() => {}
            () = self.timer.as_mut() => {}
        }
    }
}

/// When to look whether the caller's token has come to its end.
fn good_until(caller: &Caller) -> Instant {
    let left = Duration::try_from(Timestamp::now().duration_until(caller.good_until));
    Instant::now() + left.unwrap_or_default().clamp(NEAR, FAR)
}
