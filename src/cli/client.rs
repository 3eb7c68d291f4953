//! The client: every RPC with its token, deadline and reason, tried again when that is safe.
//!
//! Every mutating request carries a fresh `request_id` (AIP-155) and every other one changes
//! nothing, so a request whose answer got lost can be sent again.

use std::{future::Future, time::Duration};

use futures_util::Stream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::{Ascii, Binary, MetadataValue},
    transport::Channel,
};
use tonic_types::StatusExt;
use uuid::Uuid;

use super::failure::{Failure, Outcome};
use crate::{
    client::{Remote, is_lost},
    proto::v1::{
        self, allowed_partner_service_client::AllowedPartnerServiceClient,
        audit_service_client::AuditServiceClient,
        federation_settings_service_client::FederationSettingsServiceClient,
        maintenance_service_client::MaintenanceServiceClient,
        replica_service_client::ReplicaServiceClient,
        revocation_service_client::RevocationServiceClient, role_service_client::RoleServiceClient,
    },
};

/// Larger than the largest answer: 1,000 partners of 1,000 domains each.
const MAX_ANSWER_BYTES: usize = 512 * 1024 * 1024;

/// How often a request is tried in all.
const ATTEMPTS: u32 = 7;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A client of one service, cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    partners: AllowedPartnerServiceClient<Channel>,
    settings: FederationSettingsServiceClient<Channel>,
    roles: RoleServiceClient<Channel>,
    revocations: RevocationServiceClient<Channel>,
    audit: AuditServiceClient<Channel>,
    maintenance: MaintenanceServiceClient<Channel>,
    replicas: ReplicaServiceClient<Channel>,
    headers: Headers,
}

/// What goes with every request.
#[derive(Clone)]
struct Headers {
    timeout: Duration,
    authorization: Option<MetadataValue<Ascii>>,
    reason: Option<MetadataValue<Ascii>>,
    /// A reason that is not ASCII.
    reason_bin: Option<MetadataValue<Binary>>,
}

impl std::fmt::Debug for Headers {
    /// Leaves out the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Headers").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the service.
    ///
    /// # Errors
    /// The service cannot be reached, or there is no usable token or reason.
    pub async fn connect(
        remote: &Remote,
        timeout: Duration,
        reason: Option<&str>,
    ) -> Outcome<Self> {
        let headers = Headers::new(remote, timeout, reason)?;
        let channel = remote.connect().await?;
        Ok(Self {
            partners: AllowedPartnerServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES),
            settings: FederationSettingsServiceClient::new(channel.clone()),
            roles: RoleServiceClient::new(channel.clone()),
            revocations: RevocationServiceClient::new(channel.clone()),
            audit: AuditServiceClient::new(channel.clone()),
            maintenance: MaintenanceServiceClient::new(channel.clone()),
            replicas: ReplicaServiceClient::new(channel)
                .max_decoding_message_size(MAX_ANSWER_BYTES),
            headers,
        })
    }

    /// Calls `Backup`.
    ///
    /// # Errors
    /// What the service answers; see the RPC's comment in `proto/`.
    pub async fn backup(&self) -> Outcome<Streaming<v1::BackupResponse>> {
        self.repeat(|| {
            let request = self.headers.lasting(v1::BackupRequest {});
            let mut client = self.maintenance.clone();
            async move { client.backup(request).await }
        })
        .await
    }

    /// Calls `Restore`; `stream` gives its messages, from the first on each time.
    ///
    /// # Errors
    /// What the service answers; see the RPC's comment in `proto/`.
    pub async fn restore<S>(&self, stream: impl Fn() -> S) -> Outcome<v1::RestoreResponse>
    where
        S: Stream<Item = v1::RestoreRequest> + Send + 'static,
    {
        self.repeat(|| {
            let request = self.headers.lasting(stream());
            let mut client = self.maintenance.clone();
            async move { client.restore(request).await }
        })
        .await
    }

    async fn call<M, R, F>(&self, message: M, send: impl Fn(Request<M>) -> F) -> Outcome<R>
    where
        M: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.repeat(|| send(self.headers.request(message.clone()))).await
    }

    async fn repeat<R, F>(&self, send: impl Fn() -> F) -> Outcome<R>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        for attempt in 1.. {
            match send().await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => match pause_before_retry(&status, attempt) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(status.into()),
                },
            }
        }
        unreachable!("the last attempt returns")
    }
}

