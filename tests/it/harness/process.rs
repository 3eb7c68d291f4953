//! The real binaries, as a user starts them. What a test starts, it ends, by its own id.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long a server may take to say where it listens.
const START: Duration = Duration::from_secs(30);

/// A `partnerd serve --dev` in a folder of its own.
pub struct DevServer {
    child: Child,
    /// The folder it was started in, which holds `partnerd-data`.
    pub folder: PathBuf,
    /// What it printed until it was ready.
    pub greeting: String,
}

impl DevServer {
    /// Starts a server in `folder`, on the data that is there, and waits until it listens.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// The same with more arguments.
    pub fn start_with(folder: &Path, arguments: &[&str]) -> Self {
        Self::spawn(folder, arguments).ready()
    }

    /// Starts a server and does not wait for it.
    pub fn spawn(folder: &Path, arguments: &[&str]) -> Self {
        Self::spawn_by(Command::new(env!("CARGO_BIN_EXE_partnerd")), folder, arguments)
    }

    /// The same by a command that becomes the server.
    pub fn spawn_by(mut command: Command, folder: &Path, arguments: &[&str]) -> Self {
        let child = command
            .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(folder)
            // A setting of a test, which the server would take for one of its own.
            .env_remove("PARTNERD_CRASH_ROUNDS")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary was built with this test");
        Self { child, folder: folder.to_owned(), greeting: String::new() }
    }

    /// The server once it listens.
    pub fn ready(mut self) -> Self {
        let stdout = self.child.stdout.take().expect("it is piped");
        let (lines, printed) = mpsc::channel();
        thread::spawn(move || {
            // Reads on after the test has seen enough, so that the server can always print.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        while !self.greeting.contains("partnerctl") {
            let line = printed.recv_timeout(START).unwrap_or_else(|_| {
                panic!("the server did not say where it listens:\n{}", self.greeting)
            });
            self.greeting.push_str(&line);
            self.greeting.push('\n');
        }
        self
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
    }

    /// Asks the server to end, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Sends the server a signal.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits until the server has ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it was asked to end")
    }

    /// Whether the server has not ended yet.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it was started").is_none()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let (_, rest) = self.greeting.split_once("https://").expect("it says where it listens");
        let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse().expect("it is an address")
    }

    /// Runs `partnerctl` in the folder, with `input` on its standard input.
    pub fn partnerctl(&self, arguments: &[&str], input: &str) -> Output {
        partnerctl(&self.folder, arguments, input)
    }
}

/// Sends a process that a test started a signal.
pub fn signal(id: u32, name: &str) {
    let signal = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status();
    assert!(signal.expect("there is a kill").success());
}

impl Drop for DevServer {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `partnerctl` in `folder`, with `input` on its standard input.
pub fn partnerctl(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = start_partnerctl(folder, arguments);
    let mut stdin = child.stdin.take().expect("it is piped");
    // A command that does not read its input closes the pipe.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends by itself")
}

/// Starts `partnerctl` in `folder`, with pipes to all of its streams.
pub fn start_partnerctl(folder: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_partnerctl"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built with this test")
}
