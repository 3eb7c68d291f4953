//! MaintenanceService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{call::begin, convert, status};
use crate::{
    auth::permit::{Purpose, ReadStatus},
    proto::v1::{self as pb, maintenance_service_server::MaintenanceService},
    registry::Registry,
};

/// The handlers of MaintenanceService.
#[derive(Debug)]
pub struct Maintenance {
    registry: Arc<Registry>,
}

impl Maintenance {
    /// The handlers on `registry`.
    pub const fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

#[tonic::async_trait]
impl MaintenanceService for Maintenance {
    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let permit = self.registry.policy().permit::<ReadStatus>(&begun.call, Purpose::Commit)?;
        let registry = Arc::clone(&self.registry);
        let now = tokio::task::spawn_blocking(move || registry.status(&permit))
            .await
            .map_err(|error| status::internal(&error.to_string()))?;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let revision = now.revision;
        let message = pb::StatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            revision: revision.as_i64(),
            oldest_revision: now.oldest_revision.as_i64(),
            partner_count: count(now.partners),
            deleted_partner_count: count(now.deleted_partners),
            domain_count: count(now.domains),
            start_time: Some(convert::timestamp(now.start_time)),
            store: now.store.into(),
            store_size_bytes: i64::try_from(now.store_size_bytes).unwrap_or(i64::MAX),
            writable: now.read_only_reason.is_none(),
            read_only_reason: now
                .read_only_reason
                .map_or_else(String::new, |_| "the store failed; the server's log says why".into()),
        };
        Ok(begun.response(message, revision))
    }
}
