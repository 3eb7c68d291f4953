//! How long to wait before the next attempt.

use std::time::Duration;

use uuid::Uuid;

/// Exponential back-off with full jitter: each pause is anything between nothing and a bound that
/// doubles, so that clients that failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first pause.
    pub first: Duration,
    /// The bound that is not exceeded.
    pub longest: Duration,
}

impl Default for Backoff {
    /// 200 ms, up to 30 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The pause after this many failures in a row, at least 1. `asked` is what the service asked
    /// for: the pause is not shorter, as long as it is not beyond `longest`.
    pub fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let bound = self.first.saturating_mul(1 << doublings).min(self.longest);
        asked.unwrap_or_default().min(self.longest) + bound.mul_f64(fraction())
    }

    /// A pause for what time alone does not mend: between half of `longest` and all of it.
    pub fn slow_pause(&self) -> Duration {
        self.longest.mul_f64(0.5 + fraction() / 2.0)
    }
}

/// Between 0 and 1.
fn fraction() -> f64 {
    let [a, b, c, d, ..] = *Uuid::new_v4().as_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

    #[test]
    fn pauses_are_spread_below_a_bound_that_doubles_up_to_the_longest() {
        for (failures, bound) in [(1, 100), (2, 200), (3, 400), (5, 1600), (6, 2000), (4000, 2000)]
        {
            let bound = Duration::from_millis(bound);
            let pauses: Vec<_> = (0..500).map(|_| BACKOFF.pause(failures, None)).collect();
            assert!(pauses.iter().all(|pause| *pause <= bound), "{failures}");
            assert!(pauses.iter().any(|pause| *pause < bound / 4), "{failures}");
            assert!(pauses.iter().any(|pause| *pause > bound / 4 * 3), "{failures}");
        }
    }

    #[test]
    fn what_the_service_asks_for_is_heeded_within_bounds() {
        let asked = |seconds| BACKOFF.pause(1, Some(Duration::from_secs(seconds)));
        assert!(asked(1) >= Duration::from_secs(1));
        assert!(asked(3600) <= BACKOFF.longest + BACKOFF.first);
        assert!((0..100).all(|_| BACKOFF.slow_pause() >= BACKOFF.longest / 2));
    }
}
