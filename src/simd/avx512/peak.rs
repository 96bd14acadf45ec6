//! As many products as this instruction set makes.

use std::arch::x86_64::*;
use std::hint::black_box;

/// Sums at a time: more than an instruction's latency times those that a cycle begins.
const SUMS: usize = 16;

/// See [`make_products`](crate::simd::Isa::make_products).
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn make_products(n_rounds: usize) -> u64 {
    // Hidden from the compiler, which would make one chain of sums that are the same.
    let ones = black_box(_mm512_set1_epi8(1));
    let mut sums = black_box([_mm512_setzero_si512(); SUMS]);
    for _ in 0..n_rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, ones, ones);
        }
    }
    sums.map(|sum| _mm512_reduce_add_epi32(sum) as u64).iter().sum()
}