macro_rules! rpcs {
    ($($client:ident: $method:ident($request:ident) -> $response:ty;)*) => {
        impl Client {
            $(
                #[doc = concat!("Calls `", stringify!($method), "`.")]
                ///
                /// # Errors
                /// What the service answers; see the RPC's comment in `proto/`.
                pub async fn $method(&self, request: v1::$request) -> Outcome<$response> {
                    self.call(request, |request| {
                        let mut client = self.$client.clone();
                        async move { client.$method(request).await }
                    })
                    .await
                }
            )*
        }
    };
}

rpcs! {
    partners: get_allowed_partner(GetAllowedPartnerRequest) -> v1::AllowedPartner;
    partners: list_allowed_partners(ListAllowedPartnersRequest) -> v1::ListAllowedPartnersResponse;
    partners: create_allowed_partner(CreateAllowedPartnerRequest) -> v1::AllowedPartner;
    partners: update_allowed_partner(UpdateAllowedPartnerRequest) -> v1::AllowedPartner;
    partners: delete_allowed_partner(DeleteAllowedPartnerRequest) -> v1::AllowedPartner;
    partners: undelete_allowed_partner(UndeleteAllowedPartnerRequest) -> v1::AllowedPartner;
    partners: batch_get_allowed_partners(BatchGetAllowedPartnersRequest) -> v1::BatchGetAllowedPartnersResponse;
    partners: batch_update_allowed_partners(BatchUpdateAllowedPartnersRequest) -> v1::BatchUpdateAllowedPartnersResponse;
    partners: batch_delete_allowed_partners(BatchDeleteAllowedPartnersRequest) -> v1::BatchDeleteAllowedPartnersResponse;
    partners: resolve_domain(ResolveDomainRequest) -> v1::ResolveDomainResponse;
    partners: list_allowed_partner_revisions(ListAllowedPartnerRevisionsRequest) -> v1::ListAllowedPartnerRevisionsResponse;
    partners: rollback_allowed_partner(RollbackAllowedPartnerRequest) -> v1::AllowedPartner;
    settings: get_federation_settings(GetFederationSettingsRequest) -> v1::FederationSettings;
    settings: update_federation_settings(UpdateFederationSettingsRequest) -> v1::FederationSettings;
    roles: get_role(GetRoleRequest) -> v1::Role;
    roles: list_roles(ListRolesRequest) -> v1::ListRolesResponse;
    roles: create_role(CreateRoleRequest) -> v1::Role;
    roles: update_role(UpdateRoleRequest) -> v1::Role;
    roles: delete_role(DeleteRoleRequest) -> ();
    audit: list_audit_entries(ListAuditEntriesRequest) -> v1::ListAuditEntriesResponse;
    audit: verify_audit_entries(VerifyAuditEntriesRequest) -> v1::VerifyAuditEntriesResponse;
    audit: sign_audit_checkpoint(SignAuditCheckpointRequest) -> v1::AuditCheckpoint;
    revocations: list_revocations(ListRevocationsRequest) -> v1::ListRevocationsResponse;
    revocations: create_revocation(CreateRevocationRequest) -> v1::Revocation;
    revocations: delete_revocation(DeleteRevocationRequest) -> ();
    roles: list_permissions(ListPermissionsRequest) -> v1::ListPermissionsResponse;
    roles: describe_caller(DescribeCallerRequest) -> v1::DescribeCallerResponse;
    roles: test_permissions(TestPermissionsRequest) -> v1::TestPermissionsResponse;
    maintenance: status(StatusRequest) -> v1::StatusResponse;
    replicas: get_replica(GetReplicaRequest) -> v1::Replica;
    replicas: list_replicas(ListReplicasRequest) -> v1::ListReplicasResponse;
    replicas: delete_replica(DeleteReplicaRequest) -> ();
    replicas: wait_for_convergence(WaitForConvergenceRequest) -> v1::WaitForConvergenceResponse;
}

