//! The greatest outputs of a product, without reading all of its weights.
//!
//! Of an output head with some 260,000 rows a sampler needs one, or the 64 that it draws from. [`CoarseMatrix`] keeps the
//! weights a second time in 3 bits. [`matmul_greatest`] multiplies those first and then reads exact weights only where
//! a row may still be among the greatest, in panels of [`PANEL_ROWS`].
//!
//! **What is left out, and by what right.** A coarse output misses the exact one by the product of the activations with what
//! quantising has taken off the row. What it has taken off all rows alike is put back, as is the mean row. What remains is
//! a sum of many small products of either sign, whose spread is |error of the row| * |x| / sqrt(n_cols) if no column
//! stands out; how much wider it is for a token, its first exact rows tell. A row is left out if it would have to be
//! [`MARGIN`] times that spread above its coarse output, or [`MARGIN_OF_SEVERAL`]. That is no proof but odds, 1e-9 and 3e-6 for a
//! row if errors are normally distributed; and where a row that was computed is found to miss by more than the former, all
//! rows are. `examples/coarse_head.rs` counts over any text how often a token would have been another; docs/performance.md has
//! its figures.
//!
//! Outputs that were computed have the bits of [`matmul()`].

use super::kernels::with_isa;
use super::matmul::{dot_interleaved_panel, dot_tile};
use super::norm::sum_of_squares;
use super::{Activations, Compute, Layout, Matrix, WeightBytes, matmul};
use crate::quant::{Block32, BlockFormat, Coarse3, interleave};
use crate::simd::{Isa, PANEL_ROWS, PanelDots, TILE_ROWS};
use std::sync::Arc;

/// How many times the spread of the coarse errors a row may lie above its coarse output, if it is to be the greatest.
const MARGIN: f32 = 6.0;
/// The same where several are wanted. Only the last of them are so near to being left out, and they weigh least.
const MARGIN_OF_SEVERAL: f32 = 4.5;
/// Panels that are computed first, at least: so many rows tell the spread within some four hundredths.
const MIN_FIRST_PANELS: usize = 32;
/// Rows that the mean row and the mean error are taken from.
const SAMPLED_ROWS: usize = 4096;
/// Panels that a thread takes at a time.
const TASK_PANELS: usize = 8;

/// Weights \[n_rows, n_cols\] once more, in 3 bits, and how far they are from the exact ones.
#[derive(Debug)]
pub struct CoarseMatrix {
    /// \[n_rows, n_cols\]: without their mean row.
    matrix: Matrix,
    /// \[n_cols\]: the mean row, and the mean of what quantising has taken off.
    centre: Vec<f32>,
    /// \[n_rows\]: the length of what else quantising has taken off a row, over sqrt(n_cols).
    errors: Vec<f32>,
    unwanted: Vec<u32>,
}

impl CoarseMatrix {
    /// Bytes of the buffer that [`new`](Self::new) takes for `w`; `None` if it can have no coarse copy, or one that is not worth it.
    pub fn n_bytes(w: &Matrix) -> Option<usize> {
        let coarse = BlockFormat::Coarse3.row_bytes(w.n_cols())?;
        let exact = w.format().row_bytes(w.n_cols())?;
        let is_worth_it = w.n_rows() > 0 && w.n_rows().is_multiple_of(PANEL_ROWS) && 3 * coarse <= 2 * exact;
        is_worth_it.then(|| coarse.checked_mul(w.n_rows())).flatten()
    }

