//! Rotary position embedding in the split-halves (NeoX) layout: element `j` of a head pairs with
//! element `j + head_dim / 2`. Source: Su et al., "RoFormer", 2021; layout of GPT-NeoX.

use super::Kernels;
use super::kernels::with_isa;
use crate::simd::Isa;

/// A divisor at or above this marks a pair that does not rotate.
///
/// Files of the Gemma 4 family mark such pairs by 1e30.
const NO_ROTATION: f32 = 1e29;

/// The angular frequencies of one kind of layer, in radians per position.
///
/// Kept in float64: at position 100,000 a float32 angle is off by several thousandths of a radian.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeFrequencies {
    /// `[head_dim / 2]`, zero for pairs that do not rotate.
    per_pair: Vec<f64>,
}

impl RopeFrequencies {
    /// `base^(-2 j / head_dim) / position_scale` for pair `j`, divided by `divisors[j]` where given.
    ///
    /// `position_scale` is the factor of linear scaling (1 for none). `divisors` has
    /// `head_dim / 2` elements; a divisor of 1e29 or more means that the pair does not rotate.
    ///
    /// # Panics
    /// If `head_dim` is odd or the number of divisors is not `head_dim / 2`.
    pub fn new(head_dim: usize, base: f32, position_scale: f32, divisors: Option<&[f32]>) -> Self {
        assert_eq!(head_dim % 2, 0, "rope: head_dim {head_dim} is odd");
        if let Some(d) = divisors {
            assert_eq!(d.len(), head_dim / 2, "rope: one divisor for each pair");
        }
        let per_pair = (0..head_dim / 2)
            .map(|j| {
                let divisor = divisors.map_or(1.0, |d| d[j]);
                if divisor >= NO_ROTATION {
                    return 0.0;
                }
                let exponent = -2.0 * j as f64 / head_dim as f64;
                f64::from(base).powf(exponent) / f64::from(position_scale) / f64::from(divisor)
            })
            .collect();
        Self { per_pair }
    }

    /// Pairs of a head: `head_dim / 2`.
    pub fn n_pairs(&self) -> usize {
        self.per_pair.len()
    }

    /// Writes the cosines and sines of `position` for every pair.
    ///
    /// Shapes: `cos` and `sin` are `[head_dim / 2]`.
    pub fn angles(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        for ((f, c), s) in self.per_pair.iter().zip(cos).zip(sin) {
            let (sine, cosine) = (position as f64 * f).sin_cos();
            *c = cosine as f32;
            *s = sine as f32;
        }
    }
}

/// Rotates one head in place by the angles of [`RopeFrequencies::angles`].
///
/// Shapes: `head` is `[head_dim]`, `cos` and `sin` are `[head_dim / 2]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn rotate(kernels: Kernels, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = head.split_at_mut(head.len() / 2);
    assert!(low.len() == high.len() && low.len() == cos.len() && cos.len() == sin.len(), "rope: lengths");
    with_isa!(kernels, isa => isa.run(|| {
        for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
            let (x, y) = (*a, *b);
            *a = x * c - y * s;
            *b = y * c + x * s;
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_zero_is_identity_and_length_is_kept() {
        let f = RopeFrequencies::new(8, 10_000.0, 1.0, None);
        let (mut c, mut s) = ([0.0; 4], [0.0; 4]);
        f.angles(0, &mut c, &mut s);
        let mut head = [1.0, -2.0, 3.0, 4.0, 5.0, -6.0, 7.0, 8.0];
        let before = head;
        rotate(Kernels::scalar(), &mut head, &c, &s);
        assert_eq!(head, before);
        f.angles(131_071, &mut c, &mut s);
        rotate(Kernels::scalar(), &mut head, &c, &s);
        let norm = |h: &[f32]| h.iter().map(|v| v * v).sum::<f32>();
        assert!((norm(&head) - norm(&before)).abs() < 1e-3);
        assert_ne!(head, before);
    }

    #[test]
    fn huge_divisors_do_not_rotate() {
        let f = RopeFrequencies::new(8, 1e6, 1.0, Some(&[1.0, 1e30, 1e30, 1e30]));
        let (mut c, mut s) = ([0.0; 4], [0.0; 4]);
        f.angles(1000, &mut c, &mut s);
        assert_eq!(c[1..], [1.0; 3]);
        assert_eq!(s[1..], [0.0; 3]);
        assert_eq!(s[0], 1000f64.sin() as f32);
    }

    #[test]
    fn linear_scaling_divides_the_position() {
        let scaled = RopeFrequencies::new(4, 1e6, 8.0, None);
        let plain = RopeFrequencies::new(4, 1e6, 1.0, None);
        let (mut c8, mut s8) = ([0.0; 2], [0.0; 2]);
        let (mut c1, mut s1) = ([0.0; 2], [0.0; 2]);
        scaled.angles(80, &mut c8, &mut s8);
        plain.angles(10, &mut c1, &mut s1);
        assert_eq!((c8, s8), (c1, s1));
    }
}
