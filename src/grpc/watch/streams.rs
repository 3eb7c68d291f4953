//! All streams of the server: how many there may be, and what becomes of those that nobody reads.
//!
//! A stream is pulled by its client. While the client takes nothing, nothing of the stream runs,
//! and so it cannot see for itself that its time is over. It rests in a place that is shared with
//! a sweep, which looks for the others: what has no right any more is dropped there, with its
//! place among the streams and all it holds, and the client hears why if it ever reads on.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::stream;
use tonic::Status;

use super::{
    Standing, WatchStream,
    feed::Feed,
    places::{Place, Places},
};
use crate::{
    auth::Caller,
    grpc::{Limits, status},
};

/// A stream that has rested for less is being read.
const AT_REST: Duration = Duration::from_millis(500);

/// How long a client may pause while the state is told, which holds on to all of it.
const STATE_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The streams of a server.
#[derive(Debug)]
pub struct Streams {
    places: Places,
    standing: Arc<dyn Standing>,
    all: Mutex<Vec<Weak<Couch>>>,
}

/// Where a stream rests while its client takes nothing.
#[derive(Debug, Default)]
struct Couch(Mutex<Rest>);

#[derive(Debug, Default)]
enum Rest {
    /// The stream is being pulled, or is over.
    #[default]
    Away,
    /// It waits for its client, since then.
    Feed(Box<Feed>, Instant),
    /// It was ended in its rest.
    Ended(Status),
}

impl Streams {
    /// Room for streams within `limits`, which go on as long as `standing` lets them.
    pub fn new(limits: Limits, standing: Arc<dyn Standing>) -> Self {
        let places = Places::new(limits.max_watch_streams, limits.max_watch_streams_per_subject);
        Self { places, standing, all: Mutex::default() }
    }

    /// Ends the streams that rest and have lost their right. To be called every second or so.
    pub fn sweep(&self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|couch| match couch.upgrade() {
            Some(couch) => {
                couch.sweep();
                true
            }
            None => false,
        });
    }

    pub(super) fn place(&self, caller: &Caller) -> Result<Place, Status> {
        self.places.take(caller)
    }

    pub(in crate::grpc) const fn standing(&self) -> &Arc<dyn Standing> {
        &self.standing
    }

    /// The messages of `feed`.
    pub(super) fn stream(&self, feed: Feed) -> WatchStream {
        let couch = Arc::new(Couch::default());
        couch.rest(Box::new(feed));
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&couch));
        Box::pin(stream::unfold(couch, |couch| async {
            let mut feed = match couch.take() {
                Rest::Away => return None,
                Rest::Ended(end) => return Some((Err(end), couch)),
                Rest::Feed(feed, _) => feed,
            };
            let message = feed.next().await;
            if message.is_ok() {
                couch.rest(feed);
            }
            Some((message, couch))
        }))
    }
}

impl Couch {
    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rest(&self, feed: Box<Feed>) {
        *self.lock() = Rest::Feed(feed, Instant::now());
    }

    fn take(&self) -> Rest {
        mem::take(&mut *self.lock())
    }

    fn sweep(&self) {
        let mut rest = self.lock();
        let Rest::Feed(feed, since) = &mut *rest else { return };
        let paused = since.elapsed();
        if paused < AT_REST {
            return;
        }
        let end = match feed.check() {
            Err(end) => end,
            Ok(()) if feed.tells_state() && paused > STATE_PATIENCE => status::state_given_up(),
            Ok(()) => return,
        };
        *rest = Rest::Ended(end);
    }
}