    /// Makes the coarse copy of `w` in `buffer`, on the calling thread. Rows of `unwanted` are never among the greatest. `None` if
    /// weights are not finite.
    ///
    /// # Panics
    /// If the matrix can have no coarse copy, or the buffer has not its [`n_bytes`](Self::n_bytes).
    pub fn new<B>(c: &Compute, w: &Matrix, unwanted: &[u32], mut buffer: B) -> Option<Self>
    where
        B: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + 'static,
    {
        let n_bytes = buffer.as_ref().len();
        assert_eq!(Self::n_bytes(w), Some(n_bytes), "a buffer for the coarse copy of {w:?}");
        let (n_rows, n_cols) = (w.n_rows(), w.n_cols());
        let sampled = (0..n_rows).step_by(n_rows.div_ceil(SAMPLED_ROWS));
        let mut rows =
            RowQuantiser { mean: vec![0.0; n_cols], exact: vec![0.0; n_cols], coarse: vec![0.0; n_cols] };
        let mut mean = vec![0.0; n_cols];
        for r in sampled.clone() {
            w.dequantize_row(r, &mut rows.exact);
            add_share(&rows.exact, sampled.len(), &mut mean);
        }
        rows.mean = mean;
        let row_bytes = BlockFormat::Coarse3.row_bytes(n_cols).expect("a matrix with a coarse copy");
        let mut blocks = vec![0; row_bytes];
        let mut mean_error = vec![0.0; n_cols];
        for r in sampled.clone() {
            rows.quantise(c, w, r, &mut blocks);
            add_share(rows.error(), sampled.len(), &mut mean_error);
        }
        let layout = Layout::best(c, BlockFormat::Coarse3, n_rows);
        let mut errors = Vec::with_capacity(n_rows);
        let mut scratch = Vec::new();
        for (p, panel) in buffer.as_mut().chunks_exact_mut(PANEL_ROWS * row_bytes).enumerate() {
            for (i, blocks) in panel.chunks_exact_mut(row_bytes).enumerate() {
                rows.quantise(c, w, p * PANEL_ROWS + i, blocks);
                errors.push((rows.squared_error(&mean_error) / n_cols as f32).sqrt());
            }
            if layout == Layout::Interleaved {
                interleave(BlockFormat::Coarse3, panel, &mut scratch);
            }
        }
        if !errors.iter().all(|e| e.is_finite()) {
            return None;
        }
        let bytes = WeightBytes::new(Arc::new(buffer), 0..n_bytes).expect("all of it");
        let matrix = Matrix::with_layout(BlockFormat::Coarse3, layout, n_rows, n_cols, bytes);
        let matrix = matrix.expect("as many bytes as were asserted");
        let centre = rows.mean.iter().zip(&mean_error).map(|(mean, error)| mean + error).collect();
        let unwanted = unwanted.iter().copied().filter(|&r| (r as usize) < n_rows).collect();
        Some(Self { matrix, centre, errors, unwanted })
    }

    /// Bytes of a panel of exact weights.
    pub fn panel_bytes(w: &Matrix) -> usize {
        w.n_bytes() / w.n_rows().max(1) * PANEL_ROWS
    }

    /// The weights in 3 bits.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }
}

/// `sum` plus a part of the mean of `n` rows.
fn add_share(row: &[f32], n: usize, sum: &mut [f32]) {
    for (sum, v) in sum.iter_mut().zip(row) {
        *sum += v / n as f32;
    }
}

/// Quantises one row after the other.
struct RowQuantiser {
    /// What is taken off every row first.
    mean: Vec<f32>,
    /// The row, without the mean; after quantising what it lost.
    exact: Vec<f32>,
    coarse: Vec<f32>,
}

impl RowQuantiser {
    fn quantise(&mut self, c: &Compute, w: &Matrix, r: usize, blocks: &mut [u8]) {
        w.dequantize_row(r, &mut self.exact);
        for (v, mean) in self.exact.iter_mut().zip(&self.mean) {
            *v -= mean;
        }
        let (exact, _) = self.exact.as_chunks::<32>();
        with_isa!(c.kernels, isa => isa.run(|| {
            for (x, block) in exact.iter().zip(blocks.chunks_exact_mut(Coarse3::BYTES)) {
                Coarse3::quantize(x, block);
            }
        }));
        BlockFormat::Coarse3.dequantize(blocks, &mut self.coarse);
        for (v, coarse) in self.exact.iter_mut().zip(&self.coarse) {
            *v -= coarse;
        }
    }

    /// The sum of squares of what quantising has taken off the last row, beyond `mean_error`.
    fn squared_error(&mut self, mean_error: &[f32]) -> f32 {
        for ((out, error), mean) in self.coarse.iter_mut().zip(&self.exact).zip(mean_error) {
            *out = error - mean;
        }
        sum_of_squares(&self.coarse)
    }

    /// What quantising has taken off the last row, \[n_cols\].
    fn error(&self) -> &[f32] {
        &self.exact
    }
}

