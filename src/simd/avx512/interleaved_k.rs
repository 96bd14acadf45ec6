//! Dot products of sixteen interleaved rows in Q4_K and Q5_K, whose groups have a scale and a minimum of 6 bits each.
//!
//! Of scales and minima a vector is a word of every row, that is a byte of each of four groups. Minima are multiplied with the sums
//! of the activations, which leaves the codes as they are.

use super::super::{PANEL_ROWS, PanelDots, Q8KBatch};
use super::interleaved::{AHEAD_BYTES, STEP, in_steps};
use crate::quant::{Block256, Q4K, Q5K};
use std::arch::x86_64::*;

/// A format of groups of 32 columns, with scales and minima as Q4_K packs them.
pub(super) trait InterleavedK: Block256 {
    /// Codes `32 * g + 4 * i` and the three after it of each of sixteen interleaved blocks.
    ///
    /// # Safety
    /// The CPU has AVX-512 F and BW; sixteen blocks can be read; `g` and `i` are below 8.
    unsafe fn quad(group: *const u8, g: usize, i: usize) -> __m512i;
}

impl InterleavedK for Q4K {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(group: *const u8, g: usize, i: usize) -> __m512i {
        // SAFETY: nibbles are bytes 16..144 of a block.
        unsafe { nibble_quad(group.add(16 * PANEL_ROWS), g, i) }
    }
}

impl InterleavedK for Q5K {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn quad(group: *const u8, g: usize, i: usize) -> __m512i {
        // SAFETY: fifth bits are bytes 16..48 of a block, bit g those of group g; nibbles are bytes 48..176.
        unsafe {
            let nibbles = nibble_quad(group.add(48 * PANEL_ROWS), g, i);
            let fifth = _mm512_loadu_si512(group.add(16 * PANEL_ROWS + 64 * i).cast());
            let is_set = _mm512_test_epi8_mask(fifth, _mm512_set1_epi8((1_u8 << g) as i8));
            _mm512_mask_add_epi8(nibbles, is_set, nibbles, _mm512_set1_epi8(16))
        }
    }
}

/// Quad `i` of group `g` where 32 bytes hold two groups, the even one low.
///
/// # Safety
/// The CPU has AVX-512 F and BW; 128 bytes of each of sixteen blocks can be read from `nibbles` on; `g` and `i` are below 8.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn nibble_quad(nibbles: *const u8, g: usize, i: usize) -> __m512i {
    // SAFETY: the caller's promise.
    let both = unsafe { _mm512_loadu_si512(nibbles.add(64 * (8 * (g / 2) + i)).cast()) };
    let codes = if g.is_multiple_of(2) { both } else { _mm512_srli_epi16::<4>(both) };
    _mm512_and_si512(codes, _mm512_set1_epi8(15))
}

/// Dot products of interleaved rows in Q4_K or Q5_K with every token of `x`.
///
/// # Safety
/// The CPU has what [`super::Avx512Vnni`] proves; `rows` are sixteen rows of `x.n_cols` columns, and `x` has `out.len()` tokens.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn dot_k<F: InterleavedK>(rows: &[u8], x: Q8KBatch<'_>, out: &mut [PanelDots]) {
    // SAFETY: the caller's promises; tokens `t..` exist, as compared in the macro.
    unsafe { in_steps!(out, t, step_k::<F>(rows, x, t, out)) }
}

