//! The composition root: from a checked configuration to a server that answers.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::{JoinSet, spawn_blocking},
};
use tonic::body::Body;

use super::{
    ANSWER_SWEEP_INTERVAL, AUDIT_SEAL_INTERVAL, AUDIT_SWEEP_INTERVAL, DEV_REFRESH_INTERVAL,
    HISTORY_SWEEP_INTERVAL, Pressure, REFUSALS_INTERVAL, REPLICA_SAVE_INTERVAL, Reload,
    ResponseBody, STREAM_SWEEP_INTERVAL, Security, Shutdown, Subjects, audit_key, door::GrpcDoor,
    every, expire_in_time, health, layered, on_hangup, reflection, reload_on_change, serve,
    services::Services, standing::StreamStanding,
};
use crate::{
    auth::{
        failures::{FailureLimits, Failures},
        incident::Incidents,
        issuer::AuthConfigError,
        layer::Authenticated,
        token::Verifier,
    },
    config::{self, Auth, Config, ConfigError, Limits},
    dev::{DevError, DevFolder},
    domain::audit::{Actor, Event},
    grpc::{self, Routes, TransferLimits, watch::Streams},
    registry::{
        self, AuditRetention, Registry, Retention, log::TailLimits, replicas::ReplicaOptions,
    },
    service::CallService,
    store::{Store, StoreError},
    tls::{ServerTls, TlsConfig, TlsError},
};

/// A server that is ready to be given listeners.
#[derive(Debug)]
pub struct Assembly {
    registry: Arc<Registry>,
    verifier: Arc<Verifier>,
    failure_limits: FailureLimits,
    incidents: Arc<Incidents>,
    security: Security,
    limits: Limits,
    reflection: bool,
    worker_threads: usize,
    reload_interval: Duration,
    reloads: Vec<Reload>,
    development: Option<Arc<DevFolder>>,
}