/// Working memory of [`matmul_greatest`].
#[derive(Debug, Default)]
pub struct GreatestScratch {
    /// \[n_panels\]: the greatest output of each panel, or the most that one may be.
    most: Vec<f32>,
    /// Panels whose exact outputs are in `dots`.
    panels: Vec<u32>,
    dots: Vec<PanelDots>,
    /// The same outputs, to be put in order.
    ordered: Vec<f32>,
}

impl GreatestScratch {
    /// Room for searches among `n_rows` outputs without further allocation.
    pub fn with_capacity(n_rows: usize) -> Self {
        let n_panels = n_rows.div_ceil(PANEL_ROWS);
        Self {
            most: Vec::with_capacity(n_panels),
            panels: Vec::with_capacity(n_panels),
            dots: Vec::with_capacity(n_panels),
            ordered: Vec::with_capacity(n_rows),
        }
    }
}

/// As [`matmul()`] with all rows of `w`, for the `n_greatest` greatest outputs of each token; others may be minus infinity in
/// `out` \[n_tokens, n_rows\]. Given the smallest of those, `equals` tells which outputs may be as good for the caller and are to be
/// among them too: those from there on. Returns how many panels of exact outputs were computed, of all tokens together.
///
/// # Panics
/// If shapes do not fit each other, `n_greatest` is 0, or the values of `x` [were not kept](super::ReadBy::with_values).
pub fn matmul_greatest(
    c: &Compute,
    (w, coarse): (&Matrix, &CoarseMatrix),
    x: &mut Activations,
    n_greatest: usize,
    equals: impl Fn(f32) -> f32,
    s: &mut GreatestScratch,
    out: &mut [f32],
) -> usize {
    assert_eq!((w.n_rows(), w.n_cols()), (coarse.matrix.n_rows(), coarse.matrix.n_cols()));
    assert!(n_greatest > 0);
    matmul(c, &coarse.matrix, 0..w.n_rows(), x, out);
    x.prepare(c, w.format());
    let mut n_panels = 0;
    for (token, out) in out.chunks_exact_mut(w.n_rows()).enumerate() {
        for &r in &coarse.unwanted {
            out[r as usize] = f32::NEG_INFINITY;
        }
        let search = Search { c, w, coarse, x, token };
        if search.among_few(n_greatest, &equals, s, out).is_none() {
            s.panels.clear();
            s.panels.extend(0..(w.n_rows() / PANEL_ROWS) as u32);
            search.compute(0, s, out);
        }
        out.fill(f32::NEG_INFINITY);
        for (&p, dots) in s.panels.iter().zip(&s.dots) {
            out[p as usize * PANEL_ROWS..][..PANEL_ROWS].copy_from_slice(dots);
        }
        n_panels += s.panels.len();
    }
    n_panels
}

/// The search for one token's greatest outputs.
struct Search<'a> {
    c: &'a Compute,
    w: &'a Matrix,
    coarse: &'a CoarseMatrix,
    x: &'a Activations,
    token: usize,
}

