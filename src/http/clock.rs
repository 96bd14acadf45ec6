//! Times as the dialects write them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(super) fn unix_s(time: SystemTime) -> u64 {
    // A clock before 1970 was never set.
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// As in "2026-01-31T12:00:00.5Z".
pub(super) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
