//! A thousand streams that follow writes: how fast, at what cost, beside etcd on the same machine.
//!
//! `cargo bench --bench watch` starts partnerd and, if it is in the path, etcd; opens the streams
//! of both; and has both followed in turn, so that whatever else the machine does falls on both
//! alike. It prints its tables and puts them into `docs/performance.md`. `cargo bench --bench watch
//! -- quick` does less of everything and leaves the page alone.

#[path = "../million/data.rs"]
#[allow(dead_code, reason = "the other measurement uses all of it")]
mod data;
#[path = "../goals/figures.rs"]
mod figures;
#[path = "../million/footprint.rs"]
#[allow(dead_code, reason = "the other measurement uses all of it")]
mod footprint;
mod found;

mod etcd;
mod measure;
#[path = "../goals/page.rs"]
mod page;
mod partnerd_server;
mod report;
mod subject;

use std::{env, process::ExitCode};

use measure::Crowd;
use report::{Report, Side};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The streams together.
    pub streams: usize,
    /// The connections they are spread over.
    pub connections: usize,
    /// How often both are measured in turn.
    pub rounds: usize,
    /// How long writes come at a steady rate, in seconds.
    pub seconds: u32,
    /// How many writes come flat out.
    pub burst: u32,
}

const FULL: Effort =
    Effort { streams: 1_000, connections: 10, rounds: 5, seconds: 10, burst: 2_000 };
const QUICK: Effort = Effort { streams: 200, connections: 10, rounds: 2, seconds: 3, burst: 500 };

/// The core of the server under load, and that of the clients.
const CORES: [&str; 2] = ["0", "1"];

fn main() -> ExitCode {
    // Cargo itself adds `--bench`.
    let wanted = env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let effort = match wanted.as_deref() {
        None => FULL,
        Some("quick") => QUICK,
        Some(_) => {
            eprintln!("give `quick`, or nothing");
            return ExitCode::FAILURE;
        }
    };
    subject::pin_clients();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system lets a process wait for sockets");
    let report = runtime.block_on(measured(effort));
    println!("{report}");
    let full = effort.streams == FULL.streams;
    found::figures(&report, full).leave("watch");
    match (full, report.sides.len()) {
        (true, 2) => page::publish("cargo bench --bench watch", &report),
        (true, _) => eprintln!("the page is left alone: etcd did not take part"),
        (false, _) => {}
    }
    ExitCode::SUCCESS
}

async fn measured(effort: Effort) -> Report {
    let mut subjects = vec![partnerd_server::start().await];
    let mut left_out = Vec::new();
    match etcd::start().await {
        Ok(etcd) => subjects.push(etcd),
        Err(why) => {
            eprintln!("NOT COMPARED: {why}");
            left_out.push(why);
        }
    }
    let mut crowds = Vec::new();
    for subject in subjects {
        crowds.push(Crowd::gathered(subject, effort).await);
    }
    for round in 0..effort.rounds {
        for crowd in &mut crowds {
            eprintln!("round {} of {}: {}", round + 1, effort.rounds, crowd.subject.name);
            crowd.at_a_steady_rate().await;
            crowd.flat_out().await;
        }
    }
    let sides = crowds.into_iter().map(Side::from).collect();
    Report { effort, sides, left_out }
}
