//! A million partners: what they cost to load, to keep and to open, and what calls cost beside the
//! same calls on a thousand.
//!
//! `cargo bench --bench million` starts the real server twice, on temporary folders, and calls both
//! in turn over TLS with a token, so that whatever else the machine does falls on both alike. It
//! prints its tables and puts them into `docs/performance.md`. With another number of partners,
//! `cargo bench --bench million -- 20000`, it prints them and leaves the page alone.

#[path = "../../tests/it/harness/mod.rs"]
#[allow(dead_code, unused_imports, clippy::unwrap_used, reason = "the tests use all of it")]
mod harness;

mod calls;
mod data;
#[path = "../goals/figures.rs"]
mod figures;
mod footprint;
mod found;
#[path = "../goals/page.rs"]
mod page;
mod report;
mod subject;

use std::{env, process::ExitCode, time::Duration};

use calls::Kind;
use report::Report;
use subject::Subject;

/// The partners of the large server, unless told otherwise.
const MANY: u32 = 1_000_000;

/// The partners of the small server.
const FEW: u32 = 1_000;

/// The partners of a server of usual size, which is started again and again.
const USUAL: u32 = 10_000;

/// How often both servers are measured in turn, and the usual one is started.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    // Cargo itself adds `--bench`.
    let wanted = env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let many = match wanted.map(|text| text.parse::<u32>()) {
        None => MANY,
        Some(Ok(many)) if (FEW..=10 * MANY).contains(&many) => many,
        Some(_) => {
            eprintln!("give the number of partners, {FEW} to {}", 10 * MANY);
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("the system lets a process start threads");
    let report = runtime.block_on(measured(many));
    println!("{report}");
    found::figures(&report, many == MANY).leave("million");
    if many == MANY {
        page::publish("cargo bench --bench million", &report);
    }
    ExitCode::SUCCESS
}

async fn measured(many: u32) -> Report {
    let mut report = Report::of_this_machine(many, FEW);
    report.usual_starts = usual_starts().await;
    let small = Subject::filled(FEW).await.0;
    let (large, load) = Subject::filled(many).await;
    report.load = Some(load);
    let (large, after_order) = large.restarted(subject::End::InOrder).await;
    let (large, after_kill) = large.restarted(subject::End::Killed).await;
    report.restarts = vec![after_order, after_kill];
    report.average_partner_bytes = large.average_partner_bytes().await;
    for kind in Kind::ALL {
        eprintln!("{}", kind.title());
        let mut sides = [calls::Figures::default(), calls::Figures::default()];
        for _ in 0..ROUNDS {
            for (subject, side) in [&small, &large].into_iter().zip(&mut sides) {
                kind.measure(subject, side).await;
            }
        }
        let [few, many] = sides;
        report.rows.push(report::Row { kind, few, many });
    }
    report.encoding = calls::cost_of_encoding(&large.page(1_000).await);
    report.resident_at_the_end = large.footprint().resident;
    report
}

/// How long a server of usual size takes from its start to the first answer.
async fn usual_starts() -> Vec<Duration> {
    let mut subject = Subject::filled(USUAL).await.0;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let (again, restart) = subject.restarted(subject::End::InOrder).await;
        times.push(restart.time);
        subject = again;
    }
    times
}
