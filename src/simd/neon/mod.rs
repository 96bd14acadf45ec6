//! NEON, which every aarch64 has, with and without the dot product instruction (Raspberry Pi 5; Pi 4).
//!
//! Kernels are written once over [`Products`]. They are `#[inline(always)]` down from the two entry
//! points of each, of which one is compiled for the dot product instruction.
//!
//! Rust wants `unsafe` around an intrinsic wherever its feature is not named on the function, and that
//! attribute excludes `#[inline(always)]`. Hence "NEON, as always" in the notes below: NEON is part of
//! every aarch64 target that Rust has an operating system for, enabled for this whole program.
#![allow(unsafe_code)]
// Loops over rows and tokens of a tile index several small arrays at once and unroll completely.
#![allow(clippy::needless_range_loop)]

mod dot256;
mod dot32;
mod float;
mod interleaved;
mod lanes;
mod peak;
mod quantize;

use super::panel::{Panel, Quad};
use super::{F16Rows, F32Batch, Isa, PANEL_ROWS, PanelDots, Q8Batch, Q8KBatch, TILE_ROWS, TileDots};
use crate::quant::{
    BlockFormat, Coarse3, Codes, Q4_0, Q4K, Q5K, Q6K, Q8_0, can_interleave, with_block32, with_block256,
};
use half::f16;
use lanes::Sums;
use std::arch::aarch64::*;
use std::arch::asm;

/// NEON alone. Every aarch64 that this program is compiled for has it.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

/// Proof that the CPU has NEON and the dot product instruction.
#[derive(Clone, Copy, Debug)]
pub struct NeonDot(());

impl Neon {
    /// `None` if the CPU has no NEON.
    pub fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

impl NeonDot {
    /// `None` if the CPU has no dot product instruction, as the Cortex-A72 of a Raspberry Pi 4.
    pub fn new() -> Option<Self> {
        (std::arch::is_aarch64_feature_detected!("neon")
            && std::arch::is_aarch64_feature_detected!("dotprod"))
        .then_some(Self(()))
    }
}

/// How products of bytes are added.
trait Products {
    /// Adds the products of 16 codes and 16 activations to `sums`, four to each lane. Exact for codes of
    /// -128 too: activations are never -128.
    ///
    /// # Safety
    /// The CPU has the instructions that the implementation says.
    unsafe fn add(sums: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t;

    /// See [`super::panel::Lanes::dot`].
    ///
    /// # Safety
    /// As there.
    unsafe fn dot_quads<F: Codes, const N: usize, const T: usize>(
        quads: *const Quad<8>,
        x: [*const i8; T],
        start: [Sums; T],
    ) -> [Sums; T];
}

/// By multiplication to 16 bits and pairwise addition.
struct Widening;

/// By the dot product instruction, which the CPU must have.
struct DotProduct;

impl Products for Widening {
    #[inline(always)]
    unsafe fn add(sums: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: NEON, as always.
        unsafe {
            // Two products of at most 128 * 127 fit in 16 bits.
            let pairs = vmlal_high_s8(vmull_s8(vget_low_s8(codes), vget_low_s8(x)), codes, x);
            vpadalq_s16(sums, pairs)
        }
    }

    #[inline(always)]
    unsafe fn dot_quads<F: Codes, const N: usize, const T: usize>(
        quads: *const Quad<8>,
        x: [*const i8; T],
        start: [Sums; T],
    ) -> [Sums; T] {
        // SAFETY: the caller's promises.
        unsafe { lanes::dot_quads_widening::<F, N, T>(quads.cast(), x, start) }
    }
}

impl Products for DotProduct {
    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn add(sums: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
        let mut sums = sums;
        // SAFETY: computes in registers only; the CPU has the instruction by the caller's promise. The
        // intrinsic `vdotq_s32` is not stable yet.
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {codes:v}.16b, {x:v}.16b",
                sums = inout(vreg) sums, codes = in(vreg) codes, x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }

