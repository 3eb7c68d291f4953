//! The tables, as the page on performance has them.

use std::{fmt, time::Duration};

use crate::{
    Effort,
    measure::{Crowd, Figures},
};

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    pub effort: Effort,
    /// partnerd first.
    pub sides: Vec<Side>,
    /// Who could not take part, and why.
    pub left_out: Vec<String>,
}

/// What was measured of one server.
#[derive(Debug)]
pub struct Side {
    pub name: &'static str,
    pub figures: Figures,
}

/// A row: what it is called, how a figure is written, and the figures of the rounds.
struct Row {
    title: &'static str,
    text: fn(f64) -> String,
    rounds: fn(&Figures, &Effort) -> Vec<f64>,
}

const ROWS: [Row; 7] = [
    Row {
        title: "100 writes/s: p50 from write to receipt",
        text: micros,
        rounds: |figures, _| seconds(&figures.p50),
    },
    Row {
        title: "100 writes/s: p99 from write to receipt",
        text: micros,
        rounds: |figures, _| seconds(&figures.p99),
    },
    Row {
        title: "100 writes/s: server's processor time a delivery",
        text: micros,
        rounds: |figures, _| seconds(&figures.steady),
    },
    Row {
        title: "flat out: deliveries/s",
        text: thousands,
        rounds: |figures, _| figures.deliveries.clone(),
    },
    Row {
        title: "flat out: server's processor time a delivery",
        text: micros,
        rounds: |figures, _| seconds(&figures.burst),
    },
    Row {
        title: "memory of one stream",
        text: kilobytes,
        rounds: |figures, effort| {
            let (before, with) = figures.resident;
            vec![with.saturating_sub(before) as f64 / effort.streams as f64]
        },
    },
    Row {
        title: "resident at the end",
        text: megabytes,
        rounds: |figures, _| vec![figures.resident_at_the_end as f64],
    },
];

impl From<Crowd> for Side {
    fn from(crowd: Crowd) -> Self {
        Self { name: crowd.subject.name, figures: crowd.figures }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effort { streams, connections, rounds, seconds: steady, burst } = self.effort;
        writeln!(
            f,
            "{streams} streams on {connections} connections, {rounds} rounds of {steady} s at 100 \
             writes/s and {burst} writes flat out; medians, in brackets the least and the most of \
             the rounds. The ratio is partnerd's figure to etcd's, round by round."
        )?;
        let names: Vec<_> = self.sides.iter().map(|side| side.name).collect();
        let rule = "---|".repeat(names.len() + 2);
        writeln!(f, "\n| what | {} | ratio |\n|{rule}", names.join(" | "))?;
        for Row { title, text, rounds } in ROWS {
            let sides: Vec<_> =
                self.sides.iter().map(|side| rounds(&side.figures, &self.effort)).collect();
            write!(f, "| {title} |")?;
            for side in &sides {
                let (least, median, most) = spread(side);
                match side.len() {
                    1 => write!(f, " {} |", text(median))?,
                    _ => write!(f, " {} ({} to {}) |", text(median), text(least), text(most))?,
                }
            }
            match &sides[..] {
                [ours, theirs] => {
                    let ratios: Vec<_> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
                    writeln!(f, " {:.2} |", spread(&ratios).1)?;
                }
                _ => writeln!(f, " - |")?,
            }
        }
        Ok(())
    }
}

fn seconds(times: &[Duration]) -> Vec<f64> {
    times.iter().map(Duration::as_secs_f64).collect()
}

/// The least, the median and the most.
pub fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1])
}

fn micros(seconds: f64) -> String {
    if seconds < 1e-3 {
        format!("{:.1} us", seconds * 1e6)
    } else {
        format!("{:.1} ms", seconds * 1e3)
    }
}

fn thousands(count: f64) -> String {
    format!("{:.0} thousand", count / 1e3)
}

fn kilobytes(bytes: f64) -> String {
    format!("{:.1} kB", bytes / 1e3)
}

fn megabytes(bytes: f64) -> String {
    format!("{:.0} MB", bytes / 1e6)
}
