//! Products of activations with packed weights.

use super::kernels::with_isa;
use super::{Activations, Compute, Matrix};
use crate::simd::{Isa, TILE_ROWS};
use std::ops::Range;

/// `out` \[n_tokens, rows.len()\] = `x` \[n_tokens, n_cols\] times the transpose of rows `rows` of `w`.
///
/// # Panics
/// If shapes do not fit each other.
pub fn matmul(c: &Compute, w: &Matrix, rows: Range<usize>, x: &mut Activations, out: &mut [f32]) {
    assert!(rows.start <= rows.end && rows.end <= w.n_rows(), "rows {rows:?} of {w:?}");
    assert_eq!(x.n_cols(), w.n_cols(), "columns of the activations for {w:?}");
    assert_eq!(out.len(), x.n_tokens() * rows.len(), "outputs of {} tokens and rows {rows:?}", x.n_tokens());
    if out.is_empty() {
        return;
    }
    x.prepare(c, w.format());
    let x = &*x;
    let n_rows = rows.len();
    for (token, out) in out.chunks_exact_mut(n_rows).enumerate() {
        c.pool.for_each_rows_mut(out, 1, |first, out| {
            with_isa!(c.kernels, isa => dot_rows(isa, w, rows.start + first, x, token, out));
        });
    }
}

/// `out` = rows of `w` from `first` on, times one token.
fn dot_rows<I: Isa>(isa: I, w: &Matrix, first: usize, x: &Activations, token: usize, out: &mut [f32]) {
    for (i, out) in out.chunks_mut(TILE_ROWS).enumerate() {
        let first = first + i * TILE_ROWS;
        // The last tile may be short: it repeats its last row and drops the results.
        let tile = std::array::from_fn(|r| w.row(first + r.min(out.len() - 1)));
        let dots = match w.format().block_len() {
            1 => isa.dot_float(w.format(), tile, x.row(token)),
            32 => isa.dot_q8(w.format(), tile, x.q8_row(token)),
            _ => isa.dot_q8_k(w.format(), tile, x.q8_k_row(token)),
        };
        out.copy_from_slice(&dots[..out.len()]);
    }
}