    #[inline(always)]
    unsafe fn dot_quads<F: Codes, const N: usize, const T: usize>(
        quads: *const Quad<8>,
        x: [*const i8; T],
        start: [Sums; T],
    ) -> [Sums; T] {
        // SAFETY: the caller's promises.
        unsafe { lanes::dot_quads_dotprod::<N, T>(quads.cast(), x, start) }
    }
}

impl Isa for Neon {
    const NAME: &'static str = "neon";
    type Panel = Panel<8>;

    fn make_products(self, n_rounds: usize) -> u64 {
        peak::make_products_widening(n_rounds)
    }

    fn dots_f16(self, rows: F16Rows<'_>, x: &[f32], out: &mut [f32]) {
        rows.check(x.len(), out.len());
        // SAFETY: lengths by `check`.
        unsafe { float::dots_f16(rows, x, out) }
    }

    fn add_weighted_f16(self, weights: &[f32], rows: F16Rows<'_>, y: &mut [f32]) {
        rows.check(y.len(), weights.len());
        // SAFETY: lengths by `check`.
        unsafe { float::add_weighted_f16(weights, rows, y) }
    }

    fn widen_q8(self, codes: &[i8], scales: &[f16], out: &mut [f16]) {
        float::widen_q8(codes, scales, out);
    }

    fn to_f16(self, x: &[f32], out: &mut [f16]) {
        float::to_f16(x, out);
    }

    fn quantize_q8(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i32]) {
        quantize::quantize_q8(x, q, d, sums);
    }

    fn quantize_q8_k(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
        quantize::quantize_q8_k(x, q, d, sums);
    }

    fn dot_float(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: F32Batch<'_>, out: &mut [TileDots]) {
        float::dot_format(format, rows, x, out);
    }

    fn dot_q8(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8Batch<'_>, out: &mut [TileDots]) {
        x.check(format, &rows, out.len());
        // SAFETY: lengths by `check`.
        with_block32!(format, B => unsafe { dot32::dot_widening::<B>(rows, x, out) });
    }

    fn dot_q8_k(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8KBatch<'_>, out: &mut [TileDots]) {
        x.check(format, &rows, out.len());
        // SAFETY: lengths by `check`.
        with_block256!(format, B => unsafe { dot256::dot_widening::<B>(rows, x, out) });
    }

    fn panel_q8(
        self,
        panel: &mut Panel<8>,
        format: BlockFormat,
        rows: [&[u8]; PANEL_ROWS],
        x: Q8Batch<'_>,
        out: &mut [PanelDots],
    ) {
        x.check(format, &rows, out.len());
        // SAFETY: lengths by `check`.
        with_block32!(format, B => unsafe { lanes::dot32::<B>(panel, rows, x, out) });
    }

    fn panel_q8_k(
        self,
        panel: &mut Panel<8>,
        format: BlockFormat,
        rows: [&[u8]; PANEL_ROWS],
        x: Q8KBatch<'_>,
        out: &mut [PanelDots],
    ) {
        x.check(format, &rows, out.len());
        // SAFETY: lengths by `check`.
        with_block256!(format, B => unsafe { lanes::dot256::<B>(panel, rows, x, out) });
    }

    fn reads_interleaved(format: BlockFormat) -> bool {
        can_interleave(format)
    }

