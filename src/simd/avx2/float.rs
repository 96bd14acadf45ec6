//! f16 helpers and dot products of float rows: eight partial sums, joined as [`join_lanes`] does.

use super::super::{F16Rows, F32Batch, TILE_ROWS, TileDots, add_to_column, join_lanes};
use crate::simd::{Isa, Scalar};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// A float format: what eight elements at an address are, and one.
pub(in super::super) trait Float {
    /// Bytes of an element.
    const BYTES: usize;

    /// # Safety
    /// The CPU has AVX2, FMA and F16C; eight elements can be read.
    unsafe fn load8(p: *const u8) -> __m256;

    /// # Safety
    /// One element can be read.
    unsafe fn load1(p: *const u8) -> f32;
}

pub(in super::super) struct F32;
pub(in super::super) struct F16;
pub(in super::super) struct Bf16;

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

/// See [`Isa::dots_f16`].
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `rows.check` held for the lengths of `x` and `out`.
#[target_feature(enable = "avx2,fma,f16c")]
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
/// The CPU has AVX2, FMA and F16C; `rows.check` held for the lengths of `y` and `weights`.
#[target_feature(enable = "avx2,fma,f16c")]
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
/// The CPU has AVX2, FMA and F16C; `y` has `T` vectors, `weights` the weights of `T`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
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
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_to_columns<const T: usize, const C: usize>(
    weights: &[f32],
    rows: F16Rows<'_>,
    y: &mut [f32],
    first: usize,
) -> usize {
    let n_cols = rows.n_cols;
    let n_rows = rows.rows.len() / n_cols;
    let mut acc = [[_mm256_setzero_ps(); C]; T];
    // SAFETY: the caller's promises: T vectors with columns first..first + 8 * C, n_rows rows with the same
    // columns, n_rows weights for each vector.
    unsafe {
        let at = |t: usize, c: usize| t * n_cols + first + 8 * c;
        for t in 0..T {
            for c in 0..C {
                acc[t][c] = _mm256_loadu_ps(y.as_ptr().add(at(t, c)));
            }
        }
        for r in 0..n_rows {
            let mut x = [_mm256_setzero_ps(); C];
            for c in 0..C {
                x[c] = F16::load8(rows.rows.as_ptr().add(at(r, c)).cast());
            }
            for t in 0..T {
                let weight = _mm256_set1_ps(*weights.as_ptr().add(t * n_rows + r));
                for c in 0..C {
                    acc[t][c] = _mm256_fmadd_ps(weight, x[c], acc[t][c]);
                }
            }
        }
        for t in 0..T {
            for c in 0..C {
                _mm256_storeu_ps(y.as_mut_ptr().add(at(t, c)), acc[t][c]);
            }
        }
    }
    8 * C
}

/// See [`Isa::widen_q8`].
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `check_widen_q8` held.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn widen_q8(codes: &[i8], scales: &[f16], out: &mut [f16]) {
    for (g, scale) in scales.iter().enumerate() {
        let scale = _mm256_cvtph_ps(_mm_set1_epi16(scale.to_bits() as i16));
        for i in (32 * g..32 * (g + 1)).step_by(8) {
            // SAFETY: i + 8 <= len of both, which is 32 for each scale.
            unsafe {
                let codes = _mm256_cvtepi8_epi32(_mm_loadl_epi64(codes.as_ptr().add(i).cast()));
                let values = _mm256_mul_ps(_mm256_cvtepi32_ps(codes), scale);
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
                _mm_storeu_si128(out.as_mut_ptr().add(i).cast(), halves);
            }
        }
    }
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
