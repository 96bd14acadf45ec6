//! What the instruction sets of a CPU can do for quantised weights: one token type per instruction set.
//!
//! A value of a token type proves that the CPU has the instructions; `new() -> Option<Self>` is the
//! only door. All tokens implement [`Isa`]. Intrinsics and inline assembly live here and nowhere else.
//!
//! **Every token gives the same bits.** Products of quantised weights are summed as exact integers
//! within a block; blocks are then added one after the other in f32 by fused multiply-add. F32, F16 and
//! BF16 weights and the f16 helpers use eight partial sums, element i in sum i mod 8, added to by fused
//! multiply-add and joined in one fixed tree. That makes the portable code an exact oracle, and a model
//! answer the same on every machine.
//!
//! Deliberately absent: threads, shapes of whole matrices, choice of a tile. [`crate::ops`] does that.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod panel;
mod q8_scale;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512Vnni;
#[cfg(target_arch = "aarch64")]
pub use neon::{Neon, NeonDot};
pub use scalar::Scalar;

use crate::quant::{BlockFormat, INTERLEAVED_ROWS, row_of};
use half::f16;
use std::ops::Range;

/// Weight rows that a dot product kernel takes at a time.
pub const TILE_ROWS: usize = 4;

/// Dot products of a tile of weight rows with one token.
pub type TileDots = [f32; TILE_ROWS];

/// Weight rows that a panel kernel takes at a time.
pub const PANEL_ROWS: usize = INTERLEAVED_ROWS;

/// Dot products of a panel of weight rows with one token.
pub type PanelDots = [f32; PANEL_ROWS];

/// Rows of halves \[n_rows, n_cols\]: keys or values next to each other in a cache.
#[derive(Clone, Copy)]
pub struct F16Rows<'a> {
    /// Columns of a row, at least one.
    pub n_cols: usize,
    /// \[n_rows, n_cols\]
    pub rows: &'a [f16],
    /// What will be read next: kernels may ask the memory for it if it has the same shape.
    pub next: &'a [f16],
}

/// f32 activations \[n_tokens, n_cols\].
#[derive(Clone, Copy)]
pub struct F32Batch<'a> {
    /// Columns of a token.
    pub n_cols: usize,
    /// \[n_tokens, n_cols\]
    pub x: &'a [f32],
}

/// Activations as signed bytes with a scale per 32: the partner of 32-element formats.
#[derive(Clone, Copy)]
pub struct Q8Batch<'a> {
    /// Columns of a token.
    pub n_cols: usize,
    /// \[n_tokens, n_cols\], -127..=127.
    pub q: &'a [i8],
    /// \[n_tokens, n_cols / 32\] scales.
    pub d: &'a [f32],
    /// \[n_tokens, n_cols / 32\] sums of `q` over each 32.
    pub sums: &'a [i32],
}

/// Activations as signed bytes with a scale per 256: the partner of 256-element formats.
#[derive(Clone, Copy)]
pub struct Q8KBatch<'a> {
    /// Columns of a token.
    pub n_cols: usize,
    /// \[n_tokens, n_cols\], -127..=127.
    pub q: &'a [i8],
    /// \[n_tokens, n_cols / 256\] scales.
    pub d: &'a [f32],
    /// \[n_tokens, n_cols / 16\] sums of `q` over each 16.
    pub sums: &'a [i16],
}

