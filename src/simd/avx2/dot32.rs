//! Dot products of rows in 32-element formats: a tile of four rows, one to four tokens.

use super::super::{Q8Batch, TILE_ROWS, TileDots};
use super::{halves, iq4_values, nibbles, pair_products, sum_lanes};
use crate::quant::{Block32, Coarse3, Iq4Nl, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use std::arch::x86_64::*;

/// A format whose codes AVX2 can unpack.
pub(in super::super) trait Unpack32: Block32 {
    /// The 32 codes of a block, as [`Block32::codes`] gives them.
    ///
    /// # Safety
    /// The CPU has AVX2 and `BYTES` bytes can be read from `block`.
    unsafe fn load_codes(block: *const u8) -> __m256i;
}

/// Dot products of four rows with every token of `x`.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `x.check` held for `F`, `rows` and `out.len()`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot<F: Unpack32>(rows: [&[u8]; TILE_ROWS], x: Q8Batch<'_>, out: &mut [TileDots]) {
    let mut t = 0;
    while t < out.len() {
        // SAFETY: the caller's promises; tokens t.. of `x` and `out` exist, as compared here.
        t += unsafe {
            match out.len() - t {
                1 => tile::<F, 1>(rows, x, t, out),
                2 | 3 => tile::<F, 2>(rows, x, t, out),
                _ => tile::<F, 4>(rows, x, t, out),
            }
        };
    }
}

/// Tokens `first..first + T`; returns `T`.
///
/// # Safety
/// As for [`dot`], and `first + T <= out.len()`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<F: Unpack32, const T: usize>(
    rows: [&[u8]; TILE_ROWS],
    x: Q8Batch<'_>,
    first: usize,
    out: &mut [TileDots],
) -> usize {
    let n_blocks = x.n_cols / 32;
    let mut acc = [_mm_setzero_ps(); T];
    for b in 0..n_blocks {
        // SAFETY: a row is n_blocks blocks of BYTES bytes; a token has 32 codes, a scale and a sum for
        // each of n_blocks; tokens first..first + T exist.
        unsafe {
            let mut blocks = [std::ptr::null(); TILE_ROWS];
            let mut codes = [_mm256_setzero_si256(); TILE_ROWS];
            for r in 0..TILE_ROWS {
                blocks[r] = rows[r].as_ptr().add(b * F::BYTES);
                codes[r] = F::load_codes(blocks[r]);
            }
            let d = halves(blocks, 0);
            for t in 0..T {
                let at = (first + t) * n_blocks + b;
                let xq = _mm256_loadu_si256(x.q.as_ptr().add(32 * at).cast());
                let xd = _mm_set1_ps(*x.d.as_ptr().add(at));
                let sum = _mm_set1_epi32(*x.sums.as_ptr().add(at));
                let mut pairs = [_mm256_setzero_si256(); TILE_ROWS];
                for r in 0..TILE_ROWS {
                    pairs[r] = if F::MAX_CODE.is_none() {
                        pair_products::<true>(codes[r], xq)
                    } else {
                        pair_products::<false>(codes[r], xq)
                    };
                }
                let mut dots = sum_pairs::<F>(pairs);
                if F::OFFSET != 0 {
                    dots = _mm_sub_epi32(dots, _mm_mullo_epi32(sum, _mm_set1_epi32(F::OFFSET)));
                }
                acc[t] = _mm_fmadd_ps(_mm_cvtepi32_ps(dots), _mm_mul_ps(d, xd), acc[t]);
                if F::HAS_MIN {
                    let m = halves(blocks, 2);
                    acc[t] = _mm_fmadd_ps(_mm_cvtepi32_ps(sum), _mm_mul_ps(m, xd), acc[t]);
                }
            }
        }
    }
    for t in 0..T {
        // SAFETY: an element of `out` is four floats.
        unsafe { _mm_storeu_ps(out[first + t].as_mut_ptr(), acc[t]) };
    }
    T
}

