//! Plain Rust for any CPU: the oracle of the other instruction sets, and what runs where none of them is.

use super::{Isa, Q8KRow, Q8Row, TILE_ROWS, join_lanes};
use crate::quant::{Block32, Block256, BlockFormat, with_block32, with_block256};
use half::{bf16, f16};

/// The token that every CPU has.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

impl Isa for Scalar {
    const NAME: &'static str = "scalar";

    fn dot_f16(self, a: &[f16], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        dot_lanes(a.len(), |i| a[i].to_f32(), b)
    }

    fn axpy_f16(self, a: f32, x: &[f16], y: &mut [f32]) {
        assert_eq!(x.len(), y.len());
        for (y, x) in y.iter_mut().zip(x) {
            *y += a * x.to_f32();
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

    fn dot_float(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: &[f32]) -> [f32; TILE_ROWS] {
        rows.map(|row| {
            assert_eq!(format.row_bytes(x.len()), Some(row.len()));
            let (quads, pairs) = (row.as_chunks::<4>().0, row.as_chunks::<2>().0);
            match format {
                BlockFormat::F32 => dot_lanes(x.len(), |i| f32::from_le_bytes(quads[i]), x),
                BlockFormat::F16 => dot_lanes(x.len(), |i| f16::from_le_bytes(pairs[i]).to_f32(), x),
                BlockFormat::Bf16 => dot_lanes(x.len(), |i| bf16::from_le_bytes(pairs[i]).to_f32(), x),
                _ => panic!("{} is not a float format", format.name()),
            }
        })
    }

    fn dot_q8(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8Row<'_>) -> [f32; TILE_ROWS] {
        with_block32!(format, B => rows.map(|row| dot_block32::<B>(row, x)))
            .unwrap_or_else(|| panic!("{} is not a 32-element format", format.name()))
    }

    fn dot_q8_k(self, format: BlockFormat, rows: [&[u8]; TILE_ROWS], x: Q8KRow<'_>) -> [f32; TILE_ROWS] {
        with_block256!(format, B => rows.map(|row| dot_block256::<B>(row, x)))
            .unwrap_or_else(|| panic!("{} is not a 256-element format", format.name()))
    }
}

/// Scale of a group of activations and the factor that quantises them.
pub(super) struct Q8Scale {
    pub(super) d: f32,
    pub(super) inverse: f32,
}

impl Q8Scale {
    /// For a group of 32 with largest magnitude `max` (NaN if the group has a NaN or an infinity).
    #[inline(always)]
    pub(super) fn q8(max: f32) -> Self {
        let d = max / 127.0;
        let half = f16::from_f32(d).to_f32();
        // A scale too large for f16 stays as it is: a finite input must not become an infinity.
        Self::guarded(if half.is_infinite() { d } else { half }, max)
    }

    /// For a group of 256. llama.cpp keeps the sign of the largest element in scale and codes; it
    /// cancels exactly in every product, so the magnitude does.
    #[inline(always)]
    pub(super) fn q8_k(max: f32) -> Self {
        Self::guarded(1.0 / (127.0 / max), max)
    }

    /// `inverse` is 0 where 127 / max means nothing: for a group of zeros, one so small that it would
    /// overflow (its scale is 0), and one that is not finite (its scale is NaN).
    #[inline(always)]
    fn guarded(d: f32, max: f32) -> Self {
        let inverse = 127.0 / max;
        if max.is_nan() {
            Self { d: f32::NAN, inverse: 0.0 }
        } else if inverse.is_finite() {
            Self { d, inverse }
        } else {
            Self { d: 0.0, inverse: 0.0 }
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
            *sum += a(i + j) * b[i + j];
        }
    }
    (whole..n).fold(join_lanes(sums), |sum, i| sum + a(i) * b[i])
}

fn dot_block32<B: Block32>(row: &[u8], x: Q8Row<'_>) -> f32 {
    let xq = x.q.as_chunks::<32>().0;
    assert!(row.len() == xq.len() * B::BYTES && x.d.len() == xq.len() && x.sums.len() == xq.len());
    let mut codes = [0; 32];
    let mut acc = 0.0;
    for (((block, xq), &xd), &sum) in row.chunks_exact(B::BYTES).zip(xq).zip(x.d).zip(x.sums) {
        B::codes(block, &mut codes);
        let dot = dot_i8(&codes, xq) - B::OFFSET * sum;
        acc += dot as f32 * (B::d(block) * xd);
        if B::HAS_MIN {
            acc += sum as f32 * (B::m(block) * xd);
        }
    }
    acc
}

fn dot_block256<B: Block256>(row: &[u8], x: Q8KRow<'_>) -> f32 {
    let (xq, sums) = (x.q.as_chunks::<256>().0, x.sums.as_chunks::<16>().0);
    assert!(row.len() == xq.len() * B::BYTES && x.d.len() == xq.len() && sums.len() == xq.len());
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
        acc += dot as f32 * (B::d(block) * xd);
        if B::HAS_MIN {
            acc -= min_dot as f32 * (B::dmin(block) * xd);
        }
    }
    acc
}

fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}
