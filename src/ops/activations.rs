//! Activations [n_tokens, n_cols] in f32 and in the quantised forms that packed weights are multiplied with.

use super::kernels::with_isa;
use super::outputs::split_columns;
use super::rows::{Rows, for_each_row, for_each_run};
use super::{Compute, Matrix};
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
    q8: Q8<i32>,
    q8_k: Q8<i16>,
}

/// What reads activations: the format that they are quantised for at once, and whether their values will be needed as well.
#[derive(Debug, Clone, Copy)]
pub struct ReadBy {
    format: BlockFormat,
    keep_values: bool,
}

impl ReadBy {
    /// Products with `matrices`, the first one first.
    ///
    /// # Panics
    /// If there is none.
    pub fn matrices<'a>(matrices: impl IntoIterator<Item = &'a Matrix>) -> Self {
        let mut formats = matrices.into_iter().map(Matrix::format);
        let format = formats.next().expect("a matrix");
        Self { format, keep_values: formats.any(|other| other.block_len() != format.block_len()) }
    }

    /// And something that looks at the values.
    pub fn with_values(self) -> Self {
        Self { keep_values: true, ..self }
    }
}

/// Takes the values of some columns of a token: token, columns, values.
pub(super) type Store<'a> = dyn FnMut(usize, Range<usize>, &[f32]) + 'a;

/// Codes, their scales, and sums of codes in `S`: of each 32 columns, or scales of 256 and sums of 16.
#[derive(Debug, Default)]
struct Q8<S> {
    ready: bool,
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<S>,
}

impl<S: Clone + Default> Q8<S> {
    /// Room for `n` values with a scale for `d_len` and a sum for `sum_len` of them.
    fn with_capacity(n: usize, [d_len, sum_len]: [usize; 2]) -> Self {
        Self {
            ready: false,
            q: Vec::with_capacity(n),
            d: Vec::with_capacity(n / d_len),
            sums: Vec::with_capacity(n / sum_len),
        }
    }

    /// Codes, scales and sums of `n` values, to be overwritten.
    fn of_values(&mut self, n: usize, [d_len, sum_len]: [usize; 2]) -> Quantised<'_, S> {
        (first(&mut self.q, n), first(&mut self.d, n / d_len), first(&mut self.sums, n / sum_len))
    }
}

/// Values of a scale and of a sum in the two quantised forms.
const Q8_LENS: [usize; 2] = [32, 32];
const Q8_K_LENS: [usize; 2] = [256, 16];

