//! A soak: everything at once for a while, and afterwards nothing may be left of it.
//!
//! `cargo bench --bench soak` starts the real server with little room (a short history, few streams,
//! few remembered tokens), has it read, listed, written, followed, refused, reported to and hung up
//! on for two minutes, and looks at its memory, descriptors, threads and disk meanwhile. Then it
//! checks that they were flat, that what was taken was given back, that the audit is whole, and that
//! the server is after a restart what it was before. The status is a failure if it is not so.
//!
//! `-- 30m` does it for half an hour; a minute and more is judged by the second quarter against the
//! last, so the longer it takes, the slower a leak it finds. `-- 2m publish` puts its table into
//! `docs/performance.md`.

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
mod load;
#[path = "../goals/page.rs"]
mod page;
mod report;
mod samples;
mod server;
mod site;

use std::{env, process::ExitCode, sync::Arc, time::Duration};

use jiff::SignedDuration;

use report::Report;
use samples::Samples;
use server::Server;
use site::Site;

/// How long, unless told otherwise.
const USUAL: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    // Cargo itself adds `--bench`.
    let arguments: Vec<_> = env::args().skip(1).filter(|text| !text.starts_with("--")).collect();
    let publish = arguments.iter().any(|text| text == "publish");
    let time = arguments.iter().find(|text| *text != "publish").map_or(Some(USUAL), |text| {
        let time = text.parse::<SignedDuration>().ok()?;
        Duration::try_from(time).ok().filter(|time| *time >= Duration::from_secs(10))
    });
    let Some(time) = time else {
        eprintln!("say for how long, at least `10s`, and `publish` for the page");
        return ExitCode::FAILURE;
    };
    let runtime = tokio::runtime::Runtime::new().expect("the system lets a process start threads");
    let report = runtime.block_on(soaked(time));
    println!("{report}");
    report.figures(time >= USUAL).leave("soak");
    if publish {
        page::publish("cargo bench --bench soak", &report);
    }
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn soaked(time: Duration) -> Report {
    let server = Server::filled().await;
    let at_rest = server.descriptors();
    let site = Arc::new(Site::around(server.folder(), time));
    let (samples, ()) =
        tokio::join!(Samples::taken(&server, Arc::clone(&site)), load::run(Arc::clone(&site)));
    let mut report = Report::new(time, samples, site.outcomes());
    report.check_flatness();
    report.check("every descriptor is given back", server.descriptors_return_to(at_rest).await);
    report.check("every place of a stream is given back", server.streams_are_free().await);
    report.check("the history is as short as it should be", server.history_is_short().await);
    report.check("the audit is whole", server.audit_is_intact().await);
    let before = server.state().await;
    let (server, space) = server.restarted().await;
    report.check("the disk holds at most three times what is in the store", space);
    let same = server.state().await == before;
    let same = if same { Ok(before.to_string()) } else { Err("it is another".to_owned()) };
    report.check("the state after a restart is that before it", same);
    report.check("the audit is still whole", server.audit_is_intact().await);
    report
}