impl Search<'_> {
    /// Leaves in `s` the exact outputs of all panels that matter, given the coarse ones; `None` if all panels do, or it cannot be told.
    fn among_few(
        &self,
        n_greatest: usize,
        equals: &impl Fn(f32) -> f32,
        s: &mut GreatestScratch,
        coarse: &[f32],
    ) -> Option<()> {
        let n_panels = self.w.n_rows() / PANEL_ROWS;
        let n_first = n_greatest.max(MIN_FIRST_PANELS);
        // Beyond half of the weights, after the coarse ones, nothing would be won.
        let n_most = n_panels / 2;
        let x = self.x.values(self.token);
        let length = sum_of_squares(x).sqrt();
        if n_first > n_most || !length.is_finite() {
            return None;
        }
        // The exact outputs of the best guesses tell what a row has to reach, and how wide the errors are spread.
        self.bound(0.0, coarse, &mut s.most);
        s.panels.clear();
        s.panels.extend(0..n_panels as u32);
        let most = &s.most;
        s.panels.select_nth_unstable_by(n_first, |&a, &b| most[b as usize].total_cmp(&most[a as usize]));
        s.panels.truncate(n_first);
        self.compute(0, s, coarse);
        let centre = x.iter().zip(&self.coarse.centre).map(|(x, c)| x * c).sum::<f32>();
        let misses = self.misses(s, coarse, centre);
        let n_misses = misses.clone().count().max(1);
        let spread = (misses.map(|z| z * z).sum::<f32>() / n_misses as f32).sqrt().max(length);
        let least = equals(nth_greatest(n_greatest, &s.dots, &mut s.ordered)?) - centre;

        let margin = spread * if n_greatest == 1 { MARGIN } else { MARGIN_OF_SEVERAL };
        self.bound(margin, coarse, &mut s.most);
        for &p in &s.panels {
            s.most[p as usize] = f32::NEG_INFINITY;
        }
        let most = &s.most;
        s.panels.extend((0..n_panels as u32).filter(|&p| most[p as usize] >= least));
        if s.panels.len() > n_most {
            return None;
        }
        self.compute(n_first, s, coarse);
        // Of so many rows some miss by more than one of a few is reckoned to.
        self.misses(s, coarse, centre).all(|z| z <= MARGIN * spread).then_some(())
    }

    /// The most that an output of each panel may be, if none misses its coarse one by more than `margin` times its row's error.
    fn bound(&self, margin: f32, coarse: &[f32], most: &mut Vec<f32>) {
        most.clear();
        let (coarse, _) = coarse.as_chunks::<PANEL_ROWS>();
        let (errors, _) = self.coarse.errors.as_chunks::<PANEL_ROWS>();
        with_isa!(self.c.kernels, isa => isa.run(|| {
            most.extend(coarse.iter().zip(errors).map(|(coarse, errors)| {
                let mut bounds = [0.0; PANEL_ROWS];
                for r in 0..PANEL_ROWS {
                    bounds[r] = coarse[r] + margin * errors[r];
                }
                bounds.into_iter().fold(f32::NEG_INFINITY, f32::max)
            }));
        }));
    }

    /// Exact outputs of panels `from..` of those listed. Rows that nobody wants stay out.
    fn compute(&self, from: usize, s: &mut GreatestScratch, coarse: &[f32]) {
        s.dots.resize(s.panels.len(), [0.0; PANEL_ROWS]);
        let tasks = s.panels[from..].chunks(TASK_PANELS).zip(s.dots[from..].chunks_mut(TASK_PANELS));
        self.c.pool.for_each(tasks, |(panels, dots)| {
            for (&p, dots) in panels.iter().zip(dots) {
                let p = p as usize;
                *dots = with_isa!(self.c.kernels, isa => self.panel(isa, p));
                for (dot, coarse) in dots.iter_mut().zip(&coarse[p * PANEL_ROWS..]) {
                    if *coarse == f32::NEG_INFINITY {
                        *dot = f32::NEG_INFINITY;
                    }
                }
            }
        });
    }

    fn panel<I: Isa>(&self, isa: I, p: usize) -> PanelDots {
        let (w, token) = (self.w, self.token..self.token + 1);
        let mut dots = [[0.0; PANEL_ROWS]];
        if w.layout() == Layout::Interleaved {
            dot_interleaved_panel(isa, w, p, self.x, token, &mut dots);
            return dots[0];
        }
        for first in (0..PANEL_ROWS).step_by(TILE_ROWS) {
            let rows = std::array::from_fn(|r| w.row(p * PANEL_ROWS + first + r));
            let mut tile = [[0.0; TILE_ROWS]];
            dot_tile(isa, w.format(), rows, self.x, token.clone(), &mut tile);
            dots[0][first..][..TILE_ROWS].copy_from_slice(&tile[0]);
        }
        dots[0]
    }

    /// By how much the outputs that were computed are above their coarse ones, in errors of their rows.
    fn misses<'s>(
        &'s self,
        s: &'s GreatestScratch,
        coarse: &'s [f32],
        centre: f32,
    ) -> impl Iterator<Item = f32> + Clone + 's {
        let rows = s.panels.iter().zip(&s.dots).flat_map(|(&p, dots)| {
            let first = p as usize * PANEL_ROWS;
            dots.iter().enumerate().map(move |(r, dot)| (first + r, *dot))
        });
        let wanted = rows.filter(|(_, dot)| *dot > f32::NEG_INFINITY);
        wanted.map(move |(r, dot)| (dot - centre - coarse[r]) / self.coarse.errors[r].max(f32::MIN_POSITIVE))
    }
}

