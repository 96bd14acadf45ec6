//! The outputs of a product, written by several threads at once.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

/// Outputs \[n_tokens, n_rows\] that threads write in disjoint ranges of rows, that is of columns here:
/// no splitting of the slice could express it.
pub(super) struct Outputs<'a> {
    first: *mut f32,
    n_tokens: usize,
    n_rows: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: shared between threads, it only hands out `Columns`, whose creator promises that no two
// overlap; each element is then touched by one thread at most.
unsafe impl Sync for Outputs<'_> {}

/// The outputs of a range of rows for every token.
pub(super) struct Columns<'a> {
    outputs: &'a Outputs<'a>,
    rows: Range<usize>,
}

impl<'a> Outputs<'a> {
    /// # Panics
    /// If `out` does not consist of tokens of `n_rows` outputs.
    pub(super) fn new(out: &'a mut [f32], n_rows: usize) -> Self {
        assert!(n_rows > 0 && out.len().is_multiple_of(n_rows));
        Self { first: out.as_mut_ptr(), n_tokens: out.len() / n_rows, n_rows, borrow: PhantomData }
    }

    /// The outputs of `rows`.
    ///
    /// # Panics
    /// If there are no such rows.
    ///
    /// # Safety
    /// No other `Columns` of these outputs that is alive has a row of `rows`.
    pub(super) unsafe fn columns(&'a self, rows: Range<usize>) -> Columns<'a> {
        assert!(rows.start <= rows.end && rows.end <= self.n_rows);
        Columns { outputs: self, rows }
    }
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
        // SAFETY: row and token lie inside the slice that `Outputs::new` borrowed mutably for 'a; no
        // other `Columns` has these rows (promised to `columns`), and this one is borrowed mutably.
        unsafe {
            let first = self.outputs.first.add(token * self.outputs.n_rows + rows.start);
            std::slice::from_raw_parts_mut(first, rows.len())
        }
    }
}
