//! Calls over real sockets: the layers and the accept loop around a service that misbehaves.

use std::{
    convert::Infallible,
    future, io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::service_fn;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::{
    certs::{self, CertsArgs},
    config::{self, LogFormat},
    domain::Revision,
    service::FromTower,
    telemetry::{self, RequestInfo},
    tls::{ClientAuth, ServerTls, TlsConfig},
};

/// A server around [`answer`], and what the test needs to steer it.
struct Rig {
    address: SocketAddr,
    calls: Arc<Calls>,
    trigger: ShutdownTrigger,
    served: JoinHandle<()>,
}

/// When a call to `/slow` begins, and when it may end.
#[derive(Debug, Default)]
struct Calls {
    begun: Notify,
    finish: Notify,
}

/// One connection of a client.
struct Client {
    sender: SendRequest<Body>,
    closed: JoinHandle<()>,
}

/// A response, read to its end.
struct Outcome {
    http_status: StatusCode,
    headers: HeaderMap,
    frames: usize,
    status: Option<Status>,
}

impl Rig {
    async fn start(limits: Limits) -> Self {
        Self::start_with(limits, Security::PlainText).await
    }

    async fn start_with(limits: Limits, security: Security) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(Calls::default());
        let steered = calls.clone();
        let service = FromTower(service_fn(move |request| answer(steered.clone(), request)));
        let service = layered(service, &limits);
        let pressure = Arc::new(Pressure::new(Duration::from_secs(60)));
        let (trigger, told) = shutdown();
        let served = tokio::spawn(async move {
            let served = serve(vec![listener], security, service, &limits, pressure, 0, told);
            served.await.unwrap();
        });
        Self { address, calls, trigger, served }
    }

    async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let closed = tokio::spawn(async move {
            // A broken connection is closed too.
            let _ = connection.await;
        });
        Client { sender, closed }
    }

    async fn end(self) {
        self.trigger.drain();
        self.served.await.unwrap();
    }
}

impl Client {
    /// Calls a method, and reads the response to its end.
    async fn call(&self, path: &str, headers: &[(&str, &str)]) -> Outcome {
        self.send(grpc(path, headers)).await.unwrap()
    }

    async fn send(&self, request: Request<Body>) -> hyper::Result<Outcome> {
        let response = self.sender.clone().send_request(request).await?;
        let (head, mut body) = response.into_parts();
        let mut status = Status::from_header_map(&head.headers);
        let mut frames = 0;
        while let Some(frame) = body.frame().await {
            match frame?.into_trailers() {
                Ok(trailers) => status = Status::from_header_map(&trailers),
                Err(_data) => frames += 1,
            }
        }
        Ok(Outcome { http_status: head.status, headers: head.headers, frames, status })
    }

    /// Starts a call that goes on until the rig lets it finish.
    async fn slow(&self, rig: &Rig) -> JoinHandle<hyper::Result<Outcome>> {
        let client = Self { sender: self.sender.clone(), closed: tokio::spawn(async {}) };
        let call = tokio::spawn(async move { client.send(grpc("/slow", &[])).await });
        rig.calls.begun.notified().await;
        call
    }
}

impl Outcome {
    fn code(&self) -> Code {
        self.status.as_ref().expect("a gRPC status").code()
    }

    fn reason(&self) -> String {
        let details = self.status.as_ref().expect("a gRPC status").get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!(info.domain, "federation.xmpp");
        info.reason.clone()
    }
}

/// The service: its paths are what it does.
async fn answer(calls: Arc<Calls>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let info = request.extensions().get::<Arc<RequestInfo>>().unwrap().clone();
    match request.uri().path() {
        "/ok" => {
            info.set_subject("alice".into());
            info.set_revision(Revision::new(7));
        }
        "/not-found" => return Ok(Status::not_found("gone").into_http()),
        "/panic" => panic!("as asked"),
        "/stuck" => future::pending().await,
        "/slow" => {
            calls.begun.notify_one();
            calls.finish.notified().await;
        }
        "/stream-stuck" => return Ok(stream(future::pending::<()>())),
        "/stream-panic" => return Ok(stream(async { panic!("as asked") })),
        path => panic!("the service has no {path}"),
    }
    Ok(stream(async {}))
}

