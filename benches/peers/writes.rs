//! Durable writes, each of another content, by a small client: `h2load` sends one content only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use partnerd::tls::Transport;
use tokio::net::TcpStream;

use crate::{etcd::Body, reads::Shape, report::Turn, server::Contestant};

/// What is measured.
pub const SHAPES: [Shape; 4] = [
    Shape { connections: 64, streams: 1 },
    Shape { connections: 16, streams: 8 },
    Shape { connections: 16, streams: 32 },
    Shape { connections: 1, streams: 1 },
];

/// No two writes of a run have the same number, so every one changes something.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// One turn of one contestant.
pub async fn drive(contestant: &Contestant, shape: Shape, time: Duration) -> Turn {
    let (path, message) = contestant.write.expect("only those who write are asked");
    let done = Arc::new(AtomicU64::new(0));
    let mut streams = Vec::new();
    let before = contestant.threads();
    let end = Instant::now() + time;
    for _ in 0..shape.connections {
        let connection = connect(contestant).await;
        for _ in 0..shape.streams {
            let (mut connection, done) = (connection.clone(), Arc::clone(&done));
            let head = Head::of(contestant, path);
            streams.push(tokio::spawn(async move {
                while Instant::now() < end {
                    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                    head.call(&mut connection, message(number)).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    }
    join_all(streams).await.into_iter().for_each(|ended| ended.expect("every write succeeds"));
    let used = contestant.threads().since(&before);
    let done = done.load(Ordering::Relaxed);
    Turn {
        per_second: done as f64 / time.as_secs_f64(),
        processor: used / u32::try_from(done).expect("a turn is short"),
        resident: contestant.resident(),
    }
}

/// One call; the framed answer.
pub async fn call(contestant: &Contestant, path: &'static str, body: Vec<u8>) -> Bytes {
    let mut connection = connect(contestant).await;
    Head::of(contestant, path).call(&mut connection, body).await
}

/// What all requests of a turn have in common.
struct Head {
    uri: Uri,
    headers: Vec<(&'static str, String)>,
}

impl Head {
    fn of(contestant: &Contestant, path: &str) -> Self {
        let uri = format!("http://{}{path}", contestant.address);
        let uri = uri.parse().expect("it is an address and a path");
        Self { uri, headers: contestant.headers.clone() }
    }

    async fn call(&self, connection: &mut SendRequest<Body>, body: Vec<u8>) -> Bytes {
        let mut request = Request::post(self.uri.clone())
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body.into())).expect("the head is well formed");
        connection.ready().await.expect("the server is there");
        let response = connection.send_request(request).await.expect("the server answers");
        let refused = response.headers().get("grpc-message").cloned();
        let collected = response.into_body().collect().await.expect("the answer comes whole");
        let status = collected.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        assert_eq!(status.as_ref().map(|code| code.as_bytes()), Some(&b"0"[..]), "{refused:?}");
        collected.to_bytes()
    }
}

async fn connect(contestant: &Contestant) -> SendRequest<Body> {
    let stream = TcpStream::connect(contestant.address).await.expect("the server listens");
    stream.set_nodelay(true).expect("it is connected");
    let io = TokioIo::new(Transport::Plain(stream));
    let (connection, driver) =
        http2::handshake(TokioExecutor::new(), io).await.expect("it speaks HTTP/2");
    tokio::spawn(driver);
    connection
}