/// The `n`-th greatest of the outputs, counted from 1; `None` if there are fewer, or one is not a number.
fn nth_greatest(n: usize, dots: &[PanelDots], ordered: &mut Vec<f32>) -> Option<f32> {
    ordered.clear();
    ordered.extend(dots.iter().flatten());
    if n > ordered.len() || ordered.iter().any(|dot| dot.is_nan()) {
        return None;
    }
    let (_, nth, _) = ordered.select_nth_unstable_by(n - 1, |a, b| b.total_cmp(a));
    nth.is_finite().then_some(*nth)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{some_activations, some_matrix};
    use super::*;
    use crate::ops::{Kernels, Pool};

    /// Rows enough that half of their panels is more than those that are computed first.
    const N_ROWS: usize = 16 * 128;
    const N_COLS: usize = 512;

    /// Weights that are normally distributed, nearly: sums of four draws.
    fn normal_matrix() -> Matrix {
        let draws = some_activations(4 * N_ROWS * N_COLS, 5);
        let weights = draws.chunks_exact(4).map(|d| d.iter().map(|v| v.clamp(-1.0, 1.0)).sum::<f32>() / 8.0);
        let bytes: Vec<u8> = weights.flat_map(f32::to_le_bytes).collect();
        Matrix::new(BlockFormat::F32, N_ROWS, N_COLS, bytes.into()).unwrap()
    }

    fn interleaved(c: &Compute, w: &Matrix) -> Matrix {
        let layout = Layout::best(c, w.format(), w.n_rows());
        let mut bytes: Vec<u8> = (0..w.n_rows()).flat_map(|r| w.row(r)).copied().collect();
        layout.arrange(c, w.format(), w.n_rows(), &mut bytes);
        Matrix::with_layout(w.format(), layout, w.n_rows(), w.n_cols(), bytes.into()).unwrap()
    }

    fn coarse(c: &Compute, w: &Matrix, unwanted: &[u32]) -> CoarseMatrix {
        let buffer = vec![0; CoarseMatrix::n_bytes(w).unwrap()];
        CoarseMatrix::new(c, w, unwanted, buffer).unwrap()
    }

    fn product(c: &Compute, w: &Matrix, x: &[f32]) -> Vec<f32> {
        let mut activations = Activations::default();
        activations.reset(x.len() / N_COLS, N_COLS).copy_from_slice(x);
        let mut out = vec![0.0; x.len() / N_COLS * N_ROWS];
        matmul(c, w, 0..N_ROWS, &mut activations, &mut out);
        out
    }

    /// The outputs, and how many panels they took.
    fn searched(c: &Compute, w: &Matrix, coarse: &CoarseMatrix, x: &[f32], n: usize) -> (Vec<f32>, usize) {
        let mut activations = Activations::default();
        activations.reset(x.len() / N_COLS, N_COLS).copy_from_slice(x);
        let mut out = vec![0.0; x.len() / N_COLS * N_ROWS];
        let mut s = GreatestScratch::default();
        let n_panels = matmul_greatest(c, (w, coarse), &mut activations, n, |least| least, &mut s, &mut out);
        (out, n_panels)
    }

    /// The `n` greatest, with their bits.
    fn greatest(outputs: &[f32], n: usize) -> Vec<(usize, u32)> {
        let mut rows: Vec<usize> = (0..outputs.len()).collect();
        rows.sort_by(|&a, &b| outputs[b].total_cmp(&outputs[a]));
        rows[..n].iter().map(|&r| (r, outputs[r].to_bits())).collect()
    }

    #[test]
    fn the_greatest_are_those_of_the_whole_product() {
        let matrices = [normal_matrix(), some_matrix(BlockFormat::Q6K, N_ROWS, N_COLS, 6)];
        let matrices = matrices.into_iter().chain([some_matrix(BlockFormat::Q8_0, N_ROWS, N_COLS, 7)]);
        for (i, w) in matrices.enumerate() {
            for kernels in Kernels::available() {
                let c = Compute { pool: Pool::new(2).unwrap(), kernels };
                let w = interleaved(&c, &w);
                let coarse = coarse(&c, &w, &[]);
                let x = some_activations(3 * N_COLS, i as u64);
                let want = product(&c, &w, &x);
                for n in [1, 2, 20] {
                    let (got, n_panels) = searched(&c, &w, &coarse, &x, n);
                    for (got, want) in got.chunks(N_ROWS).zip(want.chunks(N_ROWS)) {
                        assert_eq!(greatest(got, n), greatest(want, n), "{} {w:?} {n}", kernels.name());
                        let kept = got.iter().zip(want).filter(|(got, _)| **got > f32::NEG_INFINITY);
                        assert!(kept.into_iter().all(|(got, want)| got.to_bits() == want.to_bits()));
                    }
                    if w.format() == BlockFormat::F32 && n == 1 {
                        assert!(
                            n_panels < N_ROWS / PANEL_ROWS,
                            "{n_panels} of three times {}",
                            N_ROWS / PANEL_ROWS
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn unwanted_rows_are_passed_over() {
        let c = Compute { pool: Pool::new(1).unwrap(), kernels: Kernels::detect() };
        let w = normal_matrix();
        let x = some_activations(N_COLS, 1);
        let order = greatest(&product(&c, &w, &x), 3);
        let coarse = coarse(&c, &w, &[order[0].0 as u32, order[2].0 as u32, u32::MAX]);
        let (got, _) = searched(&c, &w, &coarse, &x, 1);
        assert_eq!(greatest(&got, 1), [order[1]]);
    }

    /// Where outputs are hardly apart, or as many are wanted as there are, all are computed.
    #[test]
    fn what_cannot_be_told_apart_is_computed() {
        let c = Compute { pool: Pool::new(1).unwrap(), kernels: Kernels::detect() };
        let row: Vec<u8> = some_activations(N_COLS, 2).into_iter().flat_map(f32::to_le_bytes).collect();
        let alike = Matrix::new(BlockFormat::F32, N_ROWS, N_COLS, row.repeat(N_ROWS).into()).unwrap();
        for (w, n) in [(alike, 1), (normal_matrix(), N_ROWS)] {
            let x = some_activations(N_COLS, 3);
            let (got, n_panels) = searched(&c, &w, &coarse(&c, &w, &[]), &x, n);
            assert_eq!(n_panels, N_ROWS / PANEL_ROWS);
            assert!(got.iter().zip(product(&c, &w, &x)).all(|(got, want)| got.to_bits() == want.to_bits()));
        }
    }

    #[test]
    fn faults_are_not_left_out() {
        let c = Compute { pool: Pool::new(1).unwrap(), kernels: Kernels::detect() };
        let w = normal_matrix();
        let coarse = coarse(&c, &w, &[]);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = some_activations(N_COLS, 4);
            x[7] = bad;
            let (got, _) = searched(&c, &w, &coarse, &x, 1);
            assert!(
                got.iter().all(|v| !v.is_finite()) && got.iter().any(|v| v.is_nan() || *v == f32::INFINITY)
            );
        }
        let mut bytes: Vec<u8> = (0..N_ROWS).flat_map(|r| w.row(r)).copied().collect();
        bytes[4 * 77 * N_COLS..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
        let w = Matrix::new(BlockFormat::F32, N_ROWS, N_COLS, bytes.into()).unwrap();
        let buffer = vec![0; CoarseMatrix::n_bytes(&w).unwrap()];
        assert!(CoarseMatrix::new(&c, &w, &[], buffer).is_none());
    }

    #[test]
    fn copies_that_save_little_are_not_made() {
        let n_bytes = |format, n_rows| CoarseMatrix::n_bytes(&some_matrix(format, n_rows, N_COLS, 1));
        assert_eq!(n_bytes(BlockFormat::Q6K, 32), Some(32 * N_COLS / 32 * Coarse3::BYTES));
        assert_eq!(n_bytes(BlockFormat::Q4_0, 32), None);
        assert_eq!(n_bytes(BlockFormat::Q6K, 33), None);
    }
}
