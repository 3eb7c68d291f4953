//! AuditService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    audit_wire as wire,
    call::begin,
    parse::{Broken, complete},
    watch::{Messages, Streams},
};
use crate::{
    auth::permit::{GetAuditEntry, ListAuditEntries, Purpose, VerifyAudit},
    domain::{audit::hex, filter::Filter},
    proto::v1::{self as pb, audit_service_server::AuditService},
    registry::{
        Registry,
        audit_log::{AuditQuery, off_thread},
        pages::page_size,
    },
};

const MAX_CHECKPOINTS: usize = 100;

/// The handlers of AuditService.
#[derive(Debug)]
pub struct Audit {
    pub(super) registry: Arc<Registry>,
    pub(super) streams: Arc<Streams>,
}

impl Audit {
    /// The handlers on `registry`, which open their streams among `streams`.
    pub const fn new(registry: Arc<Registry>, streams: Arc<Streams>) -> Self {
        Self { registry, streams }
    }
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn get_audit_entry(
        &self,
        request: Request<pb::GetAuditEntryRequest>,
    ) -> Result<Response<pb::AuditEntry>, Status> {
        let begun = begin(&self.registry, request).await?;
        let policy = self.registry.policy();
        let permit = policy.permit::<GetAuditEntry>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let sequence = sequence(&begun.message.name, &mut broken);
        let sequence = complete(sequence, broken)?;
        let found =
            off_thread(&self.registry, move |registry| registry.audit_entry(&permit, sequence));
        let found = found.await?;
        Ok(begun.response(wire::entry(&found.result), found.revision))
    }

    async fn list_audit_entries(
        &self,
        request: Request<pb::ListAuditEntriesRequest>,
    ) -> Result<Response<pb::ListAuditEntriesResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let policy = self.registry.policy();
        let permit = policy.permit::<ListAuditEntries>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let query = query(&begun.message, &mut broken);
        let query = complete(query, broken)?;
        let page =
            off_thread(&self.registry, move |registry| registry.audit_entries(&permit, &query));
        let page = page.await?;
        let message = pb::ListAuditEntriesResponse {
            audit_entries: page.entries.iter().map(wire::entry).collect(),
            next_page_token: page.next.unwrap_or_default(),
        };
        Ok(begun.response(message, page.revision))
    }

    type WatchAuditEntriesStream = Messages<pb::WatchAuditEntriesResponse>;

    async fn watch_audit_entries(
        &self,
        request: Request<pb::WatchAuditEntriesRequest>,
    ) -> Result<Response<Self::WatchAuditEntriesStream>, Status> {
        self.watch(request).await
    }

    async fn verify_audit_entries(
        &self,
        request: Request<pb::VerifyAuditEntriesRequest>,
    ) -> Result<Response<pb::VerifyAuditEntriesResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let policy = self.registry.policy();
        let permit = policy.permit::<VerifyAudit>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let checkpoints = &begun.message.checkpoints;
        if checkpoints.len() > MAX_CHECKPOINTS {
            broken.add("checkpoints", format!("give at most {MAX_CHECKPOINTS} of them"));
        }
        let kept = checkpoints.iter().take(MAX_CHECKPOINTS).enumerate();
        let kept: Vec<_> = kept
            .filter_map(|(at, kept)| {
                broken.take(&format!("checkpoints[{at}]"), wire::checkpoint_of(kept))
            })
            .collect();
        broken.refuse()?;
        let found =
            off_thread(&self.registry, move |registry| registry.verify_audit(&permit, &kept));
        let found = found.await?;
        let message = pb::VerifyAuditEntriesResponse {
            intact: found.fault.is_none(),
            first_fault_sequence: found
                .fault
                .as_ref()
                .map_or(0, |fault| wire::number(fault.sequence)),
            fault: found.fault.map_or_else(String::new, |fault| fault.text),
            verified_count: wire::number(found.verified),
            last_hash: hex(&found.head.hash),
            checkpoint_count: wire::number(found.checkpoints),
            public_key: hex(&found.public_key),
            removed_sequence: wire::number(found.base.sequence),
            removed_hash: hex(&found.base.hash),
            removed_checkpoints: found
                .removed
                .iter()
                .map(|kept| wire::number(kept.head.sequence))
                .collect(),
        };
        Ok(begun.response(message, found.revision))
    }

    async fn sign_audit_checkpoint(
        &self,
        request: Request<pb::SignAuditCheckpointRequest>,
    ) -> Result<Response<pb::AuditCheckpoint>, Status> {
        let begun = begin(&self.registry, request).await?;
        let policy = self.registry.policy();
        let permit = policy.permit::<VerifyAudit>(&begun.call, Purpose::Commit)?;
        let signed = self.registry.checkpoint(&permit).await?;
        Ok(begun.response(wire::checkpoint(&signed.result), signed.revision))
    }
}

fn sequence(name: &str, broken: &mut Broken) -> Option<u64> {
    let sequence = name.strip_prefix("auditEntries/").and_then(|number| number.parse().ok());
    if sequence.is_none() {
        broken.add("name", "not an audit entry's name; write auditEntries/ and its sequence");
    }
    sequence
}

fn query(message: &pb::ListAuditEntriesRequest, broken: &mut Broken) -> Option<AuditQuery> {
    let pb::ListAuditEntriesRequest { page_size: wanted, page_token, filter, order_by } = message;
    let filter = broken.keep(Filter::parse(filter));
    let page_size = broken.keep(page_size(*wanted));
    let words: Vec<_> = order_by.split_whitespace().collect();
    let newest_first = match words.as_slice() {
        [] | ["sequence", "desc"] => Some(true),
        ["sequence"] => Some(false),
        _ => {
            broken.add("order_by", "give `sequence` or `sequence desc`");
            None
        }
    };
    Some(AuditQuery {
        filter: filter?,
        newest_first: newest_first?,
        page_size: page_size?,
        page_token: page_token.clone(),
    })
}
