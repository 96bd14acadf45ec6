//! Scaled dot-product attention of one query head over cached keys and values.
//!
//! One pass over the cache by the online softmax (Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", 2018): no buffer of scores, so no bound on the context but the cache's.
//! The order of additions follows positions alone. It depends neither on where a position lies in
//! the ring nor on how a prompt was cut into chunks, so that chunked and whole prefill agree bit for bit.

use super::Kernels;
use half::f16;
use std::ops::Range;

/// Positions whose scores are computed before the running maximum is looked at again.
const BLOCK: usize = 32;

/// The numbers of a ring.
#[derive(Debug, Clone, Copy)]
pub enum RingData<'a> {
    /// Float16: what quantised models are served with.
    F16(&'a [f16]),
    /// Float32: as exact as the rest of the pass, for models with F32 weights.
    F32(&'a [f32]),
}

/// Keys or values of one KV head: a ring in which position `p` stands in slot `p % n_slots`.
///
/// Shape: `[n_slots, head_dim]`.
#[derive(Debug, Clone, Copy)]
pub struct HeadRing<'a> {
    data: RingData<'a>,
    head_dim: usize,
    n_slots: usize,
}

impl<'a> HeadRing<'a> {
    /// Wraps `data`, `[n_slots, head_dim]`.
    ///
    /// # Panics
    /// If the length of `data` is no positive multiple of `head_dim`.
    pub fn new(data: RingData<'a>, head_dim: usize) -> Self {
        let n = match data {
            RingData::F16(data) => data.len(),
            RingData::F32(data) => data.len(),
        };
        assert!(n > 0 && n.is_multiple_of(head_dim), "ring: {n} values for heads of {head_dim}");
        Self { data, head_dim, n_slots: n / head_dim }
    }

    /// Where the vector of `position` stands.
    fn place(&self, position: usize) -> Range<usize> {
        let start = position % self.n_slots * self.head_dim;
        start..start + self.head_dim
    }

    /// Dot product of the vector of `position` with `q`, `[head_dim]`.
    fn dot(&self, kernels: &Kernels, position: usize, q: &[f32]) -> f32 {
        let place = self.place(position);
        match self.data {
            RingData::F16(data) => kernels.dot_f16(&data[place], q),
            RingData::F32(data) => data[place].iter().zip(q).map(|(a, b)| a * b).sum(),
        }
    }

    /// `out += weight * vector of position`, `[head_dim]`.
    fn add_to(&self, kernels: &Kernels, weight: f32, position: usize, out: &mut [f32]) {
        let place = self.place(position);
        match self.data {
            RingData::F16(data) => kernels.axpy_f16(weight, &data[place], out),
            RingData::F32(data) => {
                for (o, x) in out.iter_mut().zip(&data[place]) {
                    *o += weight * x;
                }
            }
        }
    }
}

/// `out = softmax(scale * q . K[positions]) V[positions]`.
///
/// Shapes: `q` and `out` are `[head_dim]`. `positions` is not empty and lies in the ring.
pub fn attend(
    kernels: &Kernels,
    q: &[f32],
    keys: HeadRing<'_>,
    values: HeadRing<'_>,
    positions: Range<usize>,
    scale: f32,
    out: &mut [f32],
) {
    debug_assert!(!positions.is_empty() && positions.len() <= keys.n_slots);
    out.fill(0.0);
    let mut scores = [0.0f32; BLOCK];
    let mut maximum = f32::NEG_INFINITY;
    let mut total = 0.0f32;
    let mut start = positions.start;
    while start < positions.end {
        let scores = &mut scores[..BLOCK.min(positions.end - start)];
        let mut block_maximum = maximum;
        for (score, position) in scores.iter_mut().zip(start..) {
            *score = scale * keys.dot(kernels, position, q);
            // A NaN score becomes the maximum, and so reaches the output.
            if *score > block_maximum || score.is_nan() {
                block_maximum = *score;
            }
        }
        if block_maximum != maximum {
            let shrink = (maximum - block_maximum).exp();
            total *= shrink;
            super::elementwise::scale(out, shrink);
            maximum = block_maximum;
        }
        for (score, position) in scores.iter().zip(start..) {
            let weight = (score - maximum).exp();
            total += weight;
            values.add_to(kernels, weight, position, out);
        }
        start += scores.len();
    }
    super::elementwise::scale(out, 1.0 / total);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, step: f32, amplitude: f32) -> Vec<f16> {
        (0..n).map(|i| f16::from_f32((i as f32 * step).sin() * amplitude)).collect()
    }

    /// Two-pass softmax in float64 over rings of `n_slots`.
    fn oracle(q: &[f32], k: &[f16], v: &[f16], positions: Range<usize>, scale: f64) -> Vec<f64> {
        let n_slots = k.len() / q.len();
        let at = |ring: &[f16], p: usize| {
            let start = p % n_slots * q.len();
            ring[start..start + q.len()].iter().map(|x| x.to_f64()).collect::<Vec<_>>()
        };
        let scores: Vec<f64> = positions
            .clone()
            .map(|p| scale * q.iter().zip(at(k, p)).map(|(a, b)| f64::from(*a) * b).sum::<f64>())
            .collect();
        let maximum = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - maximum).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; q.len()];
        for (w, p) in weights.iter().zip(positions) {
            for (o, x) in out.iter_mut().zip(at(v, p)) {
                *o += w / total * x;
            }
        }
        out
    }

    #[test]
    fn agrees_with_the_two_pass_softmax_on_every_isa() {
        for head_dim in [16, 24, 32, 256] {
            let n_slots = 77;
            let (k, v) = (wave(n_slots * head_dim, 0.7, 2.0), wave(n_slots * head_dim, 0.13, 3.0));
            let widen = |x: &[f16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
            let (k32, v32) = (widen(&k), widen(&v));
            let q: Vec<f32> = (0..head_dim).map(|i| (i as f32).cos()).collect();
            for positions in [0..1, 0..31, 0..32, 5..70, 60..137, 1000..1077] {
                let want = oracle(&q, &k, &v, positions.clone(), 0.5);
                for kernels in Kernels::available() {
                    for (k, v) in
                        [(RingData::F16(&k), RingData::F16(&v)), (RingData::F32(&k32), RingData::F32(&v32))]
                    {
                        let (k, v) = (HeadRing::new(k, head_dim), HeadRing::new(v, head_dim));
                        let mut out = vec![7.0; head_dim];
                        attend(&kernels, &q, k, v, positions.clone(), 0.5, &mut out);
                        for (got, want) in out.iter().zip(&want) {
                            let ok = (f64::from(*got) - want).abs() < 2e-4;
                            assert!(ok, "{} {head_dim} {positions:?}: {got} {want}", kernels.name());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn not_a_number_reaches_the_output() {
        let mut k = wave(40 * 16, 0.7, 2.0);
        let v = wave(40 * 16, 0.1, 1.0);
        k[35 * 16] = f16::NAN;
        let mut out = vec![0.0; 16];
        let (k, v) = (HeadRing::new(RingData::F16(&k), 16), HeadRing::new(RingData::F16(&v), 16));
        attend(&Kernels::scalar(), &[1.0; 16], k, v, 0..40, 1.0, &mut out);
        assert!(out.iter().all(|x| x.is_nan()));
    }
}
