//! Measurements that are tests as well: they print what they measure, and it is read from there.

use std::{fmt, process::Command};

use crate::{
    figures::{Figures, Unit},
    page,
    steps::{Trouble, cargo, within_patience},
};

/// What a test says of one thing it measured often, in seconds.
#[derive(Debug)]
struct Line {
    what: String,
    median: f64,
    p99: f64,
    most: f64,
}

/// Lines as a table, with how the server was built.
struct Lines(Vec<Line>);

/// The tests that take a right and wait for the end of the stream, against a release build.
pub fn promptness_test() -> Command {
    let mut command = cargo();
    command.args(["test", "--release", "--test", "it", "promptness", "--"]);
    // One after the other, so that they do not measure each other.
    command.args(["--nocapture", "--test-threads=1"]);
    command
}

/// Reads what they printed.
pub fn promptness(printed: &str, whole: bool) -> Result<(), Trouble> {
    let lines = printed.lines().filter_map(|line| {
        let (what, figures) = line.split_once(": p50 ")?;
        // The harness may have begun the line.
        let what = what.rsplit("... ").next().unwrap_or(what).to_owned();
        let (median, rest) = figures.split_once(", p99 ")?;
        let (p99, most) = rest.split_once(", most ")?;
        Some(Line { what, median: seconds(median)?, p99: seconds(p99)?, most: seconds(most)? })
    });
    leave("promptness", lines.collect(), whole)
}

/// The scenarios that remove a partner with an open stream, on real XMPP servers, with a release
/// build.
pub fn removal_scenarios() -> Command {
    let mut command = within_patience("tests/xmpp/run");
    command.arg("committed removal").env("PARTNERD", env!("CARGO_BIN_EXE_partnerd"));
    command
}

/// Reads what they printed.
pub fn removal(printed: &str, whole: bool) -> Result<(), Trouble> {
    if let Some(why) = printed.lines().find_map(|line| line.strip_prefix("SKIPPED: ")) {
        return Err(Trouble::Missing(why.to_owned()));
    }
    let lines = printed.lines().filter_map(|line| {
        let (head, rest) = line.split_once("[write to closed: ")?;
        let (figures, _) = rest.split_once(" ms")?;
        let of = |name: &str| {
            let part = figures.split(" / ").find_map(|part| part.strip_prefix(name))?;
            Some(part.trim().parse::<f64>().ok()? / 1e3)
        };
        let what = head.split_once(" s  ").map_or(head, |(_, name)| name).trim().to_owned();
        Some(Line { what, median: of("median ")?, p99: of("p99 ")?, most: of("max ")? })
    });
    leave("removal", lines.collect(), whole)
}

/// Leaves the worst of all lines, and puts all of them on the page if the run is whole.
fn leave(name: &str, lines: Vec<Line>, whole: bool) -> Result<(), Trouble> {
    if lines.is_empty() {
        return Err(Trouble::Failed("it printed no figures".to_owned()));
    }
    let worst = |of: fn(&Line) -> f64| lines.iter().map(of).fold(0.0, f64::max);
    let mut figures = Figures::new(true);
    figures.add("median", Unit::Seconds, worst(|line| line.median));
    figures.add("p99", Unit::Seconds, worst(|line| line.p99));
    figures.add("most", Unit::Seconds, worst(|line| line.most));
    figures.leave(name);
    if whole {
        page::publish(&format!("cargo bench --bench goals`, `{name}"), &Lines(lines));
    }
    Ok(())
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | median | p99 | the most |\n|---|---|---|---|")?;
        for Line { what, median, p99, most } in &self.0 {
            let [median, p99, most] = [median, p99, most].map(|time| Unit::Seconds.text(*time));
            writeln!(f, "| {what} | {median} | {p99} | {most} |")?;
        }
        Ok(())
    }
}

/// A time as Rust prints it for debugging, in seconds.
fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let scale = match unit {
        "ns" => 1e-9,
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}
