//! Activations to signed bytes.

use super::super::q8_scale::Q8Scale;
use std::arch::aarch64::*;

/// See [`crate::simd::Isa::quantize_q8`].
pub(super) fn quantize_q8(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i32]) {
    let (x, q) = (x.as_chunks::<32>().0, q.as_chunks_mut::<32>().0);
    assert!(x.len() == q.len() && x.len() == d.len() && x.len() == sums.len());
    for (((x, q), d), sum) in x.iter().zip(q).zip(d).zip(sums) {
        let (x, q) = (x.as_chunks::<16>().0, q.as_chunks_mut::<16>().0);
        let scale = Q8Scale::q8(max_abs(x));
        *d = scale.d;
        *sum = x.iter().zip(q).map(|(x, q)| i32::from(quantize(x, scale.inverse, q))).sum();
    }
}

/// See [`crate::simd::Isa::quantize_q8_k`].
pub(super) fn quantize_q8_k(x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
    let (x, q, sums) = (x.as_chunks::<256>().0, q.as_chunks_mut::<256>().0, sums.as_chunks_mut::<16>().0);
    assert!(x.len() == q.len() && x.len() == d.len() && x.len() == sums.len());
    for (((x, q), d), sums) in x.iter().zip(q).zip(d).zip(sums) {
        let (x, q) = (x.as_chunks::<16>().0, q.as_chunks_mut::<16>().0);
        let scale = Q8Scale::q8_k(max_abs(x));
        *d = scale.d;
        for ((x, q), sum) in x.iter().zip(q).zip(sums) {
            *sum = quantize(x, scale.inverse, q);
        }
    }
}

/// max |x|, NaN if any element is NaN or infinite.
#[inline(always)]
fn max_abs(x: &[[f32; 16]]) -> f32 {
    // Magnitudes of floats order like their bits, with infinity and NaN above all numbers.
    // SAFETY: NEON, as always; four floats are read from four floats.
    let max = unsafe {
        let mut max = vdupq_n_u32(0);
        for x in x {
            for x in x.as_chunks::<4>().0 {
                max = vmaxq_u32(max, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x.as_ptr()))));
            }
        }
        f32::from_bits(vmaxvq_u32(max))
    };
    if max.is_finite() { max } else { f32::NAN }
}

/// Writes `x * inverse`, rounded to nearest with ties to even, to `q`; returns the sum.
#[inline(always)]
fn quantize(x: &[f32; 16], inverse: f32, q: &mut [i8; 16]) -> i16 {
    let x = x.as_chunks::<4>().0;
    // SAFETY: NEON, as always; four floats are read from four floats.
    let words = |i: usize| unsafe {
        // NaN, which infinity or NaN times an inverse of zero is, becomes 0.
        vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x[i].as_ptr()), inverse)))
    };
    // SAFETY: NEON, as always; 16 bytes are written to 16 bytes.
    unsafe {
        let low = vqmovn_s16(vcombine_s16(words(0), words(1)));
        let high = vqmovn_s16(vcombine_s16(words(2), words(3)));
        let codes = vcombine_s8(low, high);
        vst1q_s8(q.as_mut_ptr(), codes);
        vaddlvq_s8(codes)
    }
}
