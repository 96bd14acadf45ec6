//! Dot products of sixteen interleaved rows: a vector is four codes, or a scale, of every row.
//!
//! Here are the 32-element formats and Q6_K; [`super::interleaved_k`] has Q4_K and Q5_K.
//!
//! Weights come as one stream and need no rearranging. For each block the sums of all rows are in one vector for each token, exact
//! integers that begin with what the offset of the codes takes off; they are scaled and added to the tokens' sums at its end.

use super::super::{PANEL_ROWS, PanelDots, Q8Batch, Q8KBatch};
use crate::quant::{Block32, Block256, Coarse3, Codes, Q4_0, Q6K, Q8_0};
use std::arch::x86_64::*;

/// Tokens that a step takes: the sums of each, of a block and of all, stay in registers.
pub(super) const STEP: usize = 8;
/// The same for Q6_K, whose codes take registers to be put together.
const STEP_Q6_K: usize = 4;
/// How far ahead of the computation weights are asked for: longer than memory takes to answer. Unit: bytes.
pub(super) const AHEAD_BYTES: usize = 4096;
/// Quads of codes of a 32-element block.
const QUADS: usize = 8;

/// A 32-element format whose interleaved codes can be had as vectors.
pub(super) trait Interleaved32: Block32 {
    /// What is taken off the codes by [`quads`](Self::quads): the instruction multiplies unsigned ones.
    const TAKEN_OFF: i32;

    /// The codes of a group of blocks whose codes begin at `codes`: vector `i` has codes `4 * i..4 * i + 4` of every row.
    ///
    /// # Safety
    /// The CPU has what [`super::Avx512Vnni`] proves; the codes of sixteen blocks can be read.
    unsafe fn quads(codes: *const u8) -> [__m512i; QUADS];
}

impl Interleaved32 for Q4_0 {
    const TAKEN_OFF: i32 = 0;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quads(codes: *const u8) -> [__m512i; QUADS] {
        let mask = _mm512_set1_epi8(15);
        let mut quads = [_mm512_setzero_si512(); QUADS];
        for i in 0..QUADS / 2 {
            // SAFETY: sixteen blocks have 16 * 16 bytes of codes.
            let both = unsafe { _mm512_loadu_si512(codes.add(64 * i).cast()) };
            // Low nibbles are the first half of a block, high ones the second.
            quads[i] = _mm512_and_si512(both, mask);
            quads[i + QUADS / 2] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask);
        }
        quads
    }
}

impl Interleaved32 for Q8_0 {
    const TAKEN_OFF: i32 = -128;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quads(codes: *const u8) -> [__m512i; QUADS] {
        let mut quads = [_mm512_setzero_si512(); QUADS];
        for (i, quad) in quads.iter_mut().enumerate() {
            // SAFETY: sixteen blocks have 16 * 32 bytes of codes.
            let codes = unsafe { _mm512_loadu_si512(codes.add(64 * i).cast()) };
            // Turning the highest bit adds 128.
            *quad = _mm512_xor_si512(codes, _mm512_set1_epi8(i8::MIN));
        }
        quads
    }
}

impl Interleaved32 for Coarse3 {
    const TAKEN_OFF: i32 = 0;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quads(codes: *const u8) -> [__m512i; QUADS] {
        // SAFETY: sixteen blocks have 16 * 12 bytes of codes.
        let [even, odd, high] = [0, 1, 2].map(|i| unsafe { _mm512_loadu_si512(codes.add(64 * i).cast()) });
        let mut quads = [_mm512_setzero_si512(); QUADS];
        for (i, quad) in quads.iter_mut().enumerate() {
            let low = if i.is_multiple_of(2) { even } else { odd };
            // Codes are doubled: bits 2 * (i / 2) and the one above it go to bits 1 and 2.
            let low = match i / 2 {
                0 => _mm512_slli_epi16::<1>(low),
                1 => _mm512_srli_epi16::<1>(low),
                2 => _mm512_srli_epi16::<3>(low),
                _ => _mm512_srli_epi16::<5>(low),
            };
            let low = _mm512_and_si512(low, _mm512_set1_epi8(6));
            let is_set = _mm512_test_epi8_mask(high, _mm512_set1_epi8((1_u8 << i) as i8));
            *quad = _mm512_mask_add_epi8(low, is_set, low, _mm512_set1_epi8(8));
        }
        quads
    }
}

/// Calls `$step::<T>` for as many tokens `$t..$t + T` as are left, at most [`STEP`] or `$most`, until none are.
macro_rules! in_steps {
    ($out:ident, $t:ident, $step:ident $(::<$F:ident>)?($($arg:expr),*)) => {
        in_steps!($out, $t, STEP, $step $(::<$F>)?($($arg),*))
    };
    ($out:ident, $t:ident, $most:expr, $step:ident $(::<$F:ident>)?($($arg:expr),*)) => {{
        let mut $t = 0;
        while $t < $out.len() {
            $t += match ($out.len() - $t).min($most) {
                1 => $step::<$($F,)? 1>($($arg),*),
                2 => $step::<$($F,)? 2>($($arg),*),
                3 => $step::<$($F,)? 3>($($arg),*),
                4 => $step::<$($F,)? 4>($($arg),*),
                5 => $step::<$($F,)? 5>($($arg),*),
                6 => $step::<$($F,)? 6>($($arg),*),
                7 => $step::<$($F,)? 7>($($arg),*),
                _ => $step::<$($F,)? STEP>($($arg),*),
            };
        }
    }};
}
pub(super) use in_steps;

