//! An issuer of tokens in this process: real HTTP on loopback, and every fault an issuer can have.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use partnerd::{
    auth::issuer::{IssuerConfig, KeySource},
    certs::Identity,
};
use rcgen::KeyPair;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// What its tokens are for.
pub const AUDIENCE: &str = "partnerd";

/// How it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// Not at all: it hangs up.
    Gone,
    /// With an internal error.
    Failing,
    /// Never, though it listens.
    Slow,
    /// With a document of a megabyte.
    Huge,
    /// With a document of no end.
    Endless,
    /// With a way to another place.
    Redirecting(String),
    /// With a discovery document that speaks of another issuer.
    SomebodyElse,
    /// With a discovery document whose keys are at this address.
    KeysAt(String),
    /// With no JSON.
    Garbage,
    /// With JSON that is nothing of the sort.
    OtherJson,
}

/// An issuer that listens until it is dropped.
pub struct TestIssuer {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    issuer: String,
    keys: Mutex<Vec<(String, Arc<KeyPair>)>>,
    extra: Mutex<Vec<Value>>,
    mood: Mutex<Mood>,
    connections: AtomicUsize,
    key_requests: AtomicUsize,
}

impl TestIssuer {
    /// An issuer with one key, `k1`.
    pub async fn start() -> Self {
        Self::start_on(None).await
    }

    /// The same over TLS.
    pub async fn start_with_tls(identity: &Identity) -> Self {
        Self::start_on(Some(identity)).await
    }

    async fn start_on(identity: Option<&Identity>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let scheme = if identity.is_some() { "https" } else { "http" };
        let state = Arc::new(State {
            issuer: format!("{scheme}://localhost:{}", address.port()),
            keys: Mutex::default(),
            extra: Mutex::default(),
            mood: Mutex::new(Mood::Well),
            connections: AtomicUsize::new(0),
            key_requests: AtomicUsize::new(0),
        });
        let tls = identity.map(acceptor);
        let task = tokio::spawn(listen(listener, tls, Arc::clone(&state)));
        let issuer = Self { address, scheme, state, task };
        issuer.add_key("k1");
        issuer
    }

    /// Its `iss`.
    pub fn name(&self) -> &str {
        &self.state.issuer
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }

    /// How a server believes it that finds its keys by discovery.
    pub fn config(&self) -> IssuerConfig {
        self.config_with(KeySource::Discovery { algorithm: None, ca_file: None })
    }

    /// How a server believes it that has its keys from this source.
    pub fn config_with(&self, keys: KeySource) -> IssuerConfig {
        IssuerConfig {
            issuer: self.name().to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            algorithms: vec!["ES256".to_owned()],
            keys: vec![keys],
            ..IssuerConfig::default()
        }
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// Publishes one more key.
    pub fn add_key(&self, kid: &str) {
        let key = Arc::new(KeyPair::generate().expect("a P-256 key"));
        self.state.keys.lock().unwrap().push((kid.to_owned(), key));
    }

    /// Publishes a key no longer.
    pub fn remove_key(&self, kid: &str) {
        self.state.keys.lock().unwrap().retain(|(other, _)| other != kid);
    }

    /// Publishes this as well.
    pub fn add_member(&self, member: Value) {
        self.state.extra.lock().unwrap().push(member);
    }

    /// The public key of a pair, as a member of a key set.
    pub fn member(kid: &str, key: &KeyPair) -> Value {
        let (x, y) = key.public_key_raw()[1..].split_at(32);
        let [x, y] = [x, y].map(|octets| URL_SAFE_NO_PAD.encode(octets));
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig"})
    }

    /// A viewer's token, signed by one of its keys.
    pub fn token(&self, kid: &str) -> String {
        self.token_with(kid, &json!({}))
    }

    /// The same with other claims.
    pub fn token_with(&self, kid: &str, claims: &Value) -> String {
        let keys = self.state.keys.lock().unwrap();
        let (_, key) = keys.iter().find(|(other, _)| other == kid).expect("it has the key");
        self.token_by(key, &json!({"kid": kid}), claims)
    }

    /// A token with these headers and claims, signed by any key.
    pub fn token_by(&self, key: &KeyPair, headers: &Value, claims: &Value) -> String {
        let now = Timestamp::now().as_second();
        let mut all = json!({
            "iss": self.name(), "aud": AUDIENCE, "sub": "alice", "roles": ["viewer"],
            "iat": now, "exp": now + 600, "jti": uuid::Uuid::new_v4().to_string(),
        });
        for (name, value) in claims.as_object().expect("an object") {
            all[name] = value.clone();
        }
        let mut header =
            json!(Header { typ: Some("at+jwt".into()), ..Header::new(Algorithm::ES256) });
        for (name, value) in headers.as_object().expect("an object") {
            header[name] = value.clone();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&all));
        let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a P-256 key");
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::ES256);
        format!("{signed}.{}", signature.expect("it signs"))
    }

    /// How often somebody has connected.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How often the keys have been asked for.
    pub fn key_requests(&self) -> usize {
        self.state.key_requests.load(Ordering::Relaxed)
    }
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        state.connections.fetch_add(1, Ordering::Relaxed);
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            match tls {
                None => serve(stream, state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, state: Arc<State>) {
    if *state.mood.lock().unwrap() == Mood::Gone {
        return;
    }
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(state.answer(&request).await) }
    });
    // A client that goes away in the middle is none of the issuer's business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl State {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path == "/keys" {
            self.key_requests.fetch_add(1, Ordering::Relaxed);
        }
        let mood = self.mood.lock().unwrap().clone();
        match mood {
            Mood::Gone | Mood::Slow => std::future::pending().await,
            Mood::Failing => status(StatusCode::INTERNAL_SERVER_ERROR, ""),
            Mood::Huge => document(format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(1 << 20))),
            Mood::Endless => document("[".repeat(200_000)),
            Mood::Redirecting(to) => {
                let mut response = status(StatusCode::FOUND, "");
                let to = to.parse().expect("an address is a header");
                response.headers_mut().insert(header::LOCATION, to);
                response
            }
            Mood::Garbage => document("<html>we are sorry</html>".to_owned()),
            Mood::OtherJson => document("[1, 2, 3]".to_owned()),
            Mood::Well | Mood::SomebodyElse | Mood::KeysAt(_) => match path {
                "/keys" => document(self.keys().to_string()),
                "/.well-known/openid-configuration" => {
                    let issuer = match &mood {
                        Mood::SomebodyElse => "https://somebody.example",
                        _ => &self.issuer,
                    };
                    let keys = match &mood {
                        Mood::KeysAt(address) => address.clone(),
                        _ => format!("{}/keys", self.issuer),
                    };
                    document(json!({"issuer": issuer, "jwks_uri": keys}).to_string())
                }
                _ => status(StatusCode::NOT_FOUND, ""),
            },
        }
    }

    fn keys(&self) -> Value {
        let keys = self.keys.lock().unwrap();
        let mut members: Vec<_> =
            keys.iter().map(|(kid, key)| TestIssuer::member(kid, key)).collect();
        members.extend(self.extra.lock().unwrap().iter().cloned());
        json!({ "keys": members })
    }
}

fn document(content: String) -> Response<Full<Bytes>> {
    status(StatusCode::OK, content)
}

fn status(status: StatusCode, content: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = status;
    response
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let Identity { certificate_pem, key_pem } = identity;
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(key_pem.expose_secret().as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("the two belong together");
    TlsAcceptor::from(Arc::new(config))
}
