//! Handshakes over in-memory connections with certificates made for the purpose.

use rustls::{ClientConfig, pki_types::ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::certs::{self, CertsArgs, LEAF_LIFETIME};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A folder with an authority, a server's and a client's certificate, all valid now.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let fixture = Self { folder };
        fixture.make_certificates();
        fixture
    }

    fn make_certificates(&self) {
        let args = CertsArgs {
            out: self.folder.path().to_owned(),
            names: Vec::new(),
            clients: vec!["client".to_owned()],
            force: true,
        };
        certs::make(&args, Timestamp::now()).expect("certificates");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, client_auth: ClientAuth) -> TlsConfig {
        TlsConfig {
            cert_file: self.path("server.pem"),
            key_file: self.path("server.key"),
            client_ca_file: (client_auth != ClientAuth::None).then(|| self.path("ca.pem")),
            client_auth,
        }
    }

    fn load(&self, config: &TlsConfig) -> Result<ServerTls, TlsError> {
        ServerTls::load(config, Timestamp::now())
    }

    fn server(&self, client_auth: ClientAuth) -> ServerTls {
        self.load(&self.config(client_auth)).expect("server TLS")
    }

    fn client(&self, with_certificate: bool) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.path("ca.pem")).expect("a CA"))
            .expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("versions")
            .with_root_certificates(roots);
        let mut client = if with_certificate {
            let chain = vec![CertificateDer::from_pem_file(self.path("client.pem")).expect("PEM")];
            let key = PrivateKeyDer::from_pem_file(self.path("client.key")).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a client's pair")
        } else {
            builder.with_no_client_auth()
        };
        client.alpn_protocols = vec![b"h2".to_vec()];
        client
    }
}

type ClientSide = io::Result<client::TlsStream<DuplexStream>>;
type ServerSide = Result<Transport<DuplexStream>, HandshakeError>;

/// Both ends of one connection. The client speaks first and reads the answer, so that a refusal that
/// TLS 1.3 sends after the handshake is seen too.
async fn connect(server: &ServerTls, client: ClientConfig) -> (ServerSide, ClientSide) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(Arc::new(client));
    let serve = async {
        let mut stream = server.handshake(near, TIMEOUT).await?;
        stream.write_all(b"!").await.map_err(HandshakeError::Lost)?;
        stream.flush().await.map_err(HandshakeError::Lost)?;
        Ok(stream)
    };
    let call = async {
        let mut stream = connector.connect(name, far).await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    tokio::join!(serve, call)
}

#[tokio::test]
async fn a_client_of_the_authority_connects_and_agrees_on_h2() {
    let fixture = Fixture::new();
    let (server, client) = connect(&fixture.server(ClientAuth::None), fixture.client(false)).await;
    let server = server.expect("a server's end");
    client.expect("a client's end");
    assert_eq!(server.application_protocol(), Some(&b"h2"[..]));
    assert!(server.peer_certificates().is_empty());
    assert!(!server.is_write_vectored());
}

#[tokio::test]
async fn a_required_client_certificate_is_seen_and_its_absence_refused() {
    let fixture = Fixture::new();
    let tls = fixture.server(ClientAuth::Required);
    let (server, client) = connect(&tls, fixture.client(true)).await;
    client.expect("a client's end");
    let shown = server.expect("a server's end").peer_certificates().to_vec();
    let expected = CertificateDer::from_pem_file(fixture.path("client.pem")).expect("PEM");
    assert_eq!(shown, [expected]);

    let (server, client) = connect(&tls, fixture.client(false)).await;
    assert!(matches!(server, Err(HandshakeError::Refused(rustls::Error::NoCertificatesPresented))));
    client.expect_err("refused");
}

#[tokio::test]
async fn an_optional_client_certificate_may_be_absent_but_not_a_strangers() {
    let (fixture, stranger) = (Fixture::new(), Fixture::new());
    let tls = fixture.server(ClientAuth::Optional);
    connect(&tls, fixture.client(false)).await.1.expect("without a certificate");
    connect(&tls, fixture.client(true)).await.1.expect("with a certificate");
    for name in ["client.pem", "client.key"] {
        fs::copy(stranger.path(name), fixture.path(name)).expect("copied");
    }
    let (server, client) = connect(&tls, fixture.client(true)).await;
    assert!(matches!(server, Err(HandshakeError::Refused(_))), "{server:?}");
    client.expect_err("refused");
}

#[tokio::test]
async fn a_client_that_offers_only_other_protocols_is_refused() {
    let fixture = Fixture::new();
    let mut client = fixture.client(false);
    client.alpn_protocols = vec![b"smtp".to_vec()];
    let (server, client) = connect(&fixture.server(ClientAuth::None), client).await;
    assert!(matches!(server, Err(HandshakeError::Refused(_))), "{server:?}");
    client.expect_err("refused");
}

