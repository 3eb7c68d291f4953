//! WatchAllowedPartners: one request, then a stream for as long as its caller may have it.
//!
//! There is no task and no channel to a stream: it is pulled, by the connection, when the client
//! has room for more. What it holds meanwhile is its place in the log.

mod encode;
mod feed;
mod places;
mod ready;
mod streams;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::stream;
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use self::feed::Feed;
pub use self::{ready::ready, streams::Streams};
use super::{
    call::{begin, identity},
    parse::{Broken, complete},
    partners::Partners,
};
use crate::{
    auth::{
        Caller,
        permit::{Purpose, WatchPartners},
        token::TokenError,
    },
    domain::{Revision, filter::Filter},
    proto::{v1 as pb, watch::WatchAllowedPartnersResponse},
    registry::watch::{Start, WatchQuery},
};

/// The messages of one watch, so far as they are tonic's to encode: none. See [`ready`].
pub type WatchStream = stream::Empty<Result<WatchAllowedPartnersResponse, Status>>;

/// How often a stream tells of progress, unless it is told.
const PROGRESS: Duration = Duration::from_secs(30);
const LEAST_PROGRESS: Duration = Duration::from_secs(1);
const MOST_PROGRESS: Duration = Duration::from_secs(10 * 60);

/// What a stream rests on beside the roles. Whoever implements it rings the registry's bell
/// ([`crate::registry::Registry::ring`]) when an answer may have changed, but for a token that
/// comes to its end.
pub trait Standing: fmt::Debug + Send + Sync + 'static {
    /// Whether the server takes no new calls any more.
    fn is_draining(&self) -> bool;

    /// Whether `caller` is still who his token says.
    ///
    /// # Errors
    /// Why he is not.
    fn check(&self, caller: &Caller, now: Timestamp) -> Result<(), TokenError>;
}

/// What a client asks for.
#[derive(Debug)]
struct Wish {
    query: WatchQuery,
    progress_interval: Duration,
}

impl Partners {
    pub(super) async fn watch(
        &self,
        request: Request<pb::WatchAllowedPartnersRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let (caller, _) = identity(request.extensions())?;
        let place = self.streams.place(&caller)?;
        let begun = begin(&self.registry, request).await?;
        let permit =
            self.registry.policy().permit::<WatchPartners>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let wish = Wish::parse(&begun.message, &mut broken);
        let Wish { query, progress_interval } = complete(wish, broken)?;
        let watcher = self.registry.watch(&permit, begun.call.clone(), query)?;
        let standing = Arc::clone(self.streams.standing());
        let mut feed = Feed::new(watcher, standing, caller, progress_interval, place);
        // What is wrong with the start is the answer, not the first message.
        feed.start().await?;
        let revision = self.registry.revision();
        let mut response = begun.response(stream::empty(), revision);
        ready::send_as_it_is(&mut response, self.streams.stream(feed));
        Ok(response)
    }
}

impl Wish {
    fn parse(message: &pb::WatchAllowedPartnersRequest, broken: &mut Broken) -> Option<Self> {
        let pb::WatchAllowedPartnersRequest { filter, start_revision, progress_interval } = message;
        let filter = broken.keep(Filter::parse(filter));
        let start = match u64::try_from(*start_revision) {
            Ok(0) => Some(Start::State),
            Ok(revision) => Some(Start::After(Revision::new(revision))),
            Err(_) => {
                let text = "not a revision; give the last `progress_revision`, or 0 for the state";
                broken.add("start_revision", text);
                None
            }
        };
        let progress_interval = interval(progress_interval.as_ref(), broken);
        Some(Self {
            query: WatchQuery { filter: filter?, start: start? },
            progress_interval: progress_interval?,
        })
    }
}

fn interval(asked: Option<&prost_types::Duration>, broken: &mut Broken) -> Option<Duration> {
    let Some(asked) = asked else { return Some(PROGRESS) };
    let interval = Duration::try_from(*asked).ok();
    let interval = interval.filter(|it| (LEAST_PROGRESS..=MOST_PROGRESS).contains(it));
    if interval.is_none() {
        broken.add("progress_interval", "out of range; give 1 s to 10 min, or leave it out");
    }
    interval
}
