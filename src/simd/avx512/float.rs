//! Products with rows of floats, cached halves of attention above all: a vector is eight columns of two rows, or sixteen columns
//! of one.
//!
//! The order of additions is that of [`Isa`](super::Isa): eight partial sums of a dot product, and columns that never meet.

use super::super::avx2::{Bf16, F16, F32, Float};
use super::super::{F16Rows, F32Batch, TILE_ROWS, TileDots};
use half::f16;
use std::arch::x86_64::*;

/// Bytes of a cache line.
const LINE: usize = 64;

/// A float format: eight elements of two rows as a vector.
pub(super) trait FloatPair: Float {
    /// Eight elements at `low`, and eight at `high` behind them.
    ///
    /// # Safety
    /// The CPU has what [`super::Avx512Vnni`] proves; eight elements can be read at both.
    unsafe fn pair(low: *const u8, high: *const u8) -> __m512;
}

impl FloatPair for F32 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
    unsafe fn pair(low: *const u8, high: *const u8) -> __m512 {
        // SAFETY: the caller's promise; the loads may be unaligned.
        let (low, high) = unsafe { (_mm256_loadu_pd(low.cast()), _mm256_loadu_pd(high.cast())) };
        _mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castpd256_pd512(low), high))
    }
}

impl FloatPair for F16 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
    unsafe fn pair(low: *const u8, high: *const u8) -> __m512 {
        // SAFETY: the caller's promise; the loads may be unaligned.
        let (low, high) = unsafe { (_mm_loadu_si128(low.cast()), _mm_loadu_si128(high.cast())) };
        _mm512_cvtph_ps(_mm256_set_m128i(high, low))
    }
}

impl FloatPair for Bf16 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
    unsafe fn pair(low: *const u8, high: *const u8) -> __m512 {
        // SAFETY: the caller's promise; the loads may be unaligned.
        let (low, high) = unsafe { (_mm_loadu_si128(low.cast()), _mm_loadu_si128(high.cast())) };
        let upper = _mm512_cvtepu16_epi32(_mm256_set_m128i(high, low));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper))
    }
}

/// Whether rows of `n_cols` columns are whole vectors here; those of real models are.
pub(super) fn takes(n_cols: usize) -> bool {
    n_cols.is_multiple_of(16)
}

/// Dot products of four rows with every token of `x`.
///
/// # Safety
/// The CPU has what [`super::Avx512Vnni`] proves; `x.check` held for `F`, `rows` and `out.len()`, and [`takes`] for the columns.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn dot<F: FloatPair>(rows: [&[u8]; TILE_ROWS], x: F32Batch<'_>, out: &mut [TileDots]) {
    let rows = rows.map(<[u8]>::as_ptr);
    // The row behind each, the next of its quarter of the matrix.
    let ahead = [x.n_cols * F::BYTES, 0];
    let mut t = 0;
    while t < out.len() {
        let out = &mut out[t..];
        // SAFETY: the caller's promises; tokens t.. of `x` exist, as many as compared here.
        t += unsafe {
            let first = x.x.as_ptr().add(t * x.n_cols);
            match out.len() {
                1 => store(tile::<F, 1>(rows, first, x.n_cols, ahead), out),
                2 => store(tile::<F, 2>(rows, first, x.n_cols, ahead), out),
                3 => store(tile::<F, 3>(rows, first, x.n_cols, ahead), out),
                4..=7 => store(tile::<F, 4>(rows, first, x.n_cols, ahead), out),
                8..=11 => store(tile::<F, 8>(rows, first, x.n_cols, ahead), out),
                _ => store(tile::<F, 12>(rows, first, x.n_cols, ahead), out),
            }
        };
    }
}

/// Writes the products of `T` tokens to `out`; returns `T`.
fn store<const T: usize>(dots: [TileDots; T], out: &mut [TileDots]) -> usize {
    out[..T].copy_from_slice(&dots);
    T
}

/// See [`Isa::dots_f16`](super::Isa::dots_f16).
///
/// # Safety
/// The CPU has what [`super::Avx512Vnni`] proves; `rows.check` held for the lengths of `x` and `out`, and [`takes`] for the columns.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn dots_f16(rows: F16Rows<'_>, x: &[f32], out: &mut [f32]) {
    let F16Rows { n_cols, rows: halves, .. } = rows;
    let n_rows = halves.len() / n_cols;
    if n_rows == 0 {
        return;
    }
    // The rows behind those of a tile, and the same ones of what is read next.
    let ahead = [TILE_ROWS * n_cols * size_of::<f16>(), bytes_to_next(rows)];
    let mut t = 0;
    while t < x.len() / n_cols {
        let (x, out) = (&x[t * n_cols..], &mut out[t * n_rows..]);
        // SAFETY: the caller's promises; `x` has as many vectors left as compared here, and `out` the products of each.
        t += unsafe {
            match x.len() / n_cols {
                1 => dots_of_vectors::<1>(halves, n_rows, x, out, ahead),
                2 => dots_of_vectors::<2>(halves, n_rows, x, out, ahead),
                3 => dots_of_vectors::<3>(halves, n_rows, x, out, ahead),
                4..=7 => dots_of_vectors::<4>(halves, n_rows, x, out, ahead),
                _ => dots_of_vectors::<8>(halves, n_rows, x, out, ahead),
            }
        };
    }
}

