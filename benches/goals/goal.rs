//! The goals, each with its number: they stand here and nowhere else.

use std::fmt;

use crate::figures::{Figure, Figures, Unit};

/// What a figure is held to.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// What is measured.
    pub what: &'static str,
    /// Within what it has to be.
    pub bound: Bound,
    /// The measurement that finds the figure.
    pub measurement: &'static str,
    /// What the figure is called there.
    pub figure: &'static str,
}

/// Within what a figure has to be, in its own unit or as a ratio.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// So many times what it is compared with, or more.
    TimesAtLeast(f64),
    /// So many times what it is compared with, or less.
    TimesAtMost(f64),
    /// So much, or more.
    AtLeast(Unit, f64),
    /// So much, or less.
    AtMost(Unit, f64),
}

/// A figure held to a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// What was found.
    pub figure: Figure,
    /// The figure divided by what it is compared with, or else by the bound.
    pub ratio: f64,
    /// Whether it is within the bound.
    pub met: bool,
}

use Bound::{AtLeast, AtMost, TimesAtLeast, TimesAtMost};
use Unit::{Bytes, PerSecond, Seconds};

/// All of them.
pub const GOALS: [Goal; 27] = [
    goal(
        "Get with a remembered token, 16 connections x 32 calls at a time, beside a bare tonic \
         server with tonic's defaults: calls/s",
        TimesAtLeast(1.4),
        "peers",
        "get/16x32/default/rate",
    ),
    goal("the same, 64 x 1", TimesAtLeast(1.1), "peers", "get/64x1/default/rate"),
    goal(
        "Get, 16 x 32, beside a bare tonic server tuned the same way: calls/s",
        TimesAtLeast(0.92),
        "peers",
        "get/16x32/tuned/rate",
    ),
    goal("the same: processor time a call", TimesAtMost(1.1), "peers", "get/16x32/tuned/processor"),
    goal(
        "an authenticated Get beside an unauthenticated one: processor time a call. There is no \
         unauthenticated one, so it is the tuned bare server again, which does not even look up",
        TimesAtMost(1.15),
        "peers",
        "get/16x32/tuned/processor",
    ),
    goal(
        "Get, 16 x 32, beside etcd's Range: calls/s",
        TimesAtLeast(8.0),
        "peers",
        "get/16x32/etcd/rate",
    ),
    goal("the same, 64 x 1", TimesAtLeast(5.0), "peers", "get/64x1/etcd/rate"),
    goal(
        "Get, 16 x 32, beside etcd's Range with JWT: calls/s",
        TimesAtLeast(12.0),
        "peers",
        "get/16x32/etcd-jwt/rate",
    ),
    goal(
        "durable Update with change log and chained audit, 64 x 1, beside etcd's Put: calls/s",
        TimesAtLeast(2.5),
        "peers",
        "update/64x1/etcd/rate",
    ),
    goal("the same, 16 x 32", TimesAtLeast(2.0), "peers", "update/16x32/etcd/rate"),
    goal("the same, 1 x 1", TimesAtLeast(1.0), "peers", "update/1x1/etcd/rate"),
    goal(
        "1,000 watch streams, flat out, beside etcd: deliveries/s",
        TimesAtLeast(5.0),
        "watch",
        "deliveries",
    ),
    goal(
        "1,000 watch streams, 100 writes/s, beside etcd: p99 from write to receipt",
        TimesAtMost(1.0 / 3.0),
        "watch",
        "p99",
    ),
    goal("the same p99, by itself", AtMost(Seconds, 15e-3), "watch", "p99"),
    goal("memory of a watch stream, beside etcd", TimesAtMost(0.5), "watch", "memory"),
    goal(
        "ResolveDomain among 1,000,000 partners beside among 1,000: processor time a call",
        TimesAtMost(1.1),
        "million",
        "resolve/processor",
    ),
    goal(
        "a page of 1,000 out of 1,000,000 beside encoding it: processor time",
        TimesAtMost(2.0),
        "million",
        "page/processor",
    ),
    goal(
        "a filter over 1,000,000: partners looked at in a second of processor time",
        AtLeast(PerSecond, 5e6),
        "million",
        "scan/rate",
    ),
    goal(
        "1,000,000 partners: the most resident of all times looked at",
        AtMost(Bytes, 1.2e9),
        "million",
        "resident",
    ),
    goal(
        "1,000,000 partners: from start to the first answer",
        AtMost(Seconds, 5.0),
        "million",
        "open",
    ),
    goal(
        "10,000 partners: from start to the first answer",
        AtMost(Seconds, 200e-3),
        "start",
        "first-answer",
    ),
    goal(
        "committed removal to closed XMPP stream: median",
        AtMost(Seconds, 60e-3),
        "removal",
        "median",
    ),
    goal("committed removal to closed XMPP stream: p99", AtMost(Seconds, 250e-3), "removal", "p99"),
    goal("right taken to end of the stream: p99", AtMost(Seconds, 200e-3), "promptness", "p99"),
    goal("right taken to end of the stream: the most", AtMost(Seconds, 1.0), "promptness", "most"),
    goal(
        "publishing a snapshot of 1,000 partners, beyond the change itself",
        AtMost(Seconds, 20e-6),
        "parts",
        "publish/1000",
    ),
    goal(
        "publishing a snapshot of 100,000 partners, beyond the change itself",
        AtMost(Seconds, 20e-6),
        "parts",
        "publish/100000",
    ),
];

const fn goal(
    what: &'static str,
    bound: Bound,
    measurement: &'static str,
    figure: &'static str,
) -> Goal {
    Goal { what, bound, measurement, figure }
}

impl Goal {
    /// Holds what its measurement found to it; `None` if the figure is missing.
    pub fn judge(&self, found: Option<&Figures>) -> Option<Judged> {
        let figure = *found?.figures.get(self.figure)?;
        // A figure that is no number is within no bound.
        let (ratio, met) = match self.bound {
            TimesAtLeast(times) => (figure.ratio?, figure.ratio? >= times),
            TimesAtMost(times) => (figure.ratio?, figure.ratio? <= times),
            AtLeast(_, bound) => (figure.measured / bound, figure.measured >= bound),
            AtMost(_, bound) => (figure.measured / bound, figure.measured <= bound),
        };
        Some(Judged { figure, ratio, met })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimesAtLeast(times) => write!(f, "at least {} times", Times(*times)),
            TimesAtMost(times) => write!(f, "at most {} times", Times(*times)),
            AtLeast(unit, bound) => write!(f, "at least {}", unit.text(*bound)),
            AtMost(unit, bound) => write!(f, "at most {}", unit.text(*bound)),
        }
    }
}

/// How often something goes into something else.
struct Times(f64);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}
