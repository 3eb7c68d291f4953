//! All streams of the server: how many there may be, and what becomes of those that nobody reads.
//!
//! A stream is pulled by its client. While the client takes nothing, nothing of the stream runs,
//! and so it cannot see for itself that its time is over. It rests in a place that is shared with
//! a sweep, which looks for the others: what has no right any more is dropped there, with its
//! place among the streams and all it holds, and the client hears why if it ever reads on.

use std::{
    fmt, mem,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::{Stream, stream};
use tonic::{Extensions, Status};

use super::{
    Source, Standing,
    feed::Feed,
    places::{Place, Places},
};
use crate::{
    auth::Caller,
    grpc::{Limits, call::identity, status},
    telemetry::Peer,
};

/// A stream that has rested for less is being read.
const AT_REST: Duration = Duration::from_millis(500);

/// How long a client may pause while the state is told, which holds on to all of it.
const STATE_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The messages of one stream.
pub type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// The streams of a server, of whatever they tell.
#[derive(Debug)]
pub struct Streams {
    places: Places,
    standing: Arc<dyn Standing>,
    all: Mutex<Vec<Weak<dyn Resting>>>,
}

/// Whose stream it is, and its place among the others.
#[derive(Debug)]
pub(super) struct Seat {
    /// Who opened it.
    pub caller: Arc<Caller>,
    /// From where, if that is known.
    pub address: Option<IpAddr>,
    _place: Place,
}

/// A stream that may be at rest.
trait Resting: fmt::Debug + Send + Sync {
    /// Ends it if it rests and has lost its right.
    fn sweep(&self);
}

/// Where a stream rests while its client takes nothing.
#[derive(Debug)]
struct Couch<S>(Mutex<Rest<S>>);

#[derive(Debug)]
enum Rest<S> {
    /// The stream is being pulled, or is over.
    Away,
    /// It waits for its client, since then.
    Feed(Box<Feed<S>>, Instant),
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

    /// A seat for whoever sent the request that these extensions came with.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED if there is none.
    pub(super) fn seat(&self, extensions: &Extensions) -> Result<Seat, Status> {
        let (caller, _) = identity(extensions)?;
        let place = self.places.take(&caller)?;
        let address = extensions.get().map(|Peer(address)| address.ip());
        Ok(Seat { caller, address, _place: place })
    }

    /// The messages of `source`, for whoever has this seat.
    ///
    /// # Errors
    /// What is wrong with the start, which is the answer and not the first message.
    pub(super) async fn open<S: Source>(
        &self,
        seat: Seat,
        source: S,
        progress_interval: Duration,
    ) -> Result<impl Stream<Item = Result<S::Message, Status>> + Send + use<S>, Status> {
        let standing = Arc::clone(&self.standing);
        let mut feed = Feed::new(source, standing, seat, progress_interval);
        feed.start().await?;
        Ok(self.stream(feed))
    }

    pub(in crate::grpc) const fn standing(&self) -> &Arc<dyn Standing> {
        &self.standing
    }

    fn stream<S: Source>(
        &self,
        feed: Feed<S>,
    ) -> impl Stream<Item = Result<S::Message, Status>> + Send + use<S> {
        let couch = Arc::new(Couch(Mutex::new(Rest::Away)));
        couch.rest(Box::new(feed));
        let resting = Arc::clone(&couch) as Arc<dyn Resting>;
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&resting));
        stream::unfold(couch, |couch| async {
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
        })
    }
}

impl<S> Couch<S> {
    fn lock(&self) -> MutexGuard<'_, Rest<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rest(&self, feed: Box<Feed<S>>) {
        *self.lock() = Rest::Feed(feed, Instant::now());
    }

    fn take(&self) -> Rest<S> {
        mem::replace(&mut *self.lock(), Rest::Away)
    }
}

impl<S: Source> Resting for Couch<S> {
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
