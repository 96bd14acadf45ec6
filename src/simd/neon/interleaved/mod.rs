//! Dot products of sixteen interleaved rows: a vector is four codes of each of four rows.
//!
//! Lanes are rows: sums need no adding of lanes, and weights come as one stream. Few tokens take the codes as they are stored;
//! for many, codes are unpacked first and multiplied by [`super::lanes`], so that unpacking costs each of them little.
//!
//! Deliberately absent: asking for memory ahead. One stream is what the hardware follows by itself.

mod formats;
mod sums;

use super::super::panel::{self, CHUNK_COLS, Unpacked32, Unpacked256};
use super::super::{PANEL_ROWS, PanelDots, Q8Batch, Q8KBatch};
use super::lanes::{MAGIC, NeonLanes};
use super::{DotProduct, Widening};
use formats::{Interleaved32, Interleaved256, Rows, load_halves};
use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;
use std::ops::Range;
use sums::RowSums;

/// Rows of a vector.
const VECTOR_ROWS: usize = 4;
/// Blocks of 32 columns, and of 256, that all tokens are multiplied with while they are in the L1 cache.
const CHUNK_32: usize = CHUNK_COLS / 32;
const CHUNK_256: usize = CHUNK_COLS / 256;

/// Calls `$step::<T, V>` for as many tokens `$t..$t + T` as are left, or as many as have room in registers beside `V` vectors of
/// rows, until none are.
macro_rules! in_steps {
    ($out:ident, $t:ident, $step:ident::<$F:ident, $P:ident>($($arg:expr),*)) => {{
        let mut $t = 0;
        while $t < $out.len() {
            $t += match ($out.len() - $t).min($P::MAX_TOKENS) {
                1 => $step::<$F, $P, 1, 4>($($arg),*),
                2 => $step::<$F, $P, 2, 4>($($arg),*),
                3 | 5 | 6 => $step::<$F, $P, 3, 2>($($arg),*),
                _ => $step::<$F, $P, 4, 2>($($arg),*),
            };
        }
    }};
}

/// Dot products of interleaved rows in a 32-element format with every token of `x`.
///
/// # Safety
/// The CPU has the dot product instruction; `rows` are sixteen rows of `x.n_cols` columns, and `x` has `out.len()` tokens.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn dot32_with_dotprod<F: Interleaved32>(
    rows: &[u8],
    x: Q8Batch<'_>,
    out: &mut [PanelDots],
) {
    // From sixteen tokens on, unpacking first pays.
    // SAFETY: the caller's promises.
    unsafe {
        if F::IS_PACKED && out.len() >= 16 {
            let blocks = &mut [Unpacked32::ZERO; CHUNK_32];
            panel::dot32_of::<NeonLanes<DotProduct>, F, 8, 4>(blocks, &Rows::<F>::new(rows), x, out);
        } else {
            dot32::<F, DotProduct>(rows, x, out);
        }
    }
}

/// The same without the dot product instruction. A function of its own, so that `.ci/mca` finds it.
///
/// # Safety
/// `rows` are sixteen rows of `x.n_cols` columns, and `x` has `out.len()` tokens.
#[inline(never)]
pub(super) unsafe fn dot32_widening<F: Interleaved32>(rows: &[u8], x: Q8Batch<'_>, out: &mut [PanelDots]) {
    // Unpacking first never pays: multiplying keeps one of two vector units busy, which leaves the other to unpack for each token.
    // SAFETY: the caller's promises; Widening needs no more than NEON.
    unsafe { dot32::<F, Widening>(rows, x, out) }
}

/// The same of codes as they are stored.
///
/// # Safety
/// As for [`dot32_widening`], and the CPU has the instructions of `P`.
#[inline(always)]
unsafe fn dot32<F: Interleaved32, P: RowSums>(rows: &[u8], x: Q8Batch<'_>, out: &mut [PanelDots]) {
    let n_blocks = x.n_cols / 32;
    for first in (0..n_blocks).step_by(CHUNK_32) {
        let blocks = first..n_blocks.min(first + CHUNK_32);
        // SAFETY: the caller's promises; tokens `t..` exist, as compared in the macro.
        unsafe { in_steps!(out, t, step32::<F, P>(rows, x, blocks.clone(), t, out)) }
    }
}