    fn interleaved_q8(self, format: BlockFormat, rows: &[u8], x: Q8Batch<'_>, out: &mut [PanelDots]) {
        x.check_interleaved(format, rows, out.len());
        match format {
            // SAFETY: lengths by `check`.
            BlockFormat::Q4_0 => unsafe { interleaved::dot32_widening::<Q4_0>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Q8_0 => unsafe { interleaved::dot32_widening::<Q8_0>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Coarse3 => unsafe { interleaved::dot32_widening::<Coarse3>(rows, x, out) },
            _ => panic!("{} is not interleaved", format.name()),
        }
    }

    fn interleaved_q8_k(self, format: BlockFormat, rows: &[u8], x: Q8KBatch<'_>, out: &mut [PanelDots]) {
        x.check_interleaved(format, rows, out.len());
        match format {
            // SAFETY: lengths by `check`.
            BlockFormat::Q6K => unsafe { interleaved::dot256_widening::<Q6K>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Q5K => unsafe { interleaved::dot256_widening::<Q5K>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Q4K => unsafe { interleaved::dot256_widening::<Q4K>(rows, x, out) },
            _ => panic!("{} is not interleaved", format.name()),
        }
    }
}

impl Isa for NeonDot {
    const NAME: &'static str = "neon+dotprod";
    type Panel = Panel<8>;

    fn make_products(self, n_rounds: usize) -> u64 {
        // SAFETY: the instruction by `self`.
        unsafe { peak::make_products_dot(n_rounds) }
    }

    fn dots_f16(self, rows: F16Rows<'_>, x: &[f32], out: &mut [f32]) {
        rows.check(x.len(), out.len());
        // SAFETY: lengths by `check`.
        unsafe { float::dots_f16(rows, x, out) }
    }

    fn add_weighted_f16(self, weights: &[f32], rows: F16Rows<'_>, y: &mut [f32]) {
        rows.check(y.len(), weights.len());
        // SAFETY: lengths by `check`.
        unsafe { float::add_weighted_f16(weights, rows, y) }
    }

    fn widen_q8(self, codes: &[i8], scales: &[f16], out: &mut [f16]) {
        float::widen_q8(codes, scales, out);
    }

    fn to_f16(self, x: &[f32], out: &mut [f16]) {
        float::to_f16(x, out);
    }

    fn quantize_q8(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i32]) {
        quantize::quantize_q8(x, q, d, sums);
    }

    fn quantize_q8_k(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
        quantize::quantize_q8_k(x, q, d, sums);
    }

    fn dot_float(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: F32Batch<'_>, out: &mut [TileDots]) {
        float::dot_format(format, rows, x, out);
    }

    fn dot_q8(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8Batch<'_>, out: &mut [TileDots]) {
        x.check(format, &rows, out.len());
        // SAFETY: lengths by `check`; `self` proves that the CPU has the dot product instruction.
        with_block32!(format, B => unsafe { dot32::dot_with_dotprod::<B>(rows, x, out) });
    }

    fn dot_q8_k(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8KBatch<'_>, out: &mut [TileDots]) {
        x.check(format, &rows, out.len());
        // SAFETY: lengths by `check`; `self` proves that the CPU has the dot product instruction.
        with_block256!(format, B => unsafe { dot256::dot_with_dotprod::<B>(rows, x, out) });
    }

    fn panel_q8(
        self,
        panel: &mut Panel<8>,
        format: BlockFormat,
        rows: [&[u8]; PANEL_ROWS],
        x: Q8Batch<'_>,
        out: &mut [PanelDots],
    ) {
        x.check(format, &rows, out.len());
        // SAFETY: lengths by `check`; `self` proves that the CPU has the dot product instruction.
        with_block32!(format, B => unsafe { lanes::dot32_with_dotprod::<B>(panel, rows, x, out) });
    }

    fn panel_q8_k(
        self,
        panel: &mut Panel<8>,
        format: BlockFormat,
        rows: [&[u8]; PANEL_ROWS],
        x: Q8KBatch<'_>,
        out: &mut [PanelDots],
    ) {
        x.check(format, &rows, out.len());
        // SAFETY: lengths by `check`; `self` proves that the CPU has the dot product instruction.
        with_block256!(format, B => unsafe { lanes::dot256_with_dotprod::<B>(panel, rows, x, out) });
    }

    fn reads_interleaved(format: BlockFormat) -> bool {
        can_interleave(format)
    }

    fn interleaved_q8(self, format: BlockFormat, rows: &[u8], x: Q8Batch<'_>, out: &mut [PanelDots]) {
        x.check_interleaved(format, rows, out.len());
        match format {
            // SAFETY: lengths by `check`; `self` proves that the CPU has the dot product instruction.
            BlockFormat::Q4_0 => unsafe { interleaved::dot32_with_dotprod::<Q4_0>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Q8_0 => unsafe { interleaved::dot32_with_dotprod::<Q8_0>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Coarse3 => unsafe { interleaved::dot32_with_dotprod::<Coarse3>(rows, x, out) },
            _ => panic!("{} is not interleaved", format.name()),
        }
    }

    fn interleaved_q8_k(self, format: BlockFormat, rows: &[u8], x: Q8KBatch<'_>, out: &mut [PanelDots]) {
        x.check_interleaved(format, rows, out.len());
        match format {
            // SAFETY: lengths by `check`; `self` proves that the CPU has the dot product instruction.
            BlockFormat::Q6K => unsafe { interleaved::dot256_with_dotprod::<Q6K>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Q5K => unsafe { interleaved::dot256_with_dotprod::<Q5K>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Q4K => unsafe { interleaved::dot256_with_dotprod::<Q4K>(rows, x, out) },
            _ => panic!("{} is not interleaved", format.name()),
        }
    }
}

/// The sums of the four lanes of each of four vectors.
#[inline(always)]
fn sum_lanes(p: [int32x4_t; TILE_ROWS]) -> int32x4_t {
    // SAFETY: NEON, as always.
    unsafe { vpaddq_s32(vpaddq_s32(p[0], p[1]), vpaddq_s32(p[2], p[3])) }
}

/// Four halves, widened. The conversion is part of the first ARMv8, its intrinsic not yet of stable Rust.
#[inline(always)]
fn widen_halves(halves: uint16x4_t) -> float32x4_t {
    let wide;
    // SAFETY: computes in registers only.
    unsafe {
        asm!(
            "fcvtl {wide:v}.4s, {halves:v}.4h",
            wide = out(vreg) wide, halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    wide
}

/// Four floats as halves, rounded to nearest even.
#[inline(always)]
fn narrow_to_halves(wide: float32x4_t) -> uint16x4_t {
    let halves;
    // SAFETY: computes in registers only. Rounding is that of FPCR, which Rust promises to be to
    // nearest even.
    unsafe {
        asm!(
            "fcvtn {halves:v}.4h, {wide:v}.4s",
            halves = out(vreg) halves, wide = in(vreg) wide,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    halves
}

/// The halves at byte `at` of four blocks, widened.
///
/// # Safety
/// Each block has two bytes at `at`.
#[inline(always)]
unsafe fn halves(blocks: [*const u8; TILE_ROWS], at: usize) -> float32x4_t {
    let mut word = 0;
    for r in 0..TILE_ROWS {
        // SAFETY: the caller's promise; the read may be unaligned.
        let half = unsafe { blocks[r].add(at).cast::<u16>().read_unaligned() };
        word |= u64::from(half) << (16 * r);
    }
    // SAFETY: NEON, as always.
    widen_halves(unsafe { vcreate_u16(word) })
}

/// 32 nibbles of 16 bytes: the low ones, then the high ones.
///
/// # Safety
/// 16 bytes can be read.
#[inline(always)]
unsafe fn nibbles(qs: *const u8) -> [int8x16_t; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let qs = vld1q_u8(qs);
        [vreinterpretq_s8_u8(vandq_u8(qs, vdupq_n_u8(15))), vreinterpretq_s8_u8(vshrq_n_u8::<4>(qs))]
    }
}

/// What 32 nibbles stand for in IQ4_NL and IQ4_XS.
#[inline(always)]
fn iq4_values(nibbles: [int8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: the table has 16 bytes.
    unsafe {
        let table = vld1q_s8(crate::quant::IQ4_VALUES.as_ptr());
        [
            vqtbl1q_s8(table, vreinterpretq_u8_s8(nibbles[0])),
            vqtbl1q_s8(table, vreinterpretq_u8_s8(nibbles[1])),
        ]
    }
}
