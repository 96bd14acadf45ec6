//! How fast rows of a table come, by the store that reads them when a model runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::storage::DataFile;

use super::pending::Awaited;
use super::{Mode, Options, PleError, RowStore, TableLayout, Times};

/// Below this a prompt may wait for its rows: a Pi 5 computes at most 420 prompt tokens of E2B in a second, and markedly fewer
/// are expected (docs/boards.md).
pub const FEW_ROWS_PER_S: f64 = 300.0;

/// How much is read to know.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// It ends after so long, however few rows have come.
    pub duration: Duration,
    /// It ends after about so many rows.
    pub max_rows: u64,
    /// Rows that are asked for at a time, as for a prompt.
    pub rows_at_a_time: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Rows read in a second, several at a time.
    pub rows_per_s: f64,
    /// How long the single reads took.
    pub reads: Times,
}

impl Probe {
    /// Reads rows all over the table, none twice, past every cache of this machine but the device's own.
    ///
    /// # Errors
    /// If one cannot be read, or the table is none.
    pub fn measure(&self, file: Arc<DataFile>, layout: TableLayout) -> Result<Rate, PleError> {
        let options = Options { mode: Mode::Direct, cache_bytes: 0, ..Options::default() };
        let mut store = RowStore::open(file, layout, options)?;
        let begin = Instant::now();
        let end = begin + self.duration;
        let mut n_rows = 0;
        while n_rows < self.max_rows.min(layout.n_rows.into()) && Instant::now() < end {
            let batch = n_rows..n_rows + self.rows_at_a_time;
            let ids: Vec<u32> = batch.map(|i| scattered(i, layout.n_rows)).collect();
            let pending = store.submit(&ids)?;
            match store.wait_until(pending, end)? {
                Awaited::Rows(_) => n_rows += self.rows_at_a_time,
                Awaited::Late(_) => {
                    // Of a device so slow each read that has come counts. Those for neighbours are few.
                    n_rows = store.stats().reads.min(n_rows + self.rows_at_a_time);
                    break;
                }
            }
        }
        let rows_per_s = n_rows as f64 / begin.elapsed().as_secs_f64().max(1e-9);
        Ok(Rate { rows_per_s, reads: store.stats().read_latency.times() })
    }
}

/// The `i`th of row numbers that lie far from each other: multiples of a prime near 2^32 over the golden ratio.
fn scattered(i: u64, n_rows: u32) -> u32 {
    (i.wrapping_mul(2_654_435_761) % u64::from(n_rows)) as u32
}
