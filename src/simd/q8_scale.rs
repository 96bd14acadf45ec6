//! The scale of a group of activations: shared by all instruction sets, so that it is the same for all.

use half::f16;

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
