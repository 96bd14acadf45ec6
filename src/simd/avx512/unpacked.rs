//! Dot products of sixteen interleaved rows in Q6_K or Q5_K with many tokens: a block is unpacked once for all of them.
//!
//! Putting the codes of these formats together takes as many instructions as multiplying them with some tokens. A block of sixteen
//! rows, unpacked, is 6 KB and stays in the L1 cache while the tokens pass by. The bits are those of the kernels for few tokens.

use super::super::{PANEL_ROWS, PanelDots, Q8KBatch};
use super::interleaved::{AHEAD_BYTES, STEP, in_steps, q6_k_quad, q6_k_scale_pairs, q6_k_scales};
use super::interleaved_k::{InterleavedK, of_group, scales_and_mins};
use crate::quant::{Block256, Codes, Q5K, Q6K};
use std::arch::x86_64::*;

/// From this number of tokens on. With 32 of them Q5_K is as fast so and Q6_K faster, with 256 both are.
pub(super) const MIN_TOKENS: usize = 16;

/// A block of each of sixteen rows.
#[repr(C, align(64))]
pub(super) struct Unpacked {
    /// Codes `4 * i..4 * i + 4` of every row.
    quads: [[u8; 4 * PANEL_ROWS]; 64],
    /// The scale of each group of every row.
    scales: [[i32; PANEL_ROWS]; 16],
    /// What the sums of runs `2 * i` and `2 * i + 1` of 16 activations are multiplied with, to be taken off: neighbours for each row.
    taken_off: [[[i16; 2]; PANEL_ROWS]; 8],
}

impl Unpacked {
    const ZERO: Self = Self {
        quads: [[0; 4 * PANEL_ROWS]; 64],
        scales: [[0; PANEL_ROWS]; 16],
        taken_off: [[[0; 2]; PANEL_ROWS]; 8],
    };
}

/// A format that can be unpacked so.
pub(super) trait Unpack: Block256 {
    /// Unpacks the interleaved blocks at `group`.
    ///
    /// # Safety
    /// The CPU has what [`super::Avx512Vnni`] proves; sixteen blocks can be read.
    unsafe fn unpack(group: *const u8, to: &mut Unpacked);
}

impl Unpack for Q6K {
    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw")]
    unsafe fn unpack(group: *const u8, to: &mut Unpacked) {
        // SAFETY: the caller's promise; `g` and `i` are below 16 and 4, `pair` is below 8; a vector is 64 bytes.
        unsafe {
            for half in 0..2 {
                for quad in 0..8 {
                    for run in 0..4 {
                        let codes = q6_k_quad(group, 8 * half + 2 * run + quad / 4, quad % 4);
                        store(&mut to.quads[32 * half + 8 * run + quad], codes);
                    }
                }
            }
            for (g, scales) in to.scales.iter_mut().enumerate() {
                store(scales, q6_k_scales(group, g));
            }
            for (pair, taken_off) in to.taken_off.iter_mut().enumerate() {
                // The offset of the codes, times scales of 8 bits: fits in 16.
                let offset = _mm512_set1_epi16(Self::OFFSET as i16);
                store(taken_off, _mm512_mullo_epi16(q6_k_scale_pairs(group, pair), offset));
            }
        }
    }
}

impl Unpack for Q5K {
    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512bw")]
    unsafe fn unpack(group: *const u8, to: &mut Unpacked) {
        // SAFETY: the caller's promise; words of scales stand behind two halves; `g` and `i` are below 8; a vector is 64 bytes.
        unsafe {
            let (scales, mins) = scales_and_mins(group.add(4 * PANEL_ROWS));
            for g in 0..8 {
                for i in 0..8 {
                    store(&mut to.quads[8 * g + i], Self::quad(group, g, i));
                }
                store(&mut to.scales[g], of_group(scales, g));
                let min = of_group(mins, g);
                store(&mut to.taken_off[g], _mm512_or_si512(min, _mm512_slli_epi32::<16>(min)));
            }
        }
    }
}

/// Writes `v` to `to`.
///
/// # Safety
/// The CPU has AVX-512 F; `T` is 64 bytes.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<T>(to: &mut T, v: __m512i) {
    // SAFETY: the caller's promise.
    unsafe { _mm512_storeu_si512(std::ptr::from_mut(to).cast(), v) }
}

