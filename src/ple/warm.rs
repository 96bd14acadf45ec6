//! Warm start: which rows were wanted most, as bytes that may outlast the process, and reading them again.
//!
//! They are asked for 32 at a time and read one at a time, behind everything else, and take free places of the cache alone.

use std::sync::Arc;

use super::cache::RowCache;
use super::error::PleError;
use super::plan::begin_reading;
use super::readers::{Batch, RowCopy, Shared};
use super::{TableLayout, Urgency};
use crate::storage::DataFile;

/// Begins a record; another number is of another version.
const VERSION: u32 = 1;
/// Fixed numbers of a record: version, rows of the table, rows listed.
const HEAD_BYTES: usize = 3 * 4;
/// More are not listed, so that a record stays small.
const MAX_ROWS: usize = 100_000;
/// Rows of a batch: what they take until they are in the cache comes on top of its bound.
const BATCH_ROWS: usize = 32;

/// A row, and how often it was wanted of late.
type HotRow = (u32, u8);

/// The record of the rows of a cache, and of those that are still to be read into it. `None` if there are none.
pub(super) fn record(cache: &RowCache, warming: &Warming, layout: TableLayout) -> Option<Vec<u8>> {
    let mut rows = cache.rows_by_count();
    rows.extend(warming.to_come().filter(|(id, _)| !cache.holds(*id, 1)));
    rows.sort_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
    rows.truncate(MAX_ROWS);
    if rows.is_empty() {
        return None;
    }
    let mut record = Vec::with_capacity(HEAD_BYTES + 5 * rows.len());
    for number in [VERSION, layout.n_rows, rows.len() as u32] {
        record.extend(number.to_le_bytes());
    }
    rows.iter().for_each(|(id, _)| record.extend(id.to_le_bytes()));
    record.extend(rows.iter().map(|(_, count)| count));
    Some(record)
}

/// The rows that a record lists.
fn read(record: &[u8], layout: TableLayout) -> Result<Vec<HotRow>, PleError> {
    let (numbers, rest) = record.split_at_checked(HEAD_BYTES).ok_or(PleError::HotRows("is too short"))?;
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let [version, n_rows, n] = [0, 4, 8].map(|at| number(&numbers[at..at + 4]));
    if version != VERSION {
        return Err(PleError::HotRows("is of another version"));
    }
    if n_rows != layout.n_rows {
        return Err(PleError::HotRows("is of another vocabulary"));
    }
    let n = n as usize;
    if n > MAX_ROWS || rest.len() != 5 * n {
        return Err(PleError::HotRows("has not as many rows as it says"));
    }
    let (ids, counts) = rest.split_at(4 * n);
    let rows: Vec<HotRow> = ids.chunks_exact(4).map(number).zip(counts.iter().copied()).collect();
    match rows.iter().all(|(id, _)| *id < n_rows) {
        true => Ok(rows),
        false => Err(PleError::HotRows("names a row that the table has not")),
    }
}

/// Rows that are still to be read.
#[derive(Default)]
pub(super) struct Warming {
    /// A stack: the row wanted most is its end.
    left: Vec<HotRow>,
    /// What is being read: the rows of a batch in its order, and the batch.
    reading: Option<(Vec<HotRow>, Arc<Batch>)>,
}

impl Warming {
    /// From a record.
    pub(super) fn new(record: &[u8], layout: TableLayout) -> Result<Self, PleError> {
        let mut left = read(record, layout)?;
        left.reverse();
        Ok(Self { left, reading: None })
    }

    /// Rows that are still to be read.
    pub(super) fn n_left(&self) -> usize {
        self.left.len() + self.reading.as_ref().map_or(0, |(rows, _)| rows.len())
    }

    fn to_come(&self) -> impl Iterator<Item = HotRow> {
        let reading = self.reading.iter().flat_map(|(rows, _)| rows);
        reading.chain(&self.left).copied()
    }

    /// Takes over what has been read and asks for more.
    pub(super) fn go_on(
        &mut self,
        cache: &mut RowCache,
        shared: &Shared,
        layout: TableLayout,
        file: &DataFile,
    ) -> Result<(), PleError> {
        if let Some((rows, batch)) = &self.reading {
            let Some(state) = batch.finished() else { return Ok(()) };
            let is_good = state.error.is_none() && file.check_unchanged().is_ok();
            for ((_, count), copy) in rows.iter().zip(&batch.copies).filter(|_| is_good) {
                cache.warm(copy.id, *count, &state.bytes[copy.to..][..copy.n_bytes]);
            }
            if !is_good {
                // Storage has other worries.
                self.left.clear();
            }
        }
        self.reading = None;
        if !cache.has_room() {
            self.left.clear();
        }
        let rows = loop {
            if self.left.is_empty() {
                return Ok(());
            }
            let mut rows = self.left.split_off(self.left.len().saturating_sub(BATCH_ROWS));
            rows.sort_unstable();
            rows.dedup_by_key(|(id, _)| *id);
            rows.retain(|(id, _)| !cache.holds(*id, layout.row_bytes));
            if !rows.is_empty() {
                break rows;
            }
        };
        let n_bytes = layout.row_bytes;
        let copy = |(i, &(id, _)): (usize, &HotRow)| RowCopy { id, n_bytes, from: 0, to: i * n_bytes };
        let copies: Vec<RowCopy> = rows.iter().enumerate().map(copy).collect();
        let bytes = vec![0; rows.len() * n_bytes];
        let batch = begin_reading(shared, &layout, bytes, copies, Urgency::Whenever)?;
        self.reading = Some((rows, batch));
        Ok(())
    }
}
