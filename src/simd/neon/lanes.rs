//! Eight rows in the lanes of two vectors.

use super::super::panel::{self, Lanes, Load32, Load256, Panel, Quad};
use super::super::{PANEL_ROWS, PanelDots, Q8Batch, Q8KBatch};
use super::dot32::Unpack32;
use super::dot256::Unpack256;
use super::{DotProduct, Products, Widening, widen_halves};
use crate::quant::Codes;
use std::arch::aarch64::*;
use std::arch::asm;
use std::marker::PhantomData;

/// Sums of products of eight rows with a token.
pub(super) type Sums = [int32x4_t; 2];

/// 1.5 * 2^23: the unit of its last place is 1, up and down to 2^22 from it.
pub(super) const MAGIC: f32 = 12_582_912.0;
static MAGIC_BITS: [u32; 4] = [MAGIC.to_bits(); 4];

/// NEON, with the instructions of `P`, which the CPU must have.
pub(super) struct NeonLanes<P>(PhantomData<P>);

/// [`panel::dot32`] with the dot product instruction.
///
/// # Safety
/// The CPU has it; `x.check` held for `F`, `rows` and `out.len()`.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn dot32_with_dotprod<F: Unpack32>(
    panel: &mut Panel<8>,
    rows: [&[u8]; PANEL_ROWS],
    x: Q8Batch<'_>,
    out: &mut [PanelDots],
) {
    // SAFETY: the caller's promises. Four tokens a step: sums and scaled sums stay in registers.
    unsafe { panel::dot32::<NeonLanes<DotProduct>, F, 8, 4>(panel, rows, x, out) }
}

/// [`panel::dot256`] with the dot product instruction.
///
/// # Safety
/// The CPU has it; `x.check` held for `F`, `rows` and `out.len()`.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn dot256_with_dotprod<F: Unpack256>(
    panel: &mut Panel<8>,
    rows: [&[u8]; PANEL_ROWS],
    x: Q8KBatch<'_>,
    out: &mut [PanelDots],
) {
    // SAFETY: the caller's promises. Four tokens a step: sums and scaled sums stay in registers.
    unsafe { panel::dot256::<NeonLanes<DotProduct>, F, 8, 4>(panel, rows, x, out) }
}

/// [`panel::dot32`] without the dot product instruction. A function of its own, so that `.ci/mca` finds it.
///
/// # Safety
/// `x.check` held for `F`, `rows` and `out.len()`.
#[inline(never)]
pub(super) unsafe fn dot32<F: Unpack32>(
    panel: &mut Panel<8>,
    rows: [&[u8]; PANEL_ROWS],
    x: Q8Batch<'_>,
    out: &mut [PanelDots],
) {
    // SAFETY: the caller's promise. Sums in 16 bits take twice the registers: two tokens a step.
    unsafe { panel::dot32::<NeonLanes<Widening>, F, 8, 2>(panel, rows, x, out) }
}

/// [`panel::dot256`] without the dot product instruction.
///
/// # Safety
/// `x.check` held for `F`, `rows` and `out.len()`.
#[inline(never)]
pub(super) unsafe fn dot256<F: Unpack256>(
    panel: &mut Panel<8>,
    rows: [&[u8]; PANEL_ROWS],
    x: Q8KBatch<'_>,
    out: &mut [PanelDots],
) {
    // SAFETY: the caller's promise. Sums in 16 bits take twice the registers: two tokens a step.
    unsafe { panel::dot256::<NeonLanes<Widening>, F, 8, 2>(panel, rows, x, out) }
}

impl<P: Products> Lanes<8> for NeonLanes<P> {
    type Int = Sums;
    type Float = [float32x4_t; 2];

    /// All codes become signed bytes around zero: nothing is left to be corrected.
    #[inline(always)]
    fn taken_off<F: Codes>() -> i32 {
        F::OFFSET
    }

    #[inline(always)]
    unsafe fn splat(v: i32) -> Self::Int {
        // SAFETY: NEON, as always.
        [unsafe { vdupq_n_s32(v) }; 2]
    }

    #[inline(always)]
    unsafe fn load_int(p: *const i32) -> Self::Int {
        // SAFETY: the caller's promise.
        unsafe { [vld1q_s32(p), vld1q_s32(p.add(4))] }
    }

    #[inline(always)]
    unsafe fn mul_add(a: Self::Int, b: Self::Int, c: Self::Int) -> Self::Int {
        // SAFETY: NEON, as always.
        unsafe { [vmlaq_s32(c[0], a[0], b[0]), vmlaq_s32(c[1], a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::Float {
        // SAFETY: the caller's promise.
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4))] }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::Float) {
        // SAFETY: the caller's promise.
        unsafe {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
        }
    }