/// Tokens `first..first + T`; returns `T`.
///
/// # Safety
/// As for [`dot_k`], and `first + T <= out.len()`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn step_k<F: InterleavedK, const T: usize>(
    rows: &[u8],
    x: Q8KBatch<'_>,
    first: usize,
    out: &mut [PanelDots],
) -> usize {
    let n_blocks = x.n_cols / 256;
    let mut acc = [_mm512_setzero_ps(); T];
    for b in 0..n_blocks {
        let mut totals = [_mm512_setzero_si512(); T];
        let mut min_totals = totals;
        // SAFETY: sixteen rows are n_blocks groups of 16 * BYTES bytes; words of scales stand behind two halves.
        let (group, (scales, mins)) = unsafe {
            let group = rows.as_ptr().add(b * PANEL_ROWS * F::BYTES);
            (group, scales_and_mins(group.add(4 * PANEL_ROWS)))
        };
        for g in 0..8 {
            // SAFETY: a token has 256 codes and 16 sums for each of n_blocks; tokens first..first + T exist. Asking for memory ahead
            // reads nothing.
            unsafe {
                for line in (0..PANEL_ROWS * F::BYTES / 8).step_by(64) {
                    let ahead = AHEAD_BYTES + g * PANEL_ROWS * F::BYTES / 8 + line;
                    _mm_prefetch::<_MM_HINT_T0>(group.wrapping_add(ahead).cast());
                }
                let mut dots = [_mm512_setzero_si512(); T];
                for i in 0..8 {
                    let quad = F::quad(group, g, i);
                    for t in 0..T {
                        let codes = x.q.as_ptr().add(256 * ((first + t) * n_blocks + b) + 32 * g + 4 * i);
                        let codes = _mm512_set1_epi32(codes.cast::<i32>().read_unaligned());
                        dots[t] = _mm512_dpbusd_epi32(dots[t], quad, codes);
                    }
                }
                let (scale, min) = (of_group(scales, g), of_group(mins, g));
                // A minimum for each of two sums.
                let min = _mm512_or_si512(min, _mm512_slli_epi32::<16>(min));
                for t in 0..T {
                    totals[t] = _mm512_add_epi32(totals[t], _mm512_mullo_epi32(dots[t], scale));
                    let sums = x.sums.as_ptr().add(16 * ((first + t) * n_blocks + b) + 2 * g);
                    let sums = _mm512_set1_epi32(sums.cast::<i32>().read_unaligned());
                    min_totals[t] = _mm512_dpwssd_epi32(min_totals[t], min, sums);
                }
            }
        }
        // SAFETY: a group begins with the halves of sixteen rows, and of their minima; as above.
        unsafe {
            let halves = |at: usize| _mm512_cvtph_ps(_mm256_loadu_si256(group.add(at * PANEL_ROWS).cast()));
            let (d, dmin) = (halves(F::D_AT), halves(F::D_AT + 2));
            for t in 0..T {
                let xd = _mm512_set1_ps(*x.d.as_ptr().add((first + t) * n_blocks + b));
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(totals[t]), _mm512_mul_ps(d, xd), acc[t]);
                let min_total = _mm512_cvtepi32_ps(min_totals[t]);
                acc[t] = _mm512_fnmadd_ps(min_total, _mm512_mul_ps(dmin, xd), acc[t]);
            }
        }
    }
    for t in 0..T {
        // SAFETY: an element of `out` is sixteen floats.
        unsafe { _mm512_storeu_ps(out[first + t].as_mut_ptr(), acc[t]) };
    }
    T
}

/// Of [`scales_and_mins`] those of group `g`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn of_group(words: [__m512i; 2], g: usize) -> __m512i {
    let word = _mm512_srlv_epi32(words[g / 4], _mm512_set1_epi32(8 * (g as i32 % 4)));
    _mm512_and_si512(word, _mm512_set1_epi32(0x3f))
}

/// The scales, and the minima, of groups 0..4 and 4..8, a byte each; [`crate::quant::unpack_scales_and_mins`] does so for one block.
///
/// # Safety
/// The CPU has AVX-512 F; three words of each of sixteen blocks can be read from `words` on.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn scales_and_mins(words: *const u8) -> ([__m512i; 2], [__m512i; 2]) {
    // SAFETY: the caller's promise.
    let [a, b, c] = [0, 1, 2].map(|i| unsafe { _mm512_loadu_si512(words.add(64 * i).cast()) });
    let (six, four, top) =
        (_mm512_set1_epi32(0x3f3f_3f3f), _mm512_set1_epi32(0x0f0f_0f0f), _mm512_set1_epi32(0x3030_3030));
    let join = |low, high| {
        let high = _mm512_and_si512(_mm512_srli_epi32::<2>(high), top);
        _mm512_or_si512(_mm512_and_si512(low, four), high)
    };
    ([_mm512_and_si512(a, six), join(c, a)], [_mm512_and_si512(b, six), join(_mm512_srli_epi32::<4>(c), b)])
}
