//! What the server's process takes while the load is on, and whether it goes on growing.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use crate::{
    figures::Unit,
    server::{Server, Taken},
    site::{Site, every},
};

/// So many samples are taken, or one each `LEAST_PERIOD`.
const SAMPLES: u32 = 240;
const LEAST_PERIOD: Duration = Duration::from_millis(250);

/// The pages that sled keeps in memory, in bytes, as the server opens it.
const CACHE: f64 = 64.0 * 1_048_576.0;

/// The samples of a soak, in order.
#[derive(Debug)]
pub struct Samples {
    taken: Vec<Taken>,
    period: Duration,
}

/// One series of the samples: what it is, and how much it may grow.
#[derive(Clone, Copy)]
pub struct Series {
    pub name: &'static str,
    pub unit: Option<Unit>,
    pub of: fn(&Taken) -> f64,
    /// From the median of the second quarter to that of the last, as a part of the former.
    pub growth: f64,
    /// And so much beside.
    pub allowance: f64,
    /// And as much as the store has grown on the disk, up to this.
    pub cache: f64,
}

/// How a series went.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// The median of the second quarter: what is needed first is there by then.
    pub second: f64,
    /// The median of the last quarter.
    pub last: f64,
    /// The growth by least squares over the last three quarters, each minute.
    pub slope: f64,
    /// The most that the last may be.
    pub bound: f64,
}

impl Samples {
    /// Takes them until the load is over.
    pub async fn taken(server: &Server, site: Arc<Site>) -> Self {
        let period = (site.time() / SAMPLES).max(LEAST_PERIOD);
        let mut beat = every(period);
        let mut taken = Vec::new();
        while site.goes_on() {
            beat.tick().await;
            taken.push(server.taken());
        }
        Self { taken, period }
    }

    /// How a series went.
    pub fn course(&self, series: &Series) -> Course {
        let values: Vec<_> = self.taken.iter().map(series.of).collect();
        let disk: Vec<_> = self.taken.iter().map(|taken| taken.disk as f64).collect();
        let quarter = values.len() / 4;
        let quarters = |values: &[f64]| {
            let last = &values[values.len() - quarter..];
            (median(&values[quarter..2 * quarter]), median(last))
        };
        let ((second, last), (disk, grown)) = (quarters(&values), quarters(&disk));
        let cached = (grown - disk).clamp(0.0, series.cache);
        Course {
            second,
            last,
            slope: slope(&values[quarter..]) * 60.0 / self.period.as_secs_f64(),
            bound: second * (1.0 + series.growth) + series.allowance + cached,
        }
    }
}

impl Series {
    /// What the process takes that must not grow. The audit does grow by what is written, and so
    /// does sled's cache with it, until it is full.
    pub const ALL: [Self; 3] = [
        Self {
            name: "resident memory",
            unit: Some(Unit::Bytes),
            of: |taken| taken.resident as f64,
            growth: 0.1,
            allowance: 16e6,
            cache: CACHE,
        },
        Self {
            name: "descriptors",
            unit: None,
            of: |taken| taken.descriptors as f64,
            growth: 0.1,
            allowance: 16.0,
            cache: 0.0,
        },
        Self {
            name: "threads",
            unit: None,
            of: |taken| taken.threads as f64,
            growth: 0.1,
            allowance: 4.0,
            cache: 0.0,
        },
    ];

    /// A value of it for people.
    pub fn text(&self, value: f64) -> String {
        self.unit.map_or_else(|| format!("{value:.0}"), |unit| unit.text(value))
    }

    /// Whether it was flat.
    ///
    /// # Errors
    /// How much it grew.
    pub fn judge(&self, course: Course) -> Result<String, String> {
        let Course { second, last, slope, bound } = course;
        let mut text = format!("{} in the second quarter, {}", self.text(second), self.text(last));
        let _ = write!(text, " in the last, {:+.2} % a minute", 100.0 * slope / second);
        if last <= bound { Ok(text) } else { Err(format!("{text}; at most {}", self.text(bound))) }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The slope of the line of least squares, for each sample.
fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / count;
    let (mut both, mut spread) = (0.0, 0.0);
    for (place, value) in values.iter().enumerate() {
        let off = place as f64 - middle;
        both += off * (value - mean);
        spread += off * off;
    }
    both / spread
}
