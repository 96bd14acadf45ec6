//! Products of 16 weight rows with many tokens: weights are unpacked once, then multiplied with each token.
//!
//! The tile kernels unpack a block for one to four tokens and add up the lanes of each sum. Here rows
//! are unpacked first, into a form in which a vector lane is a row: sums need no adding of lanes, and
//! scaling serves all rows at once. Written once over [`Lanes`], with `#[inline(always)]`, to be
//! compiled for the instruction set of the function that calls it.
#![allow(unsafe_code)]
// Loops over the tokens of a step index several small arrays at once and unroll completely.
#![allow(clippy::needless_range_loop)]

mod unpacked;

use super::{PANEL_ROWS, PanelDots, Q8Batch, Q8KBatch};
use crate::quant::{Block32, Block256, Codes};
use unpacked::Rows;
pub(super) use unpacked::{Load32, Load256, Quad, Source, Unpacked32, Unpacked256};

/// Columns that are unpacked at a time: small enough for the L1 cache of every CPU.
pub(super) const CHUNK_COLS: usize = 1024;

/// Vectors with a lane for each of `R` rows.
///
/// # Safety
/// All functions: the CPU has the instructions of the implementation, pointers are good for what is
/// read or written through them.
pub(super) trait Lanes<const R: usize> {
    /// `R` times i32.
    type Int: Copy;
    /// `R` times f32.
    type Float: Copy;

    /// What is taken off the codes of format `F` when they are unpacked, so that they suit
    /// [`dot`](Self::dot).
    fn taken_off<F: Codes>() -> i32;
    /// The same number in every lane.
    unsafe fn splat(v: i32) -> Self::Int;
    /// R times i32 at `p`.
    unsafe fn load_int(p: *const i32) -> Self::Int;
    /// `a * b + c`
    unsafe fn mul_add(a: Self::Int, b: Self::Int, c: Self::Int) -> Self::Int;
    /// R times f32 at `p`.
    unsafe fn load(p: *const f32) -> Self::Float;
    /// Writes R times f32 to `p`.
    unsafe fn store(p: *mut f32, v: Self::Float);
    /// Widens R halves at `p`.
    unsafe fn load_halves(p: *const u16) -> Self::Float;
    /// `acc + ints * (scales * x_scale)`, fused.
    unsafe fn add_scaled(acc: Self::Float, ints: Self::Int, scales: Self::Float, x_scale: f32)
    -> Self::Float;
    /// What the sums of a 32-element block start with: `v` in every lane, as [`add_begun`](Self::add_begun) wants it.
    #[inline(always)]
    unsafe fn begin(v: i32) -> Self::Int {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(v) }
    }
    /// [`add_scaled`](Self::add_scaled) of sums that started with [`begin`](Self::begin).
    #[inline(always)]
    unsafe fn add_begun(acc: Self::Float, ints: Self::Int, scales: Self::Float, x_scale: f32) -> Self::Float {
        // SAFETY: the caller's promise.
        unsafe { Self::add_scaled(acc, ints, scales, x_scale) }
    }
    /// Stores the eight quads of each row, less `taken_off`, to their places.
    unsafe fn spread(codes: &[[i8; 32]; R], taken_off: i8, quads: &mut [Quad<R>; 8]);
    /// For each token: `start`, plus the sums of products of `N` quads of codes of format `F` with
    /// `4 * N` activations.
    unsafe fn dot<F: Codes, const N: usize, const T: usize>(
        quads: *const Quad<R>,
        x: [*const i8; T],
        start: [Self::Int; T],
    ) -> [Self::Int; T];
}

/// Where rows are unpacked to.
pub struct Panel<const R: usize> {
    blocks32: [Unpacked32<R>; CHUNK_COLS / 32],
    blocks256: [Unpacked256<R>; CHUNK_COLS / 256],
}

impl<const R: usize> Default for Panel<R> {
    fn default() -> Self {
        Self {
            blocks32: [Unpacked32::ZERO; CHUNK_COLS / 32],
            blocks256: [Unpacked256::ZERO; CHUNK_COLS / 256],
        }
    }
}

/// Dot products of rows in a 32-element format with every token of `x`, `T` at a time.
///
/// # Safety
/// The CPU has the instructions of `L`; `x.check` held for `F`, `rows` and `out.len()`.
#[inline(always)]
pub(super) unsafe fn dot32<L: Lanes<R>, F: Load32<L>, const R: usize, const T: usize>(
    panel: &mut Panel<R>,
    rows: [&[u8]; PANEL_ROWS],
    x: Q8Batch<'_>,
    out: &mut [PanelDots],
) {
    // SAFETY: the caller's promises.
    unsafe { dot32_of::<L, F, R, T>(&mut panel.blocks32, &Rows::<L, F>::new(rows), x, out) }
}

