//! Dot products of rows in 256-element formats: a tile of four rows, one to four tokens.

use super::super::{Q8KBatch, TILE_ROWS, TileDots};
use super::{DotProduct, Products, Widening, halves, iq4_values, nibbles, sum_lanes};
use crate::quant::{Block256, Codes, Iq4Xs, Q4K, Q5K, Q6K, unpack_scales_and_mins};
use std::arch::aarch64::*;

/// A format whose codes and scales NEON can unpack.
pub(super) trait Unpack256: Block256 {
    /// The codes of elements 32 * RUN .. 32 * RUN + 32, as [`Block256::codes`] gives them.
    ///
    /// # Safety
    /// `BYTES` bytes can be read from `block`; RUN is below 8.
    unsafe fn load_codes<const RUN: usize>(block: *const u8) -> [int8x16_t; 2];

    /// The scales of the groups in order, 8 or 16 of them.
    ///
    /// # Safety
    /// `BYTES` bytes can be read from `block`.
    unsafe fn load_scales(block: *const u8) -> [int16x8_t; 2];

    /// What the sum of each 16 activations counts: the minimum, or [`OFFSET`](crate::quant::Codes::OFFSET) times
    /// the scale.
    ///
    /// # Safety
    /// As for [`load_scales`](Self::load_scales).
    unsafe fn load_mins(block: *const u8) -> [int16x8_t; 2];
}

