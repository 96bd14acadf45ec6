//! How blocks of each format yield their codes and scales when rows are interleaved.

use super::super::super::PANEL_ROWS;
use super::super::super::panel::{Source, Unpacked32, Unpacked256};
use super::super::{nibbles, widen_halves};
use crate::quant::{Block32, Block256, Q4_0, Q6K, Q8_0};
use std::arch::aarch64::*;
use std::marker::PhantomData;

/// A 32-element format whose interleaved codes can be had as vectors.
pub(in super::super) trait Interleaved32: Block32 {
    /// Whether there is something to unpack.
    const IS_PACKED: bool;

    /// Codes `4 * i..4 * i + 4` and `16 + 4 * i..16 + 4 * i + 4` of four rows, whose first codes stand at `codes`.
    ///
    /// # Safety
    /// `codes` are in a group of sixteen blocks; `i` is below 4.
    unsafe fn load_quads(codes: *const u8, i: usize) -> [int8x16_t; 2];
}

impl Interleaved32 for Q4_0 {
    const IS_PACKED: bool = true;

    #[inline(always)]
    unsafe fn load_quads(codes: *const u8, i: usize) -> [int8x16_t; 2] {
        // SAFETY: the caller's promise. Low nibbles are the first half of a block, high ones the second.
        unsafe { nibbles(codes.add(4 * PANEL_ROWS * i)) }
    }
}

impl Interleaved32 for Q8_0 {
    const IS_PACKED: bool = false;

    #[inline(always)]
    unsafe fn load_quads(codes: *const u8, i: usize) -> [int8x16_t; 2] {
        // SAFETY: the caller's promise.
        let quad = |i: usize| unsafe { vld1q_s8(codes.add(4 * PANEL_ROWS * i).cast()) };
        [quad(i), quad(i + 4)]
    }
}

/// A 256-element format whose interleaved codes and scales can be had as vectors.
pub(in super::super) trait Interleaved256: Block256 {
    /// Codes `128 * half + 32 * RUN + 16 * side` and the 15 after it of four rows, whose first codes stand at `codes`.
    ///
    /// # Safety
    /// `codes` are in a group of sixteen blocks; RUN is below 4, `half` and `side` below 2.
    unsafe fn load_quads<const RUN: usize>(codes: *const u8, half: usize, side: usize) -> [int8x16_t; 4];

    /// The scales of codes `16 * g..16 * g + 16` of eight rows from `row` on.
    ///
    /// # Safety
    /// `group` is sixteen blocks, `g` below 16, and `row` at most 8.
    unsafe fn load_scales(group: *const u8, g: usize, row: usize) -> [int32x4_t; 2];
}

