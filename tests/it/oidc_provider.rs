//! A real issuer: the npm package `oidc-provider`, in a process of its own.
//!
//! Runs where `PARTNERD_TEST_OIDC_PROVIDER` names a copy of `tests/oidc` with its `node_modules`
//! installed, and says loudly that it is skipped where not.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use partnerd::auth::{
    issuer::{IssuerConfig, KeySource},
    keys::FetchLimits,
};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::harness::{TestServer, actor::reason};

const VARIABLE: &str = "PARTNERD_TEST_OIDC_PROVIDER";

/// The provider's process, ended when it is dropped.
struct Provider {
    child: Child,
    port: u16,
}

impl Provider {
    fn start(folder: &Path, port: u16) -> Self {
        let mut child = Command::new("node")
            .args(["server.mjs", &port.to_string()])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is installed");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("it says where it listens");
        let port = line.trim().strip_prefix("listening ").and_then(|port| port.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("it said {line:?}")) }
    }

    fn config(&self) -> IssuerConfig {
        IssuerConfig {
            issuer: format!("http://localhost:{}", self.port),
            audiences: vec!["partnerd".to_owned()],
            algorithms: vec!["ES256".to_owned()],
            keys: vec![KeySource::Discovery { algorithm: None, ca_file: None }],
            role_mapping: [("CsAdministrator".to_owned(), "admin".to_owned())].into(),
            token_types: vec!["at+jwt".to_owned()],
            ..IssuerConfig::default()
        }
    }

    /// A token by client credentials.
    async fn token(&self, client: &str) -> String {
        let credentials = STANDARD.encode(format!("{client}:secret"));
        let request = Request::post("/token")
            .header(header::AUTHORIZATION, format!("Basic {credentials}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from("grant_type=client_credentials"));
        let answer = self.ask(request.unwrap()).await;
        let answer: Value = serde_json::from_slice(&answer).expect("the provider answers in JSON");
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// A new signing key; the old one is published no longer, unless it is kept.
    async fn rotate(&self, keep: bool) {
        let path = if keep { "/test/rotate?keep" } else { "/test/rotate" };
        self.ask(Request::post(path).body(Full::default()).unwrap()).await;
    }

    async fn ask(&self, mut request: Request<Full<Bytes>>) -> Bytes {
        let host = format!("localhost:{}", self.port);
        request.headers_mut().insert(header::HOST, host.parse().unwrap());
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("it listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.expect("it answers");
        let content = response.into_body().collect().await.expect("it answers").to_bytes();
        connection.abort();
        content
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "it says where the test's own tools are")]
fn folder() -> Option<PathBuf> {
    let folder = env::var_os(VARIABLE).map(PathBuf::from);
    if folder.is_none() {
        // Past the capture of the test's output: nobody reads what a test says that passes.
        let text = format!("SKIPPED: a real issuer; set {VARIABLE} to tests/oidc, installed\n");
        let _ = io::stderr().write_all(text.as_bytes());
    }
    folder
}

async fn outcome(server: &TestServer, token: &str) -> String {
    match server.with_token(token).await.describe().await {
        Ok(caller) => format!("{}: {}", caller.subject, caller.roles.join(" ")),
        Err(status) => reason(&status),
    }
}

async fn until(server: &TestServer, token: &str, expected: &str) {
    let mut last = String::new();
    let reached = async {
        while last != expected {
            last = outcome(server, token).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), reached).await;
    assert!(in_time.is_ok(), "{last}, not {expected}");
}

#[tokio::test]
async fn a_real_provider_is_believed_its_rotation_followed_and_its_outage_survived() {
    let Some(folder) = folder() else { return };
    let provider = Provider::start(&folder, 0);
    let limits = FetchLimits {
        least_age: Duration::from_millis(20),
        most_age: Duration::from_millis(50),
        unknown_key_interval: Duration::from_millis(1),
        ..FetchLimits::default()
    };
    let server = TestServer::builder().issuer(provider.config()).fetch(limits).start().await;

    let first = provider.token("viewer").await;
    assert_eq!(outcome(&server, &first).await, "viewer: roles/viewer");
    let admin = server.with_token(&provider.token("admin").await).await;
    admin.create_plain("contoso.com").await;

    provider.rotate(true).await;
    let second = provider.token("viewer").await;
    assert_eq!(outcome(&server, &second).await, "viewer: roles/viewer");
    assert_eq!(outcome(&server, &first).await, "viewer: roles/viewer");

    provider.rotate(false).await;
    let third = provider.token("viewer").await;
    assert_eq!(outcome(&server, &third).await, "viewer: roles/viewer");
    until(&server, &first, "TOKEN_KEY_UNKNOWN").await;
    until(&server, &second, "TOKEN_KEY_UNKNOWN").await;

    let fourth = provider.token("viewer").await;
    let port = provider.port;
    drop(provider);
    assert_eq!(outcome(&server, &third).await, "viewer: roles/viewer");
    assert_eq!(outcome(&server, &fourth).await, "viewer: roles/viewer", "never seen before");

    // It comes back with other keys, as after a restore.
    let provider = Provider::start(&folder, port);
    until(&server, &provider.token("viewer").await, "viewer: roles/viewer").await;
    until(&server, &third, "TOKEN_KEY_UNKNOWN").await;
}
