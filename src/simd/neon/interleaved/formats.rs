//! How blocks of each format yield their codes and scales when rows are interleaved.

use super::super::super::PANEL_ROWS;
use super::super::super::panel::{Source, Unpacked32, Unpacked256};
use super::super::{nibbles, widen_halves};
use crate::quant::{Block32, Block256, Coarse3, Q4_0, Q4K, Q5K, Q6K, Q8_0};
use std::arch::aarch64::*;
use std::array::from_fn;
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

impl Interleaved32 for Coarse3 {
    const IS_PACKED: bool = true;

    #[inline(always)]
    unsafe fn load_quads(codes: *const u8, i: usize) -> [int8x16_t; 2] {
        // SAFETY: the caller's promise: two words of low bits, one of high ones.
        unsafe {
            let low = vld1q_u8(codes.add(4 * PANEL_ROWS * (i % 2)));
            let high = vld1q_u8(codes.add(4 * PANEL_ROWS * 2));
            // Codes are doubled: bits 2 * (i / 2) and the one above it go to bits 1 and 2, and those four above them too.
            let (near, far) = match i / 2 {
                0 => (vaddq_u8(low, low), vshrq_n_u8::<3>(low)),
                _ => (vshrq_n_u8::<1>(low), vshrq_n_u8::<5>(low)),
            };
            let code = |low, bit| {
                let is_set = vtstq_u8(high, vdupq_n_u8(bit));
                let doubled = vandq_u8(low, vdupq_n_u8(6));
                vreinterpretq_s8_u8(vorrq_u8(doubled, vandq_u8(is_set, vdupq_n_u8(8))))
            };
            [code(near, 1 << i), code(far, 16 << i)]
        }
    }
}

/// A 256-element format whose interleaved codes and scales can be had as vectors.
pub(in super::super) trait Interleaved256: Block256 {
    /// Scales and minima of a group of sixteen blocks, if they must be unpacked: a byte each, of all rows for each group of columns.
    type Unpacked;

    /// Codes `128 * half + 32 * RUN + 16 * side` and the 15 after it of four rows, whose first units stand at `rows` in every part of
    /// the blocks whose units have four bytes.
    ///
    /// # Safety
    /// `rows` are in a group of sixteen blocks; RUN is below 4, `half` and `side` below 2.
    unsafe fn load_quads<const RUN: usize>(rows: *const u8, half: usize, side: usize) -> [int8x16_t; 4];

    /// Unpacks the scales and minima.
    ///
    /// # Safety
    /// `group` is sixteen blocks.
    unsafe fn unpack_scales(group: *const u8) -> Self::Unpacked;

    /// The scales of columns `GROUP * g` and those after it of eight rows from `row` on.
    ///
    /// # Safety
    /// `group` is sixteen blocks, there is a `g`-th group of columns, and `row` is at most 8.
    unsafe fn load_scales(
        group: *const u8,
        unpacked: &Self::Unpacked,
        g: usize,
        row: usize,
    ) -> [int32x4_t; 2];

    /// The minima, likewise; zero without [`HAS_MIN`](Block256::HAS_MIN).
    ///
    /// # Safety
    /// As for [`load_scales`](Self::load_scales).
    #[inline(always)]
    unsafe fn load_mins(_unpacked: &Self::Unpacked, _g: usize, _row: usize) -> [int32x4_t; 2] {
        // SAFETY: NEON, as always.
        [unsafe { vdupq_n_s32(0) }; 2]
    }
}

impl Interleaved256 for Q6K {
    type Unpacked = ();

    #[inline(always)]
    unsafe fn load_quads<const RUN: usize>(rows: *const u8, half: usize, side: usize) -> [int8x16_t; 4] {
        // SAFETY: the caller's promise; high bits stand behind all low ones.
        unsafe {
            let low = rows.add(64 * (16 * half + 4 * side));
            let high = rows.add(128 * PANEL_ROWS + 64 * (8 * half + 4 * side));
            [
                q6_k_quad::<RUN, 0>(low, high),
                q6_k_quad::<RUN, 1>(low, high),
                q6_k_quad::<RUN, 2>(low, high),
                q6_k_quad::<RUN, 3>(low, high),
            ]
        }
    }

