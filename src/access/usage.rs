//! How often a token is used, and how many calls it has at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Refused;

/// What a token may; `None` is any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// On average: what is not used is kept for a minute.
    pub(super) per_minute: Option<u32>,
    pub(super) at_a_time: Option<u32>,
}

/// How a token was used until now.
#[derive(Debug, Default)]
pub(super) struct Usage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: u32,
    /// Calls that were taken from a minute's worth and have not come back since.
    taken: f64,
    /// When `taken` was right.
    at: Option<Instant>,
}

/// A call that runs. Dropped at its end.
#[derive(Debug)]
pub(super) struct Call(Arc<Usage>);

impl Usage {
    /// Begins a call, if the limits let it.
    pub(super) fn begin(self: &Arc<Self>, limits: Limits, now: Instant) -> Result<Call, Refused> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at_a_time) = limits.at_a_time.filter(|&most| state.running >= most) {
            return Err(Refused::TooMany { at_a_time });
        }
        if let Some(per_minute) = limits.per_minute {
            let per_second = f64::from(per_minute) / 60.0;
            let since = state.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            let taken = (state.taken - since.as_secs_f64() * per_second).max(0.0);
            // A limit may have become smaller: what was taken beyond it is not held against anybody.
            let taken = taken.min(f64::from(per_minute));
            let missing = taken + 1.0 - f64::from(per_minute);
            if missing > 0.0 {
                let retry_after = Duration::from_secs_f64(missing / per_second);
                return Err(Refused::TooOften { per_minute, retry_after });
            }
            state.taken = taken + 1.0;
            state.at = Some(now);
        }
        state.running += 1;
        Ok(Call(Arc::clone(self)))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_at_a_time_are_counted_until_they_end() {
        let usage = Arc::new(Usage::default());
        let limits = Limits { at_a_time: Some(2), ..Limits::default() };
        let now = Instant::now();
        let first = usage.begin(limits, now).unwrap();
        let _second = usage.begin(limits, now).unwrap();
        assert_eq!(usage.begin(limits, now).unwrap_err(), Refused::TooMany { at_a_time: 2 });
        drop(first);
        let _third = usage.begin(limits, now).unwrap();
        assert!(usage.begin(limits, now).is_err());
    }

    #[test]
    fn a_minutes_worth_comes_back_with_time() {
        let usage = Arc::new(Usage::default());
        let limits = Limits { per_minute: Some(3), ..Limits::default() };
        let begin = Instant::now();
        let at = |seconds| usage.begin(limits, begin + Duration::from_secs(seconds)).map(drop);
        for _ in 0..3 {
            at(0).unwrap();
        }
        assert_eq!(at(0), Err(Refused::TooOften { per_minute: 3, retry_after: Duration::from_secs(20) }));
        assert_eq!(at(15), Err(Refused::TooOften { per_minute: 3, retry_after: Duration::from_secs(5) }));
        // Who waits as long as he is told is let in.
        at(20).unwrap();
        assert!(at(20).is_err());
        // An hour saves up no more than a minute does.
        for _ in 0..3 {
            at(3600).unwrap();
        }
        assert!(at(3600).is_err());
    }

    #[test]
    fn a_call_that_is_one_too_many_does_not_count_as_asked() {
        let usage = Arc::new(Usage::default());
        let limits = Limits { per_minute: Some(2), at_a_time: Some(1) };
        let now = Instant::now();
        let running = usage.begin(limits, now).unwrap();
        for _ in 0..5 {
            assert_eq!(usage.begin(limits, now).unwrap_err(), Refused::TooMany { at_a_time: 1 });
        }
        drop(running);
        usage.begin(limits, now).unwrap();
    }
}
