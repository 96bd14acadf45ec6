//! Plain Rust for any CPU: the oracle of the other instruction sets, and what runs where none of them is.

use super::q8_scale::Q8Scale;
use super::{
    F16Rows, F32Batch, Isa, PANEL_ROWS, PanelDots, Q8Batch, Q8KBatch, TILE_ROWS, TileDots, check_widen_q8,
    join_lanes,
};
use crate::quant::{Block32, Block256, BlockFormat, with_block32, with_block256};
use half::{bf16, f16};
use std::hint::black_box;

/// The token that every CPU has.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

impl Isa for Scalar {
    const NAME: &'static str = "scalar";
    type Panel = ();

    fn make_products(self, n_rounds: usize) -> u64 {
        let ones = [1_i8; 64];
        let mut sums = [0_i32; 64];
        for _ in 0..n_rounds {
            for (sum, one) in sums.iter_mut().zip(black_box(&ones)) {
                *sum += i32::from(*one) * i32::from(*one);
            }
        }
        sums.iter().map(|&sum| sum as u64).sum()
    }

    fn dots_f16(self, rows: F16Rows<'_>, x: &[f32], out: &mut [f32]) {
        rows.check(x.len(), out.len());
        let F16Rows { n_cols, rows, .. } = rows;
        let pairs = x.chunks_exact(n_cols).flat_map(|x| rows.chunks_exact(n_cols).map(move |row| (x, row)));
        for (out, (x, row)) in out.iter_mut().zip(pairs) {
            *out = dot_lanes(n_cols, |i| row[i].to_f32(), x);
        }
    }

    fn add_weighted_f16(self, weights: &[f32], rows: F16Rows<'_>, y: &mut [f32]) {
        let (n_rows, _) = rows.check(y.len(), weights.len());
        for (t, y) in y.chunks_exact_mut(rows.n_cols).enumerate() {
            for (weight, row) in weights[t * n_rows..].iter().zip(rows.rows.chunks_exact(rows.n_cols)) {
                for (y, x) in y.iter_mut().zip(row) {
                    *y = weight.mul_add(x.to_f32(), *y);
                }
            }
        }
    }

    fn widen_q8(self, codes: &[i8], scales: &[f16], out: &mut [f16]) {
        check_widen_q8(codes, scales, out);
        for ((codes, scale), out) in codes.chunks_exact(32).zip(scales).zip(out.chunks_exact_mut(32)) {
            for (out, code) in out.iter_mut().zip(codes) {
                *out = f16::from_f32(f32::from(*code) * scale.to_f32());
            }
        }
    }

    fn to_f16(self, x: &[f32], out: &mut [f16]) {
        assert_eq!(x.len(), out.len());
        for (out, x) in out.iter_mut().zip(x) {
            *out = f16::from_f32(*x);
        }
    }

    fn quantize_q8(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i32]) {
        let (x, q) = (x.as_chunks::<32>().0, q.as_chunks_mut::<32>().0);
        assert!(x.len() == q.len() && x.len() == d.len() && x.len() == sums.len());
        for (((x, q), d), sum) in x.iter().zip(q).zip(d).zip(sums) {
            let scale = Q8Scale::q8(max_abs(x));
            *d = scale.d;
            quantize(x, scale.inverse, q);
            *sum = q.iter().map(|&q| i32::from(q)).sum();
        }
    }

    fn quantize_q8_k(self, x: &[f32], q: &mut [i8], d: &mut [f32], sums: &mut [i16]) {
        let (x, q, sums) = (x.as_chunks::<256>().0, q.as_chunks_mut::<256>().0, sums.as_chunks_mut::<16>().0);
        assert!(x.len() == q.len() && x.len() == d.len() && x.len() == sums.len());
        for (((x, q), d), sums) in x.iter().zip(q).zip(d).zip(sums) {
            let scale = Q8Scale::q8_k(max_abs(x));
            *d = scale.d;
            quantize(x, scale.inverse, q);
            for (sum, q) in sums.iter_mut().zip(q.as_chunks::<16>().0) {
                *sum = q.iter().map(|&q| i16::from(q)).sum();
            }
        }
    }

    fn dot_float(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: F32Batch<'_>, out: &mut [TileDots]) {
        x.check(format, &rows, out.len());
        for (t, out) in out.iter_mut().enumerate() {
            let x = x.tokens(t..t + 1).x;
            *out = rows.map(|row| {
                let (quads, pairs) = (row.as_chunks::<4>().0, row.as_chunks::<2>().0);
                match format {
                    BlockFormat::F32 => dot_lanes(x.len(), |i| f32::from_le_bytes(quads[i]), x),
                    BlockFormat::F16 => dot_lanes(x.len(), |i| f16::from_le_bytes(pairs[i]).to_f32(), x),
                    BlockFormat::Bf16 => dot_lanes(x.len(), |i| bf16::from_le_bytes(pairs[i]).to_f32(), x),
                    _ => panic!("{} is not a float format", format.name()),
                }
            });
        }
    }

    fn dot_q8(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8Batch<'_>, out: &mut [TileDots]) {
        x.check(format, &rows, out.len());
        for (t, out) in out.iter_mut().enumerate() {
            *out = with_block32!(format, B => rows.map(|row| dot_block32::<B>(row, x.tokens(t..t + 1))))
                .expect("a 32-element format, as checked");
        }
    }

    fn dot_q8_k(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8KBatch<'_>, out: &mut [TileDots]) {
        x.check(format, &rows, out.len());
        for (t, out) in out.iter_mut().enumerate() {
            *out = with_block256!(format, B => rows.map(|row| dot_block256::<B>(row, x.tokens(t..t + 1))))
                .expect("a 256-element format, as checked");
        }
    }

    fn panel_q8(
        self,
        (): &mut (),
        format: BlockFormat,
        rows: [&[u8]; PANEL_ROWS],
        x: Q8Batch<'_>,
        out: &mut [PanelDots],
    ) {
        x.check(format, &rows, out.len());
        for (t, out) in out.iter_mut().enumerate() {
            *out = with_block32!(format, B => rows.map(|row| dot_block32::<B>(row, x.tokens(t..t + 1))))
                .expect("a 32-element format, as checked");
        }
    }

    fn panel_q8_k(
        self,
        (): &mut (),
        format: BlockFormat,
        rows: [&[u8]; PANEL_ROWS],
        x: Q8KBatch<'_>,
        out: &mut [PanelDots],
    ) {
        x.check(format, &rows, out.len());
        for (t, out) in out.iter_mut().enumerate() {
            *out = with_block256!(format, B => rows.map(|row| dot_block256::<B>(row, x.tokens(t..t + 1))))
                .expect("a 256-element format, as checked");
        }
    }
}

