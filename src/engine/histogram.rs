//! How often something took how long.

use std::time::Duration;

/// Upper bounds of the classes; the last one has none. From a fast processor's token to a long prompt on a slow board:
/// neighbours differ by a third to a half. Unit: s.
const BOUNDS_S: [f64; 25] = [
    0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0,
    5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0,
];

/// Durations, counted in classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    counts: [u64; BOUNDS_S.len()],
    n: u64,
    sum_s: f64,
}

impl Histogram {
    pub(super) fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(class) = BOUNDS_S.iter().position(|bound| seconds <= *bound) {
            self.counts[class] += 1;
        }
        self.n += 1;
        self.sum_s += seconds;
    }

    /// Upper bounds in s, each with the number of durations that are not above it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut n = 0;
        BOUNDS_S.iter().zip(&self.counts).map(move |(bound, count)| {
            n += count;
            (*bound, n)
        })
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.n
    }

    /// Their sum. Unit: s.
    pub fn sum_s(&self) -> f64 {
        self.sum_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_and_each_class_holds_what_is_not_above_it() {
        assert!(BOUNDS_S.windows(2).all(|pair| pair[0] < pair[1]));
        let mut times = Histogram::default();
        for ms in [0, 5, 6, 1000, 900_000] {
            times.observe(Duration::from_millis(ms));
        }
        let at = |bound: f64| times.cumulative().find(|(b, _)| *b == bound).unwrap().1;
        assert_eq!((at(0.005), at(0.007), at(0.7), at(1.0), at(500.0)), (2, 3, 3, 4, 4));
        assert!(times.count() == 5 && (times.sum_s() - 901.011).abs() < 1e-9);
    }
}
