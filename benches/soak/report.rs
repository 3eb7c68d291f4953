//! What came of it.

use std::{fmt, time::Duration};

use crate::{
    figures::{Figures, Unit},
    samples::{Samples, Series},
    site::Outcomes,
};

/// Everything that was done and looked at.
#[derive(Debug)]
pub struct Report {
    time: Duration,
    samples: Samples,
    outcomes: Outcomes,
    checks: Vec<(String, Result<String, String>)>,
}

impl Report {
    /// Of a load that is over.
    pub fn new(time: Duration, samples: Samples, outcomes: Outcomes) -> Self {
        let answers = match outcomes.faults.as_slice() {
            [] => Ok("no answer of another kind".to_owned()),
            faults => Err(faults.join("; ")),
        };
        let checks = vec![("every call ended as it should".to_owned(), answers)];
        Self { time, samples, outcomes, checks }
    }

    /// Looks at what the process took meanwhile.
    pub fn check_flatness(&mut self) {
        for series in Series::ALL {
            let course = self.samples.course(&series);
            self.check(&format!("{}: flat", series.name), series.judge(course));
        }
    }

    /// Adds something that was looked at: how it was found, or why that is a failure.
    pub fn check(&mut self, what: &str, found: Result<String, String>) {
        eprintln!("{what}: {found:?}");
        self.checks.push((what.to_owned(), found));
    }

    /// Whether nothing is wrong.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|(_, found)| found.is_ok())
    }

    /// What a program can read of it.
    pub fn figures(&self, whole: bool) -> Figures {
        let mut figures = Figures::new(whole);
        let resident = self.samples.course(&Series::ALL[0]);
        let sides = (resident.last, resident.second);
        figures.compare("resident", Unit::Bytes, sides, resident.last / resident.second);
        figures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = if self.passed() { "All of it held" } else { "NOT ALL OF IT HELD" };
        writeln!(f, "{} s of everything at once. {passed}.\n", self.time.as_secs())?;
        writeln!(f, "| what | found | |\n|---|---|---|")?;
        for (what, found) in &self.checks {
            let (text, verdict) = match found {
                Ok(text) => (text, "holds"),
                Err(text) => (text, "DOES NOT HOLD"),
            };
            writeln!(f, "| {what} | {} | {verdict} |", text.replace('|', "/"))?;
        }
        writeln!(f, "\n| done | times |\n|---|---|")?;
        self.outcomes.done.iter().try_for_each(|(kind, times)| writeln!(f, "| {kind} | {times} |"))
    }
}
