//! f16 helpers and dot products of float rows: eight partial sums, joined as `join_lanes` does.

use super::super::{F16Rows, F32Batch, TILE_ROWS, TileDots, add_to_column, check_widen_q8, join_lanes};
use super::{narrow_to_halves, widen_halves};
use crate::quant::BlockFormat;
use crate::simd::{Isa, Scalar};
use half::{bf16, f16};
use std::arch::aarch64::*;

/// A float format: what eight elements at an address are, and one.
trait Float {
    /// Bytes of an element.
    const BYTES: usize;

    /// # Safety
    /// Eight elements can be read.
    unsafe fn load8(p: *const u8) -> [float32x4_t; 2];

    /// # Safety
    /// One element can be read.
    unsafe fn load1(p: *const u8) -> f32;
}

struct F32;
struct F16;
struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load8(p: *const u8) -> [float32x4_t; 2] {
        // SAFETY: the caller's promise; bytes, because the address may be odd.
        unsafe { [vreinterpretq_f32_u8(vld1q_u8(p)), vreinterpretq_f32_u8(vld1q_u8(p.add(16)))] }
    }

    #[inline(always)]
    unsafe fn load1(p: *const u8) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<f32>().read_unaligned() }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load8(p: *const u8) -> [float32x4_t; 2] {
        // SAFETY: the caller's promise; bytes, because the address may be odd.
        unsafe {
            let halves = vreinterpretq_u16_u8(vld1q_u8(p));
            [widen_halves(vget_low_u16(halves)), widen_halves(vget_high_u16(halves))]
        }
    }

    #[inline(always)]
    unsafe fn load1(p: *const u8) -> f32 {
        // SAFETY: the caller's promise.
        f16::from_bits(unsafe { p.cast::<u16>().read_unaligned() }).to_f32()
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load8(p: *const u8) -> [float32x4_t; 2] {
        // SAFETY: the caller's promise; bytes, because the address may be odd.
        unsafe {
            let upper = vreinterpretq_u16_u8(vld1q_u8(p));
            let low = vshll_n_u16::<16>(vget_low_u16(upper));
            [vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(vshll_high_n_u16::<16>(upper))]
        }
    }

    #[inline(always)]
    unsafe fn load1(p: *const u8) -> f32 {
        // SAFETY: the caller's promise.
        bf16::from_bits(unsafe { p.cast::<u16>().read_unaligned() }).to_f32()
    }
}

/// Dot products of four rows with every token of `x`.
pub(super) fn dot_format(
    format: BlockFormat,
    rows: [&[u8]; TILE_ROWS],
    x: F32Batch<'_>,
    out: &mut [TileDots],
) {
    x.check(format, &rows, out.len());
    match format {
        // SAFETY: lengths by `check`.
        BlockFormat::F32 => unsafe { dot::<F32>(rows, x, out) },
        // SAFETY: lengths by `check`.
        BlockFormat::F16 => unsafe { dot::<F16>(rows, x, out) },
        // SAFETY: lengths by `check`.
        BlockFormat::Bf16 => unsafe { dot::<Bf16>(rows, x, out) },
        _ => panic!("{} is not a float format", format.name()),
    }
}

/// # Safety
/// `x.check` held for `F`, `rows` and `out.len()`.
unsafe fn dot<F: Float>(rows: [&[u8]; TILE_ROWS], x: F32Batch<'_>, out: &mut [TileDots]) {
    let rows = rows.map(<[u8]>::as_ptr);
    let mut t = 0;
    while t < out.len() {
        // SAFETY: the caller's promise; tokens t.. of `x` and `out` exist, as compared here.
        unsafe {
            let x0 = x.x.as_ptr().add(t * x.n_cols);
            if out.len() - t == 1 {
                [out[t]] = tile::<F, TILE_ROWS, 1>(rows, [x0], x.n_cols);
                t += 1;
            } else {
                [out[t], out[t + 1]] = tile::<F, TILE_ROWS, 2>(rows, [x0, x0.add(x.n_cols)], x.n_cols);
                t += 2;
            }
        }
    }
}

