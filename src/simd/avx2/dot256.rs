//! Dot products of rows in 256-element formats: a tile of four rows, one to four tokens.

use super::super::{Q8KBatch, TILE_ROWS, TileDots};
use super::{halves, iq4_values, nibbles, pair_products, sum_lanes};
use crate::quant::{Block256, Codes, Iq4Xs, Q4K, Q5K, Q6K, unpack_scales_and_mins};
use std::arch::x86_64::*;

/// A format whose codes and scales AVX2 can unpack.
pub(in super::super) trait Unpack256: Block256 {
    /// The codes of elements 32 * RUN .. 32 * RUN + 32, as [`Block256::codes`] gives them.
    ///
    /// # Safety
    /// The CPU has AVX2 and `BYTES` bytes can be read from `block`; RUN is below 8.
    unsafe fn load_codes<const RUN: usize>(block: *const u8) -> __m256i;

    /// Scales as i16: lane r of the low half belongs to elements 0..16 of run r, lane r of the high
    /// half to elements 16..32.
    ///
    /// # Safety
    /// The CPU has AVX2 and `BYTES` bytes can be read from `block`.
    unsafe fn load_scales(block: *const u8) -> __m256i;

    /// What the sum of each 16 activations counts, as i16: the minimum, or [`OFFSET`](crate::quant::Codes::OFFSET)
    /// times the scale.
    ///
    /// # Safety
    /// As for [`load_scales`](Self::load_scales).
    unsafe fn load_mins(block: *const u8) -> __m256i;
}

