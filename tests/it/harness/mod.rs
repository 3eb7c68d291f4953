//! A server in this process, on port 0 and a temporary folder, and the people who call it.

pub mod actor;
pub mod frames;
pub mod issuer;
pub mod process;
pub mod stream;
pub mod tokens;

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use partnerd::{
    auth::{
        certificate::{CertificateConfig, CertificateSubject},
        failures::FailureLimits,
        issuer::IssuerConfig,
        keys::FetchLimits,
    },
    certs::Identity,
    config::{Config, Development, Layers, Limits},
    dev::DevFolder,
    proto::v1::DescribeCallerRequest,
    server::{Assembly, ShutdownTrigger, shutdown},
    store::sled::{SledOptions, SledStore},
    tls::{ClientAuth, TlsConfig},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use secrecy::ExposeSecret as _;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use actor::Actor;

/// A server in this process.
pub struct TestServer {
    folder: tempfile::TempDir,
    running: Running,
    channel: Channel,
    options: Builder,
}

/// A server that has ended and can be started anew on the same data.
pub struct Stopped {
    folder: tempfile::TempDir,
    options: Builder,
}

impl Stopped {
    pub async fn start(self) -> TestServer {
        TestServer::start_in(self.folder, self.options).await
    }
}

/// How a test server differs from a plain development server.
#[derive(Clone, Default)]
pub struct Builder {
    local_domains: Vec<String>,
    client_auth: ClientAuth,
    max_concurrent_requests: Option<usize>,
    limits: Option<Arc<ChangeLimits>>,
    silent_after: Option<Duration>,
    max_replicas: Option<usize>,
    replica_id_is_subject: bool,
    issuers: Vec<IssuerConfig>,
    fetch: Option<FetchLimits>,
    certificates: CertificateConfig,
    failures: Option<FailureLimits>,
}

type ChangeLimits = dyn Fn(&mut Limits) + Send + Sync;

impl Builder {
    /// An issuer beside the server's own.
    pub fn issuer(mut self, issuer: IssuerConfig) -> Self {
        self.issuers.push(issuer);
        self
    }

    /// What fetching keys may cost.
    pub fn fetch(mut self, limits: FetchLimits) -> Self {
        self.fetch = Some(limits);
        self
    }

    /// Whom a client certificate with this name stands for.
    pub fn certificate_subject(mut self, san: &str, roles: &[&str]) -> Self {
        self.certificates.subjects.push(CertificateSubject {
            san: san.to_owned(),
            subject: None,
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
        });
        self
    }

    /// How often somebody may be refused; unless told, more often than any test is.
    pub fn failures(mut self, limits: FailureLimits) -> Self {
        self.failures = Some(limits);
        self
    }

    /// A domain that the server itself serves.
    pub fn local_domain(mut self, domain: &str) -> Self {
        self.local_domains.push(domain.to_owned());
        self
    }

    /// Whether clients are asked for certificates, by the server's own authority.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = client_auth;
        self
    }

    /// The most calls at a time.
    pub fn max_concurrent_requests(mut self, most: usize) -> Self {
        self.max_concurrent_requests = Some(most);
        self
    }

    /// Other limits than the documented ones.
    pub fn limits(mut self, change: impl Fn(&mut Limits) + Send + Sync + 'static) -> Self {
        self.limits = Some(Arc::new(change));
        self
    }

    /// How long a replica may be quiet.
    pub fn silent_after(mut self, quiet: Duration) -> Self {
        self.silent_after = Some(quiet);
        self
    }

    /// The most replicas.
    pub fn max_replicas(mut self, most: usize) -> Self {
        self.max_replicas = Some(most);
        self
    }

    /// That the id of a replica must be the subject of its token.
    pub fn replica_id_is_subject(mut self) -> Self {
        self.replica_id_is_subject = true;
        self
    }

    /// Starts a server that the harness itself may not be able to connect to.
    pub async fn start_unconnected(self) -> Unconnected {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let running = Running::start(folder.path(), &self).await;
        Unconnected { folder, running }
    }

    pub async fn start(self) -> TestServer {
        TestServer::start_in(tempfile::tempdir().expect("there is room for a folder"), self).await
    }
}

/// A server that asks more of its clients than the harness has.
pub struct Unconnected {
    folder: tempfile::TempDir,
    running: Running,
}

impl Unconnected {
    pub fn dev(&self) -> DevFolder {
        DevFolder::open(self.folder.path()).expect("the server made it")
    }

    /// Asks something as an administrator who shows a certificate, or none.
    pub async fn try_admin(&self, identity: Option<&Identity>) -> Result<(), String> {
        try_admin(&self.dev(), self.running.address, identity).await
    }
}