    #[inline(always)]
    unsafe fn unpack_scales(_group: *const u8) {}

    #[inline(always)]
    unsafe fn load_scales(group: *const u8, _unpacked: &(), g: usize, row: usize) -> [int32x4_t; 2] {
        // SAFETY: the caller's promise: scales are bytes 192..208 of a block.
        unsafe { widen_bytes(vld1_s8(group.add(PANEL_ROWS * (192 + g) + row).cast())) }
    }
}

/// Scales and minima of Q4_K and Q5_K, of all rows for each group of columns.
pub(in super::super) struct SixBits {
    scales: [[i8; PANEL_ROWS]; 8],
    mins: [[i8; PANEL_ROWS]; 8],
}

impl SixBits {
    /// See [`crate::quant::unpack_scales_and_mins`] for where they stand.
    ///
    /// # Safety
    /// `group` is sixteen blocks that begin as those of Q4_K do.
    #[inline(always)]
    unsafe fn unpack(group: *const u8) -> Self {
        let mut unpacked = Self { scales: [[0; PANEL_ROWS]; 8], mins: [[0; PANEL_ROWS]; 8] };
        // SAFETY: the caller's promise: behind two halves stand three words, of which each vector takes a byte of every row; sixteen
        // bytes are written to sixteen bytes.
        unsafe {
            let words = |i: usize| vld4q_u8(group.add(PANEL_ROWS * (4 + 4 * i)));
            let bytes = |w: uint8x16x4_t| [w.0, w.1, w.2, w.3];
            let (a, b, c) = (bytes(words(0)), bytes(words(1)), bytes(words(2)));
            let six = vdupq_n_u8(0x3f);
            for k in 0..4 {
                let store = |to: &mut [i8; PANEL_ROWS], bytes| vst1q_u8(to.as_mut_ptr().cast(), bytes);
                store(&mut unpacked.scales[k], vandq_u8(a[k], six));
                store(&mut unpacked.mins[k], vandq_u8(b[k], six));
                // Four low bits stand in the third word, two high ones on top of the others.
                store(
                    &mut unpacked.scales[k + 4],
                    vandq_u8(vsliq_n_u8::<4>(c[k], vshrq_n_u8::<6>(a[k])), six),
                );
                store(
                    &mut unpacked.mins[k + 4],
                    vsliq_n_u8::<4>(vshrq_n_u8::<4>(c[k]), vshrq_n_u8::<6>(b[k])),
                );
            }
        }
        unpacked
    }

    #[inline(always)]
    fn load(of_group: &[i8; PANEL_ROWS], row: usize) -> [int32x4_t; 2] {
        // SAFETY: eight bytes are read from eight bytes.
        widen_bytes(unsafe { vld1_s8(of_group[row..row + 8].as_ptr()) })
    }
}

impl Interleaved256 for Q4K {
    type Unpacked = SixBits;

    #[inline(always)]
    unsafe fn load_quads<const RUN: usize>(rows: *const u8, half: usize, side: usize) -> [int8x16_t; 4] {
        // SAFETY: nibbles are bytes 16..144 of a block.
        unsafe { nibble_quads::<RUN>(rows.add(16 * PANEL_ROWS), half, side) }
    }

    #[inline(always)]
    unsafe fn unpack_scales(group: *const u8) -> SixBits {
        // SAFETY: the caller's promise.
        unsafe { SixBits::unpack(group) }
    }

    #[inline(always)]
    unsafe fn load_scales(_group: *const u8, unpacked: &SixBits, g: usize, row: usize) -> [int32x4_t; 2] {
        SixBits::load(&unpacked.scales[g], row)
    }

    #[inline(always)]
    unsafe fn load_mins(unpacked: &SixBits, g: usize, row: usize) -> [int32x4_t; 2] {
        SixBits::load(&unpacked.mins[g], row)
    }
}

impl Interleaved256 for Q5K {
    type Unpacked = SixBits;

