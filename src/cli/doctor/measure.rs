//! How fast rows of the model's own file come, by the store that reads them when the model runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ple::{Mode, Options, PleError, RowStore, TableLayout};
use crate::storage::DataFile;

/// How long to read.
const DURATION: Duration = Duration::from_secs(1);
/// Rows that are asked for at a time, as for a prompt.
const ROWS_AT_A_TIME: u64 = 64;
/// Enough to know the rate of the fastest drive.
const MAX_ROWS: u64 = 50_000;

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

/// Reads rows all over the table, none twice, past every cache of this machine but the device's own.
pub(super) fn row_rate(file: Arc<DataFile>, layout: TableLayout) -> Result<RowRate, PleError> {
    let options = Options { mode: Mode::Direct, cache_bytes: 0, ..Options::default() };
    let mut store = RowStore::open(file, layout, options)?;
    let begin = Instant::now();
    let mut n_rows = 0;
    while n_rows < MAX_ROWS.min(layout.n_rows.into()) && begin.elapsed() < DURATION {
        let ids: Vec<u32> = (n_rows..n_rows + ROWS_AT_A_TIME).map(|i| scattered(i, layout.n_rows)).collect();
        let pending = store.submit(&ids)?;
        store.wait(pending)?;
        n_rows += ROWS_AT_A_TIME;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let stats = store.stats();
    Ok(RowRate {
        rows_per_s: n_rows as f64 / seconds.max(1e-9),
        read_p50_us: stats.read_latency.quantile(0.5).as_secs_f64() * 1e6,
        read_p99_us: stats.read_latency.quantile(0.99).as_secs_f64() * 1e6,
        row_bytes: layout.row_bytes,
    })
}

/// The `i`th of row numbers that lie far from each other: multiples of a prime near 2^32 over the golden ratio.
fn scattered(i: u64, n_rows: u32) -> u32 {
    (i.wrapping_mul(2_654_435_761) % u64::from(n_rows)) as u32
}