/// How far behind each of `rows` that of `rows.next` stands, around the end of addresses perhaps; 0 where there is none.
fn bytes_to_next(rows: F16Rows<'_>) -> usize {
    let distance = rows.next.as_ptr().addr().wrapping_sub(rows.rows.as_ptr().addr());
    if rows.next.len() == rows.rows.len() { distance } else { 0 }
}

/// Dot products of the first `T` vectors of `x` with all rows; returns `T`. `ahead` is as for [`tile`].
///
/// # Safety
/// As for [`dots_f16`]; there are `n_rows` rows, at least one, and `T` vectors and their outputs.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
unsafe fn dots_of_vectors<const T: usize>(
    rows: &[f16],
    n_rows: usize,
    x: &[f32],
    out: &mut [f32],
    ahead: [usize; 2],
) -> usize {
    let n_cols = rows.len() / n_rows;
    for first in (0..n_rows).step_by(TILE_ROWS) {
        let n = TILE_ROWS.min(n_rows - first);
        // Rows beyond the end are computed as the last one and dropped.
        // SAFETY: rows exist as bounded here; `T` vectors do by the caller's promise.
        let dots = unsafe {
            let tile_rows =
                std::array::from_fn(|r| rows.as_ptr().add((first + r).min(n_rows - 1) * n_cols).cast());
            tile::<F16, T>(tile_rows, x.as_ptr(), n_cols, ahead)
        };
        for t in 0..T {
            match out[t * n_rows + first..].first_chunk_mut::<TILE_ROWS>() {
                // Of known length this is a store, where copying would be a call for each tile and vector.
                Some(all) if n == TILE_ROWS => *all = dots[t],
                _ => out[t * n_rows + first..][..n].copy_from_slice(&dots[t][..n]),
            }
        }
    }
    T
}

/// Dot products of four rows with each of `T` vectors that follow each other from `x` on. What stands `ahead` bytes behind the rows is
/// asked for: the first to be read at once, the second, which may be 0 for nothing, somewhat later.
///
/// # Safety
/// The CPU has what [`super::Avx512Vnni`] proves; `n_cols`, a multiple of 16, can be read from each row and vector.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
unsafe fn tile<F: FloatPair, const T: usize>(
    rows: [*const u8; TILE_ROWS],
    x: *const f32,
    n_cols: usize,
    ahead: [usize; 2],
) -> [TileDots; T] {
    // Partial sums of rows 0 and 1, and of rows 2 and 3: eight of each.
    let mut sums = [[_mm512_setzero_ps(); 2]; T];
    for i in (0..n_cols).step_by(8) {
        if i * F::BYTES % LINE == 0 {
            for row in rows {
                // Nothing is read by asking for memory.
                let here = row.wrapping_add(i * F::BYTES);
                _mm_prefetch::<_MM_HINT_T0>(here.wrapping_add(ahead[0]).cast());
                _mm_prefetch::<_MM_HINT_T1>(here.wrapping_add(ahead[1]).cast());
            }
        }
        // SAFETY: i + 8 <= n_cols.
        unsafe {
            let at = i * F::BYTES;
            let weights =
                [F::pair(rows[0].add(at), rows[1].add(at)), F::pair(rows[2].add(at), rows[3].add(at))];
            for t in 0..T {
                let x = _mm256_castps_pd(_mm256_loadu_ps(x.add(t * n_cols + i)));
                let x = _mm512_castpd_ps(_mm512_broadcast_f64x4(x));
                for p in 0..2 {
                    sums[t][p] = _mm512_fmadd_ps(weights[p], x, sums[t][p]);
                }
            }
        }
    }
    let mut out = [[0.0; TILE_ROWS]; T];
    let (fours, rest) = sums.as_chunks::<4>();
    for (sums, out) in fours.iter().zip(out.as_chunks_mut::<4>().0) {
        // SAFETY: sixteen floats are written to sixteen floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr().cast(), join_four(*sums)) };
    }
    for (sums, out) in rest.iter().zip(&mut out[T - rest.len()..]) {
        // SAFETY: four floats are written to four floats.
        unsafe { _mm_storeu_ps(out.as_mut_ptr(), join_one(*sums)) };
    }
    out
}

/// Adds the halves of the eight partial sums of each of four rows: four of each, a row in each quarter of the vector.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_halves(sums: [__m512; 2]) -> __m512 {
    let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(sums[0], sums[1]);
    let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(sums[0], sums[1]);
    _mm512_add_ps(low, high)
}

/// Joins the partial sums of four rows, eight of each, in the order of [`join_lanes`](super::super::join_lanes).
#[inline]
#[target_feature(enable = "avx512f")]
fn join_one(sums: [__m512; 2]) -> __m128 {
    let four = add_halves(sums);
    let two = _mm512_add_ps(four, _mm512_permute_ps::<0b01_00_11_10>(four));
    let one = _mm512_add_ps(two, _mm512_permute_ps::<0b10_11_00_01>(two));
    let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, one))
}

