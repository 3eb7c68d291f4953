//! The figures of a measurement, as a file that a program can read: what the table of goals is made
//! of.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where the files are, within the project.
const FOLDER: &str = "target/bench";

/// What a measurement has found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// Whether it did all that is done for the page.
    pub whole: bool,
    /// What it could not measure, and why.
    pub left_out: Vec<String>,
    /// The figures by name.
    pub figures: BTreeMap<String, Figure>,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What both are counted in.
    pub unit: Unit,
    /// What was measured.
    pub measured: f64,
    /// What it is compared with, if with anything.
    pub beside: Option<f64>,
    /// The one divided by the other: where both were measured in rounds, the median of the rounds.
    pub ratio: Option<f64>,
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// So many each second.
    PerSecond,
    /// A time.
    Seconds,
    /// Memory or disk.
    Bytes,
}

impl Figures {
    /// None yet.
    pub fn new(whole: bool) -> Self {
        Self { whole, left_out: Vec::new(), figures: BTreeMap::new() }
    }

    /// Adds a figure that stands for itself.
    #[allow(dead_code, reason = "some measurements compare all they find")]
    pub fn add(&mut self, name: impl Into<String>, unit: Unit, measured: f64) {
        let figure = Figure { unit, measured, beside: None, ratio: None };
        self.figures.insert(name.into(), figure);
    }

    /// Adds a figure with what it is compared with.
    #[allow(dead_code, reason = "some measurements compare nothing")]
    pub fn compare(
        &mut self,
        name: impl Into<String>,
        unit: Unit,
        (measured, beside): (f64, f64),
        ratio: f64,
    ) {
        let figure = Figure { unit, measured, beside: Some(beside), ratio: Some(ratio) };
        self.figures.insert(name.into(), figure);
    }

    /// Leaves the figures of a measurement in its file, in place of those of an earlier run.
    pub fn leave(&self, measurement: &str) {
        let path = path(measurement);
        let folder = path.parent().expect("the file is in a folder");
        fs::create_dir_all(folder).expect("there is room for a folder");
        let text = serde_json::to_string_pretty(self).expect("figures are plain data");
        fs::write(&path, text).expect("there is room for a file");
    }

    /// The figures that the last run of a measurement has left, if there was one.
    #[allow(dead_code, reason = "only the table of goals reads them")]
    pub fn left_by(measurement: &str) -> Option<Self> {
        let text = fs::read_to_string(path(measurement)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Takes them away, so that what is there afterwards is of a later run.
    #[allow(dead_code, reason = "only the run of all measurements does")]
    pub fn clear(measurement: &str) {
        // Fails only if there are none.
        let _ = fs::remove_file(path(measurement));
    }
}

impl Unit {
    /// A figure for people, with three digits that mean something.
    #[allow(dead_code, reason = "some measurements write their tables themselves")]
    pub fn text(self, value: f64) -> String {
        let (value, unit) = match self {
            Self::PerSecond if value >= 1e6 => (value / 1e6, " million/s"),
            Self::PerSecond => (value, "/s"),
            Self::Seconds if value < 1e-6 => (value * 1e9, " ns"),
            Self::Seconds if value < 1e-3 => (value * 1e6, " us"),
            Self::Seconds if value < 1.0 => (value * 1e3, " ms"),
            Self::Seconds => (value, " s"),
            Self::Bytes if value < 1e6 => (value / 1e3, " kB"),
            Self::Bytes => (value / 1e6, " MB"),
        };
        let digits = match value.abs() {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        format!("{value:.digits$}{unit}")
    }
}

fn path(measurement: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join(format!("{measurement}.json"))
}
