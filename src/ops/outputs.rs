//! The outputs of a product, written by several threads at once.
#![allow(unsafe_code)]

use super::Pool;
use std::marker::PhantomData;
use std::ops::Range;

/// Outputs \[n_tokens, n_rows\] that threads write in disjoint ranges of rows, that is of columns here:
/// no splitting of the slice could express it.
struct Outputs<'a> {
    first: *mut f32,
    n_tokens: usize,
    n_rows: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: shared between threads, it only serves `Columns`, no two of which overlap (see
// `for_each_columns`): each element is touched by one thread at most.
unsafe impl Sync for Outputs<'_> {}

/// The outputs of a range of rows for every token.
pub(super) struct Columns<'a> {
    outputs: &'a Outputs<'a>,
    rows: Range<usize>,
}

/// Splits `out` \[n_tokens, n_rows\] into ranges of rows, whole multiples of `unit` but for the last, and
/// calls `f` with each on the threads of the pool.
///
/// # Panics
/// If `out` does not consist of tokens of `n_rows` outputs.
pub(super) fn for_each_columns(
    pool: &Pool,
    out: &mut [f32],
    n_rows: usize,
    unit: usize,
    f: impl Fn(Columns<'_>) + Sync,
) {
    assert!(n_rows > 0 && out.len().is_multiple_of(n_rows));
    let outputs =
        Outputs { first: out.as_mut_ptr(), n_tokens: out.len() / n_rows, n_rows, borrow: PhantomData };
    pool.for_each_range(n_rows.div_ceil(unit), 1, |units| {
        // The pool hands out ranges that do not overlap, each once: so are these.
        let rows = units.start * unit..(units.end * unit).min(n_rows);
        f(Columns { outputs: &outputs, rows });
    });
}

impl Columns<'_> {
    /// The rows.
    pub(super) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Outputs of `rows` for one token.
    ///
    /// # Panics
    /// If the rows are not among these or there is no such token.
    pub(super) fn token(&mut self, token: usize, rows: Range<usize>) -> &mut [f32] {
        assert!(self.rows.start <= rows.start && rows.start <= rows.end && rows.end <= self.rows.end);
        assert!(token < self.outputs.n_tokens);
        // SAFETY: row and token lie inside the slice that `for_each_columns` borrows mutably while this
        // lives; no other `Columns` has these rows, and this one is borrowed mutably.
        unsafe {
            let first = self.outputs.first.add(token * self.outputs.n_rows + rows.start);
            std::slice::from_raw_parts_mut(first, rows.len())
        }
    }
}