async fn try_admin(
    dev: &DevFolder,
    address: SocketAddr,
    identity: Option<&Identity>,
) -> Result<(), String> {
    let channel = connect_as(dev.path(), address, identity).await.map_err(|e| format!("{e:?}"))?;
    let token = dev
        .issue_token(&["admin"], "admin", SignedDuration::from_hours(1), Timestamp::now())
        .expect("the token is well formed");
    let admin = Actor::new(channel, Some(token.expose_secret().to_owned()));
    let request = DescribeCallerRequest::default();
    admin.roles().describe_caller(request).await.map(drop).map_err(|status| format!("{status:?}"))
}

/// The certificate that a server shows to a new connection, as DER.
pub async fn peer_certificate(server: &TestServer) -> Vec<u8> {
    let tcp = TcpStream::connect(server.address()).await.expect("the server listens");
    let tls = TlsConnector::from(Arc::new(client_config(server.folder.path(), None)));
    let name = ServerName::try_from("localhost").expect("it is a name");
    let stream = tls.connect(name, tcp).await.expect("the certificate is believed");
    let certificates = stream.get_ref().1.peer_certificates().expect("a server shows one");
    certificates[0].to_vec()
}

impl TestServer {
    /// A server on an empty store.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The same server, ended in order and started anew on the same data.
    pub async fn restart(self) -> Self {
        self.stop().await.start().await
    }

    /// The same, after something was done to its store while it was down.
    pub async fn restart_after(self, meddle: impl FnOnce(&Path)) -> Self {
        let stopped = self.stop().await;
        let dev = DevFolder::open(stopped.folder.path()).expect("the server made it");
        meddle(&dev.store_path());
        stopped.start().await
    }

    /// Ends the server in order.
    pub async fn stop(self) -> Stopped {
        let Self { folder, running, options, .. } = self;
        running.stop().await;
        Stopped { folder, options }
    }

    async fn start_in(folder: tempfile::TempDir, options: Builder) -> Self {
        let running = Running::start(folder.path(), &options).await;
        let channel = connect(folder.path(), running.address).await.expect("the server listens");
        Self { folder, running, channel, options }
    }

    /// Tells the server to end once the calls that run are over.
    pub fn drain(&self) {
        self.running.trigger.drain();
    }

    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// The keys and certificates of this server.
    pub fn dev(&self) -> DevFolder {
        DevFolder::open(self.folder.path()).expect("the server made it")
    }

    /// Connects to another address with this server's CA.
    pub async fn connect_to(
        &self,
        address: SocketAddr,
    ) -> Result<Channel, tonic::transport::Error> {
        connect(self.folder.path(), address).await
    }

    /// A connection with TLS on which nothing has been said yet, from an address of loopback.
    pub async fn tls_from(&self, source: &str) -> io::Result<frames::Tls> {
        let tcp = frames::connect_from(source, self.address()).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(Arc::new(client_config(self.folder.path(), None)));
        tls.connect(ServerName::try_from("localhost").expect("it is a name"), tcp).await
    }

    /// The same from the usual one.
    pub async fn tls(&self) -> frames::Tls {
        self.tls_from("127.0.0.1").await.expect("the server listens")
    }

    /// A token for this subject with these roles.
    pub fn token(&self, subject: &str, roles: &[&str]) -> String {
        let token = self
            .dev()
            .issue_token(roles, subject, SignedDuration::from_hours(1), Timestamp::now())
            .expect("the token is well formed");
        token.expose_secret().to_owned()
    }

    /// Somebody with this name and these roles, on a connection of his own.
    pub async fn apart(&self, subject: &str, roles: &[&str]) -> Actor {
        self.with_token(&self.token(subject, roles)).await
    }

    /// Somebody with this name and these roles.
    pub async fn actor(&self, subject: &str, roles: &[&str]) -> Actor {
        self.holding(subject, roles)
    }

    /// Asks something as an administrator who shows a certificate, or none.
    pub async fn try_admin(&self, identity: Option<&Identity>) -> Result<(), String> {
        try_admin(&self.dev(), self.address(), identity).await
    }

    pub fn anonymous(&self) -> Actor {
        Actor::new(self.channel.clone(), None)
    }

    /// Somebody who sends this as his token.
    pub async fn with_token(&self, token: &str) -> Actor {
        // On a connection of his own: what he sends may cost him the connection.
        let channel = self.connect_to(self.address()).await.expect("the server listens");
        Actor::new(channel, Some(token.to_owned()))
    }

    /// Somebody on a connection with this certificate, who sends this token.
    pub async fn over(&self, identity: Option<&Identity>, token: Option<&str>) -> Actor {
        let channel = connect_as(self.folder.path(), self.address(), identity).await;
        Actor::new(channel.expect("the server listens"), token.map(str::to_owned))
    }

    pub fn admin(&self) -> Actor {
        self.holding("admin", &["admin"])
    }

    pub fn operator(&self) -> Actor {
        self.holding("operator", &["operator"])
    }

    pub fn viewer(&self) -> Actor {
        self.holding("viewer", &["viewer"])
    }

    pub fn helpdesk(&self) -> Actor {
        self.holding("helpdesk", &["helpdesk"])
    }