/// One message, then whatever `then` does, then OK.
fn stream(then: impl Future<Output = ()> + Send + 'static) -> Response<Body> {
    let mut then = Box::pin(then);
    let mut message = Some(Frame::data(Bytes::from_static(&[0; 5])));
    let mut trailers = Some(HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]));
    let frames = futures_util::stream::poll_fn(move |cx| {
        if let Some(message) = message.take() {
            return Poll::Ready(Some(Ok::<_, Status>(message)));
        }
        if trailers.is_some() {
            ready!(then.as_mut().poll(cx));
        }
        Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    });
    Response::new(Body::new(StreamBody::new(frames)))
}

fn grpc(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request =
        Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::new(Empty::<Bytes>::new())).unwrap()
}

#[tokio::test]
async fn a_panic_is_internal_with_the_request_id_and_the_server_lives() {
    let rig = Rig::start(Limits::default()).await;
    let client = rig.connect().await;
    let outcome = client.call("/panic", &[("x-request-id", "my-id")]).await;
    assert_eq!((outcome.http_status, outcome.code()), (StatusCode::OK, Code::Internal));
    assert_eq!(outcome.reason(), "INTERNAL");
    assert!(outcome.status.unwrap().message().contains("my-id"));
    assert_eq!(client.call("/ok", &[]).await.code(), Code::Ok);
    rig.end().await;
}

#[tokio::test]
async fn a_panic_in_a_stream_ends_the_stream_with_internal() {
    let rig = Rig::start(Limits::default()).await;
    let client = rig.connect().await;
    let outcome = client.call("/stream-panic", &[]).await;
    assert_eq!((outcome.frames, outcome.code()), (1, Code::Internal));
    assert_eq!(client.call("/ok", &[]).await.code(), Code::Ok);
    rig.end().await;
}

#[tokio::test]
async fn a_call_ends_at_its_clients_deadline() {
    let rig = Rig::start(Limits::default()).await;
    let outcome = rig.connect().await.call("/stuck", &[("grpc-timeout", "20m")]).await;
    assert_eq!((outcome.http_status, outcome.code()), (StatusCode::OK, Code::DeadlineExceeded));
    assert_eq!(outcome.reason(), "DEADLINE_EXCEEDED");
    assert_eq!(outcome.headers["content-type"], "application/grpc");
    rig.end().await;
}

#[tokio::test]
async fn a_call_ends_at_the_servers_deadline_whatever_its_client_allows() {
    let short = Duration::from_millis(20);
    let limits =
        Limits { default_request_timeout: short, max_request_timeout: short, ..Limits::default() };
    let rig = Rig::start(limits).await;
    let client = rig.connect().await;
    assert_eq!(client.call("/stuck", &[]).await.code(), Code::DeadlineExceeded);
    let patient = client.call("/stuck", &[("grpc-timeout", "1H")]).await;
    assert_eq!(patient.code(), Code::DeadlineExceeded);
    rig.end().await;
}

#[tokio::test]
async fn a_stream_ends_at_its_clients_deadline_with_what_it_had() {
    let limits = Limits { max_request_timeout: Duration::from_millis(1), ..Limits::default() };
    let rig = Rig::start(limits).await;
    let outcome = rig.connect().await.call("/stream-stuck", &[("grpc-timeout", "50m")]).await;
    assert_eq!((outcome.frames, outcome.code()), (1, Code::DeadlineExceeded));
    rig.end().await;
}

#[tokio::test]
async fn a_malformed_deadline_is_refused() {
    let rig = Rig::start(Limits::default()).await;
    let outcome = rig.connect().await.call("/ok", &[("grpc-timeout", "soon")]).await;
    assert_eq!(outcome.code(), Code::InvalidArgument);
    assert_eq!(outcome.reason(), "DEADLINE_MALFORMED");
    rig.end().await;
}