/// Dot products of interleaved rows in a 32-element format with every token of `x`.
///
/// # Safety
/// The CPU has what [`super::Avx512Vnni`] proves; `rows` are sixteen rows of `x.n_cols` columns, and `x` has `out.len()` tokens.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn dot32<F: Interleaved32>(rows: &[u8], x: Q8Batch<'_>, out: &mut [PanelDots]) {
    // SAFETY: the caller's promises; tokens `t..` exist, as compared in the macro.
    unsafe { in_steps!(out, t, step32::<F>(rows, x, t, out)) }
}

/// Tokens `first..first + T`; returns `T`.
///
/// # Safety
/// As for [`dot32`], and `first + T <= out.len()`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn step32<F: Interleaved32, const T: usize>(
    rows: &[u8],
    x: Q8Batch<'_>,
    first: usize,
    out: &mut [PanelDots],
) -> usize {
    let n_blocks = x.n_cols / 32;
    let mut acc = [_mm512_setzero_ps(); T];
    for b in 0..n_blocks {
        // SAFETY: sixteen rows are n_blocks groups of 16 * BYTES bytes, scales first; a token has 32 codes, a scale and a sum for
        // each of n_blocks; tokens first..first + T exist. Nothing is read by asking for memory ahead.
        unsafe {
            let group = rows.as_ptr().add(b * PANEL_ROWS * F::BYTES);
            for line in (0..PANEL_ROWS * F::BYTES).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(group.wrapping_add(AHEAD_BYTES + line).cast());
            }
            let d = _mm512_cvtph_ps(_mm256_loadu_si256(group.cast()));
            let quads = F::quads(group.add(2 * PANEL_ROWS));
            let mut dots = [_mm512_setzero_si512(); T];
            for t in 0..T {
                let sum = *x.sums.as_ptr().add((first + t) * n_blocks + b);
                dots[t] = _mm512_set1_epi32((F::TAKEN_OFF - F::OFFSET) * sum);
            }
            for (i, quad) in quads.into_iter().enumerate() {
                for t in 0..T {
                    let codes = x.q.as_ptr().add(32 * ((first + t) * n_blocks + b) + 4 * i);
                    let codes = _mm512_set1_epi32(codes.cast::<i32>().read_unaligned());
                    dots[t] = _mm512_dpbusd_epi32(dots[t], quad, codes);
                }
            }
            for t in 0..T {
                let xd = _mm512_set1_ps(*x.d.as_ptr().add((first + t) * n_blocks + b));
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t]), _mm512_mul_ps(d, xd), acc[t]);
            }
        }
    }
    for t in 0..T {
        // SAFETY: an element of `out` is sixteen floats.
        unsafe { _mm512_storeu_ps(out[first + t].as_mut_ptr(), acc[t]) };
    }
    T
}

/// Dot products of interleaved rows in Q6_K with every token of `x`.
///
/// # Safety
/// As for [`dot32`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn dot_q6_k(rows: &[u8], x: Q8KBatch<'_>, out: &mut [PanelDots]) {
    // SAFETY: the caller's promises; tokens `t..` exist, as compared in the macro.
    unsafe { in_steps!(out, t, STEP_Q6_K, step_q6_k(rows, x, t, out)) }
}

/// Where the parts of sixteen interleaved blocks of Q6_K begin: high bits behind low ones, then scales, then their scale.
const HIGH_AT: usize = 128 * PANEL_ROWS;
const SCALES_AT: usize = 192 * PANEL_ROWS;