impl Headers {
    fn new(remote: &Remote, timeout: Duration, reason: Option<&str>) -> Outcome<Self> {
        if reason.is_some_and(|reason| reason.chars().any(char::is_control)) {
            return Err(Failure::usage("--reason must be one line without control characters"));
        }
        let as_text = reason.filter(|reason| reason.is_ascii());
        let as_bytes = reason.filter(|reason| !reason.is_ascii());
        Ok(Self {
            timeout,
            authorization: remote.token.authorization()?,
            reason: as_text.and_then(|reason| MetadataValue::try_from(reason).ok()),
            reason_bin: as_bytes.map(|reason| MetadataValue::from_bytes(reason.as_bytes())),
        })
    }

    fn request<M>(&self, message: M) -> Request<M> {
        let mut request = self.lasting(message);
        request.set_timeout(self.timeout);
        request
    }

    /// A request that may take as long as the service lets it.
    fn lasting<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        if let Some(value) = &self.authorization {
            metadata.insert("authorization", value.clone());
        }
        if let Some(value) = &self.reason {
            metadata.insert("x-change-reason", value.clone());
        }
        if let Some(value) = &self.reason_bin {
            metadata.insert_bin("x-change-reason-bin", value.clone());
        }
        request
    }
}

/// A fresh id for a mutating request.
pub fn request_id() -> String {
    Uuid::new_v4().to_string()
}

/// How long to wait before the request is sent again; `None` when it must not be.
fn pause_before_retry(status: &Status, attempt: u32) -> Option<Duration> {
    let may_pass = status.code() == Code::Unavailable || is_lost(status);
    if !may_pass || attempt >= ATTEMPTS {
        return None;
    }
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let pause = FIRST_PAUSE.saturating_mul(1 << (attempt - 1)).max(asked.unwrap_or_default());
    Some(pause.min(LONGEST_PAUSE).mul_f64(jitter()))
}

/// Between 0.5 and 1.5, so that clients that failed together do not come back together.
fn jitter() -> f64 {
    let [byte, ..] = *Uuid::new_v4().as_bytes();
    0.5 + f64::from(byte) / 255.0
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn only_what_is_unavailable_is_tried_again_and_not_for_ever() {
        let unavailable = Status::unavailable("draining");
        assert!((1..ATTEMPTS).all(|attempt| pause_before_retry(&unavailable, attempt).is_some()));
        assert_eq!(pause_before_retry(&unavailable, ATTEMPTS), None);
        for status in [Status::not_found(""), Status::aborted(""), Status::deadline_exceeded("")] {
            assert_eq!(pause_before_retry(&status, 1), None, "{status}");
        }
    }

    #[test]
    fn a_pause_grows_and_heeds_what_the_service_asks_within_bounds() {
        let asking = |seconds| {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds)));
            Status::with_error_details(Code::Unavailable, "", details)
        };
        let pause = |status: &Status, attempt| pause_before_retry(status, attempt).unwrap();
        assert!(pause(&asking(1), 1) >= Duration::from_millis(500));
        assert!(pause(&asking(3600), 1) <= LONGEST_PAUSE.mul_f64(1.5));
        let plain = Status::unavailable("");
        assert!(pause(&plain, 1) <= FIRST_PAUSE.mul_f64(1.5));
        assert!(pause(&plain, 4) >= FIRST_PAUSE.mul_f64(4.0));
    }
}
