//! WatchAllowedPartners: the partners and settings, and what becomes of them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tonic::{Request, Response, Status};

use super::{Messages, Source, encode::Batch, interval, ready};
use crate::{
    auth::permit::{Purpose, WatchPartners},
    domain::{Revision, filter::Filter},
    grpc::{
        call::begin,
        parse::{Broken, complete},
        partners::Partners,
    },
    proto::{v1 as pb, watch::WatchAllowedPartnersResponse},
    registry::{
        Error,
        watch::{Sink as _, Start, Stop, WatchQuery, Watcher},
    },
};

/// The messages of one watch, so far as they are tonic's to encode: none. See [`ready`].
pub type WatchStream = Messages<WatchAllowedPartnersResponse>;

/// What a client asks for.
#[derive(Debug)]
struct Wish {
    query: WatchQuery,
    progress_interval: Duration,
}

/// A watcher, and how far its client has been told.
#[derive(Debug)]
struct PartnerChanges {
    watcher: Watcher,
    /// The revision of which the client has a part and waits for the rest, if there is any.
    unfinished: Option<Revision>,
}

impl Partners {
    pub(in crate::grpc) async fn watch(
        &self,
        request: Request<pb::WatchAllowedPartnersRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let seat = self.streams.seat(request.extensions())?;
        let begun = begin(&self.registry, request).await?;
        let permit =
            self.registry.policy().permit::<WatchPartners>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let wish = Wish::parse(&begun.message, &mut broken);
        let Wish { query, progress_interval } = complete(wish, broken)?;
        let watcher = self.registry.watch(&permit, begun.call.clone(), query)?;
        let source = PartnerChanges { watcher, unfinished: None };
        let stream = self.streams.open(seat, source, progress_interval).await?;
        let nothing: WatchStream = Box::pin(stream::empty());
        let mut response = begun.response(nothing, self.registry.revision());
        ready::send_as_it_is(&mut response, stream);
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

impl Source for PartnerChanges {
    type Batch = Batch;
    /// A message on the wire, or several.
    type Message = Bytes;

    fn hears(&mut self) -> bool {
        self.watcher.hears()
    }

    fn renew(&mut self) -> Result<(), Error> {
        self.watcher.renew()
    }

    fn is_behind(&self) -> bool {
        self.watcher.is_behind()
    }

    async fn catch_up(&mut self) -> Result<(), Error> {
        self.watcher.catch_up().await
    }

    async fn rung(&mut self) {
        self.watcher.rung().await;
    }

    fn advance(&mut self, batch: &mut Batch) -> Result<Stop, Error> {
        self.watcher.advance(batch)
    }

    fn has_news(&self, batch: &Batch, stop: Stop) -> bool {
        // The rest may be nothing that this client is told of.
        let is_finished = |progress| self.unfinished.is_some_and(|revision| revision <= progress);
        !batch.is_empty()
            || stop == Stop::Synced
            || self.watcher.progress().is_some_and(is_finished)
    }

    fn tells_state(&self) -> bool {
        self.watcher.progress().is_none()
    }

    fn message(&mut self, batch: Batch, stop: Stop) -> Bytes {
        let progress = self.watcher.progress();
        self.unfinished = batch
            .last()
            .or(self.unfinished)
            .filter(|revision| progress.is_none_or(|progress| progress < *revision));
        batch.finish(progress, self.unfinished.is_some(), stop == Stop::Synced)
    }
}
