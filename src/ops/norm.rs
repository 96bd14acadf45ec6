//! Root-mean-square normalisation.
//!
//! Plain loops, compiled for the instruction set that was chosen: the bits do not depend on it, as nothing is fused and the
//! order of additions is fixed.

use super::kernels::with_isa;
use super::{Activations, Compute, Kernels, ReadBy};
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

/// `residual[i] = (residual[i] + x[i] / rms(x) * weight[i]) * factor`: the norm that Gemma puts after a block, the sum, and what
/// Gemma 4 multiplies the output of a layer with.
fn add_rms_norm(kernels: Kernels, residual: &mut [f32], x: &[f32], weight: &[f32], eps: f32, factor: f32) {
    assert!(x.len() == weight.len() && x.len() == residual.len(), "add_rms_norm: lengths differ");
    with_isa!(kernels, isa => isa.run(|| {
        let scale = inverse_rms(x, eps);
        for ((r, v), w) in residual.iter_mut().zip(x).zip(weight) {
            *r = (*r + v * scale * w) * factor;
        }
    }));
}

/// `rms_norm` of each row of `x`, `[n, weight.len()]`, on all threads.
pub fn rms_norm_rows(
    c: &Compute,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    read_by: ReadBy,
    out: &mut Activations,
) {
    let n = weight.len();
    out.fill(c, [x.len() / n, n], read_by, |token, out| {
        rms_norm(c.kernels, &x[token * n..][..n], weight, eps, out);
    });
}

/// The rows of `x`, `[n, n_cols]`, as they are.
pub fn copy_rows(c: &Compute, x: &[f32], n_cols: usize, read_by: ReadBy, out: &mut Activations) {
    out.fill(c, [x.len() / n_cols, n_cols], read_by, |token, out| {
        out.copy_from_slice(&x[token * n_cols..][..n_cols]);
    });
}

/// Where the block behind a sum finds its input.
#[derive(Debug)]
pub struct NextInput<'a> {
    /// The norm that it sees the sum through; none if it reads the sum as it is.
    pub norm: Option<&'a [f32]>,
    /// What reads its input.
    pub read_by: ReadBy,
    /// Where its input goes.
    pub to: &'a mut Activations,
}

/// `add_rms_norm` of each row of `x`, `[n, weight.len()]`, on all threads; of each row also the input of the block behind, which would
/// otherwise be a pass of its own.
///
/// # Panics
/// If the lengths differ.
pub fn add_rms_norm_rows(
    c: &Compute,
    residual: &mut [f32],
    x: &[f32],
    weight: &[f32],
    eps: f32,
    factor: f32,
    next: Option<NextInput<'_>>,
) {
    assert_eq!(x.len(), residual.len(), "add_rms_norm_rows: lengths differ");
    let n = weight.len();
    let add = |i: usize, residual: &mut [f32]| {
        add_rms_norm(c.kernels, residual, &x[i * n..][..n], weight, eps, factor);
    };
    match next {
        None => c.pool.for_each_rows_mut(residual, n, |first, residual| {
            residual.chunks_exact_mut(n).enumerate().for_each(|(at, residual)| add(first + at, residual));
        }),
        Some(NextInput { norm, read_by, to }) => {
            to.fill_beside(c, [x.len() / n, n], read_by, residual, |i, residual, out| {
                add(i, residual);
                match norm {
                    Some(norm) => rms_norm(c.kernels, residual, norm, eps, out),
                    None => out.copy_from_slice(residual),
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Pool;
    use crate::ops::tests::some_matrix;
    use crate::quant::BlockFormat;
    use crate::simd::Q8Batch;

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
            add_rms_norm(kernels, &mut sum, &x, &w, 1e-6, 0.5);
            for i in 0..n {
                assert!((f64::from(out[i]) - want[i]).abs() < 1e-5, "n {n} element {i}");
                assert!((f64::from(in_place[i]) - want[i]).abs() < 1e-5, "n {n} element {i} in place");
                assert!((f64::from(sum[i]) * 2.0 - 1.0 - want[i]).abs() < 1e-5, "n {n} element {i} added");
            }
        }
    }

    /// Rows alone, sums alone, and sums with the input of the block behind: in one pass or one after the other.
    #[test]
    fn rows_are_normalised_as_one_by_one() {
        let (n, n_rows) = (96, 7);
        let x: Vec<f32> = (0..n * n_rows).map(|i| (i as f32 * 0.37).sin()).collect();
        let [w, next_w] = [1.0, 0.3].map(|step| (0..n).map(|i| i as f32 * step).collect::<Vec<_>>());
        let mut want = vec![0.0; x.len()];
        let (mut want_sum, mut want_next) = (vec![1.0; x.len()], vec![0.0; x.len()]);
        for (i, x) in x.chunks_exact(n).enumerate() {
            let row = i * n..(i + 1) * n;
            rms_norm(Kernels::scalar(), x, &w, 1e-6, &mut want[row.clone()]);
            add_rms_norm(Kernels::scalar(), &mut want_sum[row.clone()], x, &w, 1e-6, 0.7);
            rms_norm(Kernels::scalar(), &want_sum[row.clone()], &next_w, 1e-6, &mut want_next[row]);
        }
        // What reads values keeps them; what reads codes alone has their bits.
        let matrix = |format| some_matrix(format, 4, n, 1);
        let (floats, quantised) = (matrix(BlockFormat::F32), matrix(BlockFormat::Q4_0));
        for n_threads in [1, 3] {
            let c = Compute { pool: Pool::new(n_threads).unwrap(), kernels: Kernels::scalar() };
            for (matrices, are_kept) in
                [(vec![&floats], true), (vec![&quantised, &floats], true), (vec![&quantised], false)]
            {
                let assert_are = |got: &mut Activations, want: &[f32]| {
                    if are_kept {
                        assert!(got.f32_batch().x == want);
                    }
                    let mut alone = Activations::default();
                    alone.reset(n_rows, n).copy_from_slice(want);
                    let all = [got, &mut alone].map(|x| {
                        x.prepare(&c, BlockFormat::Q4_0);
                        let Q8Batch { q, d, sums, .. } = x.q8_batch();
                        (q.to_vec(), d.to_vec(), sums.to_vec())
                    });
                    assert!(all[0] == all[1]);
                };
                let read_by = ReadBy::matrices(matrices.iter().copied());
                let mut got = Activations::default();
                rms_norm_rows(&c, &x, &w, 1e-6, read_by, &mut got);
                assert_are(&mut got, &want);
                copy_rows(&c, &x, n, read_by, &mut got);
                assert_are(&mut got, &x);
                let mut sum = vec![1.0; x.len()];
                add_rms_norm_rows(&c, &mut sum, &x, &w, 1e-6, 0.7, None);
                assert!(sum == want_sum);
                for (norm, want) in [(Some(&next_w[..]), &want_next), (None, &want_sum)] {
                    let mut sum = vec![1.0; x.len()];
                    let next = NextInput { norm, read_by, to: &mut got };
                    add_rms_norm_rows(&c, &mut sum, &x, &w, 1e-6, 0.7, Some(next));
                    assert!(sum == want_sum);
                    assert_are(&mut got, want);
                }
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