/// Dot products of four rows with every token of `x`.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `x.check` held for `F`, `rows` and `out.len()`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot<F: Unpack256>(rows: [&[u8]; TILE_ROWS], x: Q8KBatch<'_>, out: &mut [TileDots]) {
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
unsafe fn tile<F: Unpack256, const T: usize>(
    rows: [&[u8]; TILE_ROWS],
    x: Q8KBatch<'_>,
    first: usize,
    out: &mut [TileDots],
) -> usize {
    let n_blocks = x.n_cols / 256;
    let mut acc = [_mm_setzero_ps(); T];
    for b in 0..n_blocks {
        let mut blocks = [std::ptr::null(); TILE_ROWS];
        let mut dots = [[_mm256_setzero_si256(); TILE_ROWS]; T];
        let mut min_dots = dots;
        for r in 0..TILE_ROWS {
            // SAFETY: a row is n_blocks blocks of BYTES bytes; a token has 256 codes and 16 sums for
            // each of n_blocks; tokens first..first + T exist.
            unsafe {
                blocks[r] = rows[r].as_ptr().add(b * F::BYTES);
                let mut xq = [std::ptr::null(); T];
                for t in 0..T {
                    xq[t] = x.q.as_ptr().add(256 * ((first + t) * n_blocks + b)).cast();
                }
                let row = row_dots::<F, T>(blocks[r], xq);
                for t in 0..T {
                    dots[t][r] = row[t];
                }
                if F::HAS_MIN || F::OFFSET != 0 {
                    let mins = F::load_mins(blocks[r]);
                    for t in 0..T {
                        let sums = x.sums.as_ptr().add(16 * ((first + t) * n_blocks + b));
                        min_dots[t][r] = _mm256_madd_epi16(_mm256_loadu_si256(sums.cast()), mins);
                    }
                }
            }
        }
        // SAFETY: as above; a block has a half at D_AT, with minima another behind it.
        unsafe {
            let d = halves(blocks, F::D_AT);
            for t in 0..T {
                let xd = _mm_set1_ps(*x.d.as_ptr().add((first + t) * n_blocks + b));
                if F::OFFSET != 0 {
                    for r in 0..TILE_ROWS {
                        dots[t][r] = _mm256_sub_epi32(dots[t][r], min_dots[t][r]);
                    }
                }
                let dots = _mm_cvtepi32_ps(sum_lanes(dots[t]));
                acc[t] = _mm_fmadd_ps(dots, _mm_mul_ps(d, xd), acc[t]);
                if F::HAS_MIN {
                    let dmin = halves(blocks, F::D_AT + 2);
                    let min_dots = _mm_cvtepi32_ps(sum_lanes(min_dots[t]));
                    acc[t] = _mm_fnmadd_ps(min_dots, _mm_mul_ps(dmin, xd), acc[t]);
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

/// Products of one block with the 256 activations at each of `x`, times the group scales, in lanes that
/// are still to be added.
///
/// # Safety
/// The CPU has AVX2; `BYTES` bytes can be read from `block`, 256 from each of `x`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn row_dots<F: Unpack256, const T: usize>(block: *const u8, x: [*const __m256i; T]) -> [__m256i; T] {
    let mut dots = [_mm256_setzero_si256(); T];
    // SAFETY: the caller's promises.
    let scales = unsafe { F::load_scales(block) };
    macro_rules! run {
        ($RUN:literal) => {{
            // SAFETY: the caller's promises; runs are 0..8.
            let codes = unsafe { F::load_codes::<$RUN>(block) };
            let pick_lane = _mm256_set1_epi16(((2 * $RUN + 1) << 8) + 2 * $RUN);
            let scale = _mm256_shuffle_epi8(scales, pick_lane);
            for t in 0..T {
                // SAFETY: the caller's promises.
                let xq = unsafe { _mm256_loadu_si256(x[t].add($RUN)) };
                let pairs = if F::MAX_CODE.is_none() {
                    pair_products::<true>(codes, xq)
                } else {
                    pair_products::<false>(codes, xq)
                };
                dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(pairs, scale));
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
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes<const RUN: usize>(block: *const u8) -> __m256i {
        // SAFETY: nibbles are bytes 16..144 of a block.
        unsafe { nibble_run::<RUN>(block.add(16)) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_scales(block: *const u8) -> __m256i {
        // SAFETY: the caller's promises.
        unsafe { six_bit_scales(block) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_mins(block: *const u8) -> __m256i {
        // SAFETY: the caller's promises.
        unsafe { six_bit_mins(block) }
    }
}

impl Unpack256 for Q5K {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes<const RUN: usize>(block: *const u8) -> __m256i {
        // SAFETY: fifth bits are bytes 16..48, nibbles bytes 48..176 of a block.
        let (low, qh) =
            unsafe { (nibble_run::<RUN>(block.add(48)), _mm256_loadu_si256(block.add(16).cast())) };
        let bit = _mm256_and_si256(qh, _mm256_set1_epi8((1_u8 << RUN) as i8));
        let is_clear = _mm256_cmpeq_epi8(bit, _mm256_setzero_si256());
        _mm256_or_si256(low, _mm256_andnot_si256(is_clear, _mm256_set1_epi8(16)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_scales(block: *const u8) -> __m256i {
        // SAFETY: the caller's promises.
        unsafe { six_bit_scales(block) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_mins(block: *const u8) -> __m256i {
        // SAFETY: the caller's promises.
        unsafe { six_bit_mins(block) }
    }
}

impl Unpack256 for Q6K {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes<const RUN: usize>(block: *const u8) -> __m256i {
        let (half, run) = (RUN / 4, RUN % 4);
        // SAFETY: low nibbles are bytes 0..128, high bits bytes 128..192 of a block.
        let (ql, qh) = unsafe {
            (
                _mm256_loadu_si256(block.add(64 * half + 32 * (run % 2)).cast()),
                _mm256_loadu_si256(block.add(128 + 32 * half).cast()),
            )
        };
        let low = if run < 2 { ql } else { _mm256_srli_epi16::<4>(ql) };
        // Bits 2 * run and 2 * run + 1 of each byte go to bits 4 and 5.
        let high = match run {
            0 => _mm256_slli_epi16::<4>(qh),
            1 => _mm256_slli_epi16::<2>(qh),
            2 => qh,
            _ => _mm256_srli_epi16::<2>(qh),
        };
        _mm256_or_si256(
            _mm256_and_si256(low, _mm256_set1_epi8(0x0f)),
            _mm256_and_si256(high, _mm256_set1_epi8(0x30)),
        )
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_scales(block: *const u8) -> __m256i {
        // SAFETY: scales are bytes 192..208 of a block.
        let scales = unsafe { _mm_loadu_si128(block.add(192).cast()) };
        let even_odd = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
        _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, even_odd))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_mins(block: *const u8) -> __m256i {
        // SAFETY: scales are bytes 192..208 of a block.
        let scales = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(block.add(192).cast()) });
        // At most 32 * 128: no overflow.
        _mm256_mullo_epi16(scales, _mm256_set1_epi16(Self::OFFSET as i16))
    }
}

impl Unpack256 for Iq4Xs {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_codes<const RUN: usize>(block: *const u8) -> __m256i {
        // SAFETY: nibbles are bytes 8..136 of a block, 16 a run.
        unsafe { iq4_values(nibbles(block.add(8 + 16 * RUN))) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_scales(block: *const u8) -> __m256i {
        // SAFETY: high scale bits are bytes 2..4, low scale bits bytes 4..8 of a block.
        let (high, low) = unsafe {
            (block.add(2).cast::<i16>().read_unaligned(), block.add(4).cast::<u32>().read_unaligned())
        };
        let even = _mm_cvtsi32_si128((low & 0x0f0f_0f0f) as i32);
        let odd = _mm_cvtsi32_si128((low >> 4 & 0x0f0f_0f0f) as i32);
        let low = _mm_cvtepu8_epi16(_mm_unpacklo_epi8(even, odd));
        // Multiplication moves bits 2g and 2g + 1 to the top of lane g, the shifts from there to bits 4 and 5.
        let to_top = _mm_setr_epi16(1 << 14, 1 << 12, 1 << 10, 1 << 8, 1 << 6, 1 << 4, 1 << 2, 1);
        let top = _mm_mullo_epi16(_mm_set1_epi16(high), to_top);
        let high = _mm_slli_epi16::<4>(_mm_srli_epi16::<14>(top));
        let scales = _mm_sub_epi16(_mm_or_si128(low, high), _mm_set1_epi16(32));
        _mm256_broadcastsi128_si256(scales)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_mins(_block: *const u8) -> __m256i {
        _mm256_setzero_si256()
    }
}

/// Run RUN of nibbles where 32 bytes hold two runs, the even one low.
///
/// # Safety
/// 128 bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibble_run<const RUN: usize>(qs: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    let both = unsafe { _mm256_loadu_si256(qs.add(32 * (RUN / 2)).cast()) };
    let nibbles = if RUN.is_multiple_of(2) { both } else { _mm256_srli_epi16::<4>(both) };
    _mm256_and_si256(nibbles, _mm256_set1_epi8(15))
}

/// Scales of Q4_K and Q5_K as [`Unpack256::load_scales`] wants them.
///
/// # Safety
/// 16 bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn six_bit_scales(block: *const u8) -> __m256i {
    // SAFETY: bytes 4..16 of a block.
    let (scales, _) = unpack_scales_and_mins(unsafe { block.add(4).cast::<[u8; 12]>().read() });
    _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(_mm_cvtsi64_si128(i64::from_le_bytes(scales))))
}

/// Minima of Q4_K and Q5_K as [`Unpack256::load_mins`] wants them: each for two sums of 16.
///
/// # Safety
/// 16 bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn six_bit_mins(block: *const u8) -> __m256i {
    // SAFETY: bytes 4..16 of a block.
    let (_, mins) = unpack_scales_and_mins(unsafe { block.add(4).cast::<[u8; 12]>().read() });
    let mins = _mm_cvtsi64_si128(i64::from_le_bytes(mins));
    _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(mins, mins))
}
