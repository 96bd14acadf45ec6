//! Calls that were refused before the engine saw them, counted by why.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// What it asks for is wrong, too much, or not there.
    Invalid,
    /// It brought no token that is known.
    Unauthenticated,
    /// Its token, or where it comes from, is not for this.
    Forbidden,
    /// Its token was used too often, or too often at a time.
    RateLimited,
}

/// A copy of the counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Of [`Why::Invalid`].
    pub invalid: u64,
    /// Of [`Why::Unauthenticated`].
    pub unauthenticated: u64,
    /// Of [`Why::Forbidden`].
    pub forbidden: u64,
    /// Of [`Why::RateLimited`].
    pub rate_limited: u64,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Counters([AtomicU64; 4]);

impl Counters {
    pub(super) fn count(&self, why: Why) {
        self.0[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Refusals {
        let of = |why: Why| self.0[why as usize].load(Ordering::Relaxed);
        Refusals {
            invalid: of(Why::Invalid),
            unauthenticated: of(Why::Unauthenticated),
            forbidden: of(Why::Forbidden),
            rate_limited: of(Why::RateLimited),
        }
    }
}
