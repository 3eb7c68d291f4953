//! Every measurement, one after the other, and the table of goals that comes of them at the top of
//! `docs/performance.md`.
//!
//! `cargo bench --bench goals` runs all of it, says what it could not run, and writes the page:
//! each measurement its own part of it, and at last the table. `-- quick` does little of everything,
//! prints the table and leaves the page alone; its figures are worth nothing, but it shows that all
//! of it runs. `-- table` measures nothing and makes the table of what the last runs have left, for
//! when one of them had to be repeated.
//!
//! Whoever measures needs the machine for himself. The status is a failure if a measurement failed,
//! or the soak; a goal that is not met is a figure like any other.

mod figures;
mod goal;
mod page;
mod printed;
mod steps;
mod table;

use std::{collections::BTreeMap, env, process::ExitCode, time::Instant};

use figures::Figures;
use steps::{STEPS, Trouble, cargo};
use table::Table;

const BY: &str = "cargo bench --bench goals";

fn main() -> ExitCode {
    // Cargo itself adds `--bench`.
    let arguments: Vec<_> = env::args().skip(1).filter(|text| !text.starts_with("--")).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => run(true),
        ["quick"] => run(false),
        ["table"] => {
            let table = Table { found: left(), troubles: BTreeMap::new(), minutes: None };
            page::publish(BY, &table);
            println!("{table}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("say `quick`, `table` or nothing");
            ExitCode::FAILURE
        }
    }
}

fn run(whole: bool) -> ExitCode {
    // Not in between, where it would fall into somebody's figures.
    for build in
        [["bench", "--no-run"].as_slice(), &["test", "--release", "--test", "it", "--no-run"]]
    {
        if !cargo().args(build).status().is_ok_and(|status| status.success()) {
            return ExitCode::FAILURE;
        }
    }
    let start = Instant::now();
    let mut troubles = BTreeMap::new();
    let mut failed = false;
    for step in &STEPS {
        if let Err(trouble) = step.run(whole) {
            eprintln!("NOT RUN: {}: {trouble}", step.name);
            failed |= matches!(trouble, Trouble::Failed(_));
            troubles.insert(step.name, trouble.to_string());
        }
    }
    let minutes = Some(start.elapsed().as_secs_f64() / 60.0);
    let table = Table { found: left(), troubles, minutes };
    if whole {
        page::publish(BY, &table);
    }
    println!("{table}");
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What the measurements have left.
fn left() -> BTreeMap<&'static str, Figures> {
    let found = |step: &steps::Step| Some((step.name, Figures::left_by(step.name)?));
    STEPS.iter().filter_map(found).collect()
}
