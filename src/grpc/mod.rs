//! The rim: the only server module that knows protobuf. Each RPC is parse, permit, call, convert.

pub mod audit;
pub mod audit_wire;
pub mod call;
pub mod convert;
mod history;
pub mod maintenance;
pub mod methods;
pub mod parse;
mod partner_bytes;
mod partner_pages;
mod partner_requests;
pub mod partners;
pub mod read_mask;
mod replica_wire;
pub mod replicas;
pub mod revocations;
mod role_requests;
pub mod roles;
pub mod settings;
pub mod status;
mod tenure;
mod turns;
pub mod watch;

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Either},
};
use http::{Request, Response};
use tonic::{Status, body::Body};

use watch::Streams;

use crate::{
    proto::v1::{
        allowed_partner_service_server::{
            AllowedPartnerServiceServer, SERVICE_NAME as ALLOWED_PARTNERS,
        },
        audit_service_server::{AuditServiceServer, SERVICE_NAME as AUDIT},
        federation_settings_service_server::{
            FederationSettingsServiceServer, SERVICE_NAME as SETTINGS,
        },
        maintenance_service_server::{MaintenanceServiceServer, SERVICE_NAME as MAINTENANCE},
        replica_service_server::{ReplicaServiceServer, SERVICE_NAME as REPLICAS},
        revocation_service_server::{RevocationServiceServer, SERVICE_NAME as REVOCATIONS},
        role_service_server::{RoleServiceServer, SERVICE_NAME as ROLES},
    },
    registry::Registry,
    service::CallService,
};

/// What the rim allows a request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes of a request message.
    pub max_message_bytes: usize,
    /// The most items of a batch.
    pub max_batch_items: usize,
    /// The most watch streams.
    pub max_watch_streams: usize,
    /// The most watch streams of one subject.
    pub max_watch_streams_per_subject: usize,
    /// The most scans of one subject, those that wait for their turn included.
    pub max_scans_per_subject: usize,
    /// How long a scan may wait for its turn.
    pub max_scan_wait: Duration,
    /// What backups and restores may take.
    pub transfers: TransferLimits,
}

/// What backups and restores may take.
#[derive(Clone, Copy, Debug)]
pub struct TransferLimits {
    /// The most backups at a time.
    pub max_backups: usize,
    /// How long a backup may not be read on, or a restore not be sent on.
    pub patience: Duration,
    /// The largest backup that is restored, in bytes.
    pub max_restore_bytes: usize,
    /// The most resources that a restore changes.
    pub max_restore_changes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 4 << 20,
            max_batch_items: 1_000,
            max_watch_streams: 10_000,
            max_watch_streams_per_subject: 1_000,
            max_scans_per_subject: 16,
            max_scan_wait: Duration::from_secs(2),
            transfers: TransferLimits {
                max_backups: 2,
                patience: Duration::from_secs(60),
                max_restore_bytes: 256 << 20,
                max_restore_changes: 100_000,
            },
        }
    }
}

/// Every service of the API, each found by its name.
#[derive(Clone, Debug)]
pub struct Routes {
    partners: AllowedPartnerServiceServer<partners::Partners>,
    settings: FederationSettingsServiceServer<settings::Settings>,
    roles: RoleServiceServer<roles::Roles>,
    revocations: RevocationServiceServer<revocations::RevocationHandlers>,
    audit: AuditServiceServer<audit::Audit>,
    maintenance: MaintenanceServiceServer<maintenance::Maintenance>,
    replicas: ReplicaServiceServer<replicas::Replicas>,
}

impl Routes {
    /// The services on `registry`; their streams are opened among `streams`.
    pub fn new(registry: &Arc<Registry>, limits: Limits, streams: Arc<Streams>) -> Self {
        let most = limits.max_message_bytes;
        let registry = || Arc::clone(registry);
        let standing = Arc::clone(streams.standing());
        let maintenance = maintenance::Maintenance::new(registry(), standing, limits.transfers);
        let partners = partners::Partners::new(registry(), limits, Arc::clone(&streams));
        Self {
            partners: AllowedPartnerServiceServer::new(partners).max_decoding_message_size(most),
            settings: FederationSettingsServiceServer::new(settings::Settings::new(registry()))
                .max_decoding_message_size(most),
            roles: RoleServiceServer::new(roles::Roles::new(registry()))
                .max_decoding_message_size(most),
            revocations: RevocationServiceServer::new(revocations::RevocationHandlers::new(
                registry(),
            ))
            .max_decoding_message_size(most),
            audit: AuditServiceServer::new(audit::Audit::new(registry(), streams))
                .max_decoding_message_size(most),
            maintenance: MaintenanceServiceServer::new(maintenance).max_decoding_message_size(most),
            replicas: ReplicaServiceServer::new(replicas::Replicas::new(registry()))
                .max_decoding_message_size(most),
        }
    }
}

impl CallService<Body> for Routes {
    type Body = Body;

    fn call(&self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send + use<> {
        let answer = match service_name(request.uri().path()) {
            ALLOWED_PARTNERS => answer(&self.partners, request),
            SETTINGS => answer(&self.settings, request),
            ROLES => answer(&self.roles, request),
            REVOCATIONS => answer(&self.revocations, request),
            AUDIT => answer(&self.audit, request),
            MAINTENANCE => answer(&self.maintenance, request),
            REPLICAS => answer(&self.replicas, request),
            _ => return Either::Left(ready(Status::unimplemented("").into_http())),
        };
        Either::Right(answer.map(|Ok(response)| response))
    }
}

/// The full name of the service in the path of a method, `/{service}/{method}`.
pub fn service_name(path: &str) -> &str {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    service.map_or("", |(service, _method)| service)
}

/// What a generated service answers: it is always ready, and has its future in a box.
fn answer<S>(service: &S, request: Request<Body>) -> S::Future
where
    S: tower::Service<Request<Body>, Future = BoxFuture<'static, Answer>> + Clone,
{
    service.clone().call(request)
}

type Answer = Result<Response<Body>, Infallible>;

/// The full names of the services, as the health service knows them.
pub const SERVICE_NAMES: [&str; 7] =
    [ALLOWED_PARTNERS, SETTINGS, ROLES, REVOCATIONS, AUDIT, MAINTENANCE, REPLICAS];
