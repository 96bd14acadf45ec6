//! The choice of an instruction set, made once at start.

#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512Vnni};
use crate::simd::{F16Rows, Isa, Scalar};
#[cfg(target_arch = "aarch64")]
use crate::simd::{Neon, NeonDot};
use half::f16;

/// The instruction set that operations use.
#[derive(Clone, Copy, Debug)]
pub struct Kernels(pub(super) Choice);

#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    Scalar(Scalar),
}

/// Runs `$body` with `$isa` bound to the token that was chosen.
macro_rules! with_isa {
    ($kernels:expr, $isa:ident => $body:expr) => {
        match $kernels.0 {
            #[cfg(target_arch = "x86_64")]
            $crate::ops::kernels::Choice::Avx512Vnni($isa) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::ops::kernels::Choice::Avx2($isa) => $body,
            #[cfg(target_arch = "aarch64")]
            $crate::ops::kernels::Choice::NeonDot($isa) => $body,
            #[cfg(target_arch = "aarch64")]
            $crate::ops::kernels::Choice::Neon($isa) => $body,
            $crate::ops::kernels::Choice::Scalar($isa) => $body,
        }
    };
}
pub(super) use with_isa;

impl Kernels {
    /// The fastest that this CPU has.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// Plain Rust, for any CPU.
    pub fn scalar() -> Self {
        Self(Choice::Scalar(Scalar))
    }

    /// Everything that this CPU can run, the fastest first, the portable one last.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        all.extend(Avx512Vnni::new().map(|isa| Self(Choice::Avx512Vnni(isa))));
        #[cfg(target_arch = "x86_64")]
        all.extend(Avx2::new().map(|isa| Self(Choice::Avx2(isa))));
        #[cfg(target_arch = "aarch64")]
        all.extend(NeonDot::new().map(|isa| Self(Choice::NeonDot(isa))));
        #[cfg(target_arch = "aarch64")]
        all.extend(Neon::new().map(|isa| Self(Choice::Neon(isa))));
        all.push(Self::scalar());
        all
    }

    /// Name for logs and reports, such as "avx2", "neon+dotprod" or "scalar".
    pub fn name(&self) -> &'static str {
        fn name<I: Isa>(_: I) -> &'static str {
            I::NAME
        }
        with_isa!(self, isa => name(isa))
    }

    /// See [`Isa::make_products`].
    pub fn make_products(&self, n_rounds: usize) -> u64 {
        with_isa!(self, isa => isa.make_products(n_rounds))
    }

    /// See [`Isa::dots_f16`].
    pub fn dots_f16(&self, rows: F16Rows<'_>, x: &[f32], out: &mut [f32]) {
        with_isa!(self, isa => isa.dots_f16(rows, x, out));
    }

    /// See [`Isa::add_weighted_f16`].
    pub fn add_weighted_f16(&self, weights: &[f32], rows: F16Rows<'_>, y: &mut [f32]) {
        with_isa!(self, isa => isa.add_weighted_f16(weights, rows, y));
    }

    /// See [`Isa::widen_q8`].
    pub fn widen_q8(&self, codes: &[i8], scales: &[f16], out: &mut [f16]) {
        with_isa!(self, isa => isa.widen_q8(codes, scales, out));
    }

    /// Quantises a vector whose length is a multiple of 32: codes, and a scale for each 32 of them.
    ///
    /// As [`Isa::quantize_q8`]; a scale beyond the range of f16 becomes an infinity, as such a value would in f16.
    pub fn to_q8(&self, x: &[f32], codes: &mut [i8], scales: &mut [f16]) {
        for ((x, codes), scale) in x.chunks_exact(32).zip(codes.chunks_exact_mut(32)).zip(scales) {
            let (mut d, mut sum) = ([0.0], [0]);
            with_isa!(self, isa => isa.quantize_q8(x, codes, &mut d, &mut sum));
            *scale = f16::from_f32(d[0]);
        }
    }

    /// Rounds to nearest, ties to even.
    pub fn to_f16(&self, x: &[f32], out: &mut [f16]) {
        with_isa!(self, isa => isa.to_f16(x, out));
    }
}
