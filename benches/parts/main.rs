//! What the parts of a call cost, each by itself and without a network.
//!
//! `cargo bench --bench parts` measures them with criterion, which compares with its last run on
//! this machine, prints a table and puts it into `docs/performance.md`. `-- quick` does less and
//! leaves the page alone.

mod bytes;
#[path = "../million/data.rs"]
#[allow(dead_code, reason = "the other measurement uses all of it")]
mod data;
mod decisions;
#[path = "../goals/figures.rs"]
mod figures;
mod model;
#[path = "../goals/page.rs"]
mod page;
mod state;
mod tokens;

use std::{env, fmt, fs, path::Path, process::ExitCode, time::Duration};

use criterion::{Bencher, BenchmarkGroup, Criterion, measurement::WallTime};
use serde_json::Value;

use figures::{Figures, Unit};

/// Criterion's name for all of it, and where it keeps what it found.
const GROUP: &str = "parts";
const ESTIMATES: &str = "target/criterion/parts";

/// The parts while they are measured.
pub struct Parts<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    /// The key and the title of each.
    measured: Vec<(String, String)>,
}

/// The time of each part: its key, its title, and the median in seconds.
struct Report(Vec<(String, String, f64)>);

fn main() -> ExitCode {
    // Cargo itself adds `--bench`.
    let wanted = env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let whole = match wanted.as_deref() {
        None => true,
        Some("quick") => false,
        Some(_) => {
            eprintln!("say `quick`, or nothing");
            return ExitCode::FAILURE;
        }
    };
    let (warm_up, time, samples) = if whole { (300, 1_500, 50) } else { (50, 200, 10) };
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(time))
        .sample_size(samples);
    let report = measured(&mut criterion);
    println!("{report}");
    let mut figures = Figures::new(whole);
    for (key, _, median) in &report.0 {
        figures.add(key, Unit::Seconds, *median);
    }
    figures.leave("parts");
    if whole {
        page::publish("cargo bench --bench parts", &report);
    }
    ExitCode::SUCCESS
}

fn measured(criterion: &mut Criterion) -> Report {
    let mut parts = Parts { group: criterion.benchmark_group(GROUP), measured: Vec::new() };
    decisions::measure(&mut parts);
    tokens::measure(&mut parts);
    state::measure(&mut parts);
    bytes::measure(&mut parts);
    let Parts { group, measured } = parts;
    group.finish();
    Report(measured.into_iter().map(|(key, title)| (key.clone(), title, median(&key))).collect())
}

impl Parts<'_> {
    /// Measures one part.
    pub fn add(&mut self, key: &str, title: &str, part: impl FnMut(&mut Bencher<'_>)) {
        // The file system knows no other names.
        self.group.bench_function(key.replace('/', "-"), part);
        self.measured.push((key.to_owned(), title.to_owned()));
    }
}

/// The median that criterion found, in seconds.
fn median(key: &str) -> f64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(ESTIMATES);
    let path = folder.join(key.replace('/', "-")).join("new/estimates.json");
    let text = fs::read_to_string(path).expect("criterion has just written it");
    let estimates: Value = serde_json::from_str(&text).expect("criterion writes JSON");
    let nanos = estimates["median"]["point_estimate"].as_f64();
    nanos.expect("criterion estimates the median") / 1e9
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| part | median |\n|---|---|")?;
        self.0.iter().try_for_each(|(_, title, median)| {
            writeln!(f, "| {title} | {} |", Unit::Seconds.text(*median))
        })
    }
}
