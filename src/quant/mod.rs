//! Room `quant`.
