//! WatchAuditEntries: what happens, as the audit keeps it.

use std::time::Duration;

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Messages, Source, interval};
use crate::{
    auth::permit::{Purpose, WatchAudit},
    domain::{audit::AuditEntry, filter::Filter},
    grpc::{
        audit::Audit,
        audit_wire as wire,
        call::begin,
        parse::{Broken, complete},
    },
    proto::v1 as pb,
    registry::{Error, audit_log::AuditWatcher, watch::Stop},
};

/// The messages of one watch.
pub type AuditStream = Messages<pb::WatchAuditEntriesResponse>;

/// A message takes no more entries than this, and none after it weighs so many bytes.
const MAX_ENTRIES: usize = 512;
const MAX_BYTES: usize = 256 << 10;

/// What a client asks for.
#[derive(Debug)]
struct Wish {
    filter: Filter<AuditEntry>,
    /// The entry to begin after; `None` for the last one there is.
    start: Option<u64>,
    progress_interval: Duration,
}

/// A watcher, and whether its client has heard anything yet. The first message comes at once: who
/// follows from now on learns from it where he can go on.
#[derive(Debug)]
struct AuditEntries {
    watcher: AuditWatcher,
    has_begun: bool,
}

/// A message in the making.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<pb::AuditEntry>,
    bytes: usize,
}

impl Audit {
    pub(in crate::grpc) async fn watch(
        &self,
        request: Request<pb::WatchAuditEntriesRequest>,
    ) -> Result<Response<AuditStream>, Status> {
        let seat = self.streams.seat(request.extensions())?;
        let begun = begin(&self.registry, request).await?;
        let permit = self.registry.policy().permit::<WatchAudit>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let wish = Wish::parse(&begun.message, &mut broken);
        let Wish { filter, start, progress_interval } = complete(wish, broken)?;
        let watcher = self.registry.watch_audit(&permit, begun.call.clone(), filter, start)?;
        let source = AuditEntries { watcher, has_begun: false };
        let stream = self.streams.open(seat, source, progress_interval).await?;
        let stream: AuditStream = Box::pin(stream);
        Ok(begun.response(stream, self.registry.revision()))
    }
}

impl Wish {
    fn parse(message: &pb::WatchAuditEntriesRequest, broken: &mut Broken) -> Option<Self> {
        let pb::WatchAuditEntriesRequest { filter, start_sequence, progress_interval } = message;
        let filter = broken.keep(Filter::parse(filter));
        let start = u64::try_from(*start_sequence).ok();
        if start.is_none() {
            let text = "not a sequence; give the last `progress_sequence`, or 0 for now";
            broken.add("start_sequence", text);
        }
        let progress_interval = interval(progress_interval.as_ref(), broken);
        Some(Self {
            filter: filter?,
            start: Some(start?).filter(|start| *start > 0),
            progress_interval: progress_interval?,
        })
    }
}

impl Source for AuditEntries {
    type Batch = Batch;
    type Message = pb::WatchAuditEntriesResponse;

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
        self.watcher.read().await
    }

    async fn rung(&mut self) {
        self.watcher.rung().await;
    }

    fn advance(&mut self, batch: &mut Batch) -> Result<Stop, Error> {
        while batch.entries.len() < MAX_ENTRIES && batch.bytes < MAX_BYTES {
            let Some(entry) = self.watcher.next_entry() else {
                return Ok(if self.is_behind() { Stop::Behind } else { Stop::Bell });
            };
            let entry = wire::entry(&entry);
            batch.bytes += entry.encoded_len();
            batch.entries.push(entry);
        }
        Ok(Stop::Full)
    }

    fn has_news(&self, batch: &Batch, _: Stop) -> bool {
        !self.has_begun || !batch.entries.is_empty()
    }

    fn tells_state(&self) -> bool {
        false
    }

    fn message(&mut self, batch: Batch, _: Stop) -> pb::WatchAuditEntriesResponse {
        self.has_begun = true;
        pb::WatchAuditEntriesResponse {
            audit_entries: batch.entries,
            progress_sequence: wire::number(self.watcher.progress()),
        }
    }
}
