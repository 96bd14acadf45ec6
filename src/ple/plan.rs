//! From requests to reads: which rows of a batch are different, which are in the cache, and which of the
//! others share a read.

use std::ops::Range;
use std::sync::Arc;

use super::cache::RowCache;
use super::error::PleError;
use super::readers::{Batch, Read, RowCopy, Shared};
use super::{RowRequest, TableLayout, Urgency};

/// Rows are read together if they touch the same unit of reading or neighbouring ones, up to this many
/// bytes. More would keep one thread busy while the others idle.
pub(super) const MAX_JOINED_BYTES: usize = 64 << 10;

/// A distinct row of a batch.
pub(super) struct Wanted {
    id: u32,
    /// The most that any request wants of it.
    n_bytes: usize,
    /// Where it lies in the batch's buffer.
    at: usize,
}

/// The distinct rows in order of their ids, and for each request where it lies in a buffer that holds
/// these rows one after the other. `whole`: bytes of a row, if more than is asked for has to be read.
pub(super) fn distinct(
    n: usize,
    request: impl Fn(usize) -> RowRequest,
    whole: Option<usize>,
) -> (Vec<Wanted>, Vec<Range<usize>>) {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_unstable_by_key(|&i| request(i).id);
    let mut wanted: Vec<Wanted> = Vec::with_capacity(n);
    for &i in &order {
        let RowRequest { id, n_bytes } = request(i);
        match wanted.last_mut() {
            Some(last) if last.id == id => last.n_bytes = last.n_bytes.max(n_bytes),
            _ => wanted.push(Wanted { id, n_bytes, at: 0 }),
        }
    }
    let mut at = 0;
    for row in &mut wanted {
        row.n_bytes = whole.unwrap_or(row.n_bytes);
        row.at = at;
        at += row.n_bytes;
    }
    let mut ranges = vec![0..0; n];
    let mut row = 0;
    for i in order {
        let RowRequest { id, n_bytes } = request(i);
        // Requests come in the order of the rows, so the row is this one or the next.
        row += usize::from(wanted[row].id != id);
        ranges[i] = wanted[row].at..wanted[row].at + n_bytes;
    }
    (wanted, ranges)
}

/// A buffer for all rows with those from the cache in place, and the others.
pub(super) fn look_up(cache: &mut RowCache, wanted: &[Wanted]) -> (Vec<u8>, Vec<RowCopy>) {
    let total = wanted.last().map_or(0, |last| last.at + last.n_bytes);
    let mut bytes = vec![0; total];
    let mut misses = Vec::new();
    for &Wanted { id, n_bytes, at } in wanted {
        match cache.get(id, n_bytes) {
            Some(part) => bytes[at..at + n_bytes].copy_from_slice(part),
            None => misses.push(RowCopy { id, n_bytes, from: 0, to: at }),
        }
    }
    (bytes, misses)
}

/// Plans the reads for rows that are sorted by id and queues them.
pub(super) fn begin_reading(
    shared: &Shared,
    layout: &TableLayout,
    bytes: Vec<u8>,
    mut rows: Vec<RowCopy>,
    urgency: Urgency,
) -> Result<Arc<Batch>, PleError> {
    struct Plan {
        offset: u64,
        len: usize,
        rows: Range<usize>,
        /// End of what is really read.
        span_end: u64,
    }
    let mut plans: Vec<Plan> = Vec::new();
    for (i, row) in rows.iter_mut().enumerate() {
        let offset = layout.row_offset(row.id);
        let span = shared.source().span(offset, row.n_bytes);
        let span = span.map_err(|source| PleError::Read { id: row.id, source })?;
        if let Some(last) = plans.last_mut() {
            let from = (offset - last.offset) as usize;
            if span.start <= last.span_end && from + row.n_bytes <= MAX_JOINED_BYTES {
                row.from = from;
                last.len = from + row.n_bytes;
                last.rows.end = i + 1;
                last.span_end = span.end;
                continue;
            }
        }
        plans.push(Plan { offset, len: row.n_bytes, rows: i..i + 1, span_end: span.end });
    }
    let batch = Arc::new(Batch::new(bytes, rows, plans.len(), Arc::clone(shared.bell())));
    let read = |p: Plan| Read::new(Arc::clone(&batch), p.offset, p.len, p.rows);
    shared.push(plans.into_iter().map(read).collect(), urgency)?;
    Ok(batch)
}
