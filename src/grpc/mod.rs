//! The rim: the only server module that knows protobuf. Each RPC is parse, permit, call, convert.

pub mod audit;
pub mod audit_wire;
pub mod call;
pub mod convert;
mod history;
pub mod maintenance;
pub mod methods;
pub mod parse;
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
pub mod watch;

use std::{sync::Arc, time::Duration};

use tonic::service::Routes;

use watch::Streams;

use crate::{
    proto::v1::{
        allowed_partner_service_server::AllowedPartnerServiceServer,
        audit_service_server::AuditServiceServer,
        federation_settings_service_server::FederationSettingsServiceServer,
        maintenance_service_server::MaintenanceServiceServer,
        replica_service_server::ReplicaServiceServer,
        revocation_service_server::RevocationServiceServer, role_service_server::RoleServiceServer,
    },
    registry::Registry,
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
            transfers: TransferLimits {
                max_backups: 2,
                patience: Duration::from_secs(60),
                max_restore_bytes: 256 << 20,
                max_restore_changes: 100_000,
            },
        }
    }
}

/// Every service of the API on `registry`; its streams are opened among `streams`.
pub fn routes(registry: &Arc<Registry>, limits: Limits, streams: Arc<Streams>) -> Routes {
    let most = limits.max_message_bytes;
    let registry = || Arc::clone(registry);
    let standing = Arc::clone(streams.standing());
    let mut routes = Routes::builder();
    routes
        .add_service(
            AllowedPartnerServiceServer::new(partners::Partners::new(registry(), limits, streams))
                .max_decoding_message_size(most),
        )
        .add_service(
            FederationSettingsServiceServer::new(settings::Settings::new(registry()))
                .max_decoding_message_size(most),
        )
        .add_service(
            RoleServiceServer::new(roles::Roles::new(registry())).max_decoding_message_size(most),
        )
        .add_service(
            RevocationServiceServer::new(revocations::RevocationHandlers::new(registry()))
                .max_decoding_message_size(most),
        )
        .add_service(
            AuditServiceServer::new(audit::Audit::new(registry())).max_decoding_message_size(most),
        )
        .add_service(
            MaintenanceServiceServer::new(maintenance::Maintenance::new(
                registry(),
                standing,
                limits.transfers,
            ))
            .max_decoding_message_size(most),
        )
        .add_service(
            ReplicaServiceServer::new(replicas::Replicas::new(registry()))
                .max_decoding_message_size(most),
        );
    routes.routes()
}

/// The full names of the services, as the health service knows them.
pub const SERVICE_NAMES: [&str; 7] = [
    crate::proto::v1::allowed_partner_service_server::SERVICE_NAME,
    crate::proto::v1::federation_settings_service_server::SERVICE_NAME,
    crate::proto::v1::role_service_server::SERVICE_NAME,
    crate::proto::v1::revocation_service_server::SERVICE_NAME,
    crate::proto::v1::audit_service_server::SERVICE_NAME,
    crate::proto::v1::maintenance_service_server::SERVICE_NAME,
    crate::proto::v1::replica_service_server::SERVICE_NAME,
];
