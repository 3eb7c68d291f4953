//! The tables, as the page on performance has them.

use std::{fmt, time::Duration};

use crate::{
    Effort,
    figures::{Figures, Unit},
    reads::{self, Shape},
    server::Name,
    writes,
};

/// What one turn came to.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub per_second: f64,
    /// The server's processor time for one call.
    pub processor: Duration,
    /// What the server had in memory after it, in bytes.
    pub resident: u64,
}

/// The turns of every contestant, by shape.
#[derive(Debug, Default)]
pub struct Turns(Vec<(Shape, Name, Turn)>);

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    effort: Effort,
    /// In plain text.
    pub reads: Turns,
    /// Over TLS.
    pub secure_reads: Turns,
    pub writes: Turns,
    /// Who could not take part, and why.
    pub left_out: Vec<String>,
}

impl Turns {
    pub fn add(&mut self, shape: Shape, name: Name, turn: Turn) {
        self.0.push((shape, name, turn));
    }

    fn names(&self) -> Vec<Name> {
        let mut names = Vec::new();
        for (_, name, _) in &self.0 {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        names
    }

    /// A figure of one contestant in each round.
    fn of(&self, shape: Shape, name: Name, figure: fn(&Turn) -> f64) -> Vec<f64> {
        let wanted = |(at, who, _): &&(Shape, Name, Turn)| *at == shape && *who == name;
        self.0.iter().filter(wanted).map(|(.., turn)| figure(turn)).collect()
    }

    /// The median over the rounds of partnerd's figure divided by the other's in the same round.
    fn ratio(&self, shape: Shape, name: Name, figure: fn(&Turn) -> f64) -> f64 {
        let (ours, theirs) = (self.of(shape, Name::Partnerd, figure), self.of(shape, name, figure));
        median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect())
    }

    /// Adds partnerd's figures beside those of all others, as `call/shape/other/figure`.
    fn compare(&self, call: &str, shapes: &[Shape], figures: &mut Figures) {
        for shape in shapes {
            for name in self.names().into_iter().filter(|name| *name != Name::Partnerd) {
                for (what, unit, figure) in COMPARED {
                    let [ours, theirs] =
                        [Name::Partnerd, name].map(|name| median(self.of(*shape, name, figure)));
                    let Shape { connections, streams } = shape;
                    let key = format!("{call}/{connections}x{streams}/{}/{what}", name.key());
                    let ratio = self.ratio(*shape, name, figure);
                    figures.compare(key, unit, (ours, theirs), ratio);
                }
            }
        }
    }
}

/// A figure of a turn: what it is called, what it is counted in, and the figure.
type Compared = (&'static str, Unit, fn(&Turn) -> f64);

/// What is compared.
const COMPARED: [Compared; 3] = [
    ("rate", Unit::PerSecond, |turn| turn.per_second),
    ("processor", Unit::Seconds, |turn| turn.processor.as_secs_f64()),
    ("resident", Unit::Bytes, |turn| turn.resident as f64),
];

impl Report {
    pub fn new(effort: Effort) -> Self {
        let [reads, secure_reads, writes] = [(); 3].map(|()| Turns::default());
        Self { effort, reads, secure_reads, writes, left_out: Vec::new() }
    }

    /// What a program can read of it.
    pub fn figures(&self, whole: bool) -> Figures {
        let mut figures = Figures::new(whole);
        figures.left_out.clone_from(&self.left_out);
        self.reads.compare("get", &reads::SHAPES, &mut figures);
        self.secure_reads.compare("get-tls", &reads::SHAPES, &mut figures);
        self.writes.compare("update", &writes::SHAPES, &mut figures);
        figures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effort { rounds, turn } = self.effort;
        writeln!(
            f,
            "Medians of {rounds} interleaved rounds of {} s each, with the lowest and the highest; \
             the server on one core, the generator on another. `{}` are so many connections with \
             so many calls at a time on each.\n",
            turn.as_secs(),
            reads::SHAPES[0],
        )?;
        for why in &self.left_out {
            writeln!(f, "Left out: {why}.\n")?;
        }
        writeln!(f, "### Reads of one record: Get, or what is like it\n")?;
        write_table(f, &self.reads, &reads::SHAPES)?;
        if !self.secure_reads.0.is_empty() {
            writeln!(f, "\n### The same over TLS\n")?;
            write_table(f, &self.secure_reads, &reads::SHAPES)?;
        }
        writeln!(f, "\n### Durable writes: Update of one field, or Put\n")?;
        write_table(f, &self.writes, &writes::SHAPES)
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, turns: &Turns, shapes: &[Shape]) -> fmt::Result {
    writeln!(
        f,
        "| at a time | server | calls/s | partnerd has | processor time a call | partnerd takes | \
         resident |\n|---|---|---|---|---|---|---|"
    )?;
    for shape in shapes {
        for name in turns.names() {
            let rates = turns.of(*shape, name, |turn| turn.per_second);
            let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
            let high = rates.iter().copied().fold(0.0, f64::max);
            let processor: fn(&Turn) -> f64 = |turn| turn.processor.as_secs_f64();
            writeln!(
                f,
                "| {shape} | {} | {:.0} ({low:.0} to {high:.0}) | {:.2} times | {} | {:.2} times | {} |",
                name.title(),
                median(rates),
                turns.ratio(*shape, name, |turn| turn.per_second),
                Unit::Seconds.text(median(turns.of(*shape, name, processor))),
                turns.ratio(*shape, name, processor),
                Unit::Bytes.text(median(turns.of(*shape, name, |turn| turn.resident as f64))),
            )?;
        }
    }
    Ok(())
}

/// The median; no number if there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