/// Dot products of `R` rows with `T` tokens.
///
/// # Safety
/// `n` elements can be read from each of `rows` and `x`.
#[inline(always)]
unsafe fn tile<F: Float, const R: usize, const T: usize>(
    rows: [*const u8; R],
    x: [*const f32; T],
    n: usize,
) -> [[f32; R]; T] {
    let whole = n - n % 8;
    // SAFETY: NEON, as always.
    let mut acc = [[[unsafe { vdupq_n_f32(0.0) }; 2]; R]; T];
    for i in (0..whole).step_by(8) {
        for r in 0..R {
            // SAFETY: i + 8 <= n.
            let w = unsafe { F::load8(rows[r].add(i * F::BYTES)) };
            for t in 0..T {
                for half in 0..2 {
                    // SAFETY: i + 8 <= n.
                    acc[t][r][half] =
                        unsafe { vfmaq_f32(acc[t][r][half], w[half], vld1q_f32(x[t].add(i + 4 * half))) };
                }
            }
        }
    }
    let mut out = [[0.0; R]; T];
    for t in 0..T {
        for r in 0..R {
            let mut lanes = [0.0; 8];
            // SAFETY: eight floats are written to eight floats.
            unsafe {
                vst1q_f32(lanes.as_mut_ptr(), acc[t][r][0]);
                vst1q_f32(lanes.as_mut_ptr().add(4), acc[t][r][1]);
            }
            out[t][r] = join_lanes(lanes);
            for i in whole..n {
                // SAFETY: i < n.
                let (w, x) = unsafe { (F::load1(rows[r].add(i * F::BYTES)), *x[t].add(i)) };
                out[t][r] = w.mul_add(x, out[t][r]);
            }
        }
    }
    out
}

/// See [`Isa::dots_f16`].
///
/// # Safety
/// `rows.check` held for the lengths of `x` and `out`.
pub(super) unsafe fn dots_f16(rows: F16Rows<'_>, x: &[f32], out: &mut [f32]) {
    let F16Rows { n_cols, rows, .. } = rows;
    let n_rows = rows.len() / n_cols;
    if n_rows == 0 {
        return;
    }
    for (x, out) in x.chunks(2 * n_cols).zip(out.chunks_mut(2 * n_rows)) {
        for first in (0..n_rows).step_by(TILE_ROWS) {
            // Rows beyond the end are computed as the last one and dropped.
            // SAFETY: rows exist as bounded here; there are one or two vectors of `x`, and their outputs.
            unsafe {
                let tile_rows: [*const u8; TILE_ROWS] =
                    std::array::from_fn(|r| rows.as_ptr().add((first + r).min(n_rows - 1) * n_cols).cast());
                let n = TILE_ROWS.min(n_rows - first);
                if x.len() == n_cols {
                    let [dots] = tile::<F16, TILE_ROWS, 1>(tile_rows, [x.as_ptr()], n_cols);
                    out[first..first + n].copy_from_slice(&dots[..n]);
                } else {
                    let x = [x.as_ptr(), x.as_ptr().add(n_cols)];
                    let dots = tile::<F16, TILE_ROWS, 2>(tile_rows, x, n_cols);
                    out[first..first + n].copy_from_slice(&dots[0][..n]);
                    out[n_rows + first..][..n].copy_from_slice(&dots[1][..n]);
                }
            }
        }
    }
}

/// See [`Isa::add_weighted_f16`].
///
/// # Safety
/// `rows.check` held for the lengths of `y` and `weights`.
pub(super) unsafe fn add_weighted_f16(weights: &[f32], rows: F16Rows<'_>, y: &mut [f32]) {
    let n_rows = rows.rows.len() / rows.n_cols;
    let mut t = 0;
    while t < y.len() / rows.n_cols {
        let (weights, y) = (&weights[t * n_rows..], &mut y[t * rows.n_cols..]);
        // SAFETY: `y` has as many vectors left as compared here, and `weights` the weights of each.
        t += unsafe {
            match y.len() / rows.n_cols {
                1 => add_to_vectors::<1>(weights, rows, y),
                2 | 3 => add_to_vectors::<2>(weights, rows, y),
                _ => add_to_vectors::<4>(weights, rows, y),
            }
        };
    }
}

