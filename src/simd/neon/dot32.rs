//! Dot products of rows in 32-element formats: a tile of four rows, one to four tokens.

use super::super::{Q8Batch, TILE_ROWS, TileDots};
use super::{DotProduct, Products, Widening, halves, iq4_values, nibbles, sum_lanes};
use crate::quant::{Block32, Coarse3, Iq4Nl, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use std::arch::aarch64::*;

/// A format whose codes NEON can unpack.
pub(super) trait Unpack32: Block32 {
    /// The 32 codes of a block, as [`Block32::codes`] gives them.
    ///
    /// # Safety
    /// `BYTES` bytes can be read from `block`.
    unsafe fn load_codes(block: *const u8) -> [int8x16_t; 2];
}

/// [`dot`], compiled for the dot product instruction.
///
/// # Safety
/// As for [`dot`], and the CPU has the dot product instruction.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn dot_with_dotprod<F: Unpack32>(
    rows: [&[u8]; TILE_ROWS],
    x: Q8Batch<'_>,
    out: &mut [TileDots],
) {
    // SAFETY: the caller's promises.
    unsafe { dot::<F, DotProduct>(rows, x, out) }
}

/// [`dot`] without the dot product instruction. A function of its own, so that `.ci/mca` finds it.
///
/// # Safety
/// As for [`dot`].
#[inline(never)]
pub(super) unsafe fn dot_widening<F: Unpack32>(
    rows: [&[u8]; TILE_ROWS],
    x: Q8Batch<'_>,
    out: &mut [TileDots],
) {
    // SAFETY: the caller's promises; Widening needs no more than NEON.
    unsafe { dot::<F, Widening>(rows, x, out) }
}

/// Dot products of four rows with every token of `x`.
///
/// # Safety
/// `x.check` held for `F`, `rows` and `out.len()`; the CPU has the instructions of `P`.
#[inline(always)]
unsafe fn dot<F: Unpack32, P: Products>(rows: [&[u8]; TILE_ROWS], x: Q8Batch<'_>, out: &mut [TileDots]) {
    let mut t = 0;
    while t < out.len() {
        // SAFETY: the caller's promises; tokens t.. of `x` and `out` exist, as compared here.
        t += unsafe {
            match out.len() - t {
                1 => tile::<F, P, 1>(rows, x, t, out),
                2 | 3 => tile::<F, P, 2>(rows, x, t, out),
                _ => tile::<F, P, 4>(rows, x, t, out),
            }
        };
    }
}

/// Tokens `first..first + T`; returns `T`.
///
/// # Safety
/// As for [`dot`], and `first + T <= out.len()`.
#[inline(always)]
unsafe fn tile<F: Unpack32, P: Products, const T: usize>(
    rows: [&[u8]; TILE_ROWS],
    x: Q8Batch<'_>,
    first: usize,
    out: &mut [TileDots],
) -> usize {
    let n_blocks = x.n_cols / 32;
    // SAFETY: NEON, as always.
    let mut acc = [unsafe { vdupq_n_f32(0.0) }; T];
    for b in 0..n_blocks {
        // SAFETY: a row is n_blocks blocks of BYTES bytes; a token has 32 codes, a scale and a sum for
        // each of n_blocks; tokens first..first + T exist; the CPU has the instructions of P.
        unsafe {
            let mut blocks = [std::ptr::null(); TILE_ROWS];
            let mut codes = [[vdupq_n_s8(0); 2]; TILE_ROWS];
            for r in 0..TILE_ROWS {
                blocks[r] = rows[r].as_ptr().add(b * F::BYTES);
                codes[r] = F::load_codes(blocks[r]);
            }
            let d = halves(blocks, 0);
            for t in 0..T {
                let at = (first + t) * n_blocks + b;
                let xq = x.q.as_ptr().add(32 * at);
                let xq = [vld1q_s8(xq), vld1q_s8(xq.add(16))];
                let xd = *x.d.as_ptr().add(at);
                let sum = *x.sums.as_ptr().add(at);
                let mut dots = [vdupq_n_s32(0); TILE_ROWS];
                for r in 0..TILE_ROWS {
                    dots[r] = P::add(dots[r], codes[r][0], xq[0]);
                    dots[r] = P::add(dots[r], codes[r][1], xq[1]);
                }
                let dots = vsubq_s32(sum_lanes(dots), vdupq_n_s32(F::OFFSET * sum));
                acc[t] = vfmaq_f32(acc[t], vcvtq_f32_s32(dots), vmulq_n_f32(d, xd));
                if F::HAS_MIN {
                    let m = halves(blocks, 2);
                    acc[t] = vfmaq_n_f32(acc[t], vmulq_n_f32(m, xd), sum as f32);
                }
            }
        }
    }
    for t in 0..T {
        // SAFETY: an element of `out` is four floats.
        unsafe { vst1q_f32(out[first + t].as_mut_ptr(), acc[t]) };
    }
    T
}