/// The operations that every instruction set provides, with equal bits.
pub trait Isa: Copy + Send + Sync + 'static {
    /// What to call it in logs: "avx2", "neon+dotprod".
    const NAME: &'static str;
    /// Working memory of the panel kernels.
    type Panel: Default;

    /// Makes products of bytes and adds them up, with all operands in registers (of [`Scalar`] in the L1 cache): no product of
    /// quantised matrices makes more in the same time. Returns how many were made in `n_rounds` of them, which may be up to
    /// 65,536: the sum of products of ones.
    fn make_products(self, n_rounds: usize) -> u64;

    /// Runs `f`, compiled for this instruction set: loops of plain arithmetic that are inlined into it fill its registers.
    fn run<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }

    /// Dot products of each of `rows` with each vector of `x`, into `out` \[n_x, n_rows\].
    fn dots_f16(self, rows: F16Rows<'_>, x: &[f32], out: &mut [f32]);

    /// Adds to each vector of `y` \[n_y, n_cols\] the rows, times its own `weights` \[n_y, n_rows\], one row after
    /// the other.
    fn add_weighted_f16(self, weights: &[f32], rows: F16Rows<'_>, y: &mut [f32]);

    /// `out[i]` = `codes[i]` times the scale of its 32, `scales[i / 32]`, rounded to nearest, ties to even.
    fn widen_q8(self, codes: &[i8], scales: &[f16], out: &mut [f16]);

    /// Rounds to nearest, ties to even.
    fn to_f16(self, x: &[f32], out: &mut [f16]);

    /// Quantises `x` \[n\] to `q` \[n\] with a scale in `d` and a sum in `sums` for each 32.
    ///
    /// With a = max |x| over the 32: scale = a / 127 rounded to f16, q = x * (127 / a) rounded to
    /// nearest, ties to even. Groups with a NaN or an infinity get scale NaN and q = 0.
    fn quantize_q8(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i32]);

    /// Quantises `x` \[n\] to `q` \[n\] with a scale in `d` for each 256 and a sum in `sums` for each 16.
    ///
    /// As [`quantize_q8`](Self::quantize_q8), but the scale is 1 / (127 / a) and stays f32.
    fn quantize_q8_k(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]);

    /// Dot products of four F32, F16 or BF16 rows with each token of `x`, into `out` \[n_tokens\].
    fn dot_float(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: F32Batch<'_>, out: &mut [TileDots]);

    /// The same for rows in a 32-element format.
    fn dot_q8(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8Batch<'_>, out: &mut [TileDots]);

    /// The same for rows in a 256-element format.
    fn dot_q8_k(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8KBatch<'_>, out: &mut [TileDots]);

    /// [`dot_q8`](Self::dot_q8) of a panel of rows, better suited to many tokens.
    fn panel_q8(
        self,
        panel: &mut Self::Panel,
        format: BlockFormat,
        rows: [&[u8]; PANEL_ROWS],
        x: Q8Batch<'_>,
        out: &mut [PanelDots],
    );

    /// [`dot_q8_k`](Self::dot_q8_k) of a panel of rows, better suited to many tokens.
    fn panel_q8_k(
        self,
        panel: &mut Self::Panel,
        format: BlockFormat,
        rows: [&[u8]; PANEL_ROWS],
        x: Q8KBatch<'_>,
        out: &mut [PanelDots],
    );

    /// Whether [`interleaved_q8`](Self::interleaved_q8) and [`interleaved_q8_k`](Self::interleaved_q8_k) are faster than
    /// the others for a format, so that its rows are worth interleaving.
    fn reads_interleaved(_format: BlockFormat) -> bool {
        false
    }

    /// [`panel_q8`](Self::panel_q8) of rows that are interleaved; here one after the other, the oracle of the fast ones.
    fn interleaved_q8(self, format: BlockFormat, rows: &[u8], x: Q8Batch<'_>, out: &mut [PanelDots]) {
        let rows: [_; PANEL_ROWS] = std::array::from_fn(|r| row_of(format, rows, r));
        self.panel_q8(&mut Self::Panel::default(), format, rows.each_ref().map(Vec::as_slice), x, out);
    }

    /// [`panel_q8_k`](Self::panel_q8_k), likewise.
    fn interleaved_q8_k(self, format: BlockFormat, rows: &[u8], x: Q8KBatch<'_>, out: &mut [PanelDots]) {
        let rows: [_; PANEL_ROWS] = std::array::from_fn(|r| row_of(format, rows, r));
        self.panel_q8_k(&mut Self::Panel::default(), format, rows.each_ref().map(Vec::as_slice), x, out);
    }
}

impl F16Rows<'_> {
    /// Checks every length that kernels rely on: `n_vectors` floats in vectors of `n_cols`, `n_pairs` in pairs of
    /// a vector and a row. Returns the numbers of rows and vectors.
    fn check(&self, n_floats: usize, n_pairs: usize) -> (usize, usize) {
        let n_cols = self.n_cols;
        assert!(n_cols > 0 && self.rows.len().is_multiple_of(n_cols) && n_floats.is_multiple_of(n_cols));
        let (n_rows, n_vectors) = (self.rows.len() / n_cols, n_floats / n_cols);
        assert_eq!(n_pairs, n_rows * n_vectors);
        (n_rows, n_vectors)
    }
}

impl<'a> F32Batch<'a> {
    /// The tokens of a range.
    pub fn tokens(&self, tokens: Range<usize>) -> Self {
        Self { n_cols: self.n_cols, x: runs(self.x, tokens, self.n_cols) }
    }

    /// Checks every length that kernels rely on.
    fn check(&self, format: BlockFormat, rows: &[&[u8]], n_tokens: usize) {
        assert!(rows.iter().all(|row| format.row_bytes(self.n_cols) == Some(row.len())));
        assert_eq!(self.x.len(), n_tokens * self.n_cols);
    }
}

impl<'a> Q8Batch<'a> {
    /// The tokens of a range.
    pub fn tokens(&self, tokens: Range<usize>) -> Self {
        let n_cols = self.n_cols;
        Self {
            n_cols,
            q: runs(self.q, tokens.clone(), n_cols),
            d: runs(self.d, tokens.clone(), n_cols / 32),
            sums: runs(self.sums, tokens, n_cols / 32),
        }
    }

    /// [`check`](Self::check) for a panel of interleaved rows.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn check_interleaved(&self, format: BlockFormat, rows: &[u8], n_tokens: usize) {
        self.check(format, &[], n_tokens);
        assert_eq!(format.row_bytes(self.n_cols).map(|n_bytes| n_bytes * PANEL_ROWS), Some(rows.len()));
    }

    /// Checks every length that kernels rely on.
    fn check(&self, format: BlockFormat, rows: &[&[u8]], n_tokens: usize) {
        assert!(format.block_len() == 32 && self.n_cols.is_multiple_of(32));
        assert!(rows.iter().all(|row| format.row_bytes(self.n_cols) == Some(row.len())));
        assert_eq!(self.q.len(), n_tokens * self.n_cols);
        assert_eq!(self.d.len(), n_tokens * (self.n_cols / 32));
        assert_eq!(self.sums.len(), n_tokens * (self.n_cols / 32));
    }
}