/// Why a server did not start: one line for each thing to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The issuers of tokens, or their keys.
    #[error(transparent)]
    Auth(#[from] AuthConfigError),
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The development folder.
    #[error(transparent)]
    Dev(#[from] DevError),
    /// An address.
    #[error("cannot listen on {address}: {error}; {remedy}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The system.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// Builds what the configuration says about tokens and certificates, without starting anything.
///
/// # Errors
/// What cannot be read, or does not fit together.
pub fn credentials(config: &Config) -> Result<(Verifier, Security), StartError> {
    let Auth { issuers, tokens, failures: _ } = config.auth.clone();
    let verifier = Verifier::new(issuers, tokens)?;
    let security = match &config.tls {
        Some(tls) => Security::Tls(Arc::new(ServerTls::load(tls, Timestamp::now())?)),
        None => Security::PlainText,
    };
    Ok((verifier, security))
}

/// Binds every address.
///
/// # Errors
/// The first that cannot be bound.
pub async fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::AddrInUse => "stop the other server, or give another --listen",
                io::ErrorKind::PermissionDenied => "give a port from 1024 upwards with --listen",
                _ => "give an address of this machine with --listen",
            };
            StartError::Listen { address, error, remedy }
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

impl Assembly {
    /// Puts a server together upon a store. Blocks while it loads the state.
    ///
    /// # Errors
    /// What [`credentials`] reports, or the store.
    pub fn new(config: Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        let (verifier, security) = credentials(&config)?;
        let verifier = Arc::new(verifier);
        let reloads = reloads(&config, &verifier, &security);
        // Everything by name: a new section fails to compile until it is thought of here.
        let Config {
            listen: _,
            data_dir,
            dev: _,
            tls: _,
            auth,
            history,
            audit,
            limits,
            log: _,
            server,
            replicas,
        } = config;
        let config::Replicas { max_count, silent_after, id_is_subject } = replicas;
        let config::Server { local_domains, reflection, worker_threads, reload_interval } = server;
        let options = registry::Options {
            audit_key: audit_key::open_or_create(&data_dir)?,
            local_domains: local_domains.into_iter().collect(),
            write_queue_length: limits.write_queue,
            write_queue_share: limits.write_queue_per_subject,
            retained_listings: limits.max_listings,
            listing_ttl: limits.listing_ttl,
            retention: Retention { max_age: history.max_age, max_commits: history.max_commits },
            audit_retention: AuditRetention {
                max_age: audit.max_age,
                max_entries: audit.max_entries,
            },
            tail: TailLimits { commits: limits.watch_tail_commits, bytes: limits.watch_tail_bytes },
            replicas: ReplicaOptions { max_count, silent_after, id_is_subject },
        };
        let registry = Arc::new(Registry::open(store, options)?);
        let believer = verifier.clone();
        registry.on_revocations(move |revocations| believer.set_revocations(revocations));
        let development = None;
        Ok(Self {
            registry,
            verifier,
            failure_limits: auth.failures,
            incidents: Arc::new(Incidents::new()),
            security,
            limits,
            reflection,
            worker_threads,
            reload_interval,
            reloads,
            development,
        })
    }

    /// Keeps the folder of a development server fresh while it serves.
    #[must_use]
    pub fn with_development(mut self, folder: DevFolder) -> Self {
        self.development = Some(Arc::new(folder));
        self
    }

    /// Serves until `shutdown` says to stop, and then closes the registry: when this returns,
    /// every write that was answered is on the disk.
    ///
    /// # Errors
    /// If the process cannot listen to its signals, or start the threads that serve.
    pub async fn serve(
        self,
        listeners: Vec<TcpListener>,
        shutdown: Shutdown,
    ) -> Result<(), StartError> {
        let registry = self.registry.clone();
        let start = Event::Start { version: env!("CARGO_PKG_VERSION").into() };
        note(&registry, start).await;
        let incidents = self.incidents.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(audit_refusals(registry.clone(), incidents.clone(), shutdown.clone()));
        let pressure = Arc::new(Pressure::new(self.limits.max_queue_delay));
        let service = self.service(&mut tasks, pressure.clone(), &shutdown).await;
        let (security, limits) = (self.security.clone(), self.limits.clone());
        let workers = self.worker_threads;
        self.spawn_background(&mut tasks, &shutdown)?;
        let served =
            serve(listeners, security, service, &limits, pressure, workers, shutdown).await;
        tasks.shutdown().await;
        note_refusals(&registry, &incidents).await;
        note(&registry, Event::Stop).await;
        registry.close().await;
        Ok(served?)
    }

    /// The services, behind authentication, behind the layers of every call.
    async fn service(
        &self,
        tasks: &mut JoinSet<()>,
        pressure: Arc<Pressure>,
        shutdown: &Shutdown,
    ) -> impl CallService<Body, Body: ResponseBody> + use<> {
        let (health, health_service) = health(grpc::SERVICE_NAMES.to_vec()).await;
        tasks.spawn(health.follow(shutdown.clone()));
        let limits = grpc::Limits {
            max_message_bytes: self.limits.max_message_bytes,
            max_batch_items: self.limits.max_batch,
            max_watch_streams: self.limits.max_watch_streams,
            max_watch_streams_per_subject: self.limits.max_watch_streams_per_subject,
            max_scans_per_subject: self.limits.max_scans_per_subject,
            max_scan_wait: self.limits.max_scan_wait,
            transfers: TransferLimits {
                max_backups: self.limits.max_backups,
                patience: self.limits.transfer_patience,
                max_restore_bytes: self.limits.max_restore_bytes,
                max_restore_changes: self.limits.max_restore_changes,
            },
        };
        let standing =
            StreamStanding::new(self.verifier.clone(), self.incidents.clone(), shutdown.clone());
        tasks.spawn(standing.clone().ring(self.registry.clone()));
        let streams = Arc::new(Streams::new(limits, Arc::new(standing)));
        let swept = streams.clone();
        tasks.spawn(every(STREAM_SWEEP_INTERVAL, shutdown.clone(), move || {
            swept.sweep();
            std::future::ready(())
        }));
        let services = Services {
            ours: Routes::new(&self.registry, limits, streams),
            health: health_service,
            reflection: self.reflection.then(|| reflection(shutdown.clone())),
        };
        let door = GrpcDoor::new(self.registry.clone());
        let most = self.limits.max_concurrent_requests_per_subject;
        let services = Subjects::new(services, most, pressure);
        let failures = Failures::new(self.failure_limits, self.incidents.clone());
        layered(Authenticated::new(services, self.verifier.clone(), failures, door), &self.limits)
    }

    fn spawn_background(
        self,
        tasks: &mut JoinSet<()>,
        shutdown: &Shutdown,
    ) -> Result<(), StartError> {
        let now = Arc::new(Notify::new());
        tasks.spawn(on_hangup(now.clone())?);
        tasks.spawn(reload_on_change(self.reloads, self.reload_interval, now, shutdown.clone()));

        for keeper in self.verifier.keepers() {
            tasks.spawn(keeper);
        }
        let registry = self.registry;
        tasks.spawn(expire_in_time(registry.clone(), shutdown.clone()));
        let replicas = registry.clone();
        tasks.spawn(every(REPLICA_SAVE_INTERVAL, shutdown.clone(), move || save(replicas.clone())));
        let (waits, ending) = (registry.clone(), shutdown.clone());
        tasks.spawn(async move {
            ending.draining().await;
            waits.end_waits();
        });
        let audited = registry.clone();
        tasks.spawn(every(AUDIT_SEAL_INTERVAL, shutdown.clone(), move || seal(audited.clone())));
        let history = registry.clone();
        tasks.spawn(every(HISTORY_SWEEP_INTERVAL, shutdown.clone(), move || {
            compact(history.clone())
        }));
        let audit = registry.clone();
        tasks.spawn(every(AUDIT_SWEEP_INTERVAL, shutdown.clone(), move || {
            compact_audit(audit.clone())
        }));
        tasks
            .spawn(every(ANSWER_SWEEP_INTERVAL, shutdown.clone(), move || sweep(registry.clone())));
        if let Some(folder) = self.development {
            tasks.spawn(every(DEV_REFRESH_INTERVAL, shutdown.clone(), move || {
                refresh(folder.clone())
            }));
        }
        Ok(())
    }
}

/// Writes refusals into the audit, those of a few seconds at a time.
async fn audit_refusals(registry: Arc<Registry>, incidents: Arc<Incidents>, shutdown: Shutdown) {
    while !shutdown.is_draining() {
        tokio::select! {
            () = incidents.ready() => {}
            () = shutdown.draining() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(REFUSALS_INTERVAL) => {}
            () = shutdown.draining() => return,
        }
        note_refusals(&registry, &incidents).await;
    }
}

async fn note_refusals(registry: &Registry, incidents: &Incidents) {
    if let Err(error) = registry.record_refusals(incidents.take()).await {
        tracing::warn!(?error, "refusals could not be written into the audit");
    }
}

/// Writes down what the server does by itself. A store that takes no writes is told of elsewhere.
async fn note(registry: &Registry, event: Event) {
    if let Err(error) = registry.record(vec![(Actor::service(""), event)]).await {
        tracing::warn!(?error, "the audit could not be written");
    }
}

async fn seal(registry: Arc<Registry>) {
    if let Err(error) = registry.seal_audit().await {
        tracing::warn!(?error, "the audit could not be signed");
    }
}

async fn sweep(registry: Arc<Registry>) {
    if let Err(error) = registry.sweep_revocations().await {
        tracing::warn!(?error, "cannot take away revocations that have ended");
    }
    loop {
        match registry.forget_old_answers().await {
            Ok(0) => return,
            Ok(forgotten) => {
                tracing::debug!(forgotten, "forgot answers that can no longer be asked for");
            }
            Err(error) => {
                tracing::warn!(?error, "cannot forget old answers");
                return;
            }
        }
    }
}

async fn compact(registry: Arc<Registry>) {
    loop {
        match registry.compact_history().await {
            Ok(0) => return,
            Ok(commits) => tracing::debug!(commits, "removed history that is kept no longer"),
            // The writer said so once, or is busy, or goes away; the next sweep tries again.
            Err(error) => {
                tracing::debug!(?error, "cannot remove old history now");
                return;
            }
        }
    }
}

async fn compact_audit(registry: Arc<Registry>) {
    loop {
        match registry.compact_audit().await {
            Ok(0) => return,
            Ok(entries) => {
                tracing::debug!(entries, "removed audit entries that are kept no longer")
            }
            // As for the history. That the audit does not verify was said once.
            Err(error) => {
                tracing::debug!(?error, "cannot remove old audit entries now");
                return;
            }
        }
    }
}

async fn save(registry: Arc<Registry>) {
    if let Err(error) = registry.save_replicas().await {
        tracing::warn!(?error, "what the replicas report cannot be kept yet");
    }
}

async fn refresh(folder: Arc<DevFolder>) {
    let refreshed = spawn_blocking(move || folder.refresh(Timestamp::now())).await;
    if let Ok(Err(error)) = refreshed {
        tracing::error!(%error, "cannot make the development token anew");
    }
}

/// The files that may change while the server runs.
fn reloads(config: &Config, verifier: &Arc<Verifier>, security: &Security) -> Vec<Reload> {
    let mut reloads = vec![keys(config, verifier.clone())];
    if let (Security::Tls(tls), Some(files)) = (security, &config.tls) {
        reloads.push(certificates(files, tls.clone()));
    }
    reloads
}

fn keys(config: &Config, verifier: Arc<Verifier>) -> Reload {
    let sources = config.auth.issuers.iter().flat_map(|issuer| &issuer.keys);
    let files = sources.flat_map(|source| source.files().map(PathBuf::from));
    Reload::new("keys of token issuers", files.collect(), move || {
        let failed = verifier.reload().failed;
        let lines: Vec<String> = failed.iter().map(ToString::to_string).collect();
        if lines.is_empty() { Ok(()) } else { Err(lines.join("; ")) }
    })
}

fn certificates(config: &TlsConfig, tls: Arc<ServerTls>) -> Reload {
    let TlsConfig { cert_file, key_file, client_ca_file, client_auth: _ } = config;
    let mut files: Vec<PathBuf> = vec![cert_file.clone(), key_file.clone()];
    files.extend(client_ca_file.clone());
    Reload::new("TLS certificates", files, move || {
        tls.reload_if_changed(Timestamp::now()).map(|_changed| ())
    })
}
