//! f16 helpers and dot products of float rows: eight partial sums, joined as [`join_lanes`] does.

use super::super::{F32Batch, TILE_ROWS, TileDots, join_lanes};
use crate::simd::{Isa, Scalar};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// A float format: what eight elements at an address are, and one.
pub(super) trait Float {
    /// Bytes of an element.
    const BYTES: usize;

    /// # Safety
    /// The CPU has AVX2, FMA and F16C; eight elements can be read.
    unsafe fn load8(p: *const u8) -> __m256;

    /// # Safety
    /// One element can be read.
    unsafe fn load1(p: *const u8) -> f32;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Float for F32 {
    const BYTES: usize = 4;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load8(p: *const u8) -> __m256 {
        // SAFETY: the caller's promise; the load may be unaligned.
        unsafe { _mm256_loadu_ps(p.cast()) }
    }

    #[inline]
    unsafe fn load1(p: *const u8) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<f32>().read_unaligned() }
    }
}

impl Float for F16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load8(p: *const u8) -> __m256 {
        // SAFETY: the caller's promise; the load may be unaligned.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(p.cast()) })
    }

    #[inline]
    unsafe fn load1(p: *const u8) -> f32 {
        // SAFETY: the caller's promise.
        f16::from_bits(unsafe { p.cast::<u16>().read_unaligned() }).to_f32()
    }
}

impl Float for Bf16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load8(p: *const u8) -> __m256 {
        // SAFETY: the caller's promise; the load may be unaligned.
        let upper = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(p.cast()) });
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(upper))
    }

    #[inline]
    unsafe fn load1(p: *const u8) -> f32 {
        // SAFETY: the caller's promise.
        bf16::from_bits(unsafe { p.cast::<u16>().read_unaligned() }).to_f32()
    }
}

/// Dot products of four rows with every token of `x`.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `x.check` held for `F`, `rows` and `out.len()`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot<F: Float>(rows: [&[u8]; TILE_ROWS], x: F32Batch<'_>, out: &mut [TileDots]) {
    let rows = rows.map(<[u8]>::as_ptr);
    let mut t = 0;
    while t < out.len() {
        // SAFETY: the caller's promises; tokens t.. of `x` and `out` exist, as compared here.
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
/// The CPU has AVX2, FMA and F16C; `n` elements can be read from each of `rows` and `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<F: Float, const R: usize, const T: usize>(
    rows: [*const u8; R],
    x: [*const f32; T],
    n: usize,
) -> [[f32; R]; T] {
    let whole = n - n % 8;
    let mut acc = [[_mm256_setzero_ps(); R]; T];
    for i in (0..whole).step_by(8) {
        for r in 0..R {
            // SAFETY: i + 8 <= n.
            let w = unsafe { F::load8(rows[r].add(i * F::BYTES)) };
            for t in 0..T {
                // SAFETY: i + 8 <= n.
                let x = unsafe { _mm256_loadu_ps(x[t].add(i)) };
                acc[t][r] = _mm256_fmadd_ps(w, x, acc[t][r]);
            }
        }
    }
    let mut out = [[0.0; R]; T];
    for t in 0..T {
        for r in 0..R {
            let mut lanes = [0.0; 8];
            // SAFETY: eight floats are written to eight floats.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), acc[t][r]) };
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

/// # Safety
/// The CPU has AVX2, FMA and F16C; both slices are equally long.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot_f16(a: &[f16], b: &[f32]) -> f32 {
    // SAFETY: f16 is two bytes; lengths by the caller's promise.
    let [[dot]] = unsafe { tile::<F16, 1, 1>([a.as_ptr().cast()], [b.as_ptr()], a.len()) };
    dot
}

/// # Safety
/// The CPU has AVX2, FMA and F16C; both slices are equally long.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn axpy_f16(a: f32, x: &[f16], y: &mut [f32]) {
    let whole = x.len() - x.len() % 8;
    let scale = _mm256_set1_ps(a);
    for i in (0..whole).step_by(8) {
        // SAFETY: i + 8 <= len of both.
        unsafe {
            let at = y.as_mut_ptr().add(i);
            let x = F16::load8(x.as_ptr().add(i).cast());
            _mm256_storeu_ps(at, _mm256_fmadd_ps(scale, x, _mm256_loadu_ps(at)));
        }
    }
    Scalar.axpy_f16(a, &x[whole..], &mut y[whole..]);
}

/// # Safety
/// The CPU has AVX2, FMA and F16C; both slices are equally long.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn to_f16(x: &[f32], out: &mut [f16]) {
    let whole = x.len() - x.len() % 8;
    for i in (0..whole).step_by(8) {
        // SAFETY: i + 8 <= len of both.
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(x.as_ptr().add(i)));
            _mm_storeu_si128(out.as_mut_ptr().add(i).cast(), halves);
        }
    }
    Scalar.to_f16(&x[whole..], &mut out[whole..]);
}
