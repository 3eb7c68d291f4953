//! The tables, as the page on performance has them.

use std::{fmt, fs, path::Path, time::Duration};

use crate::{
    Effort,
    reads::{self, Shape},
    server::{ECHO, ETCD, ETCD_JWT, PARTNERD, TUNED_ECHO},
    writes,
};

const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- written by `cargo bench --bench peers`: begin -->";
const END: &str = "<!-- written by `cargo bench --bench peers`: end -->";

/// What one turn came to.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub per_second: f64,
    /// The server's processor time for one call.
    pub processor: Duration,
}

/// The turns of every contestant, by shape.
#[derive(Debug, Default)]
pub struct Turns(Vec<(Shape, &'static str, Turn)>);

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    effort: Effort,
    pub reads: Turns,
    pub writes: Turns,
    /// Who could not take part, and why.
    pub left_out: Vec<String>,
}

/// A goal: so many times the calls of another, at one shape.
struct Goal {
    what: &'static str,
    shape: Shape,
    beside: &'static str,
    least: f64,
}

const fn goal(what: &'static str, shape: Shape, beside: &'static str, least: f64) -> Goal {
    Goal { what, shape, beside, least }
}

const WIDE: Shape = Shape { connections: 16, streams: 32 };
const MANY: Shape = Shape { connections: 64, streams: 1 };
const ONE: Shape = Shape { connections: 1, streams: 1 };

const READ_GOALS: [Goal; 6] = [
    goal("Get, token cached", WIDE, ECHO, 1.4),
    goal("Get, token cached", MANY, ECHO, 1.1),
    goal("Get, token cached", WIDE, TUNED_ECHO, 0.92),
    goal("Get, token cached, against Range", WIDE, ETCD, 8.0),
    goal("Get, token cached, against Range", MANY, ETCD, 5.0),
    goal("Get, token cached, against Range", WIDE, ETCD_JWT, 12.0),
];

const WRITE_GOALS: [Goal; 3] = [
    goal("durable Update against Put", MANY, ETCD, 2.5),
    goal("durable Update against Put", WIDE, ETCD, 2.0),
    goal("durable Update against Put", ONE, ETCD, 1.0),
];

/// The most of the tuned echo's processor time a call that partnerd may take.
const PROCESSOR_GOAL: f64 = 1.1;

impl Turns {
    pub fn add(&mut self, shape: Shape, name: &'static str, turn: Turn) {
        self.0.push((shape, name, turn));
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for (_, name, _) in &self.0 {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        names
    }

    fn of(&self, shape: Shape, name: &str) -> Vec<Turn> {
        let wanted = |(at, who, _): &&(Shape, &str, Turn)| *at == shape && *who == name;
        self.0.iter().filter(wanted).map(|(.., turn)| *turn).collect()
    }

    /// The median over the rounds of partnerd's figure divided by the other's in the same round.
    fn ratio(&self, shape: Shape, name: &str, figure: fn(&Turn) -> f64) -> Option<f64> {
        let (ours, theirs) = (self.of(shape, PARTNERD), self.of(shape, name));
        let ratios: Vec<_> =
            ours.iter().zip(&theirs).map(|(ours, theirs)| figure(ours) / figure(theirs)).collect();
        median(ratios)
    }
}

impl Report {
    pub fn new(effort: Effort) -> Self {
        let (reads, writes) = (Turns::default(), Turns::default());
        Self { effort, reads, writes, left_out: Vec::new() }
    }

    /// Puts the tables into the page on performance, in place of those of an earlier run.
    pub fn publish(&self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        let page = fs::read_to_string(&path).expect("the page is part of the project");
        let (head, rest) = page.split_once(BEGIN).expect("the page has the mark of the beginning");
        let (_, tail) = rest.split_once(END).expect("the page has the mark of the end");
        let page = format!("{head}{BEGIN}\n\n{self}\n{END}{tail}");
        fs::write(&path, page).expect("the page can be written");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effort { rounds, turn } = self.effort;
        writeln!(
            f,
            "Medians of {rounds} interleaved rounds of {} s each, with the lowest and the highest; \
             the server on one core, the generator on another.\n",
            turn.as_secs()
        )?;
        for why in &self.left_out {
            writeln!(f, "Left out: {why}.\n")?;
        }
        writeln!(f, "### Reads of one record: Get, or what is like it\n")?;
        write_table(f, &self.reads, &reads::SHAPES)?;
        writeln!(f, "\n### Durable writes: Update of one field, or Put\n")?;
        write_table(f, &self.writes, &writes::SHAPES)?;
        writeln!(
            f,
            "\n### Goals\n\n| what | shape | beside | goal | found | |\n|---|---|---|---|---|---|"
        )?;
        write_goals(f, &self.reads, &READ_GOALS)?;
        let used = self.reads.ratio(WIDE, TUNED_ECHO, |turn| turn.processor.as_secs_f64());
        if let Some(used) = used {
            let verdict = if used <= PROCESSOR_GOAL { "met" } else { "not met" };
            writeln!(
                f,
                "| Get, token cached: processor time a call | {WIDE} | {TUNED_ECHO} | at most \
                 {PROCESSOR_GOAL} | {used:.2} | {verdict} |"
            )?;
        }
        write_goals(f, &self.writes, &WRITE_GOALS)
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, turns: &Turns, shapes: &[Shape]) -> fmt::Result {
    write!(f, "| connections x calls at a time |")?;
    for shape in shapes {
        write!(f, " {shape}: calls/s | processor, us | partnerd is |")?;
    }
    writeln!(f, "\n|---|{}", "---|".repeat(3 * shapes.len()))?;
    for name in turns.names() {
        write!(f, "| {name} |")?;
        for shape in shapes {
            let of = turns.of(*shape, name);
            let rates: Vec<_> = of.iter().map(|turn| turn.per_second).collect();
            let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
            let high = rates.iter().copied().fold(0.0, f64::max);
            let used = of.iter().map(|turn| turn.processor.as_secs_f64() * 1e6).collect();
            let ratio = turns.ratio(*shape, name, |turn| turn.per_second);
            write!(
                f,
                " {:.0} ({low:.0} to {high:.0}) | {:.1} | {:.2} times |",
                median(rates).unwrap_or(0.0),
                median(used).unwrap_or(0.0),
                ratio.unwrap_or(0.0),
            )?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn write_goals(f: &mut fmt::Formatter<'_>, turns: &Turns, goals: &[Goal]) -> fmt::Result {
    for Goal { what, shape, beside, least } in goals {
        let Some(found) = turns.ratio(*shape, beside, |turn| turn.per_second) else {
            writeln!(f, "| {what} | {shape} | {beside} | at least {least} | not run | |")?;
            continue;
        };
        let verdict = if found >= *least { "met" } else { "not met" };
        writeln!(f, "| {what} | {shape} | {beside} | at least {least} | {found:.2} | {verdict} |")?;
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
