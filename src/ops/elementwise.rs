//! Functions applied to each element: GELU, soft-cap, scaling, sums.
//!
//! Loops are written so that the compiler vectorises them, those that many values pass for the instruction set that was
//! chosen; no intrinsics here. The bits do not depend on it: only what is written so is fused, and nothing is added in another order.

use super::kernels::with_isa;
use super::{Kernels, Pool};
use crate::simd::Isa;

/// `log2(e)`, and what float32 leaves of it.
const LOG2_E: f32 = std::f32::consts::LOG2_E;
const LOG2_E_LOW: f32 = 1.925_963e-8;
/// Adding it rounds to an integer `n` and leaves `n + 127`, the exponent field of `2^n`, in the lowest bits.
const ROUND: f32 = 12_582_912.0 + 127.0;

/// `e^x` in float32, within 2 units in the last place; 0 below -87.6, infinity above 88.3.
///
/// `x log2(e) = n + r` with an integer `n`, then [`power_of_two`]. Branch-free, unlike the library's, so that it vectorises.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-88.0, 88.8);
    let shifted = clamped.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = clamped.mul_add(LOG2_E_LOW, clamped.mul_add(LOG2_E, -n));
    power_of_two(shifted, r)
}

/// `2^(n + r)` for `n` from -127, which gives 0, to 128, which gives infinity, and `|r| <= 1/2`: `shifted` is `n +` [`ROUND`].
///
/// The polynomial, `1 + r q(r)`, was fitted for the least relative error, 9e-8.
#[inline(always)]
#[expect(clippy::approx_constant, reason = "fitted with the others, and not quite ln 2")]
fn power_of_two(shifted: f32, r: f32) -> f32 {
    let mut p = 1.326_472_7e-3;
    for c in [9.671_513e-3, 5.550_733_6e-2, 2.402_224_2e-1, 6.931_47e-1, 1.0] {
        p = r.mul_add(p, c);
    }
    p * f32::from_bits(shifted.to_bits() << 23)
}

/// The tanh form of GELU: `0.5 z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))`.
///
/// Evaluated as `z / (1 + 2^v)` with `v = -2 log2(e) u`, which is the same since `(1 + tanh u) / 2 = 1 / (1 + e^(-2u))`.
/// Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016. NaN in gives NaN out.
#[inline(always)]
fn gelu(z: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    const LINEAR: f32 = -2.0 * LOG2_E * SQRT_2_OVER_PI;
    const CUBIC: f32 = 0.044_715 * LINEAR;
    let v = (z * (z * z).mul_add(CUBIC, LINEAR)).clamp(-127.0, 128.0);
    let shifted = v + ROUND;
    z / (1.0 + power_of_two(shifted, v - (shifted - ROUND)))
}

/// `out[i] = gelu(gate[i]) * up[i]`.
///
/// # Panics
/// If the lengths differ.
pub fn gelu_mul(kernels: Kernels, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "gelu_mul: lengths differ");
    with_isa!(kernels, isa => isa.run(|| {
        for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
            *o = gelu(*g) * u;
        }
    }));
}

/// `cap * tanh(x / cap)`, in place; bounds logits to `(-cap, cap)`.
///
/// Within 2e-7 of `cap`: the whole vocabulary passes here for every token, and the library's `tanh` would take
/// longer than some of the layers. NaN in gives NaN out, and minus infinity stays: what is masked stays masked.
pub fn soft_cap(kernels: Kernels, x: &mut [f32], cap: f32) {
    with_isa!(kernels, isa => isa.run(|| {
        for v in x {
            let shrunk = exp(-2.0 * (*v / cap).abs());
            let capped = (cap * ((1.0 - shrunk) / (1.0 + shrunk))).copysign(*v);
            *v = if *v == f32::NEG_INFINITY { *v } else { capped };
        }
    }));
}

/// `x[i] *= factor`.
#[inline]
pub fn scale(x: &mut [f32], factor: f32) {
    for v in x {
        *v *= factor;
    }
}

/// [`scale`] on all threads.
pub fn scale_all(pool: &Pool, x: &mut [f32], factor: f32) {
    /// Fewer values are done before another thread has heard of them.
    const LEAST: usize = 4096;
    pool.for_each_chunk_mut(x, LEAST, |_, x| scale(x, factor));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_agrees_with_float64() {
        let mut worst = 0.0f64;
        for i in -40_000..40_000 {
            let z = i as f32 * 0.001;
            let x = f64::from(z);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            let want = 0.5 * x * (1.0 + u.tanh());
            let error = (f64::from(gelu(z)) - want).abs() / want.abs().max(1e-3);
            worst = worst.max(error);
        }
        assert!(worst < 1e-5, "relative error {worst}");
    }

    #[test]
    fn exp_agrees_with_the_library_over_its_whole_range() {
        for i in -873..883 {
            let x = i as f32 * 0.1;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) / want - 1.0).abs() < 3e-7, "exp({x}) = {} wanted {want}", exp(x));
        }
        assert!(exp(-1e30) < 1e-37);
        assert!(exp(1e30).is_infinite());
    }

    #[test]
    fn soft_cap_agrees_with_float64() {
        for i in -20_000..20_000 {
            let x = i as f32 * 0.01;
            let mut got = [x];
            soft_cap(Kernels::scalar(), &mut got, 30.0);
            let want = 30.0 * (f64::from(x) / 30.0).tanh();
            assert!((f64::from(got[0]) - want).abs() < 30.0 * 2e-7, "{x}: {} wanted {want}", got[0]);
        }
        let mut x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        soft_cap(Kernels::scalar(), &mut x, 30.0);
        assert!(x[0].is_nan());
        assert_eq!(x[1..], [30.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn instruction_sets_give_the_same_bits() {
        let x: Vec<f32> = (-3000..3001).map(|i| i as f32 * 0.037).collect();
        let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let of = |kernels| {
            let mut capped = x.clone();
            soft_cap(kernels, &mut capped, 30.0);
            let mut product = vec![0.0; x.len()];
            gelu_mul(kernels, &x, &capped, &mut product);
            (bits(&capped), bits(&product))
        };
        for kernels in Kernels::available() {
            assert!(of(kernels) == of(Kernels::scalar()), "{}", kernels.name());
        }
    }

    #[test]
    fn extremes_stay_what_they_are() {
        assert_eq!(gelu(0.0), 0.0);
        assert_eq!(gelu(100.0), 100.0);
        assert_eq!(gelu(-100.0).abs(), 0.0);
        assert_eq!(gelu(1e30), 1e30);
        assert_eq!(gelu(-1e30).abs(), 0.0);
        assert!(gelu(f32::NAN).is_nan());
        let mut x = [1e9, -1e9, 0.0, 1.0];
        soft_cap(Kernels::scalar(), &mut x, 30.0);
        assert_eq!(x[..3], [30.0, -30.0, 0.0]);
        assert!((x[3] - 0.99963).abs() < 1e-5);
    }
}
