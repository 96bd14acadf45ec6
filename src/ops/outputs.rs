//! What several threads write at once: ranges of columns of arrays \[n_tokens, n_cols\].
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

/// A range of columns for every token: no splitting of the slice could express it.
pub(super) struct Columns<'a, T> {
    /// The first element of the whole array.
    first: *mut T,
    n_tokens: usize,
    n_cols: usize,
    range: Range<usize>,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for mutable borrows of elements that nobody else has (see `split_columns`).
unsafe impl<T: Send> Send for Columns<'_, T> {}

/// Splits `out` \[n_tokens, n_cols\] into ranges of `len` columns, the last one shorter.
///
/// # Panics
/// If `out` does not consist of tokens of `n_cols`, or `len` is 0.
pub(super) fn split_columns<T: Send>(
    out: &mut [T],
    n_cols: usize,
    len: usize,
) -> impl ExactSizeIterator<Item = Columns<'_, T>> + Send {
    let all = Columns::all(out, n_cols);
    // SAFETY: the ranges do not overlap, and `all`, which would, is never handed out.
    (0..n_cols).step_by(len).map(move |start| unsafe { all.part(start..(start + len).min(n_cols)) })
}

impl<'a, T> Columns<'a, T> {
    /// All columns of `out` \[n_tokens, n_cols\].
    ///
    /// # Panics
    /// If `out` does not consist of tokens of `n_cols`.
    pub(super) fn all(out: &'a mut [T], n_cols: usize) -> Self {
        assert!(n_cols > 0 && out.len().is_multiple_of(n_cols));
        let n_tokens = out.len() / n_cols;
        Self { first: out.as_mut_ptr(), n_tokens, n_cols, range: 0..n_cols, borrow: PhantomData }
    }

    /// Some of the columns.
    ///
    /// # Safety
    /// No two parts that live at a time overlap, and the whole is not used meanwhile.
    unsafe fn part(&self, range: Range<usize>) -> Self {
        Self { range, ..*self }
    }

    /// The columns.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Elements of `columns` for one token.
    ///
    /// # Panics
    /// If the columns are not among these or there is no such token.
    #[inline]
    pub(super) fn token(&mut self, token: usize, columns: Range<usize>) -> &mut [T] {
        assert!(
            self.range.start <= columns.start
                && columns.start <= columns.end
                && columns.end <= self.range.end
        );
        assert!(token < self.n_tokens);
        // SAFETY: columns and token lie inside the slice that is borrowed mutably while this lives; no other
        // `Columns` has these columns, and this one is borrowed mutably.
        unsafe {
            let first = self.first.add(token * self.n_cols + columns.start);
            std::slice::from_raw_parts_mut(first, columns.len())
        }
    }
}