/// The sums of the 16 lanes of each of four vectors of pair products.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_pairs<F: Unpack32>(pairs: [__m256i; TILE_ROWS]) -> __m128i {
    let ones = _mm256_set1_epi16(1);
    let four_pairs_fit = match F::MAX_CODE {
        Some(max) => 4 * 2 * 127 * max <= i16::MAX as i32,
        None => false,
    };
    if four_pairs_fit {
        let rows01 = _mm256_hadd_epi16(pairs[0], pairs[1]);
        let rows23 = _mm256_hadd_epi16(pairs[2], pairs[3]);
        let quads = _mm256_madd_epi16(_mm256_hadd_epi16(rows01, rows23), ones);
        _mm_add_epi32(_mm256_castsi256_si128(quads), _mm256_extracti128_si256::<1>(quads))
    } else {
        let mut quads = pairs;
        for r in 0..TILE_ROWS {
            quads[r] = _mm256_madd_epi16(pairs[r], ones);
        }
        sum_lanes(quads)
    }
}

impl Unpack32 for Q4_0 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes(block: *const u8) -> __m256i {
        // SAFETY: nibbles are bytes 2..18 of a block.
        unsafe { nibbles(block.add(2)) }
    }
}

impl Unpack32 for Q4_1 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes(block: *const u8) -> __m256i {
        // SAFETY: nibbles are bytes 4..20 of a block.
        unsafe { nibbles(block.add(4)) }
    }
}

impl Unpack32 for Q5_0 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes(block: *const u8) -> __m256i {
        // SAFETY: fifth bits are bytes 2..6, nibbles bytes 6..22 of a block.
        unsafe { _mm256_or_si256(nibbles(block.add(6)), fifth_bits(block.add(2))) }
    }
}

impl Unpack32 for Q5_1 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes(block: *const u8) -> __m256i {
        // SAFETY: fifth bits are bytes 4..8, nibbles bytes 8..24 of a block.
        unsafe { _mm256_or_si256(nibbles(block.add(8)), fifth_bits(block.add(4))) }
    }
}

impl Unpack32 for Q8_0 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes(block: *const u8) -> __m256i {
        // SAFETY: codes are bytes 2..34 of a block.
        unsafe { _mm256_loadu_si256(block.add(2).cast()) }
    }
}

impl Unpack32 for Iq4Nl {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes(block: *const u8) -> __m256i {
        // SAFETY: nibbles are bytes 2..18 of a block.
        unsafe { iq4_values(nibbles(block.add(2))) }
    }
}

impl Unpack32 for Coarse3 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes(block: *const u8) -> __m256i {
        // SAFETY: low bits are bytes 2..10, high ones bytes 10..14 of a block; the reads may be unaligned.
        let (low, high) = unsafe {
            (block.add(2).cast::<i64>().read_unaligned(), block.add(10).cast::<i32>().read_unaligned())
        };
        // The two bits of a code go to bits 1 and 2, the high one to bit 3. What else is shifted there is masked.
        let low = _mm256_srlv_epi64(_mm256_set1_epi64x(low), _mm256_setr_epi64x(0, 2, 4, 6));
        let low = _mm256_and_si256(low, _mm256_set1_epi8(3));
        let high = _mm256_srlv_epi32(_mm256_set1_epi32(high), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        let high = _mm256_slli_epi32::<3>(_mm256_and_si256(high, _mm256_set1_epi8(1)));
        _mm256_or_si256(_mm256_add_epi8(low, low), high)
    }
}

/// 16 in byte n where bit n of the word at `qh` is set.
///
/// # Safety
/// Four bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn fifth_bits(qh: *const u8) -> __m256i {
    // SAFETY: the caller's promise; the read may be unaligned.
    let qh = _mm256_set1_epi32(unsafe { qh.cast::<i32>().read_unaligned() });
    // Byte n of the result looks at byte n / 8 of the word, then at its bit n % 8.
    let byte = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let bits = _mm256_and_si256(_mm256_shuffle_epi8(qh, byte), bit);
    _mm256_and_si256(_mm256_cmpeq_epi8(bits, bit), _mm256_set1_epi8(16))
}
