//! The table of goals, as the page on performance has it.

use std::{collections::BTreeMap, fmt, fs, process::Command, thread};

use jiff::Timestamp;

use crate::{
    figures::{Figure, Figures},
    goal::{GOALS, Goal},
};

/// The goals, beside what was found.
#[derive(Debug)]
pub struct Table {
    /// What each measurement found.
    pub found: BTreeMap<&'static str, Figures>,
    /// What could not be run, or failed, and why.
    pub troubles: BTreeMap<&'static str, String>,
    /// How long it all took, if it was measured now.
    pub minutes: Option<f64>,
}

impl Table {
    /// How many goals are met, are not, and have no figure.
    pub fn tally(&self) -> (usize, usize, usize) {
        let verdicts =
            GOALS.map(|goal| goal.judge(self.found.get(goal.measurement)).map(|judged| judged.met));
        let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
        (count(Some(true)), count(Some(false)), count(None))
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, goal: &Goal) -> fmt::Result {
        let Goal { what, bound, measurement, figure: _ } = goal;
        match goal.judge(self.found.get(measurement)) {
            Some(judged) => {
                let verdict = if judged.met { "met" } else { "not met" };
                let Figure { unit, measured, beside, ratio: _ } = judged.figure;
                let beside = beside.map(|beside| format!(" to {}", unit.text(beside)));
                writeln!(
                    f,
                    "| {what} | {bound} | {}{} | {:.2} | {verdict} |",
                    unit.text(measured),
                    beside.unwrap_or_default(),
                    judged.ratio,
                )
            }
            None => {
                writeln!(f, "| {what} | {bound} | - | - | not run: {} |", self.why(measurement))
            }
        }
    }

    /// Why a measurement has not found a figure.
    fn why(&self, measurement: &str) -> String {
        if let Some(trouble) = self.troubles.get(measurement) {
            return trouble.clone();
        }
        match self.found.get(measurement).map(|found| found.left_out.join("; ")) {
            None => format!("`{measurement}` has left no figures"),
            Some(why) if why.is_empty() => format!("`{measurement}` has no such figure"),
            Some(why) => why,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (met, missed, unknown) = self.tally();
        write!(f, "{met} met, {missed} not met, {unknown} not run. {}", machine())?;
        if let Some(minutes) = self.minutes {
            write!(f, " All of it took {minutes:.0} minutes.")?;
        }
        if self.found.values().any(|found| !found.whole) {
            write!(f, " Some of it was measured in short: only a trial, no figure to quote.")?;
        }
        writeln!(f, "\n\n| goal | wanted | measured | ratio | verdict |\n|---|---|---|---|---|")?;
        GOALS.iter().try_for_each(|goal| self.row(f, goal))?;
        let others: Vec<_> = self
            .troubles
            .iter()
            .filter(|(name, _)| GOALS.iter().all(|goal| goal.measurement != **name))
            .collect();
        if !others.is_empty() {
            writeln!(f)?;
        }
        others.iter().try_for_each(|(name, why)| writeln!(f, "`{name}`: {why}."))
    }
}

/// When and on what the figures were taken.
fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let day = Timestamp::now().strftime("%Y-%m-%d");
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit.ok().filter(|output| output.status.success());
    let commit = commit.map_or_else(String::new, |output| {
        format!(", at commit {}", String::from_utf8_lossy(&output.stdout).trim())
    });
    format!("On {cores} cores of {model}, {day}{commit}.")
}
