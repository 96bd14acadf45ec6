//! Products of activations with packed weights.

use super::kernels::with_isa;
use super::outputs::{Columns, split_columns};
use super::{Activations, Compute, Layout, Matrix};
use crate::quant::BlockFormat;
use crate::simd::{Isa, PANEL_ROWS, PanelDots, TILE_ROWS, TileDots};
use std::ops::Range;

/// Tokens that a tile of weights is multiplied with before the next tile is looked at: the steps of kernels, 12 of floats, divide it.
const TILE_TOKENS: usize = 24;
/// From this number of tokens on, unpacking a panel of weights pays.
const MIN_PANEL_TOKENS: usize = 8;
/// Tokens that an unpacked panel is multiplied with: their outputs are kept on the stack.
const PANEL_TOKENS: usize = 256;
/// From this number of tokens on the tasks of a product are long.
const LONG_FROM_TOKENS: usize = 32;
/// Inputs that a thread goes through for every few rows of weights, so that they had better stay in its L2 cache. Unit: bytes.
const INPUT_BYTES: usize = 384 << 10;

/// `out` \[n_tokens, rows.len()\] = `x` \[n_tokens, n_cols\] times the transpose of rows `rows` of `w`.
///
/// # Panics
/// If shapes do not fit each other.
pub fn matmul(c: &Compute, w: &Matrix, rows: Range<usize>, x: &mut Activations, out: &mut [f32]) {
    assert!(rows.start <= rows.end && rows.end <= w.n_rows(), "rows {rows:?} of {w:?}");
    assert_eq!(x.n_cols(), w.n_cols(), "columns of the activations for {w:?}");
    assert_eq!(out.len(), x.n_tokens() * rows.len(), "outputs of {} tokens and rows {rows:?}", x.n_tokens());
    if out.is_empty() || w.n_cols() == 0 {
        out.fill(0.0);
        return;
    }
    x.prepare(c, w.format());
    let x = &*x;
    let unit = if w.layout() == Layout::Interleaved || pays_to_unpack(w, x.n_tokens()) {
        PANEL_ROWS
    } else {
        TILE_ROWS
    };
    let rows_per_task = units_per_task(c, rows.len().div_ceil(unit), x.n_tokens()) * unit;
    c.pool.for_each(split_columns(out, rows.len(), rows_per_task), |mut out| {
        dot_rows(c, &Factors { w, first_row: rows.start, x, tokens: 0..x.n_tokens() }, &mut out);
    });
}

/// Units of rows in each of the tasks that a product of `n_units` with `n_tokens` is split into.
pub(super) fn units_per_task(c: &Compute, n_units: usize, n_tokens: usize) -> usize {
    if n_tokens < LONG_FROM_TOKENS {
        c.pool.items_per_task(n_units)
    } else {
        c.pool.items_per_long_task(n_units)
    }
}

/// What is multiplied: rows of `w` from `first_row` on with `tokens` of `x`.
pub(super) struct Factors<'a> {
    pub(super) w: &'a Matrix,
    pub(super) first_row: usize,
    pub(super) x: &'a Activations,
    pub(super) tokens: Range<usize>,
}

/// `out` \[tokens.len(), ..\]: column `i` is the products of row `first_row + i` with each token.
pub(super) fn dot_rows(c: &Compute, factors: &Factors<'_>, out: &mut Columns<'_, f32>) {
    with_isa!(c.kernels, isa => {
        if factors.w.layout() == Layout::Interleaved {
            dot_interleaved(isa, factors, out)
        } else if pays_to_unpack(factors.w, factors.tokens.len()) {
            dot_panels(isa, factors, out)
        } else {
            dot_tiles(isa, factors, out)
        }
    });
}

/// Whether panels of `w` are unpacked before they are multiplied with so many tokens.
fn pays_to_unpack(w: &Matrix, n_tokens: usize) -> bool {
    w.format().block_len() > 1 && n_tokens >= MIN_PANEL_TOKENS
}

/// [`dot_rows`] of rows that are interleaved.
fn dot_interleaved<I: Isa>(isa: I, factors: &Factors<'_>, out: &mut Columns<'_, f32>) {
    let Factors { w, first_row, x, ref tokens } = *factors;
    let mut dots = [[0.0; PANEL_ROWS]; PANEL_TOKENS];
    let rows = first_row + out.range().start..first_row + out.range().end;
    let first_token = tokens.start;
    let n_together = PANEL_TOKENS.min(n_near_tokens(x, 1, 8));
    for tokens in pieces(tokens.clone(), n_together) {
        for p in rows.start / PANEL_ROWS..rows.end.div_ceil(PANEL_ROWS) {
            // Of a panel at an end of the range some rows are computed and dropped.
            let wanted = rows.start.max(p * PANEL_ROWS)..rows.end.min((p + 1) * PANEL_ROWS);
            let dots = &mut dots[..tokens.len()];
            dot_interleaved_panel(isa, w, p, x, tokens.clone(), dots);
            isa.run(|| {
                for (token, dots) in tokens.clone().zip(dots) {
                    let out =
                        out.token(token - first_token, wanted.start - first_row..wanted.end - first_row);
                    match <&mut PanelDots>::try_from(&mut *out) {
                        // Of known length these are a store or a few, where copying would be a call for each token.
                        Ok(all) => *all = *dots,
                        Err(_) => out.copy_from_slice(&dots[wanted.start - p * PANEL_ROWS..][..wanted.len()]),
                    }
                }
            });
        }
    }
}

