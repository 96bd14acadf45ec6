//! Activations to signed bytes, where a vector holds half of a group of 32.
//!
//! What is joined within groups, magnitudes and codes, is joined for eight groups or more at a time.

use super::super::avx2::q8_scales;
use super::super::q8_scale::Q8Scale;
use std::arch::x86_64::*;

/// Groups of 32 that are quantised together.
const N: usize = 8;

/// See [`crate::simd::Isa::quantize_q8`].
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
pub(super) fn quantize_q8(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i32]) {
    let (x, q) = (x.as_chunks::<32>().0, q.as_chunks_mut::<32>().0);
    assert!(x.len() == q.len() && x.len() == d.len() && x.len() == sums.len());
    let runs = x.chunks(N).zip(q.chunks_mut(N)).zip(d.chunks_mut(N).zip(sums.chunks_mut(N)));
    for ((x, q), (d, sums)) in runs {
        let mut max = [_mm512_setzero_si512(); N];
        for (max, x) in max.iter_mut().zip(x) {
            let [low, high] = halves(x);
            *max = _mm512_max_epi32(magnitudes(low), magnitudes(high));
        }
        let max = join_eight(max, |a, b| _mm512_max_epi32(a, b));
        // Infinity and NaN are above all numbers.
        let is_number =
            _mm256_cmp_epi32_mask::<_MM_CMPINT_LE>(max, _mm256_set1_epi32(f32::MAX.to_bits() as i32));
        let nan = _mm256_set1_ps(f32::NAN);
        let (scales, inverses) = q8_scales(_mm256_mask_mov_ps(nan, is_number, _mm256_castsi256_ps(max)));
        d.copy_from_slice(&scales[..d.len()]);
        let mut totals = [_mm512_setzero_si512(); N];
        for (((x, q), inverse), total) in x.iter().zip(q).zip(inverses).zip(&mut totals) {
            let [low, high] = halves(x);
            let (low, high) = (quantize(low, inverse), quantize(high, inverse));
            let q = q.as_chunks_mut::<16>().0;
            store(low, &mut q[0]);
            store(high, &mut q[1]);
            *total = _mm512_add_epi32(low, high);
        }
        let mut all = [0; N];
        // SAFETY: eight integers are written to eight integers.
        unsafe {
            _mm256_storeu_si256(all.as_mut_ptr().cast(), join_eight(totals, |a, b| _mm512_add_epi32(a, b)))
        };
        sums.copy_from_slice(&all[..sums.len()]);
    }
}

/// See [`crate::simd::Isa::quantize_q8_k`].
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl")]
pub(super) fn quantize_q8_k(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let (x, q, sums) = (x.as_chunks::<256>().0, q.as_chunks_mut::<256>().0, sums.as_chunks_mut::<16>().0);
    assert!(x.len() == q.len() && x.len() == d.len() && x.len() == sums.len());
    for (((x, q), d), sums) in x.iter().zip(q).zip(d).zip(sums) {
        let x = x.as_chunks::<16>().0;
        let mut max = _mm512_setzero_si512();
        for x in x {
            max = _mm512_max_epi32(max, magnitudes(load(x)));
        }
        let max = f32::from_bits(_mm512_reduce_max_epi32(max) as u32);
        let scale = Q8Scale::q8_k(if max.is_finite() { max } else { f32::NAN });
        *d = scale.d;
        let mut codes = [_mm512_setzero_si512(); 16];
        for ((x, q), codes) in x.iter().zip(q.as_chunks_mut::<16>().0).zip(&mut codes) {
            *codes = quantize(load(x), scale.inverse);
            store(*codes, q);
        }
        let totals = _mm512_cvtepi32_epi16(add_sixteen(codes));
        // SAFETY: sixteen integers of two bytes are written to as many.
        unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), totals) };
    }
}

/// Bits of the magnitudes, which order as the magnitudes do, with infinity and NaN above all numbers.
#[inline]
#[target_feature(enable = "avx512f")]
fn magnitudes(x: __m512) -> __m512i {
    _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(i32::MAX))
}

/// `x * inverse`, rounded to nearest with ties to even.
#[inline]
#[target_feature(enable = "avx512f")]
fn quantize(x: __m512, inverse: f32) -> __m512i {
    // Infinity or NaN times zero is no number.
    let all = if inverse == 0.0 { 0 } else { u16::MAX };
    // The conversion rounds as MXCSR says, which Rust promises to be to nearest even.
    _mm512_maskz_cvtps_epi32(all, _mm512_mul_ps(x, _mm512_set1_ps(inverse)))
}

/// Elements of eight vectors joined by `join`, those of each vector to one.
#[inline]
#[target_feature(enable = "avx512f")]
fn join_eight(v: [__m512i; 8], join: impl Fn(__m512i, __m512i) -> __m512i) -> __m256i {
    let v = [join_quarters([v[0], v[1], v[2], v[3]], &join), join_quarters([v[4], v[5], v[6], v[7]], &join)];
    let two = join(_mm512_unpacklo_epi64(v[0], v[1]), _mm512_unpackhi_epi64(v[0], v[1]));
    let one = join(two, _mm512_shuffle_epi32::<0b10_11_00_01>(two));
    let in_order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm512_castsi512_si256(_mm512_permutexvar_epi32(in_order, one))
}

/// Sums of the elements of each of sixteen vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_sixteen(v: [__m512i; 16]) -> __m512i {
    let add = |a, b| _mm512_add_epi32(a, b);
    let mut fours = [_mm512_setzero_si512(); 4];
    for (four, v) in fours.iter_mut().zip(v.as_chunks::<4>().0) {
        *four = join_quarters(*v, add);
    }
    let two = |a, b| _mm512_castsi512_ps(add(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)));
    let (a, b) = (two(fours[0], fours[1]), two(fours[2], fours[3]));
    let even = _mm512_castps_si512(_mm512_shuffle_ps::<0b10_00_10_00>(a, b));
    let odd = _mm512_castps_si512(_mm512_shuffle_ps::<0b11_01_11_01>(a, b));
    let in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(in_order, add(even, odd))
}

/// The quarters of each of four vectors joined to one: a vector in each quarter.
#[inline]
#[target_feature(enable = "avx512f")]
fn join_quarters([a, b, c, d]: [__m512i; 4], join: impl Fn(__m512i, __m512i) -> __m512i) -> __m512i {
    let two =
        |a, b| join(_mm512_shuffle_i64x2::<0b01_00_01_00>(a, b), _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b));
    let (ab, cd) = (two(a, b), two(c, d));
    join(_mm512_shuffle_i64x2::<0b10_00_10_00>(ab, cd), _mm512_shuffle_i64x2::<0b11_01_11_01>(ab, cd))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(x: &[f32; 16]) -> __m512 {
    // SAFETY: sixteen floats are read from sixteen floats.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

/// The halves of a group.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(x: &[f32; 32]) -> [__m512; 2] {
    let x = x.as_chunks::<16>().0;
    [load(&x[0]), load(&x[1])]
}

/// Codes, all of which fit, as bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(codes: __m512i, q: &mut [i8; 16]) {
    // SAFETY: sixteen bytes are written to sixteen bytes.
    unsafe { _mm_storeu_si128(q.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(codes)) }
}
