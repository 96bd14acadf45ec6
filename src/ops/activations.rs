//! Activations [n_tokens, n_cols] in f32 and in the quantised forms that packed weights are multiplied with.

use super::Compute;
use super::kernels::with_isa;
use super::outputs::split_columns;
use crate::quant::BlockFormat;
use crate::simd::{F32Batch, Isa, Q8Batch, Q8KBatch};
use std::ops::Range;

/// Activations \[n_tokens, n_cols\] of one product or of several that share their input.
///
/// Filled through [`fill`](Self::fill), or [`reset`](Self::reset). Quantised forms are computed then, or when a product first needs
/// them, and kept until the next time. Buffers are reused.
#[derive(Debug, Default)]
pub struct Activations {
    n_tokens: usize,
    n_cols: usize,
    /// Whether `x` holds them, and not a quantised form alone.
    has_values: bool,
    /// [n_tokens, n_cols], and what is left from before behind it; likewise the buffers of quantised forms.
    x: Vec<f32>,
    q8: Q8,
    q8_k: Q8K,
}

/// Takes the values of some columns of a token: token, columns, values.
pub(super) type Store<'a> = dyn FnMut(usize, Range<usize>, &[f32]) + 'a;

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
        self.forget([n_tokens, n_cols]);
        self.has_values = true;
        first(&mut self.x, n_tokens * n_cols)
    }

    fn forget(&mut self, [n_tokens, n_cols]: [usize; 2]) {
        (self.n_tokens, self.n_cols) = (n_tokens, n_cols);
        (self.has_values, self.q8.ready, self.q8_k.ready) = (false, false, false);
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Number of columns.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Makes it [n_tokens, n_cols] and computes its values, on all threads: `compute` gets pieces of `piece_len` values, the last one
    /// perhaps shorter, with the place of the first. Each piece is quantised for weights in `format` while it is in the cache.
    ///
    /// # Panics
    /// If rows or pieces are not whole blocks of the format.
    pub fn fill(
        &mut self,
        c: &Compute,
        [n_tokens, n_cols]: [usize; 2],
        piece_len: usize,
        format: BlockFormat,
        compute: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.reset(n_tokens, n_cols);
        self.compute_and_quantise(c, piece_len, format, compute);
    }

    /// Makes it [n_tokens, n_cols] for weights in `format` alone, on all threads: `compute` gets ranges of `task_len` columns, the last
    /// one perhaps shorter, and a function that takes the values of some of these columns for one token.
    ///
    /// # Panics
    /// If rows or ranges are not whole blocks of the format.
    pub(super) fn fill_columns(
        &mut self,
        c: &Compute,
        [n_tokens, n_cols]: [usize; 2],
        task_len: usize,
        format: BlockFormat,
        compute: impl Fn(Range<usize>, &mut Store<'_>) + Sync,
    ) {
        let (n, block_len) = (n_tokens * n_cols, format.block_len());
        assert!(n_cols.is_multiple_of(block_len) && task_len.is_multiple_of(block_len));
        self.forget([n_tokens, n_cols]);
        match block_len {
            32 => {
                let Q8 { q, d, sums, ready } = &mut self.q8;
                let to = (first(q, n), first(d, n / 32), first(sums, n / 32));
                for_each_columns(c, to, [n_cols, task_len, 32, 32], compute, |x, (q, d, sums)| {
                    with_isa!(c.kernels, isa => isa.quantize_q8(x, q, d, sums));
                });
                *ready = true;
            }
            256 => {
                let Q8K { q, d, sums, ready } = &mut self.q8_k;
                let to = (first(q, n), first(d, n / 256), first(sums, n / 16));
                for_each_columns(c, to, [n_cols, task_len, 256, 16], compute, |x, (q, d, sums)| {
                    with_isa!(c.kernels, isa => isa.quantize_q8_k(x, q, d, sums));
                });
                *ready = true;
            }
            _ => {
                self.has_values = true;
                c.pool.for_each(split_columns(first(&mut self.x, n), n_cols, task_len), |mut values| {
                    compute(values.range(), &mut |token, columns, x| {
                        values.token(token, columns).copy_from_slice(x)
                    });
                });
            }
        }
    }

    /// Quantises for weights in `format`, if that is not done.
    pub(super) fn prepare(&mut self, c: &Compute, format: BlockFormat) {
        let is_ready = match format.block_len() {
            32 => self.q8.ready,
            256 => self.q8_k.ready,
            _ => true,
        };
        if !is_ready {
            self.compute_and_quantise(c, self.n_cols, format, |_, _| {});
        }
    }

    fn compute_and_quantise(
        &mut self,
        c: &Compute,
        piece_len: usize,
        format: BlockFormat,
        compute: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (n, block_len) = (self.n_tokens * self.n_cols, format.block_len());
        assert!(self.n_cols.is_multiple_of(block_len) && piece_len.is_multiple_of(block_len));
        if n == 0 {
            return;
        }
        assert!(self.has_values, "values that were quantised at once, for weights of another kind");
        let x = &mut self.x[..n];
        match block_len {
            32 => {
                let Q8 { q, d, sums, ready } = &mut self.q8;
                let to = (first(q, n), first(d, n / 32), first(sums, n / 32));
                for_each_piece(c, x, to, [piece_len, 32, 32], |start, x, (q, d, sums)| {
                    compute(start, x);
                    with_isa!(c.kernels, isa => isa.quantize_q8(x, q, d, sums));
                });
                *ready = true;
            }
            256 => {
                let Q8K { q, d, sums, ready } = &mut self.q8_k;
                let to = (first(q, n), first(d, n / 256), first(sums, n / 16));
                for_each_piece(c, x, to, [piece_len, 256, 16], |start, x, (q, d, sums)| {
                    compute(start, x);
                    with_isa!(c.kernels, isa => isa.quantize_q8_k(x, q, d, sums));
                });
                *ready = true;
            }
            _ => {
                let task_len = c.pool.items_per_task(n.div_ceil(piece_len)) * piece_len;
                c.pool.for_each(x.chunks_mut(task_len).enumerate(), |(task, x)| {
                    for (piece, x) in x.chunks_mut(piece_len).enumerate() {
                        compute(task * task_len + piece * piece_len, x);
                    }
                });
            }
        }
    }

    /// The values of a token, \[n_cols\].
    pub(super) fn values(&self, token: usize) -> &[f32] {
        &self.x[token * self.n_cols..][..self.n_cols]
    }

    /// For weights in float formats.
    pub(super) fn f32_batch(&self) -> F32Batch<'_> {
        assert!(self.has_values, "values that were quantised at once, for weights of another kind");
        F32Batch { n_cols: self.n_cols, x: &self.x[..self.n_tokens * self.n_cols] }
    }

    /// For weights in 32-element formats. [`prepare`](Self::prepare) comes first.
    pub(super) fn q8_batch(&self) -> Q8Batch<'_> {
        let (q8, n) = (&self.q8, self.n_tokens * self.n_cols);
        assert!(q8.ready);
        Q8Batch { n_cols: self.n_cols, q: &q8.q[..n], d: &q8.d[..n / 32], sums: &q8.sums[..n / 32] }
    }

    /// For weights in 256-element formats. [`prepare`](Self::prepare) comes first.
    pub(super) fn q8_k_batch(&self) -> Q8KBatch<'_> {
        let (q8_k, n) = (&self.q8_k, self.n_tokens * self.n_cols);
        assert!(q8_k.ready);
        Q8KBatch { n_cols: self.n_cols, q: &q8_k.q[..n], d: &q8_k.d[..n / 256], sums: &q8_k.sums[..n / 16] }
    }
}

