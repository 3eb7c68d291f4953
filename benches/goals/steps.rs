//! The measurements one after the other, each in a process of its own, and what became of them.

use std::{
    fmt,
    process::{Command, Stdio},
    time::Instant,
};

use crate::{figures::Figures, printed};

/// Longer than any of them takes that works, in seconds.
const PATIENCE: &str = "1500";

/// Something to be run.
pub struct Step {
    /// Its name; its figures are in the file of this name.
    pub name: &'static str,
    /// What it is told when only little is to be done.
    quick: &'static [&'static str],
    /// What it is told otherwise.
    whole: &'static [&'static str],
    kind: Kind,
}

enum Kind {
    /// `cargo bench --bench` and its name.
    Bench,
    /// A command that prints what it measures.
    Printed {
        command: fn() -> Command,
        /// Leaves its figures, and puts them on the page if the run is whole.
        read: fn(&str, bool) -> Result<(), Trouble>,
    },
}

/// In the order in which they are run.
pub const STEPS: [Step; 8] = [
    bench("parts", &["quick"], &[]),
    bench("peers", &["quick"], &[]),
    bench("watch", &["quick"], &[]),
    bench("million", &["20000"], &[]),
    bench("start", &["quick"], &[]),
    bench("soak", &["20s"], &["2m", "publish"]),
    Step {
        name: "promptness",
        quick: &[],
        whole: &[],
        kind: Kind::Printed { command: printed::promptness_test, read: printed::promptness },
    },
    Step {
        name: "removal",
        quick: &[],
        whole: &[],
        kind: Kind::Printed { command: printed::removal_scenarios, read: printed::removal },
    },
];

const fn bench(
    name: &'static str,
    quick: &'static [&'static str],
    whole: &'static [&'static str],
) -> Step {
    Step { name, quick, whole, kind: Kind::Bench }
}

impl Step {
    /// Runs it, which leaves its figures; or says why it has not, or not well.
    ///
    /// # Errors
    /// What is missing, or that it failed.
    pub fn run(&self, whole: bool) -> Result<(), Trouble> {
        eprintln!("=== {}", self.name);
        let start = Instant::now();
        Figures::clear(self.name);
        let outcome = match self.kind {
            Kind::Bench => self.measure(whole),
            Kind::Printed { command, read } => {
                run_and_read(command()).and_then(|printed| read(&printed, whole))
            }
        };
        if outcome.is_err() {
            // What a failed run has left is no figure.
            Figures::clear(self.name);
        }
        eprintln!("--- {}: {:.0} s", self.name, start.elapsed().as_secs_f64());
        outcome
    }

    fn measure(&self, whole: bool) -> Result<(), Trouble> {
        let mut command = cargo();
        command.args(["bench", "--bench", self.name, "--"]);
        command.args(if whole { self.whole } else { self.quick });
        let status = command.status().map_err(|error| Trouble::Missing(error.to_string()))?;
        if status.success() { Ok(()) } else { Err(Trouble::Failed(status.to_string())) }
    }
}

/// Why there are no figures, or none to rely on.
#[derive(Debug)]
pub enum Trouble {
    /// It could not be run here.
    Missing(String),
    /// It was run and failed.
    Failed(String),
}

/// A cargo, ended with all it started when it takes too long.
pub fn cargo() -> Command {
    within_patience(env!("CARGO"))
}

/// A program, ended with all it started when it takes too long.
pub fn within_patience(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", PATIENCE, program]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(why) => f.write_str(why),
            Self::Failed(how) => write!(f, "it failed ({how})"),
        }
    }
}

/// Runs a command, shows what it prints and gives it back.
fn run_and_read(mut command: Command) -> Result<String, Trouble> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Trouble::Missing(error.to_string()))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{printed}");
    if output.status.success() {
        Ok(printed)
    } else {
        Err(Trouble::Failed(output.status.to_string()))
    }
}
