//! AVX2 with FMA and F16C: x86-64 processors since 2013.
#![allow(unsafe_code)]
// Loops over rows and tokens of a tile index several small arrays at once and unroll completely.
#![allow(clippy::needless_range_loop)]

mod dot256;
mod dot32;
mod float;
mod lanes;
mod peak;
mod quantize;

use super::panel::Panel;
use super::{
    F16Rows, F32Batch, Isa, PANEL_ROWS, PanelDots, Q8Batch, Q8KBatch, TILE_ROWS, TileDots, check_widen_q8,
};
use crate::quant::{BlockFormat, with_block32, with_block256};
use half::f16;
use std::arch::x86_64::*;

pub(super) use dot32::Unpack32;
pub(super) use dot256::Unpack256;
pub(super) use float::{Bf16, F16, F32, Float};
pub(super) use lanes::transpose;
pub(super) use quantize::q8_scales;

/// Proof that the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// `None` if the CPU lacks one of them.
    pub fn new() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has_all.then_some(Self(()))
    }
}

// Every unsafe call below is sound for the same two reasons: `self` exists, so the CPU has the features
// that the function is compiled for, and the lengths that the function relies on are asserted above it.
impl Isa for Avx2 {
    const NAME: &'static str = "avx2";
    type Panel = Panel<8>;

    fn make_products(self, n_rounds: usize) -> u64 {
        // SAFETY: features by `self`.
        unsafe { peak::make_products(n_rounds) }
    }

    fn run<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn run<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: features by `self`.
        unsafe { run(f) }
    }

    fn dots_f16(self, rows: F16Rows<'_>, x: &[f32], out: &mut [f32]) {
        rows.check(x.len(), out.len());
        // SAFETY: features by `self`, lengths by `check`.
        unsafe { float::dots_f16(rows, x, out) }
    }

    fn add_weighted_f16(self, weights: &[f32], rows: F16Rows<'_>, y: &mut [f32]) {
        rows.check(y.len(), weights.len());
        // SAFETY: features by `self`, lengths by `check`.
        unsafe { float::add_weighted_f16(weights, rows, y) }
    }

    fn widen_q8(self, codes: &[i8], scales: &[f16], out: &mut [f16]) {
        check_widen_q8(codes, scales, out);
        // SAFETY: features by `self`, lengths by the check.
        unsafe { float::widen_q8(codes, scales, out) }
    }

    fn to_f16(self, x: &[f32], out: &mut [f16]) {
        assert_eq!(x.len(), out.len());
        // SAFETY: features by `self`, lengths by the assertion.
        unsafe { float::to_f16(x, out) }
    }

    fn quantize_q8(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i32]) {
        // SAFETY: features by `self`; the function checks lengths.
        unsafe { quantize::quantize_q8(x, q, d, sums) }
    }

    fn quantize_q8_k(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
        // SAFETY: features by `self`; the function checks lengths.
        unsafe { quantize::quantize_q8_k(x, q, d, sums) }
    }

    fn dot_float(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: F32Batch<'_>, out: &mut [TileDots]) {
        x.check(format, &rows, out.len());
        match format {
            // SAFETY: features by `self`, lengths by `check`.
            BlockFormat::F32 => unsafe { float::dot::<float::F32>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::F16 => unsafe { float::dot::<float::F16>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Bf16 => unsafe { float::dot::<float::Bf16>(rows, x, out) },
            _ => panic!("{} is not a float format", format.name()),
        }
    }

    fn dot_q8(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8Batch<'_>, out: &mut [TileDots]) {
        x.check(format, &rows, out.len());
        // SAFETY: features by `self`, lengths by `check`.
        with_block32!(format, B => unsafe { dot32::dot::<B>(rows, x, out) });
    }

    fn dot_q8_k(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8KBatch<'_>, out: &mut [TileDots]) {
        x.check(format, &rows, out.len());
        // SAFETY: features by `self`, lengths by `check`.
        with_block256!(format, B => unsafe { dot256::dot::<B>(rows, x, out) });
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
        // SAFETY: features by `self`, lengths by `check`.
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
        // SAFETY: features by `self`, lengths by `check`.
        with_block256!(format, B => unsafe { lanes::dot256::<B>(panel, rows, x, out) });
    }
}

/// The sums of the 8 lanes of each of four vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_lanes(p: [__m256i; TILE_ROWS]) -> __m128i {
    let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(p[0], p[1]), _mm256_hadd_epi32(p[2], p[3]));
    _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs))
}

/// Products of 32 weight codes and 32 activations, added in pairs: at most 2 * 128 * 127 in each lane
/// of 16 bits, so nothing saturates, not even for codes of -128.
#[inline]
#[target_feature(enable = "avx2")]
fn pair_products<const SIGNED: bool>(codes: __m256i, x: __m256i) -> __m256i {
    if SIGNED {
        // The instruction multiplies unsigned by signed: move the sign of the code to the activation,
        // which is never -128.
        _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
    } else {
        _mm256_maddubs_epi16(codes, x)
    }
}

/// The halves at byte `at` of four blocks, widened.
///
/// # Safety
/// Each block has two bytes at `at`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn halves(blocks: [*const u8; TILE_ROWS], at: usize) -> __m128 {
    let mut h = [0; TILE_ROWS];
    for r in 0..TILE_ROWS {
        // SAFETY: the caller's promise; reads of i16 may be unaligned.
        h[r] = unsafe { blocks[r].add(at).cast::<i16>().read_unaligned() };
    }
    _mm_cvtph_ps(_mm_set_epi16(0, 0, 0, 0, h[3], h[2], h[1], h[0]))
}

/// 32 nibbles of 16 bytes: the low ones, then the high ones.
///
/// # Safety
/// 16 bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles(qs: *const u8) -> __m256i {
    // SAFETY: the caller's promise; the load may be unaligned.
    let twice = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(qs.cast()) });
    let shifted = _mm256_srlv_epi32(twice, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    _mm256_and_si256(shifted, _mm256_set1_epi8(15))
}

/// What 32 nibbles stand for in IQ4_NL and IQ4_XS.
#[inline]
#[target_feature(enable = "avx2")]
fn iq4_values(nibbles: __m256i) -> __m256i {
    // SAFETY: the table has 16 bytes.
    let table = unsafe { _mm_loadu_si128(crate::quant::IQ4_VALUES.as_ptr().cast()) };
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles)
}
