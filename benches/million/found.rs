//! What a program can read of the report.

use crate::{
    calls::{Figures as Calls, Kind},
    figures::{Figures, Unit},
    report::{Report, Row},
};

/// The kinds of calls that ResolveDomain is judged by: the dearest of them counts.
const RESOLUTIONS: [Kind; 3] =
    [Kind::ResolvePrimary, Kind::ResolveAdditional, Kind::ResolveUnknown];

/// The figures that the goals are held against.
pub fn figures(report: &Report, whole: bool) -> Figures {
    let mut figures = Figures::new(whole);
    let processor = |calls: &Calls| calls.processor().as_secs_f64();
    let resolutions = RESOLUTIONS.into_iter().filter_map(|kind| report.row(kind));
    let ratio = |row: &Row| processor(&row.many) / processor(&row.few);
    if let Some(row) = resolutions.max_by(|a, b| ratio(a).total_cmp(&ratio(b))) {
        let sides = (processor(&row.many), processor(&row.few));
        figures.compare("resolve/processor", Unit::Seconds, sides, ratio(row));
    }
    if let Some(row) = report.row(Kind::PageOfThousand) {
        let sides = (processor(&row.many), report.encoding.as_secs_f64());
        figures.compare("page/processor", Unit::Seconds, sides, sides.0 / sides.1);
    }
    if let Some(row) = report.row(Kind::FullScan) {
        let rate = f64::from(report.many) / processor(&row.many);
        figures.add("scan/rate", Unit::PerSecond, rate);
    }
    let loaded = report.load.iter().map(|load| load.footprint.resident);
    let started = report.restarts.iter().map(|restart| restart.footprint.resident);
    let resident = loaded.chain(started).chain([report.resident_at_the_end]).max();
    figures.add("resident", Unit::Bytes, resident.unwrap_or_default() as f64);
    if let Some(slowest) = report.restarts.iter().map(|restart| restart.time).max() {
        figures.add("open", Unit::Seconds, slowest.as_secs_f64());
    }
    figures
}
