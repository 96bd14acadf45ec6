//! Rows on their way.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::readers::{Batch, Shared};
use super::rows::Rows;

/// Rows on their way; see [`RowStore::wait`](super::RowStore::wait). Dropping it cancels what was not begun.
#[derive(Debug)]
#[must_use = "rows are had by waiting for them"]
pub struct Pending {
    pub(super) state: State,
    pub(super) cost: Cost,
}

/// What comes of waiting until a deadline.
#[derive(Debug)]
pub enum Awaited {
    /// All rows.
    Rows(Rows),
    /// Some are not there; they are still on their way.
    Late(Pending),
}

/// What a batch asks of storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Different rows.
    pub distinct: u64,
    /// Of these, those that were not in memory.
    pub misses: u64,
    /// Bytes wanted of them, not rounded to the unit of reading.
    pub bytes: u64,
}

impl Pending {
    /// What it asks of storage.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether waiting for it would end at once: all rows have arrived, or it is known that they will not.
    pub fn has_arrived(&self) -> bool {
        match &self.state {
            State::Ready(_) => true,
            State::Reading(outstanding) => outstanding.batch.finished().is_some(),
        }
    }
}

#[derive(Debug)]
pub(super) enum State {
    Ready(Rows),
    Reading(Outstanding),
}

pub(super) struct Outstanding {
    pub(super) batch: Arc<Batch>,
    pub(super) shared: Arc<Shared>,
    /// Where the i-th request lies in the batch's buffer.
    pub(super) ranges: Vec<Range<usize>>,
    /// Since when somebody stands still for it who waited in vain.
    pub(super) late_since: Option<Instant>,
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        if self.batch.finished().is_none() {
            self.shared.cancel(&self.batch);
        }
    }
}

impl fmt::Debug for Outstanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outstanding({} requests)", self.ranges.len())
    }
}