    #[inline(always)]
    unsafe fn load_halves(p: *const u16) -> Self::Float {
        // SAFETY: the caller's promise.
        unsafe { [widen_halves(vld1_u16(p)), widen_halves(vld1_u16(p.add(4)))] }
    }

    #[inline(always)]
    unsafe fn add_scaled(
        acc: Self::Float,
        ints: Self::Int,
        scales: Self::Float,
        x_scale: f32,
    ) -> Self::Float {
        // SAFETY: NEON, as always.
        unsafe {
            [
                vfmaq_f32(acc[0], vcvtq_f32_s32(ints[0]), vmulq_n_f32(scales[0], x_scale)),
                vfmaq_f32(acc[1], vcvtq_f32_s32(ints[1]), vmulq_n_f32(scales[1], x_scale)),
            ]
        }
    }

    /// The integer whose bits are the float [`MAGIC`]; an integer near zero added to it makes the bits of the float
    /// that is as much larger. So the sum is converted by a subtraction, which takes one half of the
    /// Cortex-A76's vector units for a cycle where the conversion takes two; and it starts by a load, where
    /// clearing a register would take a vector unit too.
    #[inline(always)]
    unsafe fn begin(v: i32) -> Self::Int {
        debug_assert_eq!(v, 0, "nothing is left to be corrected");
        let start = || {
            let bits;
            // SAFETY: reads the 16 bytes of a static. Not `pure`, lest the compiler loads it once and copies it.
            unsafe {
                asm!(
                    "ldr {bits:q}, [{from}]",
                    bits = out(vreg) bits, from = in(reg) &raw const MAGIC_BITS,
                    options(readonly, nostack, preserves_flags),
                );
            }
            bits
        };
        [start(), start()]
    }