/// Adds the products of `blocks` of all rows with tokens `first..first + T` to `out`, or begins with them; returns `T`.
///
/// # Safety
/// As for [`dot32_widening`], the CPU has the instructions of `P`, and `first + T <= out.len()`.
#[inline(always)]
unsafe fn step32<F: Interleaved32, P: RowSums, const T: usize, const V: usize>(
    rows: &[u8],
    x: Q8Batch<'_>,
    blocks: Range<usize>,
    first: usize,
    out: &mut [PanelDots],
) -> usize {
    let n_blocks = x.n_cols / 32;
    for first_row in (0..PANEL_ROWS).step_by(VECTOR_ROWS * V) {
        // SAFETY: sixteen rows are n_blocks groups of 16 * BYTES bytes, scales first; a token has 32 codes, a scale and a sum for
        // each of n_blocks, and sixteen outputs; tokens first..first + T exist.
        unsafe {
            let mut acc: [[_; V]; T] = from_fn(|t| load_dots(&out[first + t], first_row, blocks.start));
            for b in blocks.clone() {
                let group = rows.as_ptr().add(b * PANEL_ROWS * F::BYTES);
                let codes = group.add(2 * PANEL_ROWS + 4 * first_row);
                let at = |t: usize| (first + t) * n_blocks + b;
                let xq: [_; T] = from_fn(|t| {
                    let codes = x.q.as_ptr().add(32 * at(t));
                    [vld1q_s8(codes), vld1q_s8(codes.add(16))]
                });
                let mut dots: [[_; V]; T] = from_fn(|t| {
                    // As in `lanes`: the integers are the bits of floats, which a subtraction turns into their values.
                    let start = MAGIC.to_bits() as i32 - F::OFFSET * *x.sums.as_ptr().add(at(t));
                    from_fn(|_| P::begin(start))
                });
                macro_rules! add {
                    ($LANE:literal) => {
                        for v in 0..V {
                            let quads = F::load_quads(codes.add(4 * VECTOR_ROWS * v), $LANE);
                            for t in 0..T {
                                for (i, quad) in quads.into_iter().enumerate() {
                                    dots[t][v] =
                                        P::add_quad::<F, $LANE>(dots[t][v], 2 * $LANE + i, 8, quad, xq[t][i]);
                                }
                            }
                        }
                    };
                }
                add!(0);
                add!(1);
                add!(2);
                add!(3);
                for v in 0..V {
                    let d = load_halves(group, first_row + VECTOR_ROWS * v);
                    for t in 0..T {
                        let xd = *x.d.as_ptr().add(at(t));
                        // Sums are at most 32 * 128 * 127, below 2^22: both steps are exact.
                        let sum = vsubq_f32(vreinterpretq_f32_s32(P::end(dots[t][v])), vdupq_n_f32(MAGIC));
                        acc[t][v] = vfmaq_f32(acc[t][v], sum, vmulq_n_f32(d, xd));
                    }
                }
            }
            for t in 0..T {
                store_dots(&mut out[first + t], first_row, acc[t]);
            }
        }
    }
    T
}

/// Dot products of interleaved rows in a 256-element format with every token of `x`.
///
/// # Safety
/// The CPU has the dot product instruction; `rows` are sixteen rows of `x.n_cols` columns, and `x` has `out.len()` tokens.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn dot256_with_dotprod<F: Interleaved256>(
    rows: &[u8],
    x: Q8KBatch<'_>,
    out: &mut [PanelDots],
) {
    // From eight tokens on, unpacking first pays.
    // SAFETY: the caller's promises.
    unsafe {
        if out.len() >= 8 {
            let blocks = &mut [Unpacked256::ZERO; CHUNK_256];
            panel::dot256_of::<NeonLanes<DotProduct>, F, 8, 4>(blocks, &Rows::<F>::new(rows), x, out);
        } else {
            dot256::<F, DotProduct>(rows, x, out);
        }
    }
}

