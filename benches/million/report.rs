//! The tables, as the page on performance has them.

use std::{fmt, fs, thread, time::Duration};

use crate::{
    USUAL,
    calls::{Figures, Kind, quantile},
    subject::{End, Load, Restart},
};

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    /// The partners of the large server.
    pub many: u32,
    few: u32,
    machine: String,
    pub load: Option<Load>,
    pub restarts: Vec<Restart>,
    /// From the start to the first answer, of a server of usual size.
    pub usual_starts: Vec<Duration>,
    pub average_partner_bytes: usize,
    pub rows: Vec<Row>,
    /// The processor time to encode a page of 1,000.
    pub encoding: Duration,
    pub resident_at_the_end: u64,
}

/// One kind of call on both servers.
#[derive(Debug)]
pub struct Row {
    pub kind: Kind,
    pub few: Figures,
    pub many: Figures,
}

impl Report {
    /// An empty one.
    pub fn of_this_machine(many: u32, few: u32) -> Self {
        Self {
            many,
            few,
            machine: machine(),
            load: None,
            restarts: Vec::new(),
            usual_starts: Vec::new(),
            average_partner_bytes: 0,
            rows: Vec::new(),
            encoding: Duration::ZERO,
            resident_at_the_end: 0,
        }
    }

    /// What was found of one kind of call.
    pub fn row(&self, kind: Kind) -> Option<&Row> {
        self.rows.iter().find(|row| row.kind == kind)
    }

    fn write_footprint(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | figure |\n|---|---|")?;
        let bytes = self.average_partner_bytes;
        writeln!(f, "| a partner on the wire, on average | {bytes} bytes |")?;
        if let Some(Load { time, footprint, disk }) = self.load {
            let rate = f64::from(self.many) / time.as_secs_f64();
            writeln!(
                f,
                "| loading, in atomic batches of 1,000 | {time:.1?}: {} partners/s |",
                grouped(rate as u64)
            )?;
            writeln!(f, "| on disk after loading | {} |", megabytes(disk))?;
            writeln!(f, "| resident after loading | {} |", megabytes(footprint.resident))?;
            writeln!(f, "| most resident while loading | {} |", megabytes(footprint.peak))?;
        }
        for Restart { end, time, footprint } in &self.restarts {
            let end = match end {
                End::InOrder => "an orderly end",
                End::Killed => "kill -9",
            };
            writeln!(f, "| from start to the first answer, after {end} | {time:.2?} |")?;
            writeln!(f, "| resident then | {} |", megabytes(footprint.resident))?;
            writeln!(f, "| most resident on the way | {} |", megabytes(footprint.peak))?;
        }
        let resident = megabytes(self.resident_at_the_end);
        writeln!(f, "| resident after all calls below | {resident} |")?;
        let [least, middle, most] =
            [0.0, 0.5, 1.0].map(|part| short(quantile(&self.usual_starts, part)));
        writeln!(
            f,
            "| with {} partners, from start to the first answer: least / median / most | {least} / \
             {middle} / {most} |",
            grouped(USUAL.into())
        )
    }

    fn write_calls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (few, many) = (grouped(self.few.into()), grouped(self.many.into()));
        writeln!(
            f,
            "| call | {few}: p50 / p99 | {many}: p50 / p99 | p50, ratio | server's processor time a \
             call, {few} / {many} | ratio |\n|---|---|---|---|---|---|"
        )?;
        for Row { kind, few, many } in &self.rows {
            let ratio = |of: fn(&Figures) -> Duration| {
                format!("{:.2}", of(many).as_secs_f64() / of(few).as_secs_f64())
            };
            writeln!(
                f,
                "| {} | {} / {} | {} / {} | {} | {} / {} | {} |",
                kind.title(),
                short(few.latency(0.5)),
                short(few.latency(0.99)),
                short(many.latency(0.5)),
                short(many.latency(0.99)),
                ratio(|side| side.latency(0.5)),
                short(few.processor()),
                short(many.processor()),
                ratio(Figures::processor),
            )?;
        }
        Ok(())
    }

    fn write_derived(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| derived | figure |\n|---|---|")?;
        if let Some(row) = self.row(Kind::FullScan) {
            let rate = f64::from(self.many) / row.many.processor().as_secs_f64();
            writeln!(
                f,
                "| a filter looks at, for each second of processor time | {:.1} million partners |",
                rate / 1e6
            )?;
        }
        if let Some(row) = self.row(Kind::PageOfThousand) {
            let ratio = row.many.processor().as_secs_f64() / self.encoding.as_secs_f64();
            writeln!(
                f,
                "| a page of 1,000, against encoding the finished message alone ({}) | {ratio:.1} |",
                short(self.encoding)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n\n### {} partners\n", self.machine, grouped(self.many.into()))?;
        self.write_footprint(f)?;
        writeln!(f, "\n### Calls, one at a time on one connection\n")?;
        self.write_calls(f)?;
        writeln!(f)?;
        self.write_derived(f)
    }
}

/// What the figures were taken on, and how busy it was with other things.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    format!(
        "On {cores} cores of {model}, shared by the servers and their client; load average when the \
         run began: {load}."
    )
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", grouped(bytes / 1_000_000))
}

/// A time with three digits that mean something.
fn short(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1e3 => format!("{micros:.0} us"),
        ..1e4 => format!("{:.2} ms", micros / 1e3),
        ..1e5 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.0} ms", micros / 1e3),
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
