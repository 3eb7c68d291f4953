//! A server in this process, on port 0 and a temporary folder, and the people who call it.

pub mod actor;
pub mod process;
pub mod tokens;

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use partnerd::{
    config::{Config, Development, Layers},
    dev::DevFolder,
    server::{Assembly, ShutdownTrigger, shutdown},
    store::sled::{SledOptions, SledStore},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
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

/// How a test server differs from a plain development server.
#[derive(Clone, Default)]
pub struct Builder {
    local_domains: Vec<String>,
}

impl Builder {
    /// A domain that the server itself serves.
    pub fn local_domain(mut self, domain: &str) -> Self {
        self.local_domains.push(domain.to_owned());
        self
    }

    pub async fn start(self) -> TestServer {
        TestServer::start_in(tempfile::tempdir().expect("there is room for a folder"), self).await
    }
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
        let Self { folder, running, options, .. } = self;
        running.stop().await;
        Self::start_in(folder, options).await
    }

    async fn start_in(folder: tempfile::TempDir, options: Builder) -> Self {
        let running = Running::start(folder.path(), &options).await;
        let channel = connect(folder.path(), running.address).await.expect("the server listens");
        Self { folder, running, channel, options }
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

    /// Somebody with this name and these roles.
    pub async fn actor(&self, subject: &str, roles: &[&str]) -> Actor {
        self.holding(subject, roles)
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
        let token = self
            .dev()
            .issue_token(roles, subject, SignedDuration::from_hours(1), Timestamp::now())
            .expect("the token is well formed");
        Actor::new(self.channel.clone(), Some(token.expose_secret().to_owned()))
    }
}

impl Actor {
    /// The administrator of a `partnerd serve --dev` started in `folder`, as its files tell.
    pub async fn of_dev_server(folder: &Path) -> Self {
        let data = folder.join("partnerd-data");
        let read = |name: &str| std::fs::read_to_string(data.join(name)).expect("it was written");
        let config: partnerd::dev::ClientConfig =
            toml::from_str(&read("partnerctl.toml")).expect("the server wrote it");
        let (_, port) = config.endpoint.rsplit_once(':').expect("it has a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
        let channel = connect(&data, address).await.expect("the server listens");
        Self::new(channel, Some(read("admin.token").trim().to_owned()))
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
        let development = Development {
            data_dir: dev.store_path(),
            tls: dev.tls_config(),
            issuer: dev.issuer_config(),
        };
        let mut config =
            Config::load_dev(&Layers::without_file(), development).expect("it is complete");
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
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(folder.join("ca.pem")).expect("it is there") {
        roots.add(certificate.expect("it is PEM")).expect("it is a CA");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConnector::from(Arc::new(config));
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