    #[inline(always)]
    unsafe fn add_begun(acc: Self::Float, ints: Self::Int, scales: Self::Float, x_scale: f32) -> Self::Float {
        // SAFETY: NEON, as always. Sums are at most 32 * 128 * 127, below 2^22: both steps are exact.
        unsafe {
            let magic = vdupq_n_f32(MAGIC);
            let sum = |ints| vsubq_f32(vreinterpretq_f32_s32(ints), magic);
            [
                vfmaq_f32(acc[0], sum(ints[0]), vmulq_n_f32(scales[0], x_scale)),
                vfmaq_f32(acc[1], sum(ints[1]), vmulq_n_f32(scales[1], x_scale)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn spread(codes: &[[i8; 32]; 8], taken_off: i8, quads: &mut [Quad<8>; 8]) {
        // Squares of four rows and four quads.
        for four in 0..2 {
            for half in 0..2 {
                // SAFETY: 16 bytes are read from 16 bytes at most 16 before the end of 32.
                let row = |r: usize| unsafe {
                    let codes = vld1q_s8(codes[4 * four + r].as_ptr().add(16 * half));
                    vreinterpretq_s32_s8(vsubq_s8(codes, vdupq_n_s8(taken_off)))
                };
                let rows = [row(0), row(1), row(2), row(3)];
                // SAFETY: 16 bytes are written for rows 4 * four.. of quads 4 * half..
                unsafe {
                    let wide = |v| vreinterpretq_s64_s32(v);
                    let even = [vtrn1q_s32(rows[0], rows[1]), vtrn1q_s32(rows[2], rows[3])].map(wide);
                    let odd = [vtrn2q_s32(rows[0], rows[1]), vtrn2q_s32(rows[2], rows[3])].map(wide);
                    let turned = [
                        vtrn1q_s64(even[0], even[1]),
                        vtrn1q_s64(odd[0], odd[1]),
                        vtrn2q_s64(even[0], even[1]),
                        vtrn2q_s64(odd[0], odd[1]),
                    ];
                    for i in 0..4 {
                        let quad = quads[4 * half + i][4 * four..].as_mut_ptr();
                        vst1q_s8(quad.cast(), vreinterpretq_s8_s64(turned[i]));
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn dot<F: Codes, const N: usize, const T: usize>(
        quads: *const Quad<8>,
        x: [*const i8; T],
        start: [Self::Int; T],
    ) -> [Self::Int; T] {
        // SAFETY: the caller's promises.
        unsafe { P::dot_quads::<F, N, T>(quads, x, start) }
    }
}

/// Adds to each lane of `sums` the products of its four codes with the four activations in word
/// `LANE` of `x`.
///
/// # Safety
/// The CPU has the dot product instruction.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn add_word<const LANE: i32>(sums: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut sums = sums;
    // SAFETY: computes in registers only; the CPU has the instruction by the caller's promise.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {codes:v}.16b, {x:v}.4b[{lane}]",
            sums = inout(vreg) sums, codes = in(vreg) codes, x = in(vreg) x, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// [`Lanes::dot`] with the dot product instruction.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn dot_quads_dotprod<const N: usize, const T: usize>(
    quads: *const i8,
    x: [*const i8; T],
    start: [Sums; T],
) -> [Sums; T] {
    let mut sums = start;
    // Written out, or the compiler keeps a loop of two rounds: the vector units would idle at its ends.
    const { assert!(N == 4 || N == 8) }
    // SAFETY: the caller's promises: N quads, and four times as many activations.
    unsafe {
        add_four_quads(quads, x, &mut sums);
        if N == 8 {
            add_four_quads(quads.add(4 * 32), x.map(|x| x.add(16)), &mut sums);
        }
    }
    sums
}

/// Adds the products of four quads of eight rows.
///
/// # Safety
/// As for [`dot_quads_dotprod`] with N = 4.
#[inline(always)]
unsafe fn add_four_quads<const T: usize>(quads: *const i8, x: [*const i8; T], sums: &mut [Sums; T]) {
    // SAFETY: the caller's promises: a quad of eight rows is 32 bytes.
    unsafe {
        let xq = x.map(|x| vld1q_s8(x));
        macro_rules! quad {
            ($LANE:literal) => {{
                let codes = quads.add(32 * $LANE);
                let codes = [vld1q_s8(codes), vld1q_s8(codes.add(16))];
                for t in 0..T {
                    sums[t][0] = add_word::<$LANE>(sums[t][0], codes[0], xq[t]);
                    sums[t][1] = add_word::<$LANE>(sums[t][1], codes[1], xq[t]);
                }
            }};
        }
        quad!(0);
        quad!(1);
        quad!(2);
        quad!(3);
    }
}

/// [`Lanes::dot`] by multiplication to 16 bits.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn dot_quads_widening<F: Codes, const N: usize, const T: usize>(
    quads: *const i8,
    x: [*const i8; T],
    start: [Sums; T],
) -> [Sums; T] {
    // Products that a lane of 16 bits holds before it must be widened: a power of two.
    let n_products = const {
        let largest = match F::MAX_CODE {
            None => 128,
            Some(max) if max - F::OFFSET > F::OFFSET => max - F::OFFSET,
            Some(_) => F::OFFSET,
        };
        let n = (i16::MAX as i32 / (127 * largest)) as usize;
        if n >= 8 { 8 } else { 1 << n.ilog2() }
    };
    let mut sums = start;
    for t in 0..T {
        // SAFETY: the caller's promises: a quad of eight rows is 32 bytes.
        unsafe {
            // Lanes of `wide` are rows 0 0 1 1, 2 2 3 3, 4 4 5 5, 6 6 7 7.
            let mut wide = [vdupq_n_s32(0); 4];
            let mut products = [vdupq_n_s16(0); 4];
            for n in 0..N {
                let codes = [vld1q_s8(quads.add(32 * n)), vld1q_s8(quads.add(32 * n + 16))];
                let word = x[t].add(4 * n).cast::<i32>().read_unaligned();
                let xq = vreinterpretq_s8_s32(vdupq_n_s32(word));
                for h in 0..2 {
                    let low = (vget_low_s8(codes[h]), vget_low_s8(xq));
                    let high = &mut products[2 * h..2 * h + 2];
                    if n.is_multiple_of(n_products) {
                        high[0] = vmull_s8(low.0, low.1);
                        high[1] = vmull_high_s8(codes[h], xq);
                    } else {
                        high[0] = vmlal_s8(high[0], low.0, low.1);
                        high[1] = vmlal_high_s8(high[1], codes[h], xq);
                    }
                }
                if n % n_products == n_products - 1 || n == N - 1 {
                    for i in 0..4 {
                        wide[i] = vpadalq_s16(wide[i], products[i]);
                    }
                }
            }
            sums[t][0] = vaddq_s32(sums[t][0], vpaddq_s32(wide[0], wide[1]));
            sums[t][1] = vaddq_s32(sums[t][1], vpaddq_s32(wide[2], wide[3]));
        }
    }
    sums
}

impl<F: Unpack32, P> Load32<NeonLanes<P>> for F {
    #[inline(always)]
    unsafe fn load(block: *const u8, codes: &mut [i8; 32]) {
        // SAFETY: the caller's promise; 32 bytes are written to 32 bytes.
        unsafe {
            let [low, high] = F::load_codes(block);
            vst1q_s8(codes.as_mut_ptr(), low);
            vst1q_s8(codes.as_mut_ptr().add(16), high);
        }
    }
}

impl<F: Unpack256, P> Load256<NeonLanes<P>> for F {
    #[inline(always)]
    unsafe fn load<const RUN: usize>(block: *const u8, codes: &mut [i8; 32]) {
        // SAFETY: the caller's promise; 32 bytes are written to 32 bytes.
        unsafe {
            let [low, high] = F::load_codes::<RUN>(block);
            vst1q_s8(codes.as_mut_ptr(), low);
            vst1q_s8(codes.as_mut_ptr().add(16), high);
        }
    }
}