/// [`dot32`] of rows from anywhere, unpacked to `blocks`.
///
/// # Safety
/// The CPU has the instructions of `L` and `rows`; `rows` have `x.n_cols` columns, `x` has `out.len()` tokens.
#[inline(always)]
pub(super) unsafe fn dot32_of<L: Lanes<R>, F: Block32, const R: usize, const T: usize>(
    blocks: &mut [Unpacked32<R>],
    rows: &impl Source<Unpacked32<R>>,
    x: Q8Batch<'_>,
    out: &mut [PanelDots],
) {
    let n_blocks = x.n_cols / 32;
    let chunk = blocks.len();
    for first in (0..n_blocks).step_by(chunk) {
        for first_row in (0..PANEL_ROWS).step_by(R) {
            let blocks = &mut blocks[..chunk.min(n_blocks - first)];
            for (b, block) in blocks.iter_mut().enumerate() {
                // SAFETY: the caller's promises; rows and blocks are counted here.
                unsafe { rows.unpack(first_row, first + b, block) };
            }
            let mut t = 0;
            while t < out.len() {
                // SAFETY: the caller's promises; tokens from `t` on exist as compared here, blocks from
                // `first` on, rows from `first_row` on.
                t += unsafe {
                    if out.len() - t >= T {
                        step32::<L, F, R, T>(blocks, first, x, t, first_row, out)
                    } else {
                        step32::<L, F, R, 1>(blocks, first, x, t, first_row, out)
                    }
                };
            }
        }
    }
}

/// Adds the products of `blocks`, of which the first is block `first` of its row, with tokens `t..t + T`
/// to `out`, or begins with them if `first` is 0. Returns `T`.
///
/// # Safety
/// As for [`dot32`]; tokens, blocks and rows exist.
#[inline(always)]
unsafe fn step32<L: Lanes<R>, F: Block32, const R: usize, const T: usize>(
    blocks: &[Unpacked32<R>],
    first: usize,
    x: Q8Batch<'_>,
    t: usize,
    first_row: usize,
    out: &mut [PanelDots],
) -> usize {
    let n_blocks = x.n_cols / 32;
    // SAFETY: a token has 32 codes, a scale and a sum for each of its n_blocks, and R outputs from
    // `first_row` on.
    unsafe {
        let mut acc = [L::load([0.0; R].as_ptr()); T];
        if first > 0 {
            for i in 0..T {
                acc[i] = L::load(out[t + i].as_ptr().add(first_row));
            }
        }
        for (b, block) in blocks.iter().enumerate() {
            let mut xq = [std::ptr::null(); T];
            let mut xd = [0.0; T];
            let mut sums = [0; T];
            let mut dots = [L::splat(0); T];
            for i in 0..T {
                let at = (t + i) * n_blocks + first + b;
                xq[i] = x.q.as_ptr().add(32 * at);
                xd[i] = *x.d.as_ptr().add(at);
                sums[i] = *x.sums.as_ptr().add(at);
                dots[i] = L::begin((L::taken_off::<F>() - F::OFFSET) * sums[i]);
            }
            let dots = L::dot::<F, 8, T>(block.quads.as_ptr(), xq, dots);
            let d = L::load(block.d.as_ptr());
            for i in 0..T {
                acc[i] = L::add_begun(acc[i], dots[i], d, xd[i]);
            }
            if F::HAS_MIN {
                let m = L::load(block.m.as_ptr());
                for i in 0..T {
                    acc[i] = L::add_scaled(acc[i], L::splat(sums[i]), m, xd[i]);
                }
            }
        }
        for i in 0..T {
            L::store(out[t + i].as_mut_ptr().add(first_row), acc[i]);
        }
    }
    T
}

/// Dot products of rows in a 256-element format with every token of `x`, `T` at a time.
///
/// # Safety
/// The CPU has the instructions of `L`; `x.check` held for `F`, `rows` and `out.len()`.
#[inline(always)]
pub(super) unsafe fn dot256<L: Lanes<R>, F: Load256<L>, const R: usize, const T: usize>(
    panel: &mut Panel<R>,
    rows: [&[u8]; PANEL_ROWS],
    x: Q8KBatch<'_>,
    out: &mut [PanelDots],
) {
    // SAFETY: the caller's promises.
    unsafe { dot256_of::<L, F, R, T>(&mut panel.blocks256, &Rows::<L, F>::new(rows), x, out) }
}