    pub fn sync_agent(&self) -> Actor {
        self.holding("sync-agent", &["sync-agent"])
    }

    fn holding(&self, subject: &str, roles: &[&str]) -> Actor {
        Actor::new(self.channel.clone(), Some(self.token(subject, roles)))
    }
}

impl Actor {
    /// The administrator of a `partnerd serve --dev` started in `folder`, as its files tell.
    pub async fn of_dev_server(folder: &Path) -> Self {
        let token = std::fs::read_to_string(folder.join("partnerd-data/admin.token"));
        Self::of_dev_server_with(folder, token.expect("the server wrote it").trim()).await
    }

    /// Somebody with a token, at a `partnerd serve --dev` started in `folder`.
    pub async fn of_dev_server_with(folder: &Path, token: &str) -> Self {
        let data = folder.join("partnerd-data");
        let config = std::fs::read_to_string(data.join("partnerctl.toml"));
        let config: partnerd::dev::ClientConfig =
            toml::from_str(&config.expect("the server wrote it")).expect("it is TOML");
        let (_, port) = config.endpoint.rsplit_once(':').expect("it has a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
        let channel = connect(&data, address).await.expect("the server listens");
        Self::new(channel, Some(token.to_owned()))
    }
}

/// A server's tasks, and the way to end them.
struct Running {
    address: SocketAddr,
    trigger: ShutdownTrigger,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(folder: &Path, options: &Builder) -> Self {
        let dev = DevFolder::open_or_create(folder, Timestamp::now()).expect("it is ours");
        let tls = TlsConfig {
            client_ca_file: (options.client_auth != ClientAuth::None)
                .then(|| dev.path().join("ca.pem")),
            client_auth: options.client_auth,
            ..dev.tls_config()
        };
        let development =
            Development { data_dir: dev.store_path(), tls, issuer: dev.issuer_config() };
        let mut config =
            Config::load_dev(&Layers::without_file(), development).expect("it is complete");
        // Tests share few processors: their calls wait longer than those of a server may.
        config.limits.max_queue_delay = Duration::from_secs(60);
        if let Some(most) = options.max_concurrent_requests {
            config.limits.max_concurrent_requests = most;
        }
        if let Some(change) = &options.limits {
            change(&mut config.limits);
        }
        if let Some(quiet) = options.silent_after {
            config.replicas.silent_after = quiet;
        }
        if let Some(most) = options.max_replicas {
            config.replicas.max_count = most;
        }
        config.replicas.id_is_subject = options.replica_id_is_subject;
        config.auth.issuers.extend(options.issuers.clone());
        config.auth.tokens.fetch = options.fetch.clone().unwrap_or(config.auth.tokens.fetch);
        config.auth.tokens.certificates = options.certificates.clone();
        let hardly_any = FailureLimits { per_source: 1_000_000, per_subject: 1_000_000 };
        config.auth.failures = options.failures.unwrap_or(hardly_any);
        config.server.reload_interval = Duration::from_millis(50);
        config.server.local_domains = options
            .local_domains
            .iter()
            .map(|domain| domain.parse().expect("the test names a domain"))
            .collect();
        let assembly = tokio::task::spawn_blocking(move || {
            let store = SledStore::open(&config.data_dir, &SledOptions::default());
            let store = Arc::new(store.expect("the store is sound"));
            Assembly::new(config, store).expect("the state is sound").with_development(dev)
        });
        let assembly = assembly.await.expect("it does not panic");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let (trigger, shutdown) = shutdown();
        let task = tokio::spawn(async move {
            assembly.serve(vec![listener], shutdown).await.expect("nothing fails while it runs");
        });
        Self { address, trigger, task }
    }

    async fn stop(self) {
        self.trigger.end();
        self.task.await.expect("the server ends in order");
    }
}

/// A connection over TLS that believes the CA in `folder`.
async fn connect(folder: &Path, address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    connect_as(folder, address, None).await
}

async fn connect_as(
    folder: &Path,
    address: SocketAddr,
    identity: Option<&Identity>,
) -> Result<Channel, tonic::transport::Error> {
    let tls = TlsConnector::from(Arc::new(client_config(folder, identity)));
    let connector = tower::service_fn(move |_: http::Uri| {
        let tls = tls.clone();
        async move {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").expect("it is a name");
            Ok::<_, io::Error>(TokioIo::new(tls.connect(name, tcp).await?))
        }
    });
    Endpoint::from_static("https://localhost").connect_with_connector(connector).await
}

fn client_config(folder: &Path, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(folder.join("ca.pem")).expect("it is there") {
        roots.add(certificate.expect("it is PEM")).expect("it is a CA");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate_pem, key_pem }) => {
            let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(key_pem.expose_secret().as_bytes());
            builder
                .with_client_auth_cert(
                    vec![certificate.expect("it was issued")],
                    key.expect("it was issued"),
                )
                .expect("the two belong together")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
