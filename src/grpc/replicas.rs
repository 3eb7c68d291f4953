//! ReplicaService.

use std::sync::Arc;

use tokio::{task::spawn_blocking, time::Instant};
use tonic::{Request, Response, Status};

use super::{
    call::begin,
    convert,
    parse::{Broken, complete, span},
    replica_wire as wire, status,
};
use crate::{
    auth::permit::{
        DeleteReplica, GetReplica, ListReplicas, Purpose, ReportReplica, WaitForReplicas,
    },
    domain::{filter::Filter, replica::View},
    proto::v1::{self as pb, replica_service_server::ReplicaService},
    registry::{Registry, pages},
};

/// The handlers of ReplicaService.
#[derive(Debug)]
pub struct Replicas {
    registry: Arc<Registry>,
}

impl Replicas {
    /// The handlers on `registry`.
    pub const fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

#[tonic::async_trait]
impl ReplicaService for Replicas {
    async fn report_replica(
        &self,
        request: Request<pb::ReportReplicaRequest>,
    ) -> Result<Response<pb::ReportReplicaResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let policy = self.registry.policy();
        policy.allow::<ReportReplica>(&begun.call, Purpose::Commit)?;
        let pb::ReportReplicaRequest { name, report } = &begun.message;
        let mut broken = Broken::default();
        let id = wire::replica_id(name, &mut broken);
        let report = match report {
            Some(report) => wire::report(report, "report", &mut broken),
            None => {
                broken.add("report", "the report is missing; say how the server is");
                None
            }
        };
        let (id, report) = complete(id.zip(report), broken)?;
        let permit = policy.permit_replica::<ReportReplica>(&begun.call, id)?;
        let told = self.registry.report_replica(&permit, report).await?;
        let message = pb::ReportReplicaResponse {
            revision: told.revision.as_i64(),
            report_interval: Some(convert::duration(told.interval)),
            staleness_lease: Some(convert::duration(told.settings.values.staleness_lease)),
            staleness_policy: convert::staleness_policy(told.settings.values.staleness_policy)
                .into(),
        };
        Ok(begun.response(message, told.revision))
    }

    async fn get_replica(
        &self,
        request: Request<pb::GetReplicaRequest>,
    ) -> Result<Response<pb::Replica>, Status> {
        let begun = begin(&self.registry, request).await?;
        let policy = self.registry.policy();
        policy.allow::<GetReplica>(&begun.call, Purpose::Commit)?;
        let mut broken = Broken::default();
        let id = wire::replica_id(&begun.message.name, &mut broken);
        let permit = policy.permit_replica::<GetReplica>(&begun.call, complete(id, broken)?)?;
        let found = self.registry.replica(&permit)?;
        Ok(begun.response(wire::replica(&found), self.registry.revision()))
    }

    async fn list_replicas(
        &self,
        request: Request<pb::ListReplicasRequest>,
    ) -> Result<Response<pb::ListReplicasResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let permit = self.registry.policy().permit::<ListReplicas>(&begun.call, Purpose::Commit)?;
        let pb::ListReplicasRequest { page_size, page_token, filter } = &begun.message;
        let mut broken = Broken::default();
        let filter = broken.keep(Filter::<View>::parse(filter));
        let size = broken.keep(pages::page_size(*page_size));
        let (filter, size) = complete(filter.zip(size), broken)?;
        let (registry, token) = (Arc::clone(&self.registry), page_token.clone());
        let page = spawn_blocking(move || registry.list_replicas(&permit, &filter, size, &token))
            .await
            .map_err(|error| status::internal(&error.to_string()))??;
        let message = pb::ListReplicasResponse {
            replicas: page.replicas.iter().map(wire::replica).collect(),
            next_page_token: page.next.unwrap_or_default(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
        };
        Ok(begun.response(message, self.registry.revision()))
    }

    async fn delete_replica(
        &self,
        request: Request<pb::DeleteReplicaRequest>,
    ) -> Result<Response<()>, Status> {
        let begun = begin(&self.registry, request).await?;
        let policy = self.registry.policy();
        policy.allow::<DeleteReplica>(&begun.call, Purpose::Commit)?;
        let pb::DeleteReplicaRequest { name, allow_missing } = &begun.message;
        let mut broken = Broken::default();
        let id = wire::replica_id(name, &mut broken);
        let permit = policy.permit_replica::<DeleteReplica>(&begun.call, complete(id, broken)?)?;
        self.registry.delete_replica(&permit, *allow_missing).await?;
        Ok(begun.response((), self.registry.revision()))
    }

    async fn wait_for_convergence(
        &self,
        request: Request<pb::WaitForConvergenceRequest>,
    ) -> Result<Response<pb::WaitForConvergenceResponse>, Status> {
        let begun = begin(&self.registry, request).await?;
        let permit =
            self.registry.policy().permit::<WaitForReplicas>(&begun.call, Purpose::Commit)?;
        let pb::WaitForConvergenceRequest { revision, timeout } = begun.message;
        let mut broken = Broken::default();
        let revision = wire::revision(revision, "revision", &mut broken);
        let timeout = timeout.and_then(|timeout| span(timeout, "timeout", &mut broken));
        broken.refuse()?;
        let patience = begun.patience();
        let until = Instant::now() + timeout.map_or(patience, |timeout| timeout.min(patience));
        let found = self.registry.wait_for_convergence(&permit, revision, until).await?;
        Ok(begun.response(wire::convergence(&found), self.registry.revision()))
    }
}