impl<'a> Q8KBatch<'a> {
    /// The tokens of a range.
    pub fn tokens(&self, tokens: Range<usize>) -> Self {
        let n_cols = self.n_cols;
        Self {
            n_cols,
            q: runs(self.q, tokens.clone(), n_cols),
            d: runs(self.d, tokens.clone(), n_cols / 256),
            sums: runs(self.sums, tokens, n_cols / 16),
        }
    }

    /// [`check`](Self::check) for a panel of interleaved rows.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn check_interleaved(&self, format: BlockFormat, rows: &[u8], n_tokens: usize) {
        self.check(format, &[], n_tokens);
        assert_eq!(format.row_bytes(self.n_cols).map(|n_bytes| n_bytes * PANEL_ROWS), Some(rows.len()));
    }

    /// Checks every length that kernels rely on.
    fn check(&self, format: BlockFormat, rows: &[&[u8]], n_tokens: usize) {
        assert!(format.block_len() == 256 && self.n_cols.is_multiple_of(256));
        assert!(rows.iter().all(|row| format.row_bytes(self.n_cols) == Some(row.len())));
        assert_eq!(self.q.len(), n_tokens * self.n_cols);
        assert_eq!(self.d.len(), n_tokens * (self.n_cols / 256));
        assert_eq!(self.sums.len(), n_tokens * (self.n_cols / 16));
    }
}

/// Checks the lengths of [`Isa::widen_q8`].
fn check_widen_q8(codes: &[i8], scales: &[f16], out: &[f16]) {
    assert!(codes.len() == 32 * scales.len() && codes.len() == out.len());
}

/// Runs of `len` values.
fn runs<T>(values: &[T], runs: Range<usize>, len: usize) -> &[T] {
    &values[runs.start * len..runs.end * len]
}

/// Adds column `column` of the rows, times their weights, to `y`: what [`Isa::add_weighted_f16`] does to one element.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn add_to_column(weights: &[f32], rows: F16Rows<'_>, column: usize, y: &mut f32) {
    for (weight, row) in weights.iter().zip(rows.rows.chunks_exact(rows.n_cols)) {
        *y = weight.mul_add(row[column].to_f32(), *y);
    }
}

/// Joins eight partial sums in the one order that all instruction sets follow.
#[inline(always)]
fn join_lanes(s: [f32; 8]) -> f32 {
    let t = [s[0] + s[4], s[1] + s[5], s[2] + s[6], s[3] + s[7]];
    (t[0] + t[2]) + (t[1] + t[3])
}
