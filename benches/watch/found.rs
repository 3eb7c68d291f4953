//! What a program can read of the report.

use crate::{
    figures::{Figures, Unit},
    measure::Figures as Rounds,
    report::{Report, spread},
};

/// A figure that the goals are held against: its name, its unit, and its rounds.
type Wanted<'a> = (&'static str, Unit, &'a dyn Fn(&Rounds) -> Vec<f64>);

/// The figures that the goals are held against.
pub fn figures(report: &Report, whole: bool) -> Figures {
    let mut figures = Figures::new(whole);
    figures.left_out.clone_from(&report.left_out);
    let memory = |rounds: &Rounds| {
        let (before, with) = rounds.resident;
        vec![with.saturating_sub(before) as f64 / report.effort.streams as f64]
    };
    let p99 = |rounds: &Rounds| rounds.p99.iter().map(|time| time.as_secs_f64()).collect();
    let wanted: [Wanted<'_>; 3] = [
        ("deliveries", Unit::PerSecond, &|rounds| rounds.deliveries.clone()),
        ("p99", Unit::Seconds, &p99),
        ("memory", Unit::Bytes, &memory),
    ];
    for (name, unit, rounds) in wanted {
        match report.sides.iter().map(|side| rounds(&side.figures)).collect::<Vec<_>>().as_slice() {
            [ours, theirs] => {
                let sides = (spread(ours).1, spread(theirs).1);
                let ratios: Vec<_> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
                figures.compare(name, unit, sides, spread(&ratios).1);
            }
            [ours] => figures.add(name, unit, spread(ours).1),
            _ => {}
        }
    }
    figures
}