impl Interleaved256 for Q6K {
    #[inline(always)]
    unsafe fn load_quads<const RUN: usize>(codes: *const u8, half: usize, side: usize) -> [int8x16_t; 4] {
        // SAFETY: the caller's promise; high bits stand behind all low ones.
        unsafe {
            let low = codes.add(64 * (16 * half + 4 * side));
            let high = codes.add(128 * PANEL_ROWS + 64 * (8 * half + 4 * side));
            [
                q6_k_quad::<RUN, 0>(low, high),
                q6_k_quad::<RUN, 1>(low, high),
                q6_k_quad::<RUN, 2>(low, high),
                q6_k_quad::<RUN, 3>(low, high),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_scales(group: *const u8, g: usize, row: usize) -> [int32x4_t; 2] {
        // SAFETY: the caller's promise: scales are bytes 192..208 of a block.
        unsafe {
            let scales = vmovl_s8(vld1_s8(group.add(PANEL_ROWS * (192 + g) + row).cast()));
            [vmovl_s16(vget_low_s16(scales)), vmovl_high_s16(scales)]
        }
    }
}

/// Quad I of run RUN of a half and side whose low bits begin at `low` and high ones at `high`; [`Block256::codes`] tells where they
/// stand.
///
/// # Safety
/// There are such quads: of low bits eight for the even runs and eight for the odd ones, of high bits eight.
#[inline(always)]
unsafe fn q6_k_quad<const RUN: usize, const I: usize>(low: *const u8, high: *const u8) -> int8x16_t {
    // SAFETY: the caller's promise.
    unsafe {
        let low = vld1q_u8(low.add(64 * (8 * (RUN % 2) + I)));
        let high = vld1q_u8(high.add(64 * I));
        let mask = vdupq_n_u8(0x3f);
        // Bits 2 * RUN and 2 * RUN + 1 go to bits 4 and 5, on top of four low bits.
        vreinterpretq_s8_u8(match RUN {
            0 => vandq_u8(vsliq_n_u8::<4>(low, high), mask),
            1 => vandq_u8(vsliq_n_u8::<4>(low, vshrq_n_u8::<2>(high)), mask),
            2 => vandq_u8(vsriq_n_u8::<4>(high, low), mask),
            _ => vsriq_n_u8::<4>(vshrq_n_u8::<2>(high), low),
        })
    }
}

/// The halves of four rows from `row` on, of sixteen that begin at `halves`, widened.
///
/// # Safety
/// Sixteen halves can be read, `row` is at most 12.
#[inline(always)]
pub(super) unsafe fn load_halves(halves: *const u8, row: usize) -> float32x4_t {
    // SAFETY: the caller's promise.
    widen_halves(unsafe { vld1_u16(halves.add(2 * row).cast()) })
}

/// Interleaved rows in format `F`, to be unpacked for [`super::lanes`].
pub(super) struct Rows<'a, F> {
    rows: &'a [u8],
    format: PhantomData<F>,
}

impl<'a, F> Rows<'a, F> {
    #[inline(always)]
    pub(super) fn new(rows: &'a [u8]) -> Self {
        Self { rows, format: PhantomData }
    }
}

impl<F: Interleaved32> Source<Unpacked32<8>> for Rows<'_, F> {
    #[inline(always)]
    unsafe fn unpack(&self, first_row: usize, b: usize, block: &mut Unpacked32<8>) {
        // SAFETY: rows are groups of 16 * BYTES bytes, scales first; 16 bytes are written for four rows of a quad.
        unsafe {
            let group = self.rows.as_ptr().add(b * PANEL_ROWS * F::BYTES);
            for row in [0, 4] {
                let codes = group.add(2 * PANEL_ROWS + 4 * (first_row + row));
                for i in 0..4 {
                    let quads =
                        F::load_quads(codes, i).map(|quad| vsubq_s8(quad, vdupq_n_s8(F::OFFSET as i8)));
                    vst1q_s8(block.quads[i][row..].as_mut_ptr().cast(), quads[0]);
                    vst1q_s8(block.quads[i + 4][row..].as_mut_ptr().cast(), quads[1]);
                }
                vst1q_f32(block.d[row..].as_mut_ptr(), load_halves(group, first_row + row));
            }
        }
    }
}

impl<F: Interleaved256> Source<Unpacked256<8>> for Rows<'_, F> {
    #[inline(always)]
    unsafe fn unpack(&self, first_row: usize, b: usize, block: &mut Unpacked256<8>) {
        // SAFETY: rows are groups of 16 * BYTES bytes; 16 bytes are written for four rows of a quad or of scales; halves are 0..2,
        // sides 0..2, runs 0..4.
        unsafe {
            let group = self.rows.as_ptr().add(b * PANEL_ROWS * F::BYTES);
            for row in [0, 4] {
                let rows = group.add(4 * (first_row + row));
                for half in 0..2 {
                    for side in 0..2 {
                        macro_rules! run {
                            ($RUN:literal) => {
                                let g = 8 * half + 2 * $RUN + side;
                                for (i, quad) in
                                    F::load_quads::<$RUN>(rows, half, side).into_iter().enumerate()
                                {
                                    let quad = vsubq_s8(quad, vdupq_n_s8(F::OFFSET as i8));
                                    vst1q_s8(block.quads[4 * g + i][row..].as_mut_ptr().cast(), quad);
                                }
                                let scales = F::load_scales(group, g, first_row);
                                vst1q_s32(block.scales[g][row..].as_mut_ptr(), scales[row / 4]);
                            };
                        }
                        run!(0);
                        run!(1);
                        run!(2);
                        run!(3);
                    }
                }
                let d = load_halves(group.add(F::D_AT * PANEL_ROWS), first_row + row);
                vst1q_f32(block.d[row..].as_mut_ptr(), d);
            }
        }
    }
}
