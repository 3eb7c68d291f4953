//! What is common to all contestants: a process on the first core, and what is asked of it.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::footprint::{Footprint, Threads};

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// partnerd, whose figures the others are compared with.
    Partnerd,
    /// A tonic server with its defaults.
    Echo,
    /// A tonic service tuned as partnerd is.
    TunedEcho,
    /// etcd without authentication.
    Etcd,
    /// etcd with tokens.
    EtcdJwt,
    /// Another build of partnerd, by its path.
    Build(&'static str),
}

/// The core of the server under load, and that of the generator.
const CORES: [&str; 2] = ["0", "1"];

/// A server that takes part.
pub struct Contestant {
    pub name: Name,
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The path of the method that reads one record.
    pub read_path: &'static str,
    /// The request that reads one record, framed for gRPC.
    pub read_body: Vec<u8>,
    /// Headers beside those of gRPC.
    pub headers: Vec<(&'static str, String)>,
    /// The path of the method that writes one record, and what writes number N.
    pub write: Option<Write>,
    /// The record, as a read brings it.
    pub reply: Vec<u8>,
    pub process: Process,
    pub folder: Option<TempDir>,
}

/// A method's path, and the framed request that is its Nth.
pub type Write = (&'static str, fn(u64) -> Vec<u8>);

/// A process of ours, ended with its owner.
pub struct Process(Child);

impl Contestant {
    pub fn new(name: Name, process: Process, address: SocketAddr) -> Self {
        Self {
            name,
            address,
            tls: false,
            read_path: "",
            read_body: Vec::new(),
            headers: Vec::new(),
            write: None,
            reply: Vec::new(),
            process,
            folder: None,
        }
    }

    /// Keeps its data folder as long as it runs.
    pub fn with_folder(mut self, folder: TempDir) -> Self {
        self.folder = Some(folder);
        self
    }

    /// The processor time it has used.
    pub fn threads(&self) -> Threads {
        Threads::of(self.process.0.id())
    }

    /// The memory it has resident, in bytes.
    pub fn resident(&self) -> u64 {
        Footprint::of(self.process.0.id()).resident
    }
}

impl Name {
    /// What the tables call it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Build(program) => program,
            Self::Partnerd => "partnerd",
            Self::Echo => "bare tonic, defaults",
            Self::TunedEcho => "bare tonic, tuned",
            Self::Etcd => "etcd",
            Self::EtcdJwt => "etcd with JWT",
        }
    }

    /// What its figures are called.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Build(program) => program,
            Self::Partnerd => "partnerd",
            Self::Echo => "default",
            Self::TunedEcho => "tuned",
            Self::Etcd => "etcd",
            Self::EtcdJwt => "etcd-jwt",
        }
    }
}

impl Process {
    /// Starts a program on the servers' core.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("taskset");
        // `taskset` becomes the program, so its id is the server's.
        command.args(["-c", CORES[0], program]).args(arguments);
        Self::spawn(&mut command)
    }

    fn spawn(command: &mut Command) -> Self {
        let quiet = || std::process::Stdio::null();
        let child = command.stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
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

/// Leaves the servers' core to them, for this process and what it starts.
pub fn pin_generator() {
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

/// A message as gRPC sends it: not compressed, with its length.
pub fn framed(message: &impl prost::Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).expect("a message is small");
    [&[0], length.to_be_bytes().as_slice(), &body].concat()
}