/// The same without the dot product instruction. A function of its own, so that `.ci/mca` finds it.
///
/// # Safety
/// `rows` are sixteen rows of `x.n_cols` columns, and `x` has `out.len()` tokens.
#[inline(never)]
pub(super) unsafe fn dot256_widening<F: Interleaved256>(rows: &[u8], x: Q8KBatch<'_>, out: &mut [PanelDots]) {
    // From six tokens on, unpacking first pays.
    // SAFETY: the caller's promises; Widening needs no more than NEON.
    unsafe {
        if out.len() >= 6 {
            let blocks = &mut [Unpacked256::ZERO; CHUNK_256];
            panel::dot256_of::<NeonLanes<Widening>, F, 8, 2>(blocks, &Rows::<F>::new(rows), x, out);
        } else {
            dot256::<F, Widening>(rows, x, out);
        }
    }
}

/// The same of codes as they are stored.
///
/// # Safety
/// As for [`dot256_widening`], and the CPU has the instructions of `P`.
#[inline(always)]
unsafe fn dot256<F: Interleaved256, P: RowSums>(rows: &[u8], x: Q8KBatch<'_>, out: &mut [PanelDots]) {
    let n_blocks = x.n_cols / 256;
    for first in (0..n_blocks).step_by(CHUNK_256) {
        let blocks = first..n_blocks.min(first + CHUNK_256);
        // SAFETY: the caller's promises; tokens `t..` exist, as compared in the macro.
        unsafe { in_steps!(out, t, step256::<F, P>(rows, x, blocks.clone(), t, out)) }
    }
}

/// As [`step32`].
///
/// # Safety
/// As for [`dot256_widening`], the CPU has the instructions of `P`, and `first + T <= out.len()`.
#[inline(always)]
unsafe fn step256<F: Interleaved256, P: RowSums, const T: usize, const V: usize>(
    rows: &[u8],
    x: Q8KBatch<'_>,
    blocks: Range<usize>,
    first: usize,
    out: &mut [PanelDots],
) -> usize {
    let n_blocks = x.n_cols / 256;
    for first_row in (0..PANEL_ROWS).step_by(VECTOR_ROWS * V) {
        // SAFETY: sixteen rows are n_blocks groups of 16 * BYTES bytes; a token has 256 codes and 16 sums for each of n_blocks, and
        // sixteen outputs; tokens first..first + T exist; halves are 0..2, sides 0..2, runs 0..4.
        unsafe {
            let mut acc: [[_; V]; T] = from_fn(|t| load_dots(&out[first + t], first_row, blocks.start));
            for b in blocks.clone() {
                let group = rows.as_ptr().add(b * PANEL_ROWS * F::BYTES);
                let at = |t: usize| (first + t) * n_blocks + b;
                let unpacked = F::unpack_scales(group);
                let mut totals = [[vdupq_n_s32(0); V]; T];
                for half in 0..2 {
                    // Columns that share a scale are both sides of a run, or one.
                    let n_sides = F::GROUP / 16;
                    for first_side in (0..2).step_by(n_sides) {
                        macro_rules! run {
                            ($RUN:literal) => {
                                let sixteenth = 8 * half + 2 * $RUN + first_side;
                                let x_at = |t: usize, side: usize| 16 * at(t) + sixteenth + side;
                                let mut xq = [[vdupq_n_s8(0); 2]; T];
                                for side in 0..n_sides {
                                    for t in 0..T {
                                        xq[t][side] = vld1q_s8(x.q.as_ptr().add(16 * x_at(t, side)));
                                    }
                                }
                                let mut dots: [[_; V]; T] = from_fn(|t| {
                                    // No format with an offset has groups of more than one sum.
                                    let sum = i32::from(*x.sums.as_ptr().add(x_at(t, 0)));
                                    from_fn(|_| P::begin(-F::OFFSET * sum))
                                });
                                for v in 0..V {
                                    let rows = anew(group.add(4 * (first_row + VECTOR_ROWS * v)));
                                    for side in 0..n_sides {
                                        let quads = F::load_quads::<$RUN>(rows, half, first_side + side);
                                        for t in 0..T {
                                            dots[t][v] = P::add_four::<F>(dots[t][v], quads, xq[t][side]);
                                        }
                                    }
                                }
                                for v in (0..V).step_by(2) {
                                    let row = first_row + VECTOR_ROWS * v;
                                    let scales = F::load_scales(group, &unpacked, sixteenth / n_sides, row);
                                    for t in 0..T {
                                        for i in 0..2 {
                                            let dots = P::end(dots[t][v + i]);
                                            totals[t][v + i] = vmlaq_s32(totals[t][v + i], dots, scales[i]);
                                        }
                                    }
                                }
                            };
                        }
                        run!(0);
                        run!(1);
                        run!(2);
                        run!(3);
                    }
                }
                let d = group.add(F::D_AT * PANEL_ROWS);
                acc = add_scaled(acc, totals, d, first_row, |t| *x.d.as_ptr().add(at(t)));
                if F::HAS_MIN {
                    let mut totals = [[vdupq_n_s32(0); V]; T];
                    for g in 0..256 / F::GROUP {
                        for v in (0..V).step_by(2) {
                            let mins = F::load_mins(&unpacked, g, first_row + VECTOR_ROWS * v);
                            for t in 0..T {
                                let sums = x.sums.as_ptr().add(16 * at(t) + F::GROUP / 16 * g);
                                let sum = (0..F::GROUP / 16).map(|i| i32::from(*sums.add(i))).sum::<i32>();
                                for i in 0..2 {
                                    totals[t][v + i] = vmlsq_s32(totals[t][v + i], mins[i], vdupq_n_s32(sum));
                                }
                            }
                        }
                    }
                    let dmin = d.add(2 * PANEL_ROWS);
                    acc = add_scaled(acc, totals, dmin, first_row, |t| *x.d.as_ptr().add(at(t)));
                }
            }
            for t in 0..T {
                store_dots(&mut out[first + t], first_row, acc[t]);
            }
        }
    }
    T
}

