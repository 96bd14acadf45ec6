//! As many products as this instruction set makes.

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

/// Sums at a time: they and those of 16 bits fill the registers.
const SUMS: usize = 6;
/// Pairs of products that are added in 16 bits before they are widened: more than any panel adds, so that widening costs little.
const STEPS: usize = 16;

/// See [`make_products`](crate::simd::Isa::make_products).
#[target_feature(enable = "avx2")]
pub(super) fn make_products(n_rounds: usize) -> u64 {
    // Hidden from the compiler, which would make one chain of sums that are the same.
    let mut ones = black_box(_mm256_set1_epi8(1));
    let mut sums = black_box([_mm256_setzero_si256(); SUMS]);
    for _ in 0..n_rounds {
        let mut of_16_bits = zeros();
        for _ in 0..STEPS {
            for sum in &mut of_16_bits {
                ones = opaque(ones);
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(ones, ones));
            }
        }
        for (sum, of_16_bits) in sums.iter_mut().zip(of_16_bits) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(of_16_bits, _mm256_set1_epi16(1)));
        }
    }
    sums.map(|sum| sum_of_lanes(sum)).iter().sum()
}

/// Zeros of which each may be another to the compiler.
#[inline]
#[target_feature(enable = "avx2")]
fn zeros() -> [__m256i; SUMS] {
    std::array::from_fn(|_| opaque(_mm256_setzero_si256()))
}

/// The same, of which the compiler knows nothing, so that each product is made. It costs no instruction.
#[inline]
#[target_feature(enable = "avx2")]
fn opaque(x: __m256i) -> __m256i {
    let mut x = x;
    // SAFETY: nothing is executed.
    unsafe { asm!("/* {x} */", x = inout(ymm_reg) x, options(nomem, nostack, preserves_flags)) };
    x
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_of_lanes(sum: __m256i) -> u64 {
    let mut lanes = [0_i32; 8];
    // SAFETY: the array has 32 bytes; the store may be unaligned.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
    lanes.iter().map(|&lane| lane as u64).sum()
}