#[tokio::test]
async fn a_call_beyond_the_limit_is_told_when_to_try_again() {
    let rig = Rig::start(Limits { max_concurrent_requests: 1, ..Limits::default() }).await;
    let client = rig.connect().await;
    let first = client.slow(&rig).await;
    let second = client.call("/ok", &[]).await;
    assert_eq!(
        (second.code(), second.reason()),
        (Code::ResourceExhausted, "TOO_MANY_CALLS".into())
    );
    assert!(second.status.unwrap().get_error_details().retry_info().is_some());
    rig.calls.finish.notify_one();
    assert_eq!(first.await.unwrap().unwrap().code(), Code::Ok);
    assert_eq!(client.call("/ok", &[]).await.code(), Code::Ok);
    rig.end().await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_and_the_others_live() {
    let rig = Rig::start(Limits { max_connections: 1, ..Limits::default() }).await;
    let client = rig.connect().await;
    assert_eq!(client.call("/ok", &[]).await.code(), Code::Ok);
    assert_eq!(read_to_end(rig.address, b"").await, b"");
    assert_eq!(client.call("/ok", &[]).await.code(), Code::Ok);
    rig.end().await;
}

#[tokio::test]
async fn what_is_not_http2_is_closed_and_the_server_lives() {
    let rig = Rig::start(Limits::default()).await;
    let said = read_to_end(rig.address, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(!said.starts_with(b"HTTP/1"), "{said:?}");
    read_to_end(rig.address, &[0xff; 512]).await;
    assert_eq!(rig.connect().await.call("/ok", &[]).await.code(), Code::Ok);
    rig.end().await;
}

#[tokio::test]
async fn what_is_not_tls_is_closed_on_a_tls_port_and_the_server_lives() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_owned();
    let args = CertsArgs { out: out.clone(), names: vec![], clients: vec![], force: false };
    certs::make(&args, Timestamp::now()).unwrap();
    let config = TlsConfig {
        cert_file: out.join("server.pem"),
        key_file: out.join("server.key"),
        client_ca_file: None,
        client_auth: ClientAuth::None,
    };
    let tls = ServerTls::load(&config, Timestamp::now()).unwrap();
    let rig = Rig::start_with(Limits::default(), Security::Tls(Arc::new(tls))).await;
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0; 64], &[0xff; 64]] {
        let said = read_to_end(rig.address, bytes).await;
        assert!(said.len() < 16, "at most a TLS alert: {said:?}");
    }
    assert!(!rig.served.is_finished());
    rig.end().await;
}