/// Dot products of interleaved rows with every token of `x`.
///
/// # Safety
/// The CPU has what [`super::Avx512Vnni`] proves; `rows` are sixteen rows of `x.n_cols` columns, and `x` has `out.len()` tokens.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn dot<F: Unpack>(rows: &[u8], x: Q8KBatch<'_>, out: &mut [PanelDots]) {
    let mut block = Unpacked::ZERO;
    out.fill([0.0; PANEL_ROWS]);
    for b in 0..x.n_cols / 256 {
        // SAFETY: sixteen rows are groups of 16 * BYTES bytes, one for each 256 columns; in them halves of sixteen rows stand together.
        // Tokens `t..` exist, as compared in the macro. Asking for memory ahead reads nothing.
        unsafe {
            let group = rows.as_ptr().add(b * PANEL_ROWS * F::BYTES);
            for line in (0..PANEL_ROWS * F::BYTES).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(group.wrapping_add(AHEAD_BYTES + line).cast());
            }
            F::unpack(group, &mut block);
            let halves = |at: usize| _mm512_cvtph_ps(_mm256_loadu_si256(group.add(at * PANEL_ROWS).cast()));
            let d = halves(F::D_AT);
            let dmin = if F::HAS_MIN { halves(F::D_AT + 2) } else { d };
            in_steps!(out, t, step::<F>(&block, [d, dmin], x, b, t, out));
        }
    }
}

/// Adds the products of `block`, which is block `b` of its row, with tokens `first..first + T`; returns `T`. `d` and `dmin` are the
/// scales of scales and of minima; without minima the second is not used.
///
/// # Safety
/// As for [`dot`]; block and tokens exist.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn step<F: Unpack, const T: usize>(
    block: &Unpacked,
    [d, dmin]: [__m512; 2],
    x: Q8KBatch<'_>,
    b: usize,
    first: usize,
    out: &mut [PanelDots],
) -> usize {
    let place = |t: usize| (first + t) * (x.n_cols / 256) + b;
    // SAFETY: a token has 256 codes, a scale and 16 sums for each 256 columns; vectors of a block are 64 bytes, an element of `out` too.
    unsafe {
        let codes: [_; T] = std::array::from_fn(|t| x.q.as_ptr().add(256 * place(t)));
        let mut totals = [_mm512_setzero_si512(); T];
        for g in 0..256 / F::GROUP {
            let mut dots = [_mm512_setzero_si512(); T];
            for i in 0..F::GROUP / 4 {
                let quad = _mm512_loadu_si512(block.quads[F::GROUP / 4 * g + i].as_ptr().cast());
                for t in 0..T {
                    let codes = codes[t].add(F::GROUP * g + 4 * i).cast::<i32>();
                    dots[t] = _mm512_dpbusd_epi32(dots[t], quad, _mm512_set1_epi32(codes.read_unaligned()));
                }
            }
            let scales = _mm512_loadu_si512(block.scales[g].as_ptr().cast());
            for t in 0..T {
                totals[t] = _mm512_add_epi32(totals[t], _mm512_mullo_epi32(dots[t], scales));
            }
        }
        let sums: [_; T] = std::array::from_fn(|t| x.sums.as_ptr().add(16 * place(t)));
        let mut taken_off = [_mm512_setzero_si512(); T];
        for (pair, factors) in block.taken_off.iter().enumerate() {
            let factors = _mm512_loadu_si512(factors.as_ptr().cast());
            for t in 0..T {
                let sums = sums[t].add(2 * pair).cast::<i32>();
                taken_off[t] =
                    _mm512_dpwssd_epi32(taken_off[t], factors, _mm512_set1_epi32(sums.read_unaligned()));
            }
        }
        if !F::HAS_MIN {
            for t in 0..T {
                totals[t] = _mm512_sub_epi32(totals[t], taken_off[t]);
            }
        }
        for t in 0..T {
            let out = out[first + t].as_mut_ptr();
            let xd = _mm512_set1_ps(*x.d.as_ptr().add(place(t)));
            let mut acc = _mm512_loadu_ps(out);
            acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(totals[t]), _mm512_mul_ps(d, xd), acc);
            if F::HAS_MIN {
                acc = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(taken_off[t]), _mm512_mul_ps(dmin, xd), acc);
            }
            _mm512_storeu_ps(out, acc);
        }
    }
    T
}
