//! Room `simd`.
