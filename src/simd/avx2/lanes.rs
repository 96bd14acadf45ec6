//! Eight rows in the lanes of a vector.

use super::super::panel::{self, Lanes, Load32, Load256, Panel, Quad};
use super::super::{PANEL_ROWS, PanelDots, Q8Batch, Q8KBatch};
use super::dot32::Unpack32;
use super::dot256::Unpack256;
use super::pair_products;
use crate::quant::Codes;
use std::arch::x86_64::*;

/// Tokens that a step of the panel kernels takes: sums and scaled sums of each stay in registers.
const STEP: usize = 4;

/// [`panel::dot32`] for AVX2.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `x.check` held for `F`, `rows` and `out.len()`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot32<F: Unpack32>(
    panel: &mut Panel<8>,
    rows: [&[u8]; PANEL_ROWS],
    x: Q8Batch<'_>,
    out: &mut [PanelDots],
) {
    // SAFETY: the caller's promises.
    unsafe { panel::dot32::<Avx2Lanes, F, 8, STEP>(panel, rows, x, out) }
}

/// [`panel::dot256`] for AVX2.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `x.check` held for `F`, `rows` and `out.len()`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot256<F: Unpack256>(
    panel: &mut Panel<8>,
    rows: [&[u8]; PANEL_ROWS],
    x: Q8KBatch<'_>,
    out: &mut [PanelDots],
) {
    // SAFETY: the caller's promises.
    unsafe { panel::dot256::<Avx2Lanes, F, 8, STEP>(panel, rows, x, out) }
}

/// AVX2 with FMA and F16C, which the CPU must have.
pub(super) struct Avx2Lanes;

impl Lanes<8> for Avx2Lanes {
    type Int = __m256i;
    type Float = __m256;

    #[inline(always)]
    fn taken_off<F: Codes>() -> i32 {
        0
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn splat(v: i32) -> __m256i {
        _mm256_set1_epi32(v)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_int(p: *const i32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn mul_add(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        _mm256_add_epi32(_mm256_mullo_epi32(a, b), c)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(p, v) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load_halves(p: *const u16) -> __m256 {
        // SAFETY: the caller's promise.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(p.cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_scaled(acc: __m256, ints: __m256i, scales: __m256, x_scale: f32) -> __m256 {
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(ints), _mm256_mul_ps(scales, _mm256_set1_ps(x_scale)), acc)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn spread(codes: &[[i8; 32]; 8], taken_off: i8, quads: &mut [Quad<8>; 8]) {
        let mut rows = [_mm256_setzero_si256(); 8];
        for r in 0..8 {
            // SAFETY: 32 bytes are read from 32 bytes.
            let codes = unsafe { _mm256_loadu_si256(codes[r].as_ptr().cast()) };
            rows[r] = _mm256_sub_epi8(codes, _mm256_set1_epi8(taken_off));
        }
        for (quad, v) in quads.iter_mut().zip(transpose(rows)) {
            // SAFETY: 32 bytes are written to 32 bytes.
            unsafe { _mm256_storeu_si256(quad.as_mut_ptr().cast(), v) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dot<F: Codes, const N: usize, const T: usize>(
        quads: *const Quad<8>,
        x: [*const i8; T],
        start: [__m256i; T],
    ) -> [__m256i; T] {
        // Pairs of products that a lane of 16 bits holds before it must be widened.
        let n_pairs = match F::MAX_CODE {
            Some(max) => (i16::MAX as i32 / (2 * 127 * max)) as usize,
            None => 1,
        };
        let mut totals = start;
        let mut pairs = [_mm256_setzero_si256(); T];
        for n in 0..N {
            // SAFETY: the caller's promises.
            let codes = unsafe { _mm256_loadu_si256(quads.add(n).cast()) };
            for t in 0..T {
                // SAFETY: the caller's promises; the read may be unaligned.
                let x = _mm256_set1_epi32(unsafe { x[t].add(4 * n).cast::<i32>().read_unaligned() });
                let products = if F::MAX_CODE.is_none() {
                    pair_products::<true>(codes, x)
                } else {
                    pair_products::<false>(codes, x)
                };
                pairs[t] = if n % n_pairs == 0 { products } else { _mm256_add_epi16(pairs[t], products) };
                if n % n_pairs == n_pairs - 1 || n == N - 1 {
                    let quads = _mm256_madd_epi16(pairs[t], _mm256_set1_epi16(1));
                    totals[t] = _mm256_add_epi32(totals[t], quads);
                }
            }
        }
        totals
    }
}

/// Word i of vector r goes to word r of vector i.
#[inline]
#[target_feature(enable = "avx2")]
pub(in super::super) fn transpose(r: [__m256i; 8]) -> [__m256i; 8] {
    let mut pairs = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    let mut quads = [_mm256_setzero_si256(); 8];
    for i in 0..2 {
        for half in 0..2 {
            let (even, odd) = (pairs[4 * i + half], pairs[4 * i + 2 + half]);
            quads[4 * i + 2 * half] = _mm256_unpacklo_epi64(even, odd);
            quads[4 * i + 2 * half + 1] = _mm256_unpackhi_epi64(even, odd);
        }
    }
    let mut out = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        out[i] = _mm256_permute2x128_si256::<0x20>(quads[i], quads[4 + i]);
        out[4 + i] = _mm256_permute2x128_si256::<0x31>(quads[i], quads[4 + i]);
    }
    out
}

impl<F: Unpack32> Load32<Avx2Lanes> for F {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(block: *const u8, codes: &mut [i8; 32]) {
        // SAFETY: the caller's promises; 32 bytes are written to 32 bytes.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), F::load_codes(block)) }
    }
}

impl<F: Unpack256> Load256<Avx2Lanes> for F {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load<const RUN: usize>(block: *const u8, codes: &mut [i8; 32]) {
        // SAFETY: the caller's promises; 32 bytes are written to 32 bytes.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), F::load_codes::<RUN>(block)) }
    }
}
