//! A server that is followed: a process on the first core, and the two things it is asked to do.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use http::uri::PathAndQuery;
use prost::Message;
use tempfile::TempDir;
use tonic::{
    Request,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{
    CORES,
    footprint::{Footprint, Threads},
    line::{Line, Told},
};

/// A server that is followed.
pub struct Subject {
    pub name: &'static str,
    pub protocol: Protocol,
    address: SocketAddr,
    authorization: Option<String>,
    process: Process,
    _folder: TempDir,
}

/// How it is written to and followed.
#[derive(Clone, Copy)]
pub struct Protocol {
    /// Makes a write that no other number makes; gives its revision.
    pub write: fn(Caller, u64) -> Later<i64>,
    /// Follows everything after a revision.
    pub follow: fn(Line, i64) -> Later<Told>,
}

/// What a call comes to.
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Somebody on one connection.
#[derive(Clone)]
pub struct Caller {
    channel: Channel,
    authorization: Option<String>,
}

/// A process of ours, ended with its owner.
pub struct Process(Child);

impl Subject {
    pub fn new(
        name: &'static str,
        protocol: Protocol,
        address: SocketAddr,
        authorization: Option<String>,
        process: Process,
        folder: TempDir,
    ) -> Self {
        Self { name, protocol, address, authorization, process, _folder: folder }
    }

    /// A caller on a connection of his own.
    pub async fn caller(&self) -> Caller {
        Caller::connected(self.address, self.authorization.clone()).await
    }

    /// A connection of its own for streams.
    pub async fn line(&self) -> Line {
        Line::connected(self.address, self.authorization.clone()).await
    }

    pub fn footprint(&self) -> Footprint {
        Footprint::of(self.process.0.id())
    }

    pub fn threads(&self) -> Threads {
        Threads::of(self.process.0.id())
    }
}

impl Caller {
    pub async fn connected(address: SocketAddr, authorization: Option<String>) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("it is one");
        let channel = endpoint.connect().await.expect("somebody listens");
        Self { channel, authorization }
    }

    /// A call with one response.
    pub async fn unary<Q, A>(&self, path: &'static str, message: Q) -> A
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + 'static,
    {
        let mut client = self.ready().await;
        let codec = ProstCodec::<Q, A>::default();
        let answer = client.unary(self.request(message), path_of(path), codec).await;
        answer.expect("it is a call that works").into_inner()
    }

    async fn ready(&self) -> Grpc<Channel> {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.expect("the connection is up");
        client
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            let value = authorization.parse().expect("a token is ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
}

impl Process {
    /// Starts a program on the servers' core.
    pub fn start(program: &str, arguments: &[String]) -> Self {
        let mut command = Command::new("taskset");
        // `taskset` becomes the program, so its id is the server's.
        command.args(["-c", CORES[0], program]).args(arguments);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("taskset is installed (util-linux)"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn path_of(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}

/// Leaves the servers' core to them, for this process.
pub fn pin_clients() {
    let this = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", CORES[1], &this]).output();
    assert!(pinned.is_ok_and(|output| output.status.success()), "taskset is installed");
}

/// An address that is free now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound")
}

/// Waits until somebody listens.
pub fn wait_for(address: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "nobody listens on {address}");
        thread::sleep(Duration::from_millis(20));
    }
}