/// Tokens `first..first + T`; returns `T`.
///
/// # Safety
/// As for [`dot_q6_k`], and `first + T <= out.len()`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn step_q6_k<const T: usize>(
    rows: &[u8],
    x: Q8KBatch<'_>,
    first: usize,
    out: &mut [PanelDots],
) -> usize {
    let n_blocks = x.n_cols / 256;
    let mut acc = [_mm512_setzero_ps(); T];
    for b in 0..n_blocks {
        // SAFETY: sixteen rows are n_blocks groups of 16 * BYTES bytes.
        let group = unsafe { rows.as_ptr().add(b * PANEL_ROWS * Q6K::BYTES) };
        // What the offset of the codes adds, of two runs of codes at a time.
        let mut offsets = [_mm512_setzero_si512(); T];
        for pair in 0..8 {
            // SAFETY: a group of blocks has 16 vectors of 16 scales; a token has 16 sums for each of n_blocks.
            unsafe {
                let scales = q6_k_scale_pairs(group, pair);
                for t in 0..T {
                    let sums = x.sums.as_ptr().add(16 * ((first + t) * n_blocks + b) + 2 * pair);
                    let sums = _mm512_set1_epi32(sums.cast::<i32>().read_unaligned());
                    offsets[t] = _mm512_dpwssd_epi32(offsets[t], scales, sums);
                }
            }
        }
        let mut totals = [_mm512_setzero_si512(); T];
        for t in 0..T {
            totals[t] = _mm512_mullo_epi32(offsets[t], _mm512_set1_epi32(-Q6K::OFFSET));
        }
        for g in 0..16 {
            // SAFETY: a group of blocks has 32 vectors of low bits, 16 of high ones and 16 of scales, of 16 bytes; a token has
            // 256 codes for each of n_blocks; tokens first..first + T exist. Asking for memory ahead reads nothing.
            unsafe {
                for line in (0..PANEL_ROWS * Q6K::BYTES / 16).step_by(64) {
                    let ahead = AHEAD_BYTES + g * PANEL_ROWS * Q6K::BYTES / 16 + line;
                    _mm_prefetch::<_MM_HINT_T0>(group.wrapping_add(ahead).cast());
                }
                let mut dots = [_mm512_setzero_si512(); T];
                for i in 0..4 {
                    let quad = q6_k_quad(group, g, i);
                    for t in 0..T {
                        let codes = x.q.as_ptr().add(256 * ((first + t) * n_blocks + b) + 16 * g + 4 * i);
                        let codes = _mm512_set1_epi32(codes.cast::<i32>().read_unaligned());
                        dots[t] = _mm512_dpbusd_epi32(dots[t], quad, codes);
                    }
                }
                let scales = q6_k_scales(group, g);
                for t in 0..T {
                    totals[t] = _mm512_add_epi32(totals[t], _mm512_mullo_epi32(dots[t], scales));
                }
            }
        }
        // SAFETY: the scales of the scales are the last 32 bytes of the group; as above.
        unsafe {
            let d = _mm512_cvtph_ps(_mm256_loadu_si256(group.add(PANEL_ROWS * Q6K::D_AT).cast()));
            for t in 0..T {
                let xd = _mm512_set1_ps(*x.d.as_ptr().add((first + t) * n_blocks + b));
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(totals[t]), _mm512_mul_ps(d, xd), acc[t]);
            }
        }
    }
    for t in 0..T {
        // SAFETY: an element of `out` is sixteen floats.
        unsafe { _mm512_storeu_ps(out[first + t].as_mut_ptr(), acc[t]) };
    }
    T
}

/// Scale `g` of each of sixteen interleaved blocks.
///
/// # Safety
/// The CPU has AVX-512 F; sixteen blocks can be read; `g` is below 16.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn q6_k_scales(group: *const u8, g: usize) -> __m512i {
    // SAFETY: the scales are 16 vectors of 16 bytes.
    _mm512_cvtepi8_epi32(unsafe { _mm_loadu_si128(group.add(SCALES_AT + PANEL_ROWS * g).cast()) })
}

/// Scales `2 * pair` and `2 * pair + 1` of each of sixteen interleaved blocks, as neighbouring numbers of 16 bits.
///
/// # Safety
/// The CPU has AVX-512 F and BW; sixteen blocks can be read; `pair` is below 8.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
pub(super) unsafe fn q6_k_scale_pairs(group: *const u8, pair: usize) -> __m512i {
    // SAFETY: the scales are 16 vectors of 16 bytes.
    let (even, odd) = unsafe {
        let scales: *const __m128i = group.add(SCALES_AT + PANEL_ROWS * 2 * pair).cast();
        (_mm_loadu_si128(scales), _mm_loadu_si128(scales.add(1)))
    };
    let pairs = _mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd));
    _mm512_cvtepi8_epi16(pairs)
}

/// Codes `16 * g + 4 * i` and the three after it of each of sixteen interleaved blocks; [`Block256::codes`] tells where they stand.
///
/// # Safety
/// The CPU has AVX-512 F and BW; sixteen blocks can be read; `g` is below 16 and `i` below 4.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn q6_k_quad(group: *const u8, g: usize, i: usize) -> __m512i {
    let (half, run, quad) = (g / 8, g % 8 / 2, g % 2 * 4 + i);
    // SAFETY: halves have 16 vectors of low bits, eight for even runs and eight for odd ones, and eight of high bits.
    let (low, high) = unsafe {
        (
            _mm512_loadu_si512(group.add(64 * (16 * half + run % 2 * 8 + quad)).cast()),
            _mm512_loadu_si512(group.add(HIGH_AT + 64 * (8 * half + quad)).cast()),
        )
    };
    let low = if run < 2 { low } else { _mm512_srli_epi16::<4>(low) };
    let high = match run {
        0 => _mm512_slli_epi16::<4>(high),
        1 => _mm512_slli_epi16::<2>(high),
        2 => high,
        _ => _mm512_srli_epi16::<2>(high),
    };
    _mm512_or_si512(
        _mm512_and_si512(low, _mm512_set1_epi8(0x0f)),
        _mm512_and_si512(high, _mm512_set1_epi8(0x30)),
    )
}
