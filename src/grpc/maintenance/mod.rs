//! MaintenanceService.

mod backup;
mod records;
mod restore;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use self::{
    backup::{BackupStream, Transfer},
    restore::{Options, Upload},
};
use super::{TransferLimits, call::begin, convert, status, tenure::Tenure, watch::Standing};
use crate::{
    auth::permit::{Purpose, ReadStatus, RestoreBackup, TakeBackup},
    proto::v1::{self as pb, maintenance_service_server::MaintenanceService},
    registry::Registry,
};

/// The handlers of MaintenanceService.
#[derive(Debug)]
pub struct Maintenance {
    registry: Arc<Registry>,
    standing: Arc<dyn Standing>,
    limits: TransferLimits,
    /// The places for backups.
    backups: Arc<Semaphore>,
}

impl Maintenance {
    /// The handlers on `registry`; backups and restores go on as long as `standing` lets them.
    pub fn new(
        registry: Arc<Registry>,
        standing: Arc<dyn Standing>,
        limits: TransferLimits,
    ) -> Self {
        let backups = Arc::new(Semaphore::new(limits.max_backups));
        Self { registry, standing, limits, backups }
    }
}

#[tonic::async_trait]
impl MaintenanceService for Maintenance {
    type BackupStream = BackupStream;

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

    async fn backup(
        &self,
        request: Request<pb::BackupRequest>,
    ) -> Result<Response<BackupStream>, Status> {
        let begun = begin(&self.registry, request).await?;
        let permit = self.registry.policy().permit::<TakeBackup>(&begun.call, Purpose::Commit)?;
        let place = Arc::clone(&self.backups)
            .try_acquire_owned()
            .map_err(|_| status::too_many_streams("limits.max_backups", self.limits.max_backups))?;
        let backup = self.registry.backup(&permit).await?;
        let revision = backup.inventory().revision;
        let (registry, standing) = (Arc::clone(&self.registry), Arc::clone(&self.standing));
        let tenure = Tenure::new(registry, standing, begun.call.clone());
        let patience = self.limits.patience;
        let transfer = Transfer { backup, tenure, patience, _place: place };
        Ok(begun.response(transfer.stream(), revision))
    }

    async fn restore(
        &self,
        request: Request<Streaming<pb::RestoreRequest>>,
    ) -> Result<Response<pb::RestoreResponse>, Status> {
        let mut begun = begin(&self.registry, request).await?;
        self.registry.policy().allow::<RestoreBackup>(&begun.call, Purpose::Commit)?;
        let (registry, standing) = (Arc::clone(&self.registry), Arc::clone(&self.standing));
        let mut tenure = Tenure::new(registry, standing, begun.call.clone());
        let stream = &mut begun.message;
        let first = restore::next(stream, &mut tenure, self.limits.patience).await?;
        let options = Options::of(first.as_ref())?;
        let upload = Upload::new(self.registry.intake()?, self.limits);
        let received =
            upload.receive(first.unwrap_or_default(), stream, &mut tenure, options.signer).await?;
        let most = self.limits.max_restore_changes;
        let (response, revision) =
            received.restore(&self.registry, &begun.call, options, most).await?;
        Ok(begun.response(response, revision))
    }
}
