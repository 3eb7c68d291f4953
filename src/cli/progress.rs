//! Progress of long work: a bar on a terminal, plain lines elsewhere, both on stderr.

use std::{
    io::{self, IsTerminal},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::console::count;

const LINE_EVERY: Duration = Duration::from_secs(5);
const TEMPLATE: &str = "{msg} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta} left";

/// How far some work has come.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: u64,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
}

#[derive(Debug)]
struct Lines {
    done: u64,
    start: Instant,
    next: Instant,
}

impl Progress {
    /// The progress of `what` (`imported`), which takes `total` steps.
    pub fn new(what: &'static str, total: usize) -> Self {
        let total = total as u64;
        let shown = if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(TEMPLATE).expect("the template is constant");
            Shown::Bar(ProgressBar::new(total).with_style(style).with_message(what))
        } else {
            let start = Instant::now();
            Shown::Lines(Mutex::new(Lines { done: 0, start, next: start + LINE_EVERY }))
        };
        Self { what, total, shown }
    }

    /// Notes that `steps` more are done.
    pub fn advance(&self, steps: usize) {
        match &self.shown {
            Shown::Bar(bar) => bar.inc(steps as u64),
            Shown::Lines(lines) => {
                let mut lines = lines.lock().expect("nobody panics while holding it");
                lines.done += steps as u64;
                let now = Instant::now();
                if now >= lines.next && lines.done < self.total {
                    lines.next = now + LINE_EVERY;
                    eprintln!("{}", line(self.what, lines.done, self.total, now - lines.start));
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn line(what: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let left = (total.saturating_sub(done)) as f64 / rate.max(0.001);
    format!(
        "{what} {} of {} ({rate:.0}/s, {left:.0} s left)",
        count(usize::try_from(done).unwrap_or(usize::MAX)),
        count(usize::try_from(total).unwrap_or(usize::MAX))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_rate_and_what_remains() {
        let text = line("imported", 25_000, 100_000, Duration::from_secs(5));
        assert_eq!(text, "imported 25,000 of 100,000 (5000/s, 15 s left)");
    }
}