    #[inline(always)]
    unsafe fn load_quads<const RUN: usize>(rows: *const u8, half: usize, side: usize) -> [int8x16_t; 4] {
        // SAFETY: fifth bits are bytes 16..48 of a block, bit g those of group g; nibbles are bytes 48..176.
        unsafe {
            let nibbles = nibble_quads::<RUN>(rows.add(48 * PANEL_ROWS), half, side);
            let bit = vdupq_n_u8(1 << (4 * half + RUN));
            from_fn(|i| {
                let is_set = vtstq_u8(vld1q_u8(rows.add(16 * PANEL_ROWS + 64 * (4 * side + i))), bit);
                vorrq_s8(nibbles[i], vreinterpretq_s8_u8(vandq_u8(is_set, vdupq_n_u8(16))))
            })
        }
    }

    #[inline(always)]
    unsafe fn unpack_scales(group: *const u8) -> SixBits {
        // SAFETY: the caller's promise.
        unsafe { SixBits::unpack(group) }
    }

    #[inline(always)]
    unsafe fn load_scales(_group: *const u8, unpacked: &SixBits, g: usize, row: usize) -> [int32x4_t; 2] {
        SixBits::load(&unpacked.scales[g], row)
    }

    #[inline(always)]
    unsafe fn load_mins(unpacked: &SixBits, g: usize, row: usize) -> [int32x4_t; 2] {
        SixBits::load(&unpacked.mins[g], row)
    }
}

/// Four quads of run RUN of a half and side where 32 bytes hold two runs, the even one low.
///
/// # Safety
/// `nibbles` are those of four rows in a group of sixteen blocks; there are such quads.
#[inline(always)]
unsafe fn nibble_quads<const RUN: usize>(nibbles: *const u8, half: usize, side: usize) -> [int8x16_t; 4] {
    from_fn(|i| {
        // SAFETY: the caller's promise.
        unsafe {
            let both = vld1q_u8(nibbles.add(64 * (8 * (2 * half + RUN / 2) + 4 * side + i)));
            let is_low = RUN.is_multiple_of(2);
            vreinterpretq_s8_u8(if is_low { vandq_u8(both, vdupq_n_u8(15)) } else { vshrq_n_u8::<4>(both) })
        }
    })
}

/// Signed bytes as words.
#[inline(always)]
fn widen_bytes(bytes: int8x8_t) -> [int32x4_t; 2] {
    // SAFETY: NEON, as always.
    unsafe {
        let wide = vmovl_s8(bytes);
        [vmovl_s16(vget_low_s16(wide)), vmovl_high_s16(wide)]
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
                                let quads = F::load_quads::<$RUN>(rows, half, side);
                                for (i, quad) in quads.into_iter().enumerate() {
                                    let quad = vsubq_s8(quad, vdupq_n_s8(F::OFFSET as i8));
                                    let at = 4 * (8 * half + 2 * $RUN + side) + i;
                                    vst1q_s8(block.quads[at][row..].as_mut_ptr().cast(), quad);
                                }
                            };
                        }
                        run!(0);
                        run!(1);
                        run!(2);
                        run!(3);
                    }
                }
                let halves = group.add(F::D_AT * PANEL_ROWS);
                vst1q_f32(block.d[row..].as_mut_ptr(), load_halves(halves, first_row + row));
                if F::HAS_MIN {
                    let halves = halves.add(2 * PANEL_ROWS);
                    vst1q_f32(block.dmin[row..].as_mut_ptr(), load_halves(halves, first_row + row));
                }
            }
            let unpacked = F::unpack_scales(group);
            let store = |to: &mut [i32; 8], v: [int32x4_t; 2]| {
                vst1q_s32(to.as_mut_ptr(), v[0]);
                vst1q_s32(to[4..].as_mut_ptr(), v[1]);
            };
            for g in 0..256 / F::GROUP {
                store(&mut block.scales[g], F::load_scales(group, &unpacked, g, first_row));
                if F::HAS_MIN {
                    let mins = F::load_mins(&unpacked, g, first_row);
                    store(&mut block.minus_mins[g], mins.map(|mins| vnegq_s32(mins)));
                }
            }
        }
    }
}
