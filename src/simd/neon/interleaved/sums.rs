//! How products with the four rows of a vector are added up.

use super::super::lanes::add_word;
use super::super::{DotProduct, Products, Widening};
use crate::quant::Codes;
use std::arch::aarch64::*;
use std::arch::asm;

/// Sums of products of four rows with a token, for as many columns as share a scale.
///
/// # Safety
/// All functions: the CPU has the instructions that the implementation says.
pub(super) trait RowSums: Products {
    /// Sums that are not finished.
    type Sums: Copy;
    /// Tokens that share what is loaded and unpacked, at most.
    const MAX_TOKENS: usize;

    /// `start` in every lane.
    unsafe fn begin(start: i32) -> Self::Sums;

    /// Adds the products of a quad of codes of format `F` and word `LANE` of `x`: quad `n` of `of`, from 0 on.
    unsafe fn add_quad<F: Codes, const LANE: i32>(
        sums: Self::Sums,
        n: usize,
        of: usize,
        quad: int8x16_t,
        x: int8x16_t,
    ) -> Self::Sums;

    /// The same for the only four quads.
    unsafe fn add_four<F: Codes>(sums: Self::Sums, quads: [int8x16_t; 4], x: int8x16_t) -> Self::Sums;

    /// The sums.
    unsafe fn end(sums: Self::Sums) -> int32x4_t;
}

impl RowSums for DotProduct {
    type Sums = int32x4_t;
    const MAX_TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn begin(start: i32) -> int32x4_t {
        let sums;
        // SAFETY: computes in registers only. Not `pure`, lest the compiler makes one vector for all rows and copies it: copying
        // takes a vector unit, this none of them.
        unsafe {
            asm!(
                "dup {sums:v}.4s, {start:w}",
                sums = out(vreg) sums, start = in(reg) start,
                options(nomem, nostack, preserves_flags),
            );
        }
        sums
    }

    #[inline(always)]
    unsafe fn add_quad<F: Codes, const LANE: i32>(
        sums: int32x4_t,
        _n: usize,
        _of: usize,
        quad: int8x16_t,
        x: int8x16_t,
    ) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { add_word::<LANE>(sums, quad, x) }
    }

    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn add_four<F: Codes>(sums: int32x4_t, quads: [int8x16_t; 4], x: int8x16_t) -> int32x4_t {
        let mut sums = sums;
        // SAFETY: computes in registers only; the CPU has the instruction by the caller's promise. Not `pure`: see `anew`.
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {a:v}.16b, {x:v}.4b[0]",
                "sdot {sums:v}.4s, {b:v}.16b, {x:v}.4b[1]",
                "sdot {sums:v}.4s, {c:v}.16b, {x:v}.4b[2]",
                "sdot {sums:v}.4s, {d:v}.16b, {x:v}.4b[3]",
                sums = inout(vreg) sums, x = in(vreg) x,
                a = in(vreg) quads[0], b = in(vreg) quads[1], c = in(vreg) quads[2], d = in(vreg) quads[3],
                options(nomem, nostack, preserves_flags),
            );
        }
        sums
    }

    #[inline(always)]
    unsafe fn end(sums: int32x4_t) -> int32x4_t {
        sums
    }
}

/// Sums by multiplication to 16 bits.
#[derive(Clone, Copy)]
pub(super) struct WideningSums {
    start: i32,
    /// Lanes are rows 0 0 0 0 1 1 1 1 and 2 2 2 2 3 3 3 3: products that are still to be widened.
    products: [int16x8_t; 2],
    /// Lanes are rows 0 0 1 1 and 2 2 3 3.
    wide: [int32x4_t; 2],
}

impl RowSums for Widening {
    type Sums = WideningSums;
    const MAX_TOKENS: usize = 1;

    #[inline(always)]
    unsafe fn begin(start: i32) -> WideningSums {
        // SAFETY: NEON, as always.
        unsafe { WideningSums { start, products: [vdupq_n_s16(0); 2], wide: [vdupq_n_s32(0); 2] } }
    }

    #[inline(always)]
    unsafe fn add_quad<F: Codes, const LANE: i32>(
        mut sums: WideningSums,
        n: usize,
        of: usize,
        quad: int8x16_t,
        x: int8x16_t,
    ) -> WideningSums {
        // Products that a lane of 16 bits holds before it must be widened: a power of two.
        let n_products = const {
            let largest = if let Some(max) = F::MAX_CODE { max } else { 128 };
            1 << (i16::MAX as i32 / (127 * largest)).ilog2()
        };
        // SAFETY: NEON, as always.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_laneq_s32::<LANE>(vreinterpretq_s32_s8(x)));
            let low = (vget_low_s8(quad), vget_low_s8(x));
            let p = &mut sums.products;
            *p = match n % n_products {
                0 => [vmull_s8(low.0, low.1), vmull_high_s8(quad, x)],
                _ => [vmlal_s8(p[0], low.0, low.1), vmlal_high_s8(p[1], quad, x)],
            };
            if n % n_products == n_products - 1 || n == of - 1 {
                sums.wide = std::array::from_fn(|i| vpadalq_s16(sums.wide[i], p[i]));
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn add_four<F: Codes>(sums: WideningSums, quads: [int8x16_t; 4], x: int8x16_t) -> WideningSums {
        // SAFETY: the caller's promise.
        unsafe {
            let sums = Self::add_quad::<F, 0>(sums, 0, 4, quads[0], x);
            let sums = Self::add_quad::<F, 1>(sums, 1, 4, quads[1], x);
            let sums = Self::add_quad::<F, 2>(sums, 2, 4, quads[2], x);
            let mut sums = Self::add_quad::<F, 3>(sums, 3, 4, quads[3], x);
            // Does nothing, but that not before the sums are there: see `anew`.
            asm!(
                "/* {low:v} {high:v} */",
                low = inout(vreg) sums.wide[0], high = inout(vreg) sums.wide[1],
                options(nomem, nostack, preserves_flags),
            );
            sums
        }
    }

    #[inline(always)]
    unsafe fn end(sums: WideningSums) -> int32x4_t {
        // SAFETY: NEON, as always.
        unsafe { vaddq_s32(vpaddq_s32(sums.wide[0], sums.wide[1]), vdupq_n_s32(sums.start)) }
    }
}