impl Unpack32 for Q4_0 {
    #[inline(always)]
    unsafe fn load_codes(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: nibbles are bytes 2..18 of a block.
        unsafe { nibbles(block.add(2)) }
    }
}

impl Unpack32 for Q4_1 {
    #[inline(always)]
    unsafe fn load_codes(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: nibbles are bytes 4..20 of a block.
        unsafe { nibbles(block.add(4)) }
    }
}

impl Unpack32 for Q5_0 {
    #[inline(always)]
    unsafe fn load_codes(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: fifth bits are bytes 2..6, nibbles bytes 6..22 of a block.
        unsafe { with_fifth_bits(nibbles(block.add(6)), block.add(2)) }
    }
}

impl Unpack32 for Q5_1 {
    #[inline(always)]
    unsafe fn load_codes(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: fifth bits are bytes 4..8, nibbles bytes 8..24 of a block.
        unsafe { with_fifth_bits(nibbles(block.add(8)), block.add(4)) }
    }
}

impl Unpack32 for Q8_0 {
    #[inline(always)]
    unsafe fn load_codes(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: codes are bytes 2..34 of a block.
        unsafe { [vld1q_s8(block.add(2).cast()), vld1q_s8(block.add(18).cast())] }
    }
}

impl Unpack32 for Iq4Nl {
    #[inline(always)]
    unsafe fn load_codes(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: nibbles are bytes 2..18 of a block.
        unsafe { iq4_values(nibbles(block.add(2))) }
    }
}

impl Unpack32 for Coarse3 {
    #[inline(always)]
    unsafe fn load_codes(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: low bits are bytes 2..10, high ones bytes 10..14 of a block; the read of a word may be unaligned.
        unsafe {
            let low = vld1_u8(block.add(2));
            let low = vcombine_u8(low, vshr_n_u8::<2>(low));
            let high = vdupq_n_u32(block.add(10).cast::<u32>().read_unaligned());
            // Byte n of the first vector has bit n / 4 of its byte, of the second bit 4 + n / 4.
            let bit = vreinterpretq_u8_u32(vcombine_u32(
                vcreate_u32(0x0202_0202_0101_0101),
                vcreate_u32(0x0808_0808_0404_0404),
            ));
            let code = |low, bit| {
                let doubled = vandq_u8(vaddq_u8(low, low), vdupq_n_u8(6));
                let is_set = vtstq_u8(vreinterpretq_u8_u32(high), bit);
                vreinterpretq_s8_u8(vorrq_u8(doubled, vandq_u8(is_set, vdupq_n_u8(8))))
            };
            [code(low, bit), code(vshrq_n_u8::<4>(low), vshlq_n_u8::<4>(bit))]
        }
    }
}

/// Adds 16 to code n where bit n of the word at `qh` is set.
///
/// # Safety
/// Four bytes can be read.
#[inline(always)]
unsafe fn with_fifth_bits(nibbles: [int8x16_t; 2], qh: *const u8) -> [int8x16_t; 2] {
    // SAFETY: the caller's promise; the read may be unaligned.
    unsafe {
        let bytes = vreinterpretq_u8_u32(vdupq_n_u32(qh.cast::<u32>().read_unaligned()));
        // Byte n looks at byte n / 8 of the word, then at its bit n % 8.
        let first = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
        let second = vaddq_u8(first, vdupq_n_u8(2));
        let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
        let fifth = |byte| {
            let is_set = vtstq_u8(vqtbl1q_u8(bytes, byte), bit);
            vreinterpretq_s8_u8(vandq_u8(is_set, vdupq_n_u8(16)))
        };
        [vorrq_s8(nibbles[0], fifth(first)), vorrq_s8(nibbles[1], fifth(second))]
    }
}
