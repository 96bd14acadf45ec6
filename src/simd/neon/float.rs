//! f16 helpers and dot products of float rows: eight partial sums, joined as `join_lanes` does.

use super::super::{F32Batch, TILE_ROWS, TileDots, join_lanes};
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

/// See [`Isa::dot_f16`].
pub(super) fn dot_f16(a: &[f16], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: f16 is two bytes; the lengths are equal.
    let [[dot]] = unsafe { tile::<F16, 1, 1>([a.as_ptr().cast()], [b.as_ptr()], a.len()) };
    dot
}

/// See [`Isa::axpy_f16`].
pub(super) fn axpy_f16(a: f32, x: &[f16], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    let whole = x.len() - x.len() % 8;
    for i in (0..whole).step_by(8) {
        // SAFETY: i + 8 <= len of both.
        unsafe {
            let at = y.as_mut_ptr().add(i);
            let [low, high] = F16::load8(x.as_ptr().add(i).cast());
            vst1q_f32(at, vfmaq_n_f32(vld1q_f32(at), low, a));
            vst1q_f32(at.add(4), vfmaq_n_f32(vld1q_f32(at.add(4)), high, a));
        }
    }
    Scalar.axpy_f16(a, &x[whole..], &mut y[whole..]);
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