/// The first `T` vectors of `y`; returns `T`.
///
/// # Safety
/// `y` has `T` vectors, `weights` the weights of `T`.
#[inline(always)]
unsafe fn add_to_vectors<const T: usize>(weights: &[f32], rows: F16Rows<'_>, y: &mut [f32]) -> usize {
    let n_cols = rows.n_cols;
    let mut first = 0;
    while first < n_cols {
        // SAFETY: the caller's promises; columns exist as compared here.
        first += unsafe {
            match n_cols - first {
                16.. => add_to_columns::<T, 2>(weights, rows, y, first),
                8.. => add_to_columns::<T, 1>(weights, rows, y, first),
                _ => {
                    for t in 0..T {
                        add_to_column(
                            &weights[t * (rows.rows.len() / n_cols)..],
                            rows,
                            first,
                            &mut y[t * n_cols + first],
                        );
                    }
                    1
                }
            }
        };
    }
    T
}

/// `8 * C` columns from `first` on of the first `T` vectors of `y`; returns `8 * C`.
///
/// # Safety
/// As for [`add_to_vectors`]; the columns exist.
#[inline(always)]
unsafe fn add_to_columns<const T: usize, const C: usize>(
    weights: &[f32],
    rows: F16Rows<'_>,
    y: &mut [f32],
    first: usize,
) -> usize {
    let n_cols = rows.n_cols;
    let n_rows = rows.rows.len() / n_cols;
    // SAFETY: NEON, as always.
    let mut acc = [[[unsafe { vdupq_n_f32(0.0) }; 2]; C]; T];
    // SAFETY: the caller's promises: T vectors with columns first..first + 8 * C, n_rows rows with the same
    // columns, n_rows weights for each vector.
    unsafe {
        let at = |t: usize, c: usize| t * n_cols + first + 8 * c;
        for t in 0..T {
            for c in 0..C {
                let y = y.as_ptr().add(at(t, c));
                acc[t][c] = [vld1q_f32(y), vld1q_f32(y.add(4))];
            }
        }
        for r in 0..n_rows {
            let x: [_; C] = std::array::from_fn(|c| F16::load8(rows.rows.as_ptr().add(at(r, c)).cast()));
            for t in 0..T {
                let weight = *weights.as_ptr().add(t * n_rows + r);
                for c in 0..C {
                    for half in 0..2 {
                        acc[t][c][half] = vfmaq_n_f32(acc[t][c][half], x[c][half], weight);
                    }
                }
            }
        }
        for t in 0..T {
            for c in 0..C {
                let y = y.as_mut_ptr().add(at(t, c));
                vst1q_f32(y, acc[t][c][0]);
                vst1q_f32(y.add(4), acc[t][c][1]);
            }
        }
    }
    8 * C
}

/// See [`Isa::widen_q8`].
pub(super) fn widen_q8(codes: &[i8], scales: &[f16], out: &mut [f16]) {
    check_widen_q8(codes, scales, out);
    for (g, scale) in scales.iter().enumerate() {
        let scale = scale.to_f32();
        for i in (32 * g..32 * (g + 1)).step_by(8) {
            // SAFETY: i + 8 <= len of both, which is 32 for each scale; f16 is two bytes.
            unsafe {
                let codes = vmovl_s8(vld1_s8(codes.as_ptr().add(i)));
                let low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(codes)));
                let high = vcvtq_f32_s32(vmovl_high_s16(codes));
                let out = out.as_mut_ptr().add(i).cast();
                vst1_u16(out, narrow_to_halves(vmulq_n_f32(low, scale)));
                vst1_u16(out.add(4), narrow_to_halves(vmulq_n_f32(high, scale)));
            }
        }
    }
}

/// See [`Isa::to_f16`].
pub(super) fn to_f16(x: &[f32], out: &mut [f16]) {
    assert_eq!(x.len(), out.len());
    let whole = x.len() - x.len() % 4;
    for i in (0..whole).step_by(4) {
        // SAFETY: i + 4 <= len of both; f16 is two bytes.
        unsafe {
            let halves = narrow_to_halves(vld1q_f32(x.as_ptr().add(i)));
            vst1_u16(out.as_mut_ptr().add(i).cast(), halves);
        }
    }
    Scalar.to_f16(&x[whole..], &mut out[whole..]);
}