/// [`dot`], compiled for the dot product instruction.
///
/// # Safety
/// As for [`dot`], and the CPU has the dot product instruction.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn dot_with_dotprod<F: Unpack256>(
    rows: [&[u8]; TILE_ROWS],
    x: Q8KBatch<'_>,
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
pub(super) unsafe fn dot_widening<F: Unpack256>(
    rows: [&[u8]; TILE_ROWS],
    x: Q8KBatch<'_>,
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
unsafe fn dot<F: Unpack256, P: Products>(rows: [&[u8]; TILE_ROWS], x: Q8KBatch<'_>, out: &mut [TileDots]) {
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
unsafe fn tile<F: Unpack256, P: Products, const T: usize>(
    rows: [&[u8]; TILE_ROWS],
    x: Q8KBatch<'_>,
    first: usize,
    out: &mut [TileDots],
) -> usize {
    let n_blocks = x.n_cols / 256;
    // SAFETY: NEON, as always.
    let mut acc = [unsafe { vdupq_n_f32(0.0) }; T];
    for b in 0..n_blocks {
        let mut blocks = [std::ptr::null(); TILE_ROWS];
        // SAFETY: NEON, as always.
        let mut dots = [[unsafe { vdupq_n_s32(0) }; TILE_ROWS]; T];
        let mut min_dots = dots;
        for r in 0..TILE_ROWS {
            // SAFETY: a row is n_blocks blocks of BYTES bytes; a token has 256 codes and 16 sums for
            // each of n_blocks; tokens first..first + T exist; the CPU has the instructions of P.
            unsafe {
                blocks[r] = rows[r].as_ptr().add(b * F::BYTES);
                let mut xq = [std::ptr::null(); T];
                for t in 0..T {
                    xq[t] = x.q.as_ptr().add(256 * ((first + t) * n_blocks + b));
                }
                let row = row_dots::<F, P, T>(blocks[r], xq);
                for t in 0..T {
                    dots[t][r] = row[t];
                }
                if F::HAS_MIN || F::OFFSET != 0 {
                    let mins = F::load_mins(blocks[r]);
                    for t in 0..T {
                        let sums = x.sums.as_ptr().add(16 * ((first + t) * n_blocks + b));
                        let sums = [vld1q_s16(sums), vld1q_s16(sums.add(8))];
                        let low = vmull_s16(vget_low_s16(mins[0]), vget_low_s16(sums[0]));
                        let low = vmlal_high_s16(low, mins[0], sums[0]);
                        let high = vmlal_s16(low, vget_low_s16(mins[1]), vget_low_s16(sums[1]));
                        min_dots[t][r] = vmlal_high_s16(high, mins[1], sums[1]);
                    }
                }
            }
        }
        // SAFETY: as above; a block has a half at D_AT, with minima another behind it.
        unsafe {
            let d = halves(blocks, F::D_AT);
            for t in 0..T {
                let xd = *x.d.as_ptr().add((first + t) * n_blocks + b);
                let min_dots = sum_lanes(min_dots[t]);
                let mut dots = sum_lanes(dots[t]);
                if F::OFFSET != 0 {
                    dots = vsubq_s32(dots, min_dots);
                }
                acc[t] = vfmaq_f32(acc[t], vcvtq_f32_s32(dots), vmulq_n_f32(d, xd));
                if F::HAS_MIN {
                    let dmin = vmulq_n_f32(halves(blocks, F::D_AT + 2), xd);
                    acc[t] = vfmsq_f32(acc[t], vcvtq_f32_s32(min_dots), dmin);
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

/// Products of one block with the 256 activations at each of `x`, times the group scales, in lanes that
/// are still to be added.
///
/// # Safety
/// `BYTES` bytes can be read from `block`, 256 from each of `x`; the CPU has the instructions of P.
#[inline(always)]
unsafe fn row_dots<F: Unpack256, P: Products, const T: usize>(
    block: *const u8,
    x: [*const i8; T],
) -> [int32x4_t; T] {
    // SAFETY: the caller's promise.
    let (mut dots, scales) = unsafe {
        let scales = F::load_scales(block);
        let widened = [
            vmovl_s16(vget_low_s16(scales[0])),
            vmovl_high_s16(scales[0]),
            vmovl_s16(vget_low_s16(scales[1])),
            vmovl_high_s16(scales[1]),
        ];
        ([vdupq_n_s32(0); T], widened)
    };
    macro_rules! run {
        ($RUN:literal) => {{
            // SAFETY: the caller's promises; runs are 0..8.
            unsafe {
                let codes = F::load_codes::<$RUN>(block);
                for t in 0..T {
                    let xq = x[t].add(32 * $RUN);
                    let xq = [vld1q_s8(xq), vld1q_s8(xq.add(16))];
                    let low = P::add(vdupq_n_s32(0), codes[0], xq[0]);
                    if F::GROUP == 16 {
                        let high = P::add(vdupq_n_s32(0), codes[1], xq[1]);
                        let scales = scales[$RUN / 2];
                        dots[t] = vmlaq_laneq_s32::<{ 2 * ($RUN % 2) }>(dots[t], low, scales);
                        dots[t] = vmlaq_laneq_s32::<{ 2 * ($RUN % 2) + 1 }>(dots[t], high, scales);
                    } else {
                        let both = P::add(low, codes[1], xq[1]);
                        dots[t] = vmlaq_laneq_s32::<{ $RUN % 4 }>(dots[t], both, scales[$RUN / 4]);
                    }
                }
            }
        }};
    }
    run!(0);
    run!(1);
    run!(2);
    run!(3);
    run!(4);
    run!(5);
    run!(6);
    run!(7);
    dots
}

impl Unpack256 for Q4K {
    #[inline(always)]
    unsafe fn load_codes<const RUN: usize>(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: nibbles are bytes 16..144 of a block.
        unsafe { nibble_run::<RUN>(block.add(16)) }
    }

    #[inline(always)]
    unsafe fn load_scales(block: *const u8) -> [int16x8_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { six_bit_scales(block) }
    }

    #[inline(always)]
    unsafe fn load_mins(block: *const u8) -> [int16x8_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { six_bit_mins(block) }
    }
}

impl Unpack256 for Q5K {
    #[inline(always)]
    unsafe fn load_codes<const RUN: usize>(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: fifth bits are bytes 16..48, nibbles bytes 48..176 of a block.
        unsafe {
            let low = nibble_run::<RUN>(block.add(48));
            let fifth = |qh| {
                let is_set = vtstq_u8(vld1q_u8(qh), vdupq_n_u8(1 << RUN));
                vreinterpretq_s8_u8(vandq_u8(is_set, vdupq_n_u8(16)))
            };
            [vorrq_s8(low[0], fifth(block.add(16))), vorrq_s8(low[1], fifth(block.add(32)))]
        }
    }

    #[inline(always)]
    unsafe fn load_scales(block: *const u8) -> [int16x8_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { six_bit_scales(block) }
    }

    #[inline(always)]
    unsafe fn load_mins(block: *const u8) -> [int16x8_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { six_bit_mins(block) }
    }
}

impl Unpack256 for Q6K {
    #[inline(always)]
    unsafe fn load_codes<const RUN: usize>(block: *const u8) -> [int8x16_t; 2] {
        let (half, run) = (RUN / 4, RUN % 4);
        // SAFETY: low nibbles are bytes 0..128, high bits bytes 128..192 of a block.
        let codes = |i: usize| unsafe {
            let ql = vld1q_u8(block.add(64 * half + 32 * (run % 2) + 16 * i));
            let qh = vld1q_u8(block.add(128 + 32 * half + 16 * i));
            let low = if run < 2 { vandq_u8(ql, vdupq_n_u8(15)) } else { vshrq_n_u8::<4>(ql) };
            // Bits 2 * run and 2 * run + 1 of each byte go to bits 4 and 5.
            let high = match run {
                0 => vshlq_n_u8::<4>(qh),
                1 => vshlq_n_u8::<2>(qh),
                2 => qh,
                _ => vshrq_n_u8::<2>(qh),
            };
            vreinterpretq_s8_u8(vorrq_u8(low, vandq_u8(high, vdupq_n_u8(0x30))))
        };
        [codes(0), codes(1)]
    }

    #[inline(always)]
    unsafe fn load_scales(block: *const u8) -> [int16x8_t; 2] {
        // SAFETY: scales are bytes 192..208 of a block.
        unsafe {
            let scales = vld1q_s8(block.add(192).cast());
            [vmovl_s8(vget_low_s8(scales)), vmovl_high_s8(scales)]
        }
    }

    #[inline(always)]
    unsafe fn load_mins(block: *const u8) -> [int16x8_t; 2] {
        // SAFETY: the caller's promise. At most 32 * 128: no overflow.
        unsafe { Self::load_scales(block).map(|scales| vmulq_n_s16(scales, Self::OFFSET as i16)) }
    }
}

impl Unpack256 for Iq4Xs {
    #[inline(always)]
    unsafe fn load_codes<const RUN: usize>(block: *const u8) -> [int8x16_t; 2] {
        // SAFETY: nibbles are bytes 8..136 of a block, 16 a run.
        unsafe { iq4_values(nibbles(block.add(8 + 16 * RUN))) }
    }

    #[inline(always)]
    unsafe fn load_scales(block: *const u8) -> [int16x8_t; 2] {
        // Bits 2g and 2g + 1 go to bits 0 and 1 of lane g.
        const DOWN: [i16; 8] = [0, -2, -4, -6, -8, -10, -12, -14];
        // SAFETY: high scale bits are bytes 2..4, low scale bits bytes 4..8 of a block.
        unsafe {
            let low = vcreate_u8(u64::from(block.add(4).cast::<u32>().read_unaligned()));
            let low = vmovl_u8(vzip1_u8(vand_u8(low, vdup_n_u8(15)), vshr_n_u8::<4>(low)));
            let high = vdupq_n_u16(block.add(2).cast::<u16>().read_unaligned());
            let high = vandq_u16(vshlq_u16(high, vld1q_s16(DOWN.as_ptr())), vdupq_n_u16(3));
            let scales = vreinterpretq_s16_u16(vorrq_u16(low, vshlq_n_u16::<4>(high)));
            [vsubq_s16(scales, vdupq_n_s16(32)), vdupq_n_s16(0)]
        }
    }

    #[inline(always)]
    unsafe fn load_mins(_block: *const u8) -> [int16x8_t; 2] {
        // SAFETY: NEON, as always.
        [unsafe { vdupq_n_s16(0) }; 2]
    }
}

/// Run RUN of nibbles where 32 bytes hold two runs, the even one low.
///
/// # Safety
/// 128 bytes can be read.
#[inline(always)]
unsafe fn nibble_run<const RUN: usize>(qs: *const u8) -> [int8x16_t; 2] {
    // SAFETY: the caller's promise.
    let codes = |i: usize| unsafe {
        let both = vld1q_u8(qs.add(32 * (RUN / 2) + 16 * i));
        let even = RUN.is_multiple_of(2);
        vreinterpretq_s8_u8(if even { vandq_u8(both, vdupq_n_u8(15)) } else { vshrq_n_u8::<4>(both) })
    };
    [codes(0), codes(1)]
}

/// The eight scales of Q4_K and Q5_K.
///
/// # Safety
/// 16 bytes can be read.
#[inline(always)]
unsafe fn six_bit_scales(block: *const u8) -> [int16x8_t; 2] {
    // SAFETY: bytes 4..16 of a block.
    unsafe {
        let (scales, _) = unpack_scales_and_mins(block.add(4).cast::<[u8; 12]>().read());
        let scales = vmovl_u8(vcreate_u8(u64::from_le_bytes(scales)));
        [vreinterpretq_s16_u16(scales), vdupq_n_s16(0)]
    }
}

/// The eight minima of Q4_K and Q5_K, each for two sums of 16.
///
/// # Safety
/// 16 bytes can be read.
#[inline(always)]
unsafe fn six_bit_mins(block: *const u8) -> [int16x8_t; 2] {
    // SAFETY: bytes 4..16 of a block.
    unsafe {
        let (_, mins) = unpack_scales_and_mins(block.add(4).cast::<[u8; 12]>().read());
        let mins = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(u64::from_le_bytes(mins))));
        [vzip1q_s16(mins, mins), vzip2q_s16(mins, mins)]
    }
}