/// max |x|, NaN if any element is NaN or infinite.
fn max_abs(x: &[f32]) -> f32 {
    let mut max = 0.0_f32;
    for v in x {
        if !v.is_finite() {
            return f32::NAN;
        }
        max = max.max(v.abs());
    }
    max
}

fn quantize(x: &[f32], inverse: f32, q: &mut [i8]) {
    for (q, x) in q.iter_mut().zip(x) {
        // Saturates at nothing: |x| * inverse is at most 127 and a rounding error. NaN becomes 0.
        *q = (x * inverse).round_ties_even() as i8;
    }
}

/// Sum of `a(i) * b[i]` over 0..n with eight partial sums; what is left of the last eight is added at the end.
fn dot_lanes(n: usize, a: impl Fn(usize) -> f32, b: &[f32]) -> f32 {
    let whole = n - n % 8;
    let mut sums = [0.0; 8];
    for i in (0..whole).step_by(8) {
        for (j, sum) in sums.iter_mut().enumerate() {
            *sum = a(i + j).mul_add(b[i + j], *sum);
        }
    }
    (whole..n).fold(join_lanes(sums), |sum, i| a(i).mul_add(b[i], sum))
}

fn dot_block32<B: Block32>(row: &[u8], x: Q8Batch<'_>) -> f32 {
    let xq = x.q.as_chunks::<32>().0;
    let mut codes = [0; 32];
    let mut acc = 0.0;
    for (((block, xq), &xd), &sum) in row.chunks_exact(B::BYTES).zip(xq).zip(x.d).zip(x.sums) {
        B::codes(block, &mut codes);
        let dot = dot_i8(&codes, xq) - B::OFFSET * sum;
        acc = (dot as f32).mul_add(B::d(block) * xd, acc);
        if B::HAS_MIN {
            acc = (sum as f32).mul_add(B::m(block) * xd, acc);
        }
    }
    acc
}

fn dot_block256<B: Block256>(row: &[u8], x: Q8KBatch<'_>) -> f32 {
    let (xq, sums) = (x.q.as_chunks::<256>().0, x.sums.as_chunks::<16>().0);
    let mut codes = [0; 256];
    let (mut scales, mut mins) = ([0; 16], [0; 16]);
    let mut acc = 0.0;
    for (((block, xq), &xd), sums) in row.chunks_exact(B::BYTES).zip(xq).zip(x.d).zip(sums) {
        B::codes(block, &mut codes);
        B::scales(block, &mut scales);
        B::mins(block, &mut mins);
        let (mut dot, mut min_dot) = (0, 0);
        let groups = codes.chunks_exact(B::GROUP).zip(xq.chunks_exact(B::GROUP));
        for (g, (codes, xq)) in groups.enumerate() {
            let sums = &sums[g * B::GROUP / 16..(g + 1) * B::GROUP / 16];
            let sum: i32 = sums.iter().map(|&s| i32::from(s)).sum();
            dot += i32::from(scales[g]) * (dot_i8(codes, xq) - B::OFFSET * sum);
            min_dot += i32::from(mins[g]) * sum;
        }
        acc = (dot as f32).mul_add(B::d(block) * xd, acc);
        if B::HAS_MIN {
            acc = (-min_dot as f32).mul_add(B::dmin(block) * xd, acc);
        }
    }
    acc
}

fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}