/// [`join_one`] for four tokens at a time: their joined rows, one token behind the other.
#[inline]
#[target_feature(enable = "avx512f")]
fn join_four(sums: [[__m512; 2]; 4]) -> __m512 {
    let four = [add_halves(sums[0]), add_halves(sums[1]), add_halves(sums[2]), add_halves(sums[3])];
    // In each quarter two numbers of a token and two of the one behind it.
    let two = [[four[0], four[1]], [four[2], four[3]]].map(|[a, b]| {
        _mm512_add_ps(_mm512_shuffle_ps::<0b01_00_01_00>(a, b), _mm512_shuffle_ps::<0b11_10_11_10>(a, b))
    });
    let one = _mm512_add_ps(
        _mm512_shuffle_ps::<0b10_00_10_00>(two[0], two[1]),
        _mm512_shuffle_ps::<0b11_01_11_01>(two[0], two[1]),
    );
    let by_token = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_ps(by_token, one)
}

/// See [`Isa::add_weighted_f16`](super::Isa::add_weighted_f16).
///
/// # Safety
/// As for [`dots_f16`], with the lengths of `y` and `weights`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn add_weighted_f16(weights: &[f32], rows: F16Rows<'_>, y: &mut [f32]) {
    let n_rows = rows.rows.len() / rows.n_cols;
    let mut t = 0;
    while t < y.len() / rows.n_cols {
        let (weights, y) = (&weights[t * n_rows..], &mut y[t * rows.n_cols..]);
        // SAFETY: `y` has as many vectors left as compared here, and `weights` the weights of each.
        t += unsafe {
            match y.len() / rows.n_cols {
                1 => add_to_vectors::<1, 4>(weights, rows, y),
                2 => add_to_vectors::<2, 4>(weights, rows, y),
                3 => add_to_vectors::<3, 4>(weights, rows, y),
                4..=7 => add_to_vectors::<4, 4>(weights, rows, y),
                // The sums of more columns would not fit the registers.
                _ => add_to_vectors::<8, 2>(weights, rows, y),
            }
        };
    }
}

/// The first `T` vectors of `y`, at most `16 * C` columns at a time; returns `T`.
///
/// # Safety
/// As for [`add_weighted_f16`]; `y` has `T` vectors, `weights` the weights of `T`; `C` is 4 or 2.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
unsafe fn add_to_vectors<const T: usize, const C: usize>(
    weights: &[f32],
    rows: F16Rows<'_>,
    y: &mut [f32],
) -> usize {
    let mut first = 0;
    while first < rows.n_cols {
        // SAFETY: the caller's promises; columns exist as compared here.
        first += unsafe {
            match rows.n_cols - first {
                64.. => add_to_columns::<T, C>(weights, rows, y, first),
                32.. => add_to_columns::<T, 2>(weights, rows, y, first),
                _ => add_to_columns::<T, 1>(weights, rows, y, first),
            }
        };
    }
    T
}

/// `16 * C` columns from `first` on of the first `T` vectors of `y`; returns `16 * C`.
///
/// # Safety
/// As for [`add_to_vectors`]; the columns exist.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl")]
unsafe fn add_to_columns<const T: usize, const C: usize>(
    weights: &[f32],
    rows: F16Rows<'_>,
    y: &mut [f32],
    first: usize,
) -> usize {
    let n_cols = rows.n_cols;
    let n_rows = rows.rows.len() / n_cols;
    let to_next = bytes_to_next(rows);
    let at = |i: usize, c: usize| i * n_cols + first + 16 * c;
    let mut sums = [[_mm512_setzero_ps(); C]; T];
    // SAFETY: the caller's promises: T vectors with columns first..first + 16 * C, n_rows rows with the same columns, n_rows
    // weights for each vector. Asking for memory ahead reads nothing.
    unsafe {
        for t in 0..T {
            for c in 0..C {
                sums[t][c] = _mm512_loadu_ps(y.as_ptr().add(at(t, c)));
            }
        }
        for r in 0..n_rows {
            let mut x = [_mm512_setzero_ps(); C];
            for c in 0..C {
                let place = rows.rows.as_ptr().wrapping_add(at(r, c));
                // Rows stand too far apart for the hardware to guess the next columns.
                if c % 2 == 0 {
                    _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(16 * C).cast());
                    _mm_prefetch::<_MM_HINT_T1>(place.wrapping_byte_add(to_next).cast());
                }
                x[c] = _mm512_cvtph_ps(_mm256_loadu_si256(place.cast()));
            }
            for t in 0..T {
                let weight = _mm512_set1_ps(*weights.as_ptr().add(t * n_rows + r));
                for c in 0..C {
                    sums[t][c] = _mm512_fmadd_ps(weight, x[c], sums[t][c]);
                }
            }
        }
        for t in 0..T {
            for c in 0..C {
                _mm512_storeu_ps(y.as_mut_ptr().add(at(t, c)), sums[t][c]);
            }
        }
    }
    16 * C
}
