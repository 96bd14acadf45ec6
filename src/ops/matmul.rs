//! Products of activations with packed weights.

use super::kernels::with_isa;
use super::outputs::{Columns, for_each_columns};
use super::{Activations, Compute, Layout, Matrix};
use crate::quant::BlockFormat;
use crate::simd::{Isa, PANEL_ROWS, PanelDots, TILE_ROWS, TileDots};
use std::ops::Range;

/// Tokens that a tile of weights is multiplied with before the next tile is looked at.
const TILE_TOKENS: usize = 8;
/// From this number of tokens on, unpacking a panel of weights pays.
const MIN_PANEL_TOKENS: usize = 8;
/// Tokens that an unpacked panel is multiplied with: their outputs are kept on the stack.
const PANEL_TOKENS: usize = 256;

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
    let is_interleaved = w.layout() == Layout::Interleaved;
    let use_panels = w.format().block_len() > 1 && x.n_tokens() >= MIN_PANEL_TOKENS;
    let unit = if is_interleaved || use_panels { PANEL_ROWS } else { TILE_ROWS };
    for_each_columns(&c.pool, out, rows.len(), unit, |out| {
        with_isa!(c.kernels, isa => {
            if is_interleaved {
                dot_interleaved(isa, w, rows.start, x, out)
            } else if use_panels {
                dot_panels(isa, w, rows.start, x, out)
            } else {
                dot_tiles(isa, w, rows.start, x, out)
            }
        });
    });
}

/// `out` = rows of `w`, which are interleaved, from `first_row` on times every token.
fn dot_interleaved<I: Isa>(isa: I, w: &Matrix, first_row: usize, x: &Activations, mut out: Columns<'_>) {
    let mut dots = [[0.0; PANEL_ROWS]; PANEL_TOKENS];
    let rows = first_row + out.rows().start..first_row + out.rows().end;
    for p in rows.start / PANEL_ROWS..rows.end.div_ceil(PANEL_ROWS) {
        // Of a panel at an end of the range some rows are computed and dropped.
        let wanted = rows.start.max(p * PANEL_ROWS)..rows.end.min((p + 1) * PANEL_ROWS);
        for first in (0..x.n_tokens()).step_by(PANEL_TOKENS) {
            let tokens = first..(first + PANEL_TOKENS).min(x.n_tokens());
            let dots = &mut dots[..tokens.len()];
            dot_interleaved_panel(isa, w, p, x, tokens.clone(), dots);
            for (token, dots) in tokens.zip(dots) {
                let out = out.token(token, wanted.start - first_row..wanted.end - first_row);
                match <&mut PanelDots>::try_from(&mut *out) {
                    // Of known length these are a store or a few, where copying would be a call for each token.
                    Ok(all) => *all = *dots,
                    Err(_) => out.copy_from_slice(&dots[wanted.start - p * PANEL_ROWS..][..wanted.len()]),
                }
            }
        }
    }
}

/// `out` = rows of `w` from `first_row` on times every token, for many tokens and quantised weights.
fn dot_panels<I: Isa>(isa: I, w: &Matrix, first_row: usize, x: &Activations, mut out: Columns<'_>) {
    let format = w.format();
    let mut panel = I::Panel::default();
    let mut dots = [[0.0; PANEL_ROWS]; PANEL_TOKENS];
    for first in out.rows().step_by(PANEL_ROWS) {
        let rows = first..(first + PANEL_ROWS).min(out.rows().end);
        // Rows beyond the end are computed as the last one and dropped.
        let weights = std::array::from_fn(|r| w.row(first_row + (first + r).min(rows.end - 1)));
        for first in (0..x.n_tokens()).step_by(PANEL_TOKENS) {
            let tokens = first..(first + PANEL_TOKENS).min(x.n_tokens());
            let dots = &mut dots[..tokens.len()];
            match format.block_len() {
                32 => isa.panel_q8(&mut panel, format, weights, x.q8_batch().tokens(tokens.clone()), dots),
                _ => isa.panel_q8_k(&mut panel, format, weights, x.q8_k_batch().tokens(tokens.clone()), dots),
            }
            for (token, dots) in tokens.zip(dots) {
                out.token(token, rows.clone()).copy_from_slice(&dots[..rows.len()]);
            }
        }
    }
}

/// The same for few tokens or float weights.
fn dot_tiles<I: Isa>(isa: I, w: &Matrix, first_row: usize, x: &Activations, mut out: Columns<'_>) {
    let rows = out.rows();
    // A tile takes one row of each quarter, so that weights are read as four long streams: rows next to
    // each other would make the streams end before the hardware has learned to fetch ahead.
    let quarter = rows.len().div_ceil(TILE_ROWS);
    for i in 0..quarter {
        let row_of = |r: usize| rows.start + i + r * quarter;
        // Rows beyond the end are computed as the last one and dropped.
        let tile = std::array::from_fn(|r| w.row(first_row + row_of(r).min(rows.end - 1)));
        let mut dots = [[0.0; TILE_ROWS]; TILE_TOKENS];
        for first in (0..x.n_tokens()).step_by(TILE_TOKENS) {
            let tokens = first..(first + TILE_TOKENS).min(x.n_tokens());
            let dots = &mut dots[..tokens.len()];
            dot_tile(isa, w.format(), tile, x, tokens.clone(), dots);
            for (token, dots) in tokens.zip(dots) {
                for (r, dot) in dots.iter().enumerate() {
                    if row_of(r) < rows.end {
                        out.token(token, row_of(r)..row_of(r) + 1)[0] = *dot;
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