impl Activations {
    /// Room for `max_tokens` tokens of `max_cols` columns without further allocation.
    pub fn with_capacity(max_tokens: usize, max_cols: usize) -> Self {
        let n = max_tokens * max_cols;
        Self {
            x: Vec::with_capacity(n),
            q8: Q8::with_capacity(n, Q8_LENS),
            q8_k: Q8::with_capacity(n, Q8_K_LENS),
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

    /// Makes it [n_tokens, n_cols] and computes its values, on all threads: `compute` gets a token and where its values go. They are
    /// quantised while they are in the cache.
    ///
    /// # Panics
    /// If rows are not whole blocks of the format of who reads them first.
    pub fn fill(
        &mut self,
        c: &Compute,
        shape: [usize; 2],
        read_by: ReadBy,
        compute: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.reset(shape[0], shape[1]);
        self.compute_and_quantise(c, read_by, (), |token, (), x| compute(token, x));
    }

    /// [`fill`](Self::fill), where `compute` also gets the token's values of `beside`, an array of the same shape, to be changed.
    ///
    /// # Panics
    /// If rows are not whole blocks of the format of who reads them first, or shapes differ.
    pub(super) fn fill_beside(
        &mut self,
        c: &Compute,
        [n_tokens, n_cols]: [usize; 2],
        read_by: ReadBy,
        beside: &mut [f32],
        compute: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
    ) {
        assert_eq!(beside.len(), n_tokens * n_cols);
        self.reset(n_tokens, n_cols);
        self.compute_and_quantise(c, read_by, beside, compute);
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
                self.q8.ready = true;
                let to = self.q8.of_values(n, Q8_LENS);
                for_each_columns(c, to, [n_cols, task_len], Q8_LENS, compute, |x, (q, d, sums)| {
                    with_isa!(c.kernels, isa => isa.quantize_q8(x, q, d, sums));
                });
            }
            256 => {
                self.q8_k.ready = true;
                let to = self.q8_k.of_values(n, Q8_K_LENS);
                for_each_columns(c, to, [n_cols, task_len], Q8_K_LENS, compute, |x, (q, d, sums)| {
                    with_isa!(c.kernels, isa => isa.quantize_q8_k(x, q, d, sums));
                });
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
            let read_by = ReadBy { format, keep_values: true };
            self.compute_and_quantise(c, read_by, (), |_, (), _| {});
        }
    }

    /// Calls `compute` with every token, its part of `beside` and its values, and quantises what it leaves there.
    fn compute_and_quantise<B: Rows + Send>(
        &mut self,
        c: &Compute,
        ReadBy { format, keep_values }: ReadBy,
        beside: B,
        compute: impl Fn(usize, B, &mut [f32]) + Sync,
    ) {
        let (shape, n) = ([self.n_tokens, self.n_cols], self.n_tokens * self.n_cols);
        assert!(self.n_cols.is_multiple_of(format.block_len()));
        if n == 0 {
            return;
        }
        assert!(self.has_values, "values that were quantised at once, for weights of another kind");
        self.has_values = keep_values;
        let x = &mut self.x[..n];
        match format.block_len() {
            32 => {
                self.q8.ready = true;
                let beside = (beside, self.q8.of_values(n, Q8_LENS));
                for_each_token(c, shape, x, keep_values, beside, |token, x, (beside, (q, d, sums))| {
                    compute(token, beside, x);
                    with_isa!(c.kernels, isa => isa.quantize_q8(x, q, d, sums));
                });
            }
            256 => {
                self.q8_k.ready = true;
                let beside = (beside, self.q8_k.of_values(n, Q8_K_LENS));
                for_each_token(c, shape, x, keep_values, beside, |token, x, (beside, (q, d, sums))| {
                    compute(token, beside, x);
                    with_isa!(c.kernels, isa => isa.quantize_q8_k(x, q, d, sums));
                });
            }
            _ => {
                self.has_values = true;
                for_each_token(c, shape, x, true, beside, |token, x, beside| compute(token, beside, x));
            }
        }
    }

    /// The values of a token, \[n_cols\].
    pub(super) fn values(&self, token: usize) -> &[f32] {
        assert!(self.has_values, "values that were quantised at once, for weights of another kind");
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

/// Calls `f` with every token, its row of `x` \[n_tokens, n_cols\] and its part of `beside`, on all threads. Rows that are not kept all stand
/// in the place of one of them: written there again and again they never leave the cache.
fn for_each_token<B: Rows + Send>(
    c: &Compute,
    [n_tokens, n_cols]: [usize; 2],
    x: &mut [f32],
    is_kept: bool,
    beside: B,
    f: impl Fn(usize, &mut [f32], B) + Sync,
) {
    for_each_run(c, n_tokens, (x, beside), |start, (x, beside), n| {
        for_each_row(n, beside, |at, beside| {
            let place = if is_kept { at * n_cols } else { 0 };
            f(start + at, &mut x[place..][..n_cols], beside);
        });
    });
}

/// Calls `compute` with ranges of `task_len` columns of `n_cols`, on all threads, and `quantise` with the values that it hands over and
/// where their codes, scales and sums go. There is a scale for `d_len` values and a sum for `sum_len`.
fn for_each_columns<S: Send>(
    c: &Compute,
    (q, d, sums): Quantised<'_, S>,
    [n_cols, task_len]: [usize; 2],
    [d_len, sum_len]: [usize; 2],
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