/// How many tokens of `x` are [`INPUT_BYTES`], with `n_bytes` for each column: whole steps of kernels, which are of `step` tokens or divide it.
fn n_near_tokens(x: &Activations, n_bytes: usize, step: usize) -> usize {
    (INPUT_BYTES / (n_bytes * x.n_cols())).next_multiple_of(step).max(step)
}

/// `range` in pieces of `len`, the last one shorter.
pub(super) fn pieces(range: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(len).map(move |start| start..(start + len).min(end))
}

/// [`dot_rows`] for many tokens and quantised weights.
fn dot_panels<I: Isa>(isa: I, factors: &Factors<'_>, out: &mut Columns<'_, f32>) {
    let Factors { w, first_row, x, ref tokens } = *factors;
    let format = w.format();
    let mut panel = I::Panel::default();
    let mut dots = [[0.0; PANEL_ROWS]; PANEL_TOKENS];
    let first_token = tokens.start;
    for rows in pieces(out.range(), PANEL_ROWS) {
        // Rows beyond the end are computed as the last one and dropped.
        let weights = std::array::from_fn(|r| w.row(first_row + (rows.start + r).min(rows.end - 1)));
        for tokens in pieces(tokens.clone(), PANEL_TOKENS) {
            let dots = &mut dots[..tokens.len()];
            match format.block_len() {
                32 => isa.panel_q8(&mut panel, format, weights, x.q8_batch().tokens(tokens.clone()), dots),
                _ => isa.panel_q8_k(&mut panel, format, weights, x.q8_k_batch().tokens(tokens.clone()), dots),
            }
            for (token, dots) in tokens.zip(dots) {
                out.token(token - first_token, rows.clone()).copy_from_slice(&dots[..rows.len()]);
            }
        }
    }
}

/// [`dot_rows`] for few tokens or float weights.
fn dot_tiles<I: Isa>(isa: I, factors: &Factors<'_>, out: &mut Columns<'_, f32>) {
    let Factors { w, first_row, x, ref tokens } = *factors;
    let rows = out.range();
    let first_token = tokens.start;
    // A tile takes one row of each quarter, so that weights are read as four long streams: rows next to
    // each other would make the streams end before the hardware has learned to fetch ahead.
    let quarter = rows.len().div_ceil(TILE_ROWS);
    let near = pieces(tokens.clone(), n_near_tokens(x, size_of::<f32>(), TILE_TOKENS));
    for (near, i) in near.flat_map(|near| (0..quarter).map(move |i| (near.clone(), i))) {
        let row_of = |r: usize| rows.start + i + r * quarter;
        // Rows beyond the end are computed as the last one and dropped.
        let tile = std::array::from_fn(|r| w.row(first_row + row_of(r).min(rows.end - 1)));
        let mut dots = [[0.0; TILE_ROWS]; TILE_TOKENS];
        for tokens in pieces(near, TILE_TOKENS) {
            let dots = &mut dots[..tokens.len()];
            dot_tile(isa, w.format(), tile, x, tokens.clone(), dots);
            for (token, dots) in tokens.zip(dots) {
                for (r, dot) in dots.iter().enumerate() {
                    if row_of(r) < rows.end {
                        out.token(token - first_token, row_of(r)..row_of(r) + 1)[0] = *dot;
                    }
                }
            }
        }
    }
}

/// Products of the interleaved rows of panel `p` with `tokens`, into `dots` \[tokens\].
pub(super) fn dot_interleaved_panel<I: Isa>(
    isa: I,
    w: &Matrix,
    p: usize,
    x: &Activations,
    tokens: Range<usize>,
    dots: &mut [PanelDots],
) {
    match w.format().block_len() {
        32 => isa.interleaved_q8(w.format(), w.panel(p), x.q8_batch().tokens(tokens), dots),
        _ => isa.interleaved_q8_k(w.format(), w.panel(p), x.q8_k_batch().tokens(tokens), dots),
    }
}

/// Products of four rows in `format` with `tokens`, into `dots` \[tokens\].
pub(super) fn dot_tile<I: Isa>(
    isa: I,
    format: BlockFormat,
    rows: [&[u8]; TILE_ROWS],
    x: &Activations,
    tokens: Range<usize>,
    dots: &mut [TileDots],
) {
    match format.block_len() {
        1 => isa.dot_float(format, rows, x.f32_batch().tokens(tokens), dots),
        32 => isa.dot_q8(format, rows, x.q8_batch().tokens(tokens), dots),
        _ => isa.dot_q8_k(format, rows, x.q8_k_batch().tokens(tokens), dots),
    }
}
