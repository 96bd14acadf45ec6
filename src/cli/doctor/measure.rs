//! How fast rows of the model's own file come.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::ple::{PleError, Probe, TableLayout};
use crate::storage::DataFile;

/// Long enough for a figure that comes out alike each time, with enough rows for the fastest drive.
const PROBE: Probe = Probe { duration: Duration::from_secs(1), max_rows: 50_000, rows_at_a_time: 64 };

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct RowRate {
    /// Rows read in a second, several at a time.
    pub(super) rows_per_s: f64,
    /// Median time of one read, microseconds.
    pub(super) read_p50_us: f64,
    /// Time of one read that 99 of 100 keep, microseconds.
    pub(super) read_p99_us: f64,
    /// Bytes of a row.
    pub(super) row_bytes: usize,
}

pub(super) fn row_rate(file: Arc<DataFile>, layout: TableLayout) -> Result<RowRate, PleError> {
    let rate = PROBE.measure(file, layout)?;
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(RowRate {
        rows_per_s: rate.rows_per_s,
        read_p50_us: us(rate.reads.p50),
        read_p99_us: us(rate.reads.p99),
        row_bytes: layout.row_bytes,
    })
}
