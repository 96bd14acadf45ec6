//! Sixteen rows in the lanes of a vector.

use super::super::avx2::{Unpack32, Unpack256, transpose};
use super::super::panel::{self, Lanes, Load32, Load256, Panel, Quad};
use super::super::{PANEL_ROWS, PanelDots, Q8Batch, Q8KBatch};
use crate::quant::Codes;
use std::arch::x86_64::*;

/// Tokens that a step of the panel kernels takes: sums and scaled sums of each stay in registers.
const STEP: usize = 8;

/// AVX-512 F, BW, VL and VNNI, which the CPU must have.
pub(super) struct VnniLanes;

/// [`panel::dot32`] for AVX-512.
///
/// # Safety
/// The CPU has what [`super::Avx512Vnni`] proves; `x.check` held for `F`, `rows` and `out.len()`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn dot32<F: Unpack32>(
    panel: &mut Panel<16>,
    rows: [&[u8]; PANEL_ROWS],
    x: Q8Batch<'_>,
    out: &mut [PanelDots],
) {
    // SAFETY: the caller's promises.
    unsafe { panel::dot32::<VnniLanes, F, 16, STEP>(panel, rows, x, out) }
}

/// [`panel::dot256`] for AVX-512.
///
/// # Safety
/// The CPU has what [`super::Avx512Vnni`] proves; `x.check` held for `F`, `rows` and `out.len()`.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn dot256<F: Unpack256>(
    panel: &mut Panel<16>,
    rows: [&[u8]; PANEL_ROWS],
    x: Q8KBatch<'_>,
    out: &mut [PanelDots],
) {
    // SAFETY: the caller's promises.
    unsafe { panel::dot256::<VnniLanes, F, 16, STEP>(panel, rows, x, out) }
}

impl Lanes<16> for VnniLanes {
    type Int = __m512i;
    type Float = __m512;

    /// The instruction multiplies unsigned codes: signed ones are stored 128 higher.
    #[inline(always)]
    fn taken_off<F: Codes>() -> i32 {
        if F::MAX_CODE.is_none() { -128 } else { 0 }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn splat(v: i32) -> __m512i {
        _mm512_set1_epi32(v)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_int(p: *const i32) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn mul_add(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        _mm512_add_epi32(_mm512_mullo_epi32(a, b), c)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(p, v) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_halves(p: *const u16) -> __m512 {
        // SAFETY: the caller's promise.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(p.cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add_scaled(acc: __m512, ints: __m512i, scales: __m512, x_scale: f32) -> __m512 {
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(ints), _mm512_mul_ps(scales, _mm512_set1_ps(x_scale)), acc)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn spread(codes: &[[i8; 32]; 16], taken_off: i8, quads: &mut [Quad<16>; 8]) {
        for half in 0..2 {
            let mut rows = [_mm256_setzero_si256(); 8];
            for r in 0..8 {
                // SAFETY: 32 bytes are read from 32 bytes.
                let codes = unsafe { _mm256_loadu_si256(codes[8 * half + r].as_ptr().cast()) };
                rows[r] = _mm256_sub_epi8(codes, _mm256_set1_epi8(taken_off));
            }
            for (quad, v) in quads.iter_mut().zip(transpose(rows)) {
                // SAFETY: 32 bytes are written for the eight rows of the half.
                unsafe { _mm256_storeu_si256(quad[8 * half..].as_mut_ptr().cast(), v) };
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn dot<F: Codes, const N: usize, const T: usize>(
        quads: *const Quad<16>,
        x: [*const i8; T],
        start: [__m512i; T],
    ) -> [__m512i; T] {
        let mut sums = start;
        for n in 0..N {
            // SAFETY: the caller's promises.
            let codes = unsafe { _mm512_loadu_si512(quads.add(n).cast()) };
            for t in 0..T {
                // SAFETY: the caller's promises; the read may be unaligned.
                let x = _mm512_set1_epi32(unsafe { x[t].add(4 * n).cast::<i32>().read_unaligned() });
                sums[t] = _mm512_dpbusd_epi32(sums[t], codes, x);
            }
        }
        sums
    }
}

impl<F: Unpack32> Load32<VnniLanes> for F {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load(block: *const u8, codes: &mut [i8; 32]) {
        // SAFETY: the caller's promises; 32 bytes are written to 32 bytes.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), F::load_codes(block)) }
    }
}

impl<F: Unpack256> Load256<VnniLanes> for F {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load<const RUN: usize>(block: *const u8, codes: &mut [i8; 32]) {
        // SAFETY: the caller's promises; 32 bytes are written to 32 bytes.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), F::load_codes::<RUN>(block)) }
    }
}