/// Adds `totals`, times the scales of their rows, of which those of sixteen begin at `halves`, times that of each token.
///
/// # Safety
/// Sixteen halves can be read; V vectors from `first_row` on are rows of a panel.
#[inline(always)]
unsafe fn add_scaled<const T: usize, const V: usize>(
    mut acc: [[float32x4_t; V]; T],
    totals: [[int32x4_t; V]; T],
    halves: *const u8,
    first_row: usize,
    x_scale: impl Fn(usize) -> f32,
) -> [[float32x4_t; V]; T] {
    for v in 0..V {
        // SAFETY: the caller's promises.
        unsafe {
            let scales = load_halves(halves, first_row + VECTOR_ROWS * v);
            for t in 0..T {
                let scales = vmulq_n_f32(scales, x_scale(t));
                acc[t][v] = vfmaq_f32(acc[t][v], vcvtq_f32_s32(totals[t][v]), scales);
            }
        }
    }
    acc
}

/// The same pointer, of which the compiler does not know that. It would keep what it loaded for one run of codes until the next run
/// needs it, for which there are not enough registers; loading again is what these loops can afford, storing is not.
#[inline(always)]
fn anew(bytes: *const u8) -> *const u8 {
    let mut bytes = bytes;
    // SAFETY: does nothing.
    unsafe { asm!("/* {bytes} */", bytes = inout(reg) bytes, options(nomem, nostack, preserves_flags)) };
    bytes
}

/// What the sums of rows from `first_row` on begin with: zero, or `dots` if there are blocks before.
#[inline(always)]
fn load_dots<const V: usize>(dots: &PanelDots, first_row: usize, n_blocks_before: usize) -> [float32x4_t; V] {
    let dots = &dots[first_row..][..VECTOR_ROWS * V];
    from_fn(|v| match n_blocks_before {
        // SAFETY: NEON, as always.
        0 => unsafe { vdupq_n_f32(0.0) },
        // SAFETY: `dots` are V vectors.
        _ => unsafe { vld1q_f32(dots.as_ptr().add(VECTOR_ROWS * v)) },
    })
}

/// Puts the sums of rows from `first_row` on to their places.
#[inline(always)]
fn store_dots<const V: usize>(dots: &mut PanelDots, first_row: usize, sums: [float32x4_t; V]) {
    let dots = &mut dots[first_row..][..VECTOR_ROWS * V];
    for v in 0..V {
        // SAFETY: `dots` are V vectors.
        unsafe { vst1q_f32(dots.as_mut_ptr().add(VECTOR_ROWS * v), sums[v]) };
    }
}
