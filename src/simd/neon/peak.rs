//! As many products as these instruction sets make.

use super::{DotProduct, Products};
use std::arch::aarch64::*;
use std::arch::asm;
use std::hint::black_box;

/// Sums at a time: more than an instruction's latency times those that a cycle begins.
const SUMS: usize = 12;
/// Products that are added in 16 bits before they are widened: more than any panel adds, so that widening costs little.
const STEPS: usize = 16;

/// See [`make_products`](crate::simd::Isa::make_products).
pub(super) fn make_products_widening(n_rounds: usize) -> u64 {
    // SAFETY: NEON, as always.
    unsafe {
        let mut ones = vdup_n_s8(1);
        let mut sums = black_box([vdupq_n_s32(0); SUMS]);
        for _ in 0..n_rounds {
            let mut of_16_bits: [int16x8_t; SUMS] = [vdupq_n_s16(0); SUMS];
            for _ in 0..STEPS {
                for sum in &mut of_16_bits {
                    ones = opaque(ones);
                    *sum = vmlal_s8(*sum, ones, ones);
                }
            }
            for (sum, of_16_bits) in sums.iter_mut().zip(of_16_bits) {
                *sum = vpadalq_s16(*sum, of_16_bits);
            }
        }
        sums.map(|sum| vaddvq_s32(sum) as u64).iter().sum()
    }
}

/// The same by the dot product instruction.
///
/// # Safety
/// The CPU has it.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn make_products_dot(n_rounds: usize) -> u64 {
    // Hidden from the compiler, which would make one chain of sums that are the same.
    let ones = black_box(vdupq_n_s8(1));
    let mut sums = black_box([vdupq_n_s32(0); SUMS]);
    for _ in 0..n_rounds {
        for sum in &mut sums {
            // SAFETY: the caller's promise.
            *sum = unsafe { DotProduct::add(*sum, ones, ones) };
        }
    }
    sums.map(|sum| vaddvq_s32(sum) as u64).iter().sum()
}

/// The same, of which the compiler knows nothing, so that each product is made. It costs no instruction.
#[inline(always)]
fn opaque(x: int8x8_t) -> int8x8_t {
    let mut x = x;
    // SAFETY: nothing is executed.
    unsafe { asm!("/* {x:v} */", x = inout(vreg) x, options(nomem, nostack, preserves_flags)) };
    x
}
