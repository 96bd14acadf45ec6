//! Bytes that may be written in a day.
//!
//! What is spent is noted on the disk before it is written: a power cut can cost budget and never give any. A day is
//! one of the system's clock. Where that goes back, as on a board without a battery, the day does not begin anew.

/// What of a day's bytes is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    daily_bytes: u64,
    /// Days since 1970.
    day: u64,
    spent: u64,
}

impl Budget {
    /// Nothing is spent.
    pub(super) fn new(daily_bytes: u64, today: u64) -> Self {
        Self { daily_bytes, day: today, spent: 0 }
    }

    /// All is spent: what was is not known.
    pub(super) fn spent(daily_bytes: u64, today: u64) -> Self {
        Self { spent: daily_bytes, ..Self::new(daily_bytes, today) }
    }

    /// As [`record`](Self::record) says.
    pub(super) fn of_record(daily_bytes: u64, record: &[u8]) -> Option<Self> {
        let (day, spent) = record.split_first_chunk()?;
        let spent = u64::from_le_bytes(spent.try_into().ok()?);
        Some(Self { daily_bytes, day: u64::from_le_bytes(*day), spent })
    }

    pub(super) fn record(&self) -> [u8; 16] {
        let mut record = [0; 16];
        record[..8].copy_from_slice(&self.day.to_le_bytes());
        record[8..].copy_from_slice(&self.spent.to_le_bytes());
        record
    }

    /// The day that it is of.
    pub(super) fn day(&self) -> u64 {
        self.day
    }

    /// What is left. Unit: bytes.
    pub(super) fn room(&self, today: u64) -> u64 {
        let spent = if today > self.day { 0 } else { self.spent };
        self.daily_bytes.saturating_sub(spent)
    }

    /// Takes `n_bytes`, if there are so many.
    pub(super) fn spend(&mut self, n_bytes: u64, today: u64) -> bool {
        if self.room(today) < n_bytes {
            return false;
        }
        if today > self.day {
            (self.day, self.spent) = (today, 0);
        }
        self.spent += n_bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_day_has_so_many_bytes_and_the_next_as_many_again() {
        let mut budget = Budget::new(100, 7);
        assert!(budget.spend(60, 7) && !budget.spend(41, 7) && budget.spend(40, 7));
        assert_eq!((budget.room(7), budget.room(8)), (0, 100));
        // The clock goes back, and comes again.
        assert!(!budget.spend(1, 3) && !budget.spend(1, 7));
        assert!(budget.spend(100, 9) && !budget.spend(1, 9) && !budget.spend(1, 8));
    }

    #[test]
    fn what_is_spent_outlasts_a_restart() {
        let mut budget = Budget::new(100, 7);
        assert!(budget.spend(90, 7));
        let mut again = Budget::of_record(100, &budget.record()).unwrap();
        assert_eq!(again, budget);
        assert!(!again.spend(11, 7) && again.spend(10, 7));
        // Somebody lowers the bound meanwhile.
        assert_eq!(Budget::of_record(50, &budget.record()).unwrap().room(7), 0);
        assert_eq!(Budget::of_record(100, &[0; 15]), None);
        assert_eq!(Budget::of_record(100, &[0; 17]), None);
        assert_eq!((Budget::spent(100, 7).room(7), Budget::spent(100, 7).room(8)), (0, 100));
    }

    /// A year of a household that always wants more, with restarts and a clock that jumps.
    #[test]
    fn no_day_gets_more_than_its_bytes() {
        let mut budget = Budget::new(1000, 0);
        let mut written = [0_u64; 365];
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut below = |n: u64| random.random_range(0..n);
        for day in 0..365_u64 {
            for _ in 0..40 {
                // At boot the clock may stand in the past.
                let told = if below(10) == 0 { day.saturating_sub(below(20)) } else { day };
                let n = below(200);
                if budget.spend(n, told) {
                    written[day as usize] += n;
                }
                if below(5) == 0 {
                    budget = Budget::of_record(1000, &budget.record()).unwrap();
                }
            }
        }
        // What a clock in the past spends counts for the day before, once.
        assert!(written.iter().all(|&n| n <= 2000) && written.iter().sum::<u64>() <= 365 * 1000);
    }
}
