//! Reads of one record, by `h2load`.

use std::{fmt, fs, process::Command, time::Duration};

use crate::{etcd::program, report::Turn, server::Contestant};

/// So many connections with so many calls at a time on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub connections: usize,
    pub streams: usize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.connections, self.streams)
    }
}

/// What is measured.
pub const SHAPES: [Shape; 3] = [
    Shape { connections: 16, streams: 32 },
    Shape { connections: 64, streams: 1 },
    Shape { connections: 1, streams: 1 },
];

/// Looks for the generator.
pub fn find_generator() -> Result<&'static str, &'static str> {
    program("h2load").ok_or("h2load is not in the path (Debian: nghttp2-client)")
}

/// One turn of one contestant.
pub fn drive(contestant: &Contestant, shape: Shape, time: Duration) -> Turn {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let body = folder.path().join("body");
    fs::write(&body, &contestant.read_body).expect("there is room for a file");
    let before = contestant.threads();
    let mut command = Command::new(find_generator().expect("it was found before"));
    command
        .args(["-c", &shape.connections.to_string(), "-m", &shape.streams.to_string()])
        .args(["-D", &time.as_secs().to_string(), "-t", "1", "-d"])
        .arg(&body)
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    for (name, value) in &contestant.headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    let scheme = if contestant.tls { "https" } else { "http" };
    command.arg(format!("{scheme}://{}{}", contestant.address, contestant.read_path));
    let output = command.output().expect("it was found before");
    let used = contestant.threads().since(&before);
    let text = String::from_utf8_lossy(&output.stdout);
    let (done, bytes) = (number_before(&text, " succeeded"), number_before(&text, ") data"));
    // A refusal has no data: what is counted must have brought the record.
    let least = done * contestant.reply.len() as u64;
    assert!(done > 0 && bytes >= least, "{:?}: no proper answers:\n{text}", contestant.name);
    Turn {
        per_second: done as f64 / time.as_secs_f64(),
        processor: used / u32::try_from(done).expect("a turn is short"),
        resident: contestant.resident(),
    }
}

/// The number that stands before `mark`.
fn number_before(text: &str, mark: &str) -> u64 {
    let head = text.split_once(mark).map_or("", |(head, _)| head);
    let start = head.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |place| place + 1);
    head[start..].parse().unwrap_or(0)
}