#[tokio::test]
async fn a_client_without_tls_and_raw_bytes_are_told_apart_from_a_lost_connection() {
    let tls = Fixture::new().server(ClientAuth::None);
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64]]
    {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(bytes).await.expect("written");
        let outcome = tls.handshake(near, TIMEOUT).await;
        assert!(matches!(outcome, Err(HandshakeError::NotTls)), "{outcome:?}");
    }
    let (near, far) = tokio::io::duplex(1024);
    drop(far);
    assert!(matches!(tls.handshake(near, TIMEOUT).await, Err(HandshakeError::Lost(_))));
}

#[tokio::test]
async fn a_silent_client_is_given_up() {
    let tls = Fixture::new().server(ClientAuth::None);
    let (near, _far) = tokio::io::duplex(1024);
    let outcome = tls.handshake(near, Duration::from_millis(1)).await;
    assert!(matches!(outcome, Err(HandshakeError::TimedOut(_))), "{outcome:?}");
}

#[tokio::test]
async fn replaced_files_are_used_for_new_connections() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let tls = fixture.server(ClientAuth::None);
    assert_eq!(tls.reload_if_changed(Timestamp::now()), Ok(false));
    for name in ["server.pem", "server.key"] {
        fs::copy(other.path(name), fixture.path(name)).expect("copied");
    }
    assert_eq!(tls.reload_if_changed(Timestamp::now()), Ok(true));
    connect(&tls, fixture.client(false)).await.1.expect_err("signed by another authority");
    connect(&tls, other.client(false)).await.1.expect("the new authority's client");
}

#[tokio::test]
async fn a_failed_reload_keeps_what_is_in_force_until_the_files_are_whole_again() {
    let fixture = Fixture::new();
    let tls = fixture.server(ClientAuth::None);
    fixture.make_certificates();
    let (whole, new_key) =
        (fs::read(fixture.path("server.pem")).expect("PEM"), fs::read(fixture.path("server.key")));
    for broken in
        [&b""[..], b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        fs::write(fixture.path("server.pem"), broken).expect("written");
        tls.reload_if_changed(Timestamp::now()).expect_err("broken");
        connect(&tls, fixture.client(false)).await.1.expect("still served");
    }
    fs::write(fixture.path("server.pem"), whole).expect("written");
    fs::write(fixture.path("server.key"), new_key.expect("a key")).expect("written");
    assert_eq!(tls.reload_if_changed(Timestamp::now()), Ok(true));
    connect(&tls, fixture.client(false)).await.1.expect("served with the new pair");
}

#[test]
fn unusable_files_are_refused_with_their_names() {
    type Spoil = fn(&Fixture, &mut TlsConfig);
    let table: [(Spoil, &str); 9] = [
        (
            |_, config| config.cert_file = "/nonexistent.pem".into(),
            "`cert_file` /nonexistent.pem: No such file",
        ),
        (
            |fixture, _| fs::write(fixture.path("server.pem"), "").expect("written"),
            "server.pem: it is empty",
        ),
        (
            |fixture, _| fs::write(fixture.path("server.key"), "").expect("written"),
            "server.key: it is empty",
        ),
        (|fixture, config| config.cert_file = fixture.path("server.key"), "holds no certificate"),
        (|fixture, config| config.key_file = fixture.path("server.pem"), "holds no private key"),
        (|fixture, config| config.key_file = fixture.path("client.key"), "is not the key of"),
        (|_, config| config.client_auth = ClientAuth::Required, "there is no `client_ca_file`"),
        (
            |fixture, config| config.client_ca_file = Some(fixture.path("ca.pem")),
            "set `client_auth`",
        ),
        (
            |fixture, config| {
                config.client_auth = ClientAuth::Required;
                config.client_ca_file = Some(fixture.path("ca.key"));
            },
            "`client_ca_file`",
        ),
    ];
    for (spoil, expected) in table {
        let fixture = Fixture::new();
        let mut config = fixture.config(ClientAuth::None);
        spoil(&fixture, &mut config);
        let error = fixture.load(&config).expect_err(expected).to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn certificates_out_of_their_time_are_refused() {
    let fixture = Fixture::new();
    let config = fixture.config(ClientAuth::None);
    let now = Timestamp::now();
    let error = ServerTls::load(&config, now + LEAF_LIFETIME).expect_err("expired").to_string();
    assert!(error.contains("server.pem: it expired at"), "{error}");
    let error = ServerTls::load(&config, now - LEAF_LIFETIME).expect_err("too early").to_string();
    assert!(error.contains("it is not valid before"), "{error}");
}
