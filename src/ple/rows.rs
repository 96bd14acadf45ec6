//! Rows that are there.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::storage::AlignedBytes;

/// The rows of a batch, in the order of the requests.
#[derive(Debug)]
pub struct Rows {
    /// Where the i-th request lies in `bytes`.
    pub(super) ranges: Vec<Range<usize>>,
    pub(super) bytes: RowBytes,
}

pub(super) enum RowBytes {
    /// The distinct rows of this batch one after the other.
    Batch(Vec<u8>),
    /// The whole table.
    Table(Arc<AlignedBytes>),
}

impl Rows {
    /// The row of the `i`-th request.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn row(&self, i: usize) -> &[u8] {
        let range = self.ranges[i].clone();
        match &self.bytes {
            RowBytes::Batch(bytes) => &bytes[range],
            RowBytes::Table(table) => &table[range],
        }
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether nothing was requested.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl fmt::Debug for RowBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowBytes::Batch(bytes) => write!(f, "Batch({} bytes)", bytes.len()),
            RowBytes::Table(table) => write!(f, "Table({} bytes)", table.len()),
        }
    }
}
