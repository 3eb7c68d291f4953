//! A start with ten thousand partners: from the start of the process to the first answer.
//!
//! `cargo bench --bench start` fills the real server, ends it and starts it again and again, in
//! order and by `kill -9` in turn. It prints its table and puts it into `docs/performance.md`;
//! `-- quick` does less and leaves the page alone.

#[path = "../million/data.rs"]
#[allow(dead_code, reason = "the other measurement uses all of it")]
mod data;
#[path = "../goals/figures.rs"]
mod figures;
#[path = "../million/footprint.rs"]
#[allow(dead_code, reason = "the other measurement uses all of it")]
mod footprint;
#[path = "../../tests/it/harness/mod.rs"]
#[allow(dead_code, unused_imports, clippy::unwrap_used, reason = "the tests use all of it")]
mod harness;
#[path = "../goals/page.rs"]
mod page;
#[path = "../million/subject.rs"]
#[allow(dead_code, reason = "the other measurement uses all of it")]
mod subject;

use std::{env, fmt, process::ExitCode};

use figures::{Figures, Unit};
use subject::{End, Subject};

const PARTNERS: u32 = 10_000;

/// How often it is started after each kind of end.
const WHOLE: usize = 15;
const QUICK: usize = 3;

/// How long each start took, in seconds, after each kind of end.
#[derive(Debug)]
struct Report {
    in_order: Vec<f64>,
    killed: Vec<f64>,
}

fn main() -> ExitCode {
    // Cargo itself adds `--bench`.
    let wanted = env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let rounds = match wanted.as_deref() {
        None => WHOLE,
        Some("quick") => QUICK,
        Some(_) => {
            eprintln!("say `quick`, or nothing");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("the system lets a process start threads");
    let report = runtime.block_on(measured(rounds));
    println!("{report}");
    let mut figures = Figures::new(rounds == WHOLE);
    let slower = median(&report.in_order).max(median(&report.killed));
    figures.add("first-answer", Unit::Seconds, slower);
    figures.leave("start");
    if rounds == WHOLE {
        page::publish("cargo bench --bench start", &report);
    }
    ExitCode::SUCCESS
}

async fn measured(rounds: usize) -> Report {
    let mut report = Report { in_order: Vec::new(), killed: Vec::new() };
    let (mut subject, _load) = Subject::filled(PARTNERS).await;
    for _ in 0..rounds {
        for end in [End::InOrder, End::Killed] {
            let (started, restart) = subject.restarted(end).await;
            subject = started;
            let times = match end {
                End::InOrder => &mut report.in_order,
                End::Killed => &mut report.killed,
            };
            times.push(restart.time.as_secs_f64());
        }
    }
    report
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{PARTNERS} partners, {} starts after each kind of end.\n\n\
             | after | median | least | most |\n|---|---|---|---|",
            self.in_order.len()
        )?;
        for (end, times) in [("an orderly end", &self.in_order), ("kill -9", &self.killed)] {
            let least = times.iter().copied().fold(f64::INFINITY, f64::min);
            let most = times.iter().copied().fold(0.0, f64::max);
            let [median, least, most] =
                [median(times), least, most].map(|time| Unit::Seconds.text(time));
            writeln!(f, "| {end} | {median} | {least} | {most} |")?;
        }
        Ok(())
    }
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
