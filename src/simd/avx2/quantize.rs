//! Activations to signed bytes.

use super::super::q8_scale::Q8Scale;
use std::arch::x86_64::*;

/// See [`crate::simd::Isa::quantize_q8`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn quantize_q8(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i32]) {
    let (x, q) = (x.as_chunks::<32>().0, q.as_chunks_mut::<32>().0);
    assert!(x.len() == q.len() && x.len() == d.len() && x.len() == sums.len());
    // Groups whose scales are computed together.
    const N: usize = 8;
    let runs = x.chunks(N).zip(q.chunks_mut(N)).zip(d.chunks_mut(N).zip(sums.chunks_mut(N)));
    for ((x, q), (d, sums)) in runs {
        let mut max = [0.0; N];
        for (max, x) in max.iter_mut().zip(x) {
            *max = max_abs(&[*x]);
        }
        let (scales, inverses) = q8_scales(load(&max));
        d.copy_from_slice(&scales[..d.len()]);
        for (((x, q), inverse), sum) in x.iter().zip(q).zip(inverses).zip(sums) {
            let codes = quantize(x, inverse);
            store(codes, q);
            let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
            let quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            let halves = (_mm256_castsi256_si128(quads), _mm256_extracti128_si256::<1>(quads));
            *sum = sum_i32(_mm_add_epi32(halves.0, halves.1));
        }
    }
}

/// What [`Q8Scale::q8`] gives for each of eight groups: scales, and factors that quantise.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(in super::super) fn q8_scales(max: __m256) -> ([f32; 8], [f32; 8]) {
    let infinity = _mm256_set1_ps(f32::INFINITY);
    let d = _mm256_div_ps(max, _mm256_set1_ps(127.0));
    let half = _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(d));
    let d = _mm256_blendv_ps(half, d, _mm256_cmp_ps::<_CMP_EQ_OQ>(half, infinity));
    let inverse = _mm256_div_ps(_mm256_set1_ps(127.0), max);
    // False for NaN too.
    let is_finite = _mm256_cmp_ps::<_CMP_LT_OQ>(inverse, infinity);
    let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(max, max);
    let d = _mm256_blendv_ps(_mm256_and_ps(d, is_finite), _mm256_set1_ps(f32::NAN), is_nan);
    let (mut scales, mut inverses) = ([0.0; 8], [0.0; 8]);
    // SAFETY: eight floats are written to eight floats.
    unsafe {
        _mm256_storeu_ps(scales.as_mut_ptr(), d);
        _mm256_storeu_ps(inverses.as_mut_ptr(), _mm256_and_ps(inverse, is_finite));
    }
    (scales, inverses)
}

/// See [`crate::simd::Isa::quantize_q8_k`].
#[target_feature(enable = "avx2")]
pub(super) fn quantize_q8_k(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let (x, q, sums) = (x.as_chunks::<256>().0, q.as_chunks_mut::<256>().0, sums.as_chunks_mut::<16>().0);
    assert!(x.len() == q.len() && x.len() == d.len() && x.len() == sums.len());
    for (((x, q), d), sums) in x.iter().zip(q).zip(d).zip(sums) {
        let (x, q) = (x.as_chunks::<32>().0, q.as_chunks_mut::<32>().0);
        let scale = Q8Scale::q8_k(max_abs(x));
        *d = scale.d;
        for ((x, q), sums) in x.iter().zip(q).zip(sums.as_chunks_mut::<2>().0) {
            let codes = quantize(x, scale.inverse);
            store(codes, q);
            let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
            let quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            sums[0] = sum_i32(_mm256_castsi256_si128(quads)) as i16;
            sums[1] = sum_i32(_mm256_extracti128_si256::<1>(quads)) as i16;
        }
    }
}

/// max |x|, NaN if any element is NaN or infinite.
#[inline]
#[target_feature(enable = "avx2")]
fn max_abs(x: &[[f32; 32]]) -> f32 {
    // Magnitudes of floats order like their bits, with infinity and NaN above all numbers.
    let magnitude = _mm256_set1_epi32(i32::MAX);
    let mut max = _mm256_setzero_si256();
    for x in x {
        for x in x.as_chunks::<8>().0 {
            max = _mm256_max_epi32(max, _mm256_and_si256(_mm256_castps_si256(load(x)), magnitude));
        }
    }
    let max = _mm_max_epi32(_mm256_castsi256_si128(max), _mm256_extracti128_si256::<1>(max));
    let max = _mm_max_epi32(max, _mm_shuffle_epi32::<0b01_00_11_10>(max));
    let max = _mm_max_epi32(max, _mm_shuffle_epi32::<0b10_11_00_01>(max));
    let max = f32::from_bits(_mm_cvtsi128_si32(max) as u32);
    if max.is_finite() { max } else { f32::NAN }
}

/// `x * inverse`, rounded to nearest with ties to even.
#[inline]
#[target_feature(enable = "avx2")]
fn quantize(x: &[f32; 32], inverse: f32) -> __m256i {
    if inverse == 0.0 {
        // Infinity or NaN times zero is no number.
        return _mm256_setzero_si256();
    }
    let inverse = _mm256_set1_ps(inverse);
    let x = x.as_chunks::<8>().0;
    // The conversion rounds as MXCSR says, which Rust promises to be to nearest even.
    let mut codes = [_mm256_setzero_si256(); 4];
    for i in 0..4 {
        codes[i] = _mm256_cvtps_epi32(_mm256_mul_ps(load(&x[i]), inverse));
    }
    // Packing works within halves of the vectors: quads of bytes come out as 0 2 4 6 1 3 5 7.
    let words = [_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3])];
    let bytes = _mm256_packs_epi16(words[0], words[1]);
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(x: &[f32; 8]) -> __m256 {
    // SAFETY: eight floats are read from eight floats.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(codes: __m256i, q: &mut [i8; 32]) {
    // SAFETY: 32 bytes are written to 32 bytes.
    unsafe { _mm256_storeu_si256(q.as_mut_ptr().cast(), codes) }
}

/// The sum of four lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_i32(v: __m128i) -> i32 {
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
    _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<0b10_11_00_01>(v)))
}