/// [`dot256`] of rows from anywhere, unpacked to `blocks`.
///
/// # Safety
/// The CPU has the instructions of `L` and `rows`; `rows` have `x.n_cols` columns, `x` has `out.len()` tokens.
#[inline(always)]
pub(super) unsafe fn dot256_of<L: Lanes<R>, F: Block256, const R: usize, const T: usize>(
    blocks: &mut [Unpacked256<R>],
    rows: &impl Source<Unpacked256<R>>,
    x: Q8KBatch<'_>,
    out: &mut [PanelDots],
) {
    let n_blocks = x.n_cols / 256;
    let chunk = blocks.len();
    for first in (0..n_blocks).step_by(chunk) {
        for first_row in (0..PANEL_ROWS).step_by(R) {
            let blocks = &mut blocks[..chunk.min(n_blocks - first)];
            for (b, block) in blocks.iter_mut().enumerate() {
                // SAFETY: the caller's promises; rows and blocks are counted here.
                unsafe { rows.unpack(first_row, first + b, block) };
            }
            let mut t = 0;
            while t < out.len() {
                // SAFETY: the caller's promises; tokens from `t` on exist as compared here, blocks from
                // `first` on, rows from `first_row` on.
                t += unsafe {
                    if out.len() - t >= T {
                        step256::<L, F, R, T>(blocks, first, x, t, first_row, out)
                    } else {
                        step256::<L, F, R, 1>(blocks, first, x, t, first_row, out)
                    }
                };
            }
        }
    }
}

/// As [`step32`].
///
/// # Safety
/// As for [`dot256`]; tokens, blocks and rows exist.
#[inline(always)]
unsafe fn step256<L: Lanes<R>, F: Block256, const R: usize, const T: usize>(
    blocks: &[Unpacked256<R>],
    first: usize,
    x: Q8KBatch<'_>,
    t: usize,
    first_row: usize,
    out: &mut [PanelDots],
) -> usize {
    let n_blocks = x.n_cols / 256;
    // SAFETY: a token has 256 codes, a scale and 16 sums for each of its n_blocks, and R outputs from
    // `first_row` on.
    unsafe {
        let mut acc = [L::load([0.0; R].as_ptr()); T];
        if first > 0 {
            for i in 0..T {
                acc[i] = L::load(out[t + i].as_ptr().add(first_row));
            }
        }
        for (b, block) in blocks.iter().enumerate() {
            let mut totals = [L::splat(0); T];
            let mut min_totals = totals;
            for g in 0..256 / F::GROUP {
                let mut xq = [std::ptr::null(); T];
                let mut sums = [0; T];
                let mut dots = [L::splat(0); T];
                for i in 0..T {
                    let at = (t + i) * n_blocks + first + b;
                    xq[i] = x.q.as_ptr().add(256 * at + F::GROUP * g);
                    let sum = x.sums.as_ptr().add(16 * at + F::GROUP / 16 * g);
                    sums[i] = i32::from(*sum);
                    if F::GROUP == 32 {
                        sums[i] += i32::from(*sum.add(1));
                    }
                    dots[i] = L::splat((L::taken_off::<F>() - F::OFFSET) * sums[i]);
                }
                let quads = block.quads.as_ptr().add(F::GROUP / 4 * g);
                let dots = if F::GROUP == 32 {
                    L::dot::<F, 8, T>(quads, xq, dots)
                } else {
                    L::dot::<F, 4, T>(quads, xq, dots)
                };
                let scales = L::load_int(block.scales[g].as_ptr());
                for i in 0..T {
                    totals[i] = L::mul_add(dots[i], scales, totals[i]);
                }
                if F::HAS_MIN {
                    let minus_mins = L::load_int(block.minus_mins[g].as_ptr());
                    for i in 0..T {
                        min_totals[i] = L::mul_add(L::splat(sums[i]), minus_mins, min_totals[i]);
                    }
                }
            }
            let d = L::load(block.d.as_ptr());
            for i in 0..T {
                let xd = *x.d.as_ptr().add((t + i) * n_blocks + first + b);
                acc[i] = L::add_scaled(acc[i], totals[i], d, xd);
                if F::HAS_MIN {
                    acc[i] = L::add_scaled(acc[i], min_totals[i], L::load(block.dmin.as_ptr()), xd);
                }
            }
        }
        for i in 0..T {
            L::store(out[t + i].as_mut_ptr().add(first_row), acc[i]);
        }
    }
    T
}
