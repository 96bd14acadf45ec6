//! Activations [n_tokens, n_cols] in f32 and in the quantised forms that packed weights are multiplied with.

use super::Compute;
use super::kernels::with_isa;
use crate::quant::BlockFormat;
use crate::simd::{F32Batch, Isa, Q8Batch, Q8KBatch};

/// Activations \[n_tokens, n_cols\] of one product or of several that share their input.
///
/// Filled through [`reset`](Self::reset). Quantised forms are computed when a product first needs them
/// and kept until the next reset. Buffers are reused.
#[derive(Debug, Default)]
pub struct Activations {
    n_tokens: usize,
    n_cols: usize,
    /// [n_tokens, n_cols]
    x: Vec<f32>,
    q8: Q8,
    q8_k: Q8K,
}

/// A scale for each 32 columns.
#[derive(Debug, Default)]
struct Q8 {
    ready: bool,
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i32>,
}

/// A scale for each 256 columns.
#[derive(Debug, Default)]
struct Q8K {
    ready: bool,
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i16>,
}

impl Activations {
    /// Room for `max_tokens` tokens of `max_cols` columns without further allocation.
    pub fn with_capacity(max_tokens: usize, max_cols: usize) -> Self {
        let n = max_tokens * max_cols;
        Self {
            x: Vec::with_capacity(n),
            q8: Q8 {
                q: Vec::with_capacity(n),
                d: Vec::with_capacity(n / 32),
                sums: Vec::with_capacity(n / 32),
                ready: false,
            },
            q8_k: Q8K {
                q: Vec::with_capacity(n),
                d: Vec::with_capacity(n / 256),
                sums: Vec::with_capacity(n / 16),
                ready: false,
            },
            ..Self::default()
        }
    }

    /// Makes it [n_tokens, n_cols], forgets the quantised forms and hands out the values to be
    /// overwritten: what they hold is left from before.
    pub fn reset(&mut self, n_tokens: usize, n_cols: usize) -> &mut [f32] {
        (self.n_tokens, self.n_cols) = (n_tokens, n_cols);
        (self.q8.ready, self.q8_k.ready) = (false, false);
        self.x.resize(n_tokens * n_cols, 0.0);
        &mut self.x
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Number of columns.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Computes the form that weights in `format` need, if it is not there.
    pub(super) fn prepare(&mut self, c: &Compute, format: BlockFormat) {
        let n = self.x.len();
        // Tokens share nothing: each thread takes some.
        let run = self.n_tokens.div_ceil(c.pool.n_threads()).max(1) * self.n_cols;
        match format.block_len() {
            32 if !self.q8.ready => {
                let Q8 { q, d, sums, ready } = &mut self.q8;
                q.resize(n, 0);
                d.resize(n / 32, 0.0);
                sums.resize(n / 32, 0);
                let scales = d.chunks_mut(run / 32).zip(sums.chunks_mut(run / 32));
                let runs = self.x.chunks(run).zip(q.chunks_mut(run)).zip(scales);
                c.pool.for_each(runs, |((x, q), (d, sums))| {
                    with_isa!(c.kernels, isa => isa.quantize_q8(x, q, d, sums));
                });
                *ready = true;
            }
            256 if !self.q8_k.ready => {
                let Q8K { q, d, sums, ready } = &mut self.q8_k;
                q.resize(n, 0);
                d.resize(n / 256, 0.0);
                sums.resize(n / 16, 0);
                let scales = d.chunks_mut(run / 256).zip(sums.chunks_mut(run / 16));
                let runs = self.x.chunks(run).zip(q.chunks_mut(run)).zip(scales);
                c.pool.for_each(runs, |((x, q), (d, sums))| {
                    with_isa!(c.kernels, isa => isa.quantize_q8_k(x, q, d, sums));
                });
                *ready = true;
            }
            _ => {}
        }
    }

    /// The values of a token, \[n_cols\].
    pub(super) fn values(&self, token: usize) -> &[f32] {
        &self.x[token * self.n_cols..][..self.n_cols]
    }

    /// For weights in float formats.
    pub(super) fn f32_batch(&self) -> F32Batch<'_> {
        F32Batch { n_cols: self.n_cols, x: &self.x }
    }

    /// For weights in 32-element formats. [`prepare`](Self::prepare) comes first.
    pub(super) fn q8_batch(&self) -> Q8Batch<'_> {
        assert!(self.q8.ready);
        Q8Batch { n_cols: self.n_cols, q: &self.q8.q, d: &self.q8.d, sums: &self.q8.sums }
    }

    /// For weights in 256-element formats. [`prepare`](Self::prepare) comes first.
    pub(super) fn q8_k_batch(&self) -> Q8KBatch<'_> {
        assert!(self.q8_k.ready);
        Q8KBatch { n_cols: self.n_cols, q: &self.q8_k.q, d: &self.q8_k.d, sums: &self.q8_k.sums }
    }
}
