//! AVX-512 with the byte dot products of VNNI: for interleaved rows, for panels of the formats that are not interleaved, and for
//! floats.
#![allow(unsafe_code)]
// Loops over rows and tokens of a panel index several small arrays at once and unroll completely.
#![allow(clippy::needless_range_loop)]

mod float;
mod interleaved;
mod interleaved_k;
mod lanes;
mod peak;
mod quantize;
mod unpacked;

use super::avx2::{Bf16, F16, F32};
use super::panel::Panel;
use super::{Avx2, F16Rows, F32Batch, Isa, PANEL_ROWS, PanelDots, Q8Batch, Q8KBatch, TILE_ROWS, TileDots};
use crate::quant::{
    BlockFormat, Coarse3, Q4_0, Q4K, Q5K, Q6K, Q8_0, can_interleave, with_block32, with_block256,
};
use half::f16;

/// Proof that the CPU has AVX-512 F, BW, VL and VNNI, and what [`Avx2`] proves.
#[derive(Clone, Copy, Debug)]
pub struct Avx512Vnni(Avx2);

impl Avx512Vnni {
    /// `None` if the CPU lacks one of them.
    pub fn new() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        if has_all { Avx2::new().map(Self) } else { None }
    }
}

impl Isa for Avx512Vnni {
    const NAME: &'static str = "avx512vnni";
    type Panel = Panel<16>;

    fn make_products(self, n_rounds: usize) -> u64 {
        // SAFETY: features by `self`.
        unsafe { peak::make_products(n_rounds) }
    }

    fn run<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl")]
        unsafe fn run<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: features by `self`.
        unsafe { run(f) }
    }

    fn dots_f16(self, rows: F16Rows<'_>, x: &[f32], out: &mut [f32]) {
        if !float::takes(rows.n_cols) {
            return self.0.dots_f16(rows, x, out);
        }
        rows.check(x.len(), out.len());
        // SAFETY: features by `self`, lengths by `check`, columns by `takes`.
        unsafe { float::dots_f16(rows, x, out) }
    }

    fn add_weighted_f16(self, weights: &[f32], rows: F16Rows<'_>, y: &mut [f32]) {
        if !float::takes(rows.n_cols) {
            return self.0.add_weighted_f16(weights, rows, y);
        }
        rows.check(y.len(), weights.len());
        // SAFETY: features by `self`, lengths by `check`, columns by `takes`.
        unsafe { float::add_weighted_f16(weights, rows, y) }
    }

    fn widen_q8(self, codes: &[i8], scales: &[f16], out: &mut [f16]) {
        self.0.widen_q8(codes, scales, out);
    }

    fn to_f16(self, x: &[f32], out: &mut [f16]) {
        self.0.to_f16(x, out);
    }

    fn quantize_q8(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i32]) {
        // SAFETY: features by `self`.
        unsafe { quantize::quantize_q8(x, q, d, sums) }
    }

    fn quantize_q8_k(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
        // SAFETY: features by `self`.
        unsafe { quantize::quantize_q8_k(x, q, d, sums) }
    }

    fn dot_float(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: F32Batch<'_>, out: &mut [TileDots]) {
        if !float::takes(x.n_cols) {
            return self.0.dot_float(format, rows, x, out);
        }
        x.check(format, &rows, out.len());
        match format {
            // SAFETY: features by `self`, lengths by `check`, columns by `takes`.
            BlockFormat::F32 => unsafe { float::dot::<F32>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::F16 => unsafe { float::dot::<F16>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Bf16 => unsafe { float::dot::<Bf16>(rows, x, out) },
            _ => panic!("{} is not a float format", format.name()),
        }
    }

    fn dot_q8(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8Batch<'_>, out: &mut [TileDots]) {
        self.0.dot_q8(format, rows, x, out);
    }

    fn dot_q8_k(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8KBatch<'_>, out: &mut [TileDots]) {
        self.0.dot_q8_k(format, rows, x, out);
    }

    fn panel_q8(
        self,
        panel: &mut Panel<16>,
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
        panel: &mut Panel<16>,
        format: BlockFormat,
        rows: [&[u8]; PANEL_ROWS],
        x: Q8KBatch<'_>,
        out: &mut [PanelDots],
    ) {
        x.check(format, &rows, out.len());
        // SAFETY: features by `self`, lengths by `check`.
        with_block256!(format, B => unsafe { lanes::dot256::<B>(panel, rows, x, out) });
    }

    fn reads_interleaved(format: BlockFormat) -> bool {
        can_interleave(format)
    }

    fn interleaved_q8(self, format: BlockFormat, rows: &[u8], x: Q8Batch<'_>, out: &mut [PanelDots]) {
        x.check_interleaved(format, rows, out.len());
        match format {
            // SAFETY: features by `self`, lengths by `check`.
            BlockFormat::Q4_0 => unsafe { interleaved::dot32::<Q4_0>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Q8_0 => unsafe { interleaved::dot32::<Q8_0>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Coarse3 => unsafe { interleaved::dot32::<Coarse3>(rows, x, out) },
            _ => panic!("{} is not interleaved", format.name()),
        }
    }

    fn interleaved_q8_k(self, format: BlockFormat, rows: &[u8], x: Q8KBatch<'_>, out: &mut [PanelDots]) {
        x.check_interleaved(format, rows, out.len());
        let are_many = out.len() >= unpacked::MIN_TOKENS;
        match format {
            // SAFETY: features by `self`, lengths by `check`.
            BlockFormat::Q6K if are_many => unsafe { unpacked::dot::<Q6K>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Q6K => unsafe { interleaved::dot_q6_k(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Q5K if are_many => unsafe { unpacked::dot::<Q5K>(rows, x, out) },
            // SAFETY: as above.
            BlockFormat::Q5K => unsafe { interleaved_k::dot_k::<Q5K>(rows, x, out) },
            // Two instructions unpack a vector of Q4_K: less than to write it down and to read it again.
            // SAFETY: as above.
            BlockFormat::Q4K => unsafe { interleaved_k::dot_k::<Q4K>(rows, x, out) },
            _ => panic!("{} is not interleaved", format.name()),
        }
    }
}
