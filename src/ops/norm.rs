//! Root-mean-square normalisation.
//!
//! Plain loops, compiled for the instruction set that was chosen: the bits do not depend on it, as nothing is fused and the
//! order of additions is fixed.

use super::kernels::with_isa;
use super::{Activations, Compute, Kernels};
use crate::quant::BlockFormat;
use crate::simd::Isa;

/// Independent partial sums: enough for the compiler to fill vector registers, and a fixed order
/// of additions, so that a row's result never depends on its neighbours.
const LANES: usize = 16;

/// Sum of squares of `x` in float32.
#[inline(always)]
pub(super) fn sum_of_squares(x: &[f32]) -> f32 {
    let mut acc = [0.0f32; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (a, v) in acc.iter_mut().zip(chunk) {
            *a += v * v;
        }
    }
    for (a, v) in acc.iter_mut().zip(chunks.remainder()) {
        *a += v * v;
    }
    acc.iter().sum()
}

/// `1 / sqrt(mean(x^2) + eps)`, the factor that brings `x` to unit root mean square.
#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum_of_squares(x) / x.len() as f32 + eps).sqrt()
}

/// `out[i] = x[i] / rms(x) * weight[i]`; the weight is used as stored, without a "+1".
///
/// Shapes: all `[n]`. Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
///
/// # Panics
/// If the lengths differ.
fn rms_norm(kernels: Kernels, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "rms_norm: lengths differ");
    with_isa!(kernels, isa => isa.run(|| {
        let scale = inverse_rms(x, eps);
        for ((o, v), w) in out.iter_mut().zip(x).zip(weight) {
            *o = v * scale * w;
        }
    }));
}

/// `rms_norm` in place.
pub fn rms_norm_in_place(kernels: Kernels, x: &mut [f32], weight: &[f32], eps: f32) {
    assert_eq!(x.len(), weight.len(), "rms_norm_in_place: lengths differ");
    with_isa!(kernels, isa => isa.run(|| {
        let scale = inverse_rms(x, eps);
        for (v, w) in x.iter_mut().zip(weight) {
            *v *= scale * w;
        }
    }));
}

/// Normalisation without a weight, in place.
pub fn rms_norm_unweighted(kernels: Kernels, x: &mut [f32], eps: f32) {
    with_isa!(kernels, isa => isa.run(|| {
        let scale = inverse_rms(x, eps);
        for v in x {
            *v *= scale;
        }
    }));
}

/// `residual[i] += x[i] / rms(x) * weight[i]`: the norm that Gemma puts after a block, and the sum.
fn add_rms_norm(kernels: Kernels, residual: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    assert!(x.len() == weight.len() && x.len() == residual.len(), "add_rms_norm: lengths differ");
    with_isa!(kernels, isa => isa.run(|| {
        let scale = inverse_rms(x, eps);
        for ((r, v), w) in residual.iter_mut().zip(x).zip(weight) {
            *r += v * scale * w;
        }
    }));
}

/// `rms_norm` of each row of `x`, `[n, weight.len()]`, on all threads, to be multiplied with weights in `format` first.
pub fn rms_norm_rows(
    c: &Compute,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    format: BlockFormat,
    out: &mut Activations,
) {
    let n = weight.len();
    out.fill(c, [x.len() / n, n], n, format, |start, out| {
        rms_norm(c.kernels, &x[start..][..n], weight, eps, out);
    });
}

/// `add_rms_norm` of each row of `x`, `[n, weight.len()]`, on all threads.
///
/// # Panics
/// If the lengths differ.
pub fn add_rms_norm_rows(c: &Compute, residual: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    assert_eq!(x.len(), residual.len(), "add_rms_norm_rows: lengths differ");
    let n = weight.len();
    c.pool.for_each_rows_mut(residual, n, |first, residual| {
        for (residual, x) in residual.chunks_exact_mut(n).zip(x[first * n..].chunks_exact(n)) {
            add_rms_norm(c.kernels, residual, x, weight, eps);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Pool;

    fn oracle(x: &[f32], w: &[f32], eps: f32) -> Vec<f64> {
        let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(eps)).sqrt();
        x.iter().zip(w).map(|(v, w)| f64::from(*v) * scale * f64::from(*w)).collect()
    }

    fn of_all_kernels<T: Copy>(of: T) -> impl Iterator<Item = (T, Kernels)> {
        Kernels::available().into_iter().map(move |kernels| (of, kernels))
    }

    #[test]
    fn agrees_with_float64_for_awkward_lengths() {
        for (n, kernels) in [1, 2, 15, 16, 17, 31, 33, 256, 1536].into_iter().flat_map(of_all_kernels) {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 300.0).collect();
            let w: Vec<f32> = (0..n).map(|i| 1.0 + (i as f32 * 0.11).cos()).collect();
            let want = oracle(&x, &w, 1e-6);
            let mut out = vec![0.0; n];
            rms_norm(kernels, &x, &w, 1e-6, &mut out);
            let mut in_place = x.clone();
            rms_norm_in_place(kernels, &mut in_place, &w, 1e-6);
            let mut sum = vec![1.0; n];
            add_rms_norm(kernels, &mut sum, &x, &w, 1e-6);
            for i in 0..n {
                assert!((f64::from(out[i]) - want[i]).abs() < 1e-5, "n {n} element {i}");
                assert!((f64::from(in_place[i]) - want[i]).abs() < 1e-5, "n {n} element {i} in place");
                assert!((f64::from(sum[i]) - 1.0 - want[i]).abs() < 1e-5, "n {n} element {i} added");
            }
        }
    }

    #[test]
    fn rows_are_normalised_as_one_by_one() {
        let (n, n_rows) = (96, 7);
        let x: Vec<f32> = (0..n * n_rows).map(|i| (i as f32 * 0.37).sin()).collect();
        let w: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let (mut want, mut want_sum) = (vec![0.0; x.len()], vec![1.0; x.len()]);
        for (i, x) in x.chunks_exact(n).enumerate() {
            rms_norm(Kernels::scalar(), x, &w, 1e-6, &mut want[i * n..(i + 1) * n]);
            add_rms_norm(Kernels::scalar(), &mut want_sum[i * n..(i + 1) * n], x, &w, 1e-6);
        }
        for n_threads in [1, 3] {
            let c = Compute { pool: Pool::new(n_threads).unwrap(), kernels: Kernels::scalar() };
            for format in [BlockFormat::F32, BlockFormat::Q4_0] {
                let (mut got, mut sum) = (Activations::default(), vec![1.0; x.len()]);
                rms_norm_rows(&c, &x, &w, 1e-6, format, &mut got);
                add_rms_norm_rows(&c, &mut sum, &x, &w, 1e-6);
                assert!(got.f32_batch().x == want && sum == want_sum);
            }
        }
    }

    #[test]
    fn zero_input_stays_finite() {
        let mut x = vec![0.0; 8];
        rms_norm_unweighted(Kernels::scalar(), &mut x, 1e-6);
        assert_eq!(x, vec![0.0; 8]);
    }
}