/// Codes, scales and sums of a run of values.
type Quantised<'a, S> = (&'a mut [i8], &'a mut [f32], &'a mut [S]);

/// Calls `f` with pieces of `x`, the place of each and where its codes, scales and sums go, on all threads. There is a scale for
/// `d_len` values and a sum for `sum_len`.
fn for_each_piece<S: Send>(
    c: &Compute,
    x: &mut [f32],
    (q, d, sums): Quantised<'_, S>,
    [piece_len, d_len, sum_len]: [usize; 3],
    f: impl Fn(usize, &mut [f32], Quantised<'_, S>) + Sync,
) {
    let task_len = c.pool.items_per_task(x.len().div_ceil(piece_len)) * piece_len;
    let scales = d.chunks_mut(task_len / d_len).zip(sums.chunks_mut(task_len / sum_len));
    let tasks = x.chunks_mut(task_len).zip(q.chunks_mut(task_len)).zip(scales);
    c.pool.for_each(tasks.enumerate(), |(task, ((x, q), (d, sums)))| {
        let scales = d.chunks_mut(piece_len / d_len).zip(sums.chunks_mut(piece_len / sum_len));
        let pieces = x.chunks_mut(piece_len).zip(q.chunks_mut(piece_len)).zip(scales);
        for (piece, ((x, q), (d, sums))) in pieces.enumerate() {
            f(task * task_len + piece * piece_len, x, (q, d, sums));
        }
    });
}

/// Calls `compute` with ranges of `task_len` columns of `n_cols`, on all threads, and `quantise` with the values that it hands over and
/// where their codes, scales and sums go. There is a scale for `d_len` values and a sum for `sum_len`.
fn for_each_columns<S: Send>(
    c: &Compute,
    (q, d, sums): Quantised<'_, S>,
    [n_cols, task_len, d_len, sum_len]: [usize; 4],
    compute: impl Fn(Range<usize>, &mut Store<'_>) + Sync,
    quantise: impl Fn(&[f32], Quantised<'_, S>) + Sync,
) {
    let part = |columns: &Range<usize>, len: usize| columns.start / len..columns.end / len;
    let d = split_columns(d, n_cols / d_len, task_len / d_len);
    let sums = split_columns(sums, n_cols / sum_len, task_len / sum_len);
    let tasks = split_columns(q, n_cols, task_len).zip(d.zip(sums));
    c.pool.for_each(tasks, |(mut q, (mut d, mut sums))| {
        compute(q.range(), &mut |token, columns, x| {
            let d = d.token(token, part(&columns, d_len));
            let sums = sums.token(token, part(&columns, sum_len));
            quantise(x, (q.token(token, columns), d, sums));
        });
    });
}

/// The first `n` elements of a buffer that only grows: filling again what is there already would take longer than some products, as
/// inputs of different widths take turns in it.
fn first<T: Clone + Default>(buffer: &mut Vec<T>, n: usize) -> &mut [T] {
    if buffer.len() < n {
        buffer.resize(n, T::default());
    }
    &mut buffer[..n]
}
