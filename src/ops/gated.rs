//! The two products of a gated MLP and what joins them, in one go: neither product is ever written to memory as a whole.

use super::activations::Store;
use super::matmul::{Factors, dot_rows, pieces, units_per_task};
use super::outputs::Columns;
use super::{Activations, Compute, Matrix, gelu_mul};
use crate::quant::BlockFormat;
use std::ops::Range;

/// Columns that are computed, and quantised, at a time: whole blocks of every format.
const PIECE: usize = 256;
/// Tokens at a time: few of them need little room, many are worth the weights they come for.
const FEW: usize = 8;
const MANY: usize = 64;

/// `out` \[n_tokens, n_rows\] = `gelu(gate x) * (up x)`, elementwise, to be multiplied with weights in `format`.
///
/// Shapes: `x` is \[n_tokens, n_cols\], both matrices are \[n_rows, n_cols\].
///
/// # Panics
/// If shapes do not fit each other, or rows of `out` are not whole blocks of the format.
pub fn gated_matmul(
    c: &Compute,
    [gate, up]: [&Matrix; 2],
    x: &mut Activations,
    format: BlockFormat,
    out: &mut Activations,
) {
    let n_rows = gate.n_rows();
    assert!(
        up.n_rows() == n_rows && [gate, up].iter().all(|w| w.n_cols() == x.n_cols()),
        "{gate:?} and {up:?}"
    );
    x.prepare(c, gate.format());
    x.prepare(c, up.format());
    let x = &*x;
    let n_tokens = x.n_tokens();
    let task_len = units_per_task(c, n_rows.div_ceil(PIECE), n_tokens) * PIECE;
    out.fill_columns(c, [n_tokens, n_rows], task_len, format, |columns, store| {
        if n_tokens <= FEW {
            compute::<{ FEW * PIECE }>(c, [gate, up], x, columns, store);
        } else {
            compute::<{ MANY * PIECE }>(c, [gate, up], x, columns, store);
        }
    });
}

/// Computes `columns` for all tokens, in pieces of at most `N` elements, and hands them to `store`.
fn compute<const N: usize>(
    c: &Compute,
    weights: [&Matrix; 2],
    x: &Activations,
    columns: Range<usize>,
    store: &mut Store<'_>,
) {
    let mut products = [[0.0; N]; 2];
    let mut joined = [0.0; PIECE];
    for columns in pieces(columns, PIECE) {
        let n = columns.len();
        for tokens in pieces(0..x.n_tokens(), N / PIECE) {
            for (w, product) in weights.iter().zip(&mut products) {
                let mut product = Columns::all(&mut product[..tokens.len() * n], n);
                let factors = Factors { w, first_row: columns.start, x, tokens: tokens.clone() };
                dot_rows(c, &factors, &mut product);
            }
            let [gate, up] = products.each_ref().map(|product| product.chunks_exact(n));
            for ((token, gate), up) in tokens.zip(gate).zip(up) {
                gelu_mul(c.kernels, gate, up, &mut joined[..n]);
                store(token, columns.clone(), &joined[..n]);
            }
        }
    }
}
