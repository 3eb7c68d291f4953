//! partnerd beside its peers: a bare tonic server that answers with the same bytes, and etcd.
//!
//! `cargo bench --bench peers` starts each in a process of its own, drives them in turn with the
//! same generator, round after round, so that whatever else the machine does falls on all alike, and
//! puts its tables into `docs/performance.md`. The server under load has the first core for itself,
//! the generator the second.
//!
//! It needs `h2load` (Debian: nghttp2-client) and `taskset`; etcd (Debian: etcd-server, and
//! etcd-client for the rows with authentication) is left out where it is not found, and the page
//! says so. `cargo bench --bench peers -- quick` does one short round and leaves the page alone.

#[path = "../million/data.rs"]
#[allow(dead_code, reason = "the other benchmark uses all of it")]
mod data;
#[path = "../goals/figures.rs"]
mod figures;
#[path = "../million/footprint.rs"]
#[allow(dead_code, reason = "the other benchmark uses all of it")]
mod footprint;
#[path = "../goals/page.rs"]
mod page;

mod echo;
mod etcd;
mod partnerd_server;
mod reads;
mod report;
mod server;
mod writes;

use std::{env, process::ExitCode, time::Duration};

use echo::Tuning;
use report::{Report, Turns};
use server::{Contestant, Name};
use tokio::runtime::Builder;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often every contestant has its turn.
    pub rounds: usize,
    /// How long a turn takes.
    pub turn: Duration,
}

const WHOLE: Effort = Effort { rounds: 5, turn: Duration::from_secs(2) };
const QUICK: Effort = Effort { rounds: 1, turn: Duration::from_secs(1) };

fn main() -> ExitCode {
    // Cargo itself adds `--bench`.
    let arguments: Vec<_> = env::args().skip(1).filter(|text| !text.starts_with("--")).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let runtime = |mut builder: Builder| {
        builder.enable_all().build().expect("the system lets a process start threads")
    };
    let (effort, others) = match arguments.as_slice() {
        [] => (WHOLE, None),
        ["quick"] => (QUICK, None),
        ["against", programs @ ..] if !programs.is_empty() => (WHOLE, Some(programs)),
        ["echo", tuning, partner, keys] => {
            let tuning = Tuning::named(tuning).expect("this program started itself");
            let runtime = runtime(tuning.runtime());
            return runtime.block_on(echo::serve(tuning, partner, keys));
        }
        _ => {
            eprintln!("say `quick`, `against` and one or more builds of partnerd, or nothing");
            return ExitCode::FAILURE;
        }
    };
    if let Err(missing) = reads::find_generator() {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }
    server::pin_generator();
    let runtime = runtime(Builder::new_multi_thread());
    if let Some(programs) = others {
        println!("{}", runtime.block_on(compared(effort, programs)));
        return ExitCode::SUCCESS;
    }
    let report = runtime.block_on(measured(effort));
    println!("{report}");
    let whole = effort.rounds == WHOLE.rounds;
    report.figures(whole).leave("peers");
    if whole {
        page::publish("cargo bench --bench peers", &report);
    }
    ExitCode::SUCCESS
}

/// This build beside others of partnerd.
async fn compared(effort: Effort, programs: &[&str]) -> Report {
    let mut contestants = vec![partnerd_server::start(false).await];
    for program in programs {
        let who = Name::Build(String::from(*program).leak());
        contestants.push(partnerd_server::start_build(who, program, false).await);
    }
    let mut report = Report::new(effort);
    drive_reads(&contestants, effort, &mut report.reads);
    drive_writes(&contestants, effort, &mut report.writes).await;
    report
}

async fn measured(effort: Effort) -> Report {
    let mut report = Report::new(effort);
    let secure = secure_contestants().await;
    drive_reads(&secure, effort, &mut report.secure_reads);
    drop(secure);
    let contestants = contestants(&mut report).await;
    drive_reads(&contestants, effort, &mut report.reads);
    drive_writes(&contestants, effort, &mut report.writes).await;
    report
}

fn drive_reads(contestants: &[Contestant], effort: Effort, turns: &mut Turns) {
    for shape in reads::SHAPES {
        for _ in 0..effort.rounds {
            for contestant in contestants {
                let turn = reads::drive(contestant, shape, effort.turn);
                eprintln!("{shape}: {}: {:.0} reads/s", contestant.name.title(), turn.per_second);
                turns.add(shape, contestant.name, turn);
            }
        }
    }
}

async fn drive_writes(contestants: &[Contestant], effort: Effort, turns: &mut Turns) {
    for shape in writes::SHAPES {
        for _ in 0..effort.rounds {
            for contestant in contestants.iter().filter(|contestant| contestant.write.is_some()) {
                let turn = writes::drive(contestant, shape, effort.turn).await;
                eprintln!("{shape}: {}: {:.0} writes/s", contestant.name.title(), turn.per_second);
                turns.add(shape, contestant.name, turn);
            }
        }
    }
}

/// Everybody who takes part in plain text, started and filled.
async fn contestants(report: &mut Report) -> Vec<Contestant> {
    let partnerd = partnerd_server::start(false).await;
    let reply = partnerd.reply.clone();
    let mut all = vec![partnerd];
    let partnerd = &all[0];
    let echoes = [Tuning::Default, Tuning::Tuned].map(|tuning| echo::start(tuning, partnerd));
    all.extend(echoes);
    for etcd in [etcd::start(&reply).await, etcd::start_with_tokens(&reply).await] {
        match etcd {
            Ok(etcd) => all.push(etcd),
            Err(why) => report.left_out.push(why),
        }
    }
    all
}

/// Everybody who takes part over TLS.
async fn secure_contestants() -> Vec<Contestant> {
    let partnerd = partnerd_server::start(true).await;
    let echo = echo::start(Tuning::TunedTls, &partnerd);
    vec![partnerd, echo]
}