#[tokio::test]
async fn what_is_not_grpc_gets_a_plain_http_error() {
    let rig = Rig::start(Limits::default()).await;
    let client = rig.connect().await;
    for other in ["application/json", "application/grpc-web", "application/grpcish", ""] {
        let mut request = grpc("/ok", &[]);
        request.headers_mut().insert("content-type", other.parse().unwrap());
        let outcome = client.send(request).await.unwrap();
        assert_eq!(outcome.http_status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{other}");
        assert!(outcome.status.is_none());
    }
    let mut request = grpc("/ok", &[]);
    *request.method_mut() = Method::GET;
    let outcome = client.send(request).await.unwrap();
    assert_eq!(outcome.http_status, StatusCode::METHOD_NOT_ALLOWED);
    rig.end().await;
}

#[tokio::test]
async fn a_drain_lets_a_call_finish_and_takes_no_new_connection() {
    let rig = Rig::start(Limits::default()).await;
    let client = rig.connect().await;
    let call = client.slow(&rig).await;
    rig.trigger.drain();
    while TcpStream::connect(rig.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!rig.served.is_finished());
    rig.calls.finish.notify_one();
    assert_eq!(call.await.unwrap().unwrap().code(), Code::Ok);
    rig.served.await.unwrap();
}

#[tokio::test]
async fn a_drain_that_takes_too_long_cuts_the_calls_off() {
    let limits = Limits { drain_timeout: Duration::from_millis(20), ..Limits::default() };
    let rig = Rig::start(limits).await;
    let client = rig.connect().await;
    let call = client.slow(&rig).await;
    rig.trigger.drain();
    rig.served.await.unwrap();
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn an_end_cuts_the_calls_off_at_once() {
    let limits = Limits { drain_timeout: Duration::from_secs(3_600), ..Limits::default() };
    let rig = Rig::start(limits).await;
    let client = rig.connect().await;
    let call = client.slow(&rig).await;
    rig.trigger.drain();
    rig.trigger.end();
    let served = tokio::time::timeout(Duration::from_secs(60), rig.served).await;
    served.expect("the drain timeout is not waited for").unwrap();
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn a_connection_without_a_call_is_closed_after_a_while() {
    let limits = Limits { idle_timeout: Duration::from_millis(20), ..Limits::default() };
    let rig = Rig::start(limits).await;
    let client = rig.connect().await;
    assert_eq!(client.call("/ok", &[]).await.code(), Code::Ok);
    client.closed.await.unwrap();
    rig.end().await;
}

#[tokio::test]
async fn the_request_id_comes_back() {
    let rig = Rig::start(Limits::default()).await;
    let client = rig.connect().await;
    for path in ["/ok", "/not-found", "/panic"] {
        let outcome = client.call(path, &[("x-request-id", "trace-1")]).await;
        assert_eq!(outcome.headers["x-request-id"], "trace-1", "{path}");
    }
    let outcome = client.call("/ok", &[("x-request-id", "not safe")]).await;
    assert!(uuid::Uuid::parse_str(outcome.headers["x-request-id"].to_str().unwrap()).is_ok());
    rig.end().await;
}

/// What the server has logged, as JSON.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn calls(&self) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().unwrap().clone();
        let lines = String::from_utf8(bytes).unwrap();
        let values = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        values.filter(|line: &serde_json::Value| line["message"] == "call").collect()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn each_call_is_one_log_line_and_no_token_is_in_it() {
    let log = Log::default();
    let everything = config::Log { format: LogFormat::Json, filter: "trace".to_owned() };
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(&everything, log.clone()));
    let rig = Rig::start(Limits::default()).await;
    let client = rig.connect().await;
    let secret = ("authorization", "Bearer secret-token");
    client.call("/ok", &[secret, ("x-request-id", "first")]).await;
    client.call("/not-found", &[secret]).await;
    client.call("/stream-panic", &[secret]).await;
    rig.end().await;

    let calls = log.calls();
    let [ok, not_found, panicked] = calls.as_slice() else { panic!("{calls:#?}") };
    assert_eq!(ok["request.id"], "first");
    assert_eq!(ok["method"], "/ok");
    assert_eq!(ok["status"], "OK");
    assert_eq!(ok["subject"], "alice");
    assert_eq!(ok["revision"], 7);
    assert!(ok["latency_ms"].as_f64().unwrap() > 0.0);
    assert!(ok["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(not_found["status"], "NOT_FOUND");
    assert_eq!(not_found["subject"], serde_json::Value::Null);
    assert_eq!(panicked["status"], "INTERNAL");
    assert!(!log.text().contains("secret"), "{}", log.text());
}

#[tokio::test]
async fn what_a_client_can_repeat_without_end_is_not_logged() {
    let log = Log::default();
    let warnings = config::Log { format: LogFormat::Json, filter: "warn".to_owned() };
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(&warnings, log.clone()));
    let rig = Rig::start(Limits::default()).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let ping =
        |flags: u8, payload: [u8; 8]| [&[0, 0, 8, 6, flags, 0, 0, 0, 0][..], &payload[..]].concat();
    // Acknowledgements of pings that nobody sent, and one ping to know that they were read.
    let flood = ping(1, [3; 8]).repeat(100);
    let bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &flood, &ping(0, [7; 8])];
    stream.write_all(&bytes.concat()).await.unwrap();
    let mut said = Vec::new();
    while !said.windows(8).any(|bytes| bytes == [7; 8]) {
        assert!(stream.read_buf(&mut said).await.unwrap() > 0, "the connection goes on");
    }
    rig.end().await;
    assert_eq!(log.text(), "");
}

#[tokio::test]
async fn a_connection_without_a_call_is_closed_soon_and_one_with_a_call_is_not() {
    let limits = Limits { first_call_timeout: Duration::from_millis(500), ..Limits::default() };
    let rig = Rig::start(limits).await;
    let silent = rig.connect().await;
    let client = rig.connect().await;
    assert_eq!(client.call("/ok", &[]).await.code(), Code::Ok);
    silent.closed.await.unwrap();
    assert_eq!(client.call("/ok", &[]).await.code(), Code::Ok);
    rig.end().await;
}

/// Sends bytes on a connection of its own, and gives what comes back until it is closed.
async fn read_to_end(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that closes while we write is as good as one that closes after it.
    let _ = stream.write_all(bytes).await;
    let mut said = Vec::new();
    // So is one that resets the connection because it was not read to its end.
    let _ = stream.read_to_end(&mut said).await;
    said
}
