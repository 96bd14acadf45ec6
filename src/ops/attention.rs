//! Scaled dot-product attention of query heads over the cached keys and values that they share.
//!
//! One pass over the cache by the online softmax (Milakov and Gimelshein, "Online normalizer
//! calculation for softmax", 2018): no buffer of scores, so no bound on the context but the cache's.
//! A long context is cut into parts, each is summed up alone, and the sums are merged in order: so several
//! threads can share one token's attention (as in Dao and others, "Flash-Decoding", 2023).
//! The parts and the order of additions follow positions alone. They depend neither on where a position lies
//! in the ring, nor on how a prompt was cut into chunks, nor on who computes a part: all agree bit for bit.

use super::Kernels;
use super::elementwise::{self, exp};
use super::kernels::with_isa;
use crate::simd::{F16Rows, Isa};
use half::f16;
use std::ops::Range;

/// Positions whose scores are computed before the running maximum is looked at again, a power of two.
const BLOCK: usize = 32;
/// The largest head: vectors are widened, and sums of query heads kept, on the stack.
pub const MAX_HEAD_DIM: usize = 4096;
/// Query heads of one KV head that are computed together: a block of keys and values comes from memory once for all of them.
pub const MAX_GROUP: usize = 8;
/// Positions that are not worth being shared by threads. The sliding window of Gemma's small models is no longer.
const LEAST_PART: usize = 512;
/// Parts that a context is cut into, however long it is.
pub const MAX_PARTS: usize = 16;

/// The numbers of a ring.
#[derive(Debug, Clone, Copy)]
pub enum RingData<'a> {
    /// Float16: what quantised models are served with.
    F16(&'a [f16]),
    /// Signed bytes with a scale for each 32 of them: half the memory.
    Q8 {
        /// The bytes, -127..=127.
        codes: &'a [i8],
        /// A 32nd of the number of codes.
        scales: &'a [f16],
    },
    /// Float32: as exact as the rest of the pass, for models with F32 weights.
    F32(&'a [f32]),
}

/// Keys or values of one KV head: a ring in which position `p` stands in slot `p % n_slots`.
///
/// Shape: `[n_slots, head_dim]`.
#[derive(Debug, Clone, Copy)]
pub struct HeadRing<'a> {
    data: RingData<'a>,
    head_dim: usize,
    n_slots: usize,
}

impl<'a> HeadRing<'a> {
    /// Wraps `data`, `[n_slots, head_dim]`.
    ///
    /// # Panics
    /// If the length of `data` is no positive multiple of `head_dim`, or `head_dim` unfit for its type.
    pub fn new(data: RingData<'a>, head_dim: usize) -> Self {
        let n = match data {
            RingData::F16(data) => data.len(),
            RingData::F32(data) => data.len(),
            RingData::Q8 { codes, .. } => codes.len(),
        };
        if let RingData::Q8 { codes, scales } = data {
            let fits = head_dim.is_multiple_of(32) && codes.len() == 32 * scales.len();
            assert!(fits, "ring of q8_0 with heads of {head_dim}");
        }
        assert!(head_dim <= MAX_HEAD_DIM, "heads of {head_dim}");
        assert!(n > 0 && n.is_multiple_of(head_dim), "ring: {n} values for heads of {head_dim}");
        Self { data, head_dim, n_slots: n / head_dim }
    }

    /// Slots of `positions`, in their order: the second run is empty but where the ring begins anew.
    fn runs(&self, positions: Range<usize>) -> [Range<usize>; 2] {
        let start = positions.start % self.n_slots;
        let end = start + positions.len();
        [start..end.min(self.n_slots), 0..end.saturating_sub(self.n_slots)]
    }

    /// The halves in `slots`, to be named as [`F16Rows::next`]; none of rings that hold something else, for which nothing is asked ahead.
    fn halves(&self, slots: Range<usize>) -> &'a [f16] {
        let RingData::F16(data) = self.data else { return &[] };
        &data[slots.start * self.head_dim..slots.end * self.head_dim]
    }

    /// Dot products of the vectors in `slots` with each of `q`, `[n_q, head_dim]`, into `out`, `[n_q, n]`. `next` is for
    /// [`F16Rows`].
    fn dots(&self, kernels: &Kernels, slots: Range<usize>, next: &[f16], q: &[f32], out: &mut [f32]) {
        let place = slots.start * self.head_dim..slots.end * self.head_dim;
        match self.data {
            RingData::F16(data) => {
                let rows = F16Rows { n_cols: self.head_dim, rows: &data[place], next };
                kernels.dots_f16(rows, q, out);
            }
            RingData::F32(data) => {
                let vectors = data[place].chunks_exact(self.head_dim);
                let pairs = q.chunks_exact(self.head_dim).flat_map(|q| vectors.clone().map(move |v| (q, v)));
                for (out, (q, vector)) in out.iter_mut().zip(pairs) {
                    *out = vector.iter().zip(q).map(|(a, b)| a * b).sum();
                }
            }
            RingData::Q8 { .. } => {
                let n = slots.len();
                let mut dots = [0.0; MAX_GROUP * BLOCK];
                self.for_each_widened(kernels, slots, |first, rows| {
                    let n_rows = rows.rows.len() / rows.n_cols;
                    let dots = &mut dots[..q.len() / self.head_dim * n_rows];
                    kernels.dots_f16(rows, q, dots);
                    for (out, dots) in out.chunks_exact_mut(n).zip(dots.chunks_exact(n_rows)) {
                        out[first..first + n_rows].copy_from_slice(dots);
                    }
                });
            }
        }
    }

    /// Adds the vectors in `slots` times `weights`, `[n_q, n]`, to `out`, `[n_q, head_dim]`. `next` is for [`F16Rows`].
    fn add_weighted(
        &self,
        kernels: &Kernels,
        weights: &[f32],
        slots: Range<usize>,
        next: &[f16],
        out: &mut [f32],
    ) {
        let n = slots.len();
        let place = slots.start * self.head_dim..slots.end * self.head_dim;
        match self.data {
            RingData::F16(data) => {
                let rows = F16Rows { n_cols: self.head_dim, rows: &data[place], next };
                kernels.add_weighted_f16(weights, rows, out);
            }
            RingData::F32(data) => {
                for (i, out) in out.chunks_exact_mut(self.head_dim).enumerate() {
                    let vectors = data[place.clone()].chunks_exact(self.head_dim);
                    for (weight, vector) in weights[i * n..].iter().zip(vectors) {
                        for (o, x) in out.iter_mut().zip(vector) {
                            *o += weight * x;
                        }
                    }
                }
            }
            RingData::Q8 { .. } => {
                let mut some = [0.0; MAX_GROUP * BLOCK];
                self.for_each_widened(kernels, slots, |first, rows| {
                    let n_rows = rows.rows.len() / rows.n_cols;
                    let some = &mut some[..out.len() / self.head_dim * n_rows];
                    for (some, weights) in some.chunks_exact_mut(n_rows).zip(weights.chunks_exact(n)) {
                        some.copy_from_slice(&weights[first..first + n_rows]);
                    }
                    kernels.add_weighted_f16(some, rows, out);
                });
            }
        }
    }
}

impl HeadRing<'_> {
    /// Calls `f` with the vectors in `slots` as halves, some at a time, and with how many came before; not at all for
    /// rings that hold floats.
    fn for_each_widened(
        &self,
        kernels: &Kernels,
        slots: Range<usize>,
        mut f: impl FnMut(usize, F16Rows<'_>),
    ) {
        let RingData::Q8 { codes, scales } = self.data else { return };
        let n_cols = self.head_dim;
        let mut halves = [f16::ZERO; MAX_HEAD_DIM];
        let together = MAX_HEAD_DIM / n_cols;
        for start in slots.clone().step_by(together) {
            let place = start * n_cols..slots.end.min(start + together) * n_cols;
            let halves = &mut halves[..place.len()];
            kernels.widen_q8(&codes[place.clone()], &scales[place.start / 32..place.end / 32], halves);
            f(start - slots.start, F16Rows { n_cols, rows: halves, next: &[] });
        }
    }
}

/// Query heads of one token that share a KV head, and what they look at.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// Queries, `[n_q, head_dim]`: at most [`MAX_GROUP`] heads of together at most [`MAX_HEAD_DIM`] elements.
    pub q: &'a [f32],
    /// Keys of the KV head.
    pub keys: HeadRing<'a>,
    /// Values of the KV head, a ring of the same shape.
    pub values: HeadRing<'a>,
    /// Factor of scores.
    pub scale: f32,
}

/// `out = softmax(scale * q . K[positions]) V[positions]`.
///
/// Each key and value is read and widened once for all heads. A head's result does not depend on the others.
///
/// Shapes: `out` is that of the queries. `positions` is not empty and lies in the ring.
///
/// # Panics
/// If shapes do not fit each other, or there is no position.
pub fn attend(kernels: &Kernels, heads: &Heads<'_>, positions: Range<usize>, out: &mut [f32]) {
    let head_dim = heads.keys.head_dim;
    let mut parts = parts(positions);
    let first = parts.next().expect("a token sees itself at least");
    let mut softmax = attend_part(kernels, heads, first, out);
    if parts.len() > 0 {
        let mut sums = [0.0; MAX_HEAD_DIM];
        let sums = &mut sums[..out.len()];
        for part in parts {
            let later = attend_part(kernels, heads, part, sums);
            softmax.add(*kernels, head_dim, out, &later, sums);
        }
    }
    softmax.divide(head_dim, out);
}

/// The parts of `positions` that are summed up apart, in the order in which they are merged: whole blocks, about
/// alike, at most [`MAX_PARTS`].
pub fn parts(positions: Range<usize>) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let len = positions.len().div_ceil(MAX_PARTS).next_multiple_of(BLOCK).max(LEAST_PART);
    let end = positions.end;
    positions.step_by(len).map(move |start| start..end.min(start + len))
}

/// Sums the values at `positions` up, weighted but not yet divided by the sum of the weights.
///
/// Shapes: `sums` is that of the queries. `positions` is one of [`parts`].
///
/// # Panics
/// If shapes do not fit each other.
pub fn attend_part(
    kernels: &Kernels,
    heads: &Heads<'_>,
    positions: Range<usize>,
    sums: &mut [f32],
) -> GroupSoftmax {
    let Heads { q, keys, values, scale } = *heads;
    let head_dim = keys.head_dim;
    let n_q = q.len() / head_dim;
    assert!(
        q.len() == sums.len()
            && n_q <= MAX_GROUP
            && (values.head_dim, values.n_slots) == (head_dim, keys.n_slots)
    );
    debug_assert!(!positions.is_empty() && positions.len() <= keys.n_slots);
    sums.fill(0.0);
    let mut softmax = GroupSoftmax::default();
    let mut scores = [0.0f32; MAX_GROUP * BLOCK];
    for start in positions.clone().step_by(BLOCK) {
        let end = positions.end.min(start + BLOCK);
        let runs = keys.runs(start..end);
        let [n_first, n_second] = [runs[0].len(), runs[1].len()];
        let (first, second) = scores.split_at_mut(n_q * n_first);
        let second = &mut second[..n_q * n_second];
        // What the memory brings meanwhile: values while scores are computed, the next block's keys while values are added.
        // Asked for both together, it would be late in the one half of the time and rest in the other.
        for (run, scores) in runs.iter().zip([&mut *first, &mut *second]) {
            keys.dots(kernels, run.clone(), values.halves(run.clone()), q, scores);
        }
        softmax.weigh(*kernels, [&mut *first, &mut *second], n_q, scale, sums);
        let next_keys = keys.halves(keys.runs(end..positions.end.min(end + BLOCK))[0].clone());
        values.add_weighted(kernels, first, runs[0].clone(), next_keys, sums);
        values.add_weighted(kernels, second, runs[1].clone(), &[], sums);
    }
    softmax
}

/// What the heads of a group know of the scores of a part.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupSoftmax([Softmax; MAX_GROUP]);

impl GroupSoftmax {
    /// Turns the dot products of a block, those of its two `runs`, `[n_q, n]` each, into weights, and brings `sums`, `[n_q, head_dim]`,
    /// to the new maxima. Where the ring begins anew within the block changes no bit.
    fn weigh(
        &mut self,
        kernels: Kernels,
        mut runs: [&mut [f32]; 2],
        n_q: usize,
        scale: f32,
        sums: &mut [f32],
    ) {
        let n = runs.each_ref().map(|run| run.len() / n_q);
        if n[0] == BLOCK {
            return self.weigh_blocks(kernels, runs[0].as_chunks_mut().0, BLOCK, scale, sums);
        }
        let places = [0..n[0], n[0]..n[0] + n[1]];
        let mut blocks = [[0.0; BLOCK]; MAX_GROUP];
        for ((run, n), place) in runs.iter().zip(n).zip(&places) {
            for i in 0..n_q {
                blocks[i][place.clone()].copy_from_slice(&run[i * n..][..n]);
            }
        }
        self.weigh_blocks(kernels, &mut blocks[..n_q], n[0] + n[1], scale, sums);
        for ((run, n), place) in runs.iter_mut().zip(n).zip(&places) {
            for i in 0..n_q {
                run[i * n..][..n].copy_from_slice(&blocks[i][place.clone()]);
            }
        }
    }

    /// The same for the first `n` dot products of each head's block.
    fn weigh_blocks(
        &mut self,
        kernels: Kernels,
        blocks: &mut [[f32; BLOCK]],
        n: usize,
        scale: f32,
        sums: &mut [f32],
    ) {
        let head_dim = sums.len() / blocks.len();
        let heads = self.0.iter_mut().zip(blocks).zip(sums.chunks_exact_mut(head_dim));
        with_isa!(kernels, isa => isa.run(|| {
            for ((softmax, block), sums) in heads {
                softmax.weigh(block, n, scale, sums);
            }
        }));
    }

    /// Adds what is known of later positions: `later_sums` belongs to `later` as `sums`, `[n_q, head_dim]`, does to `self`.
    pub fn add(
        &mut self,
        kernels: Kernels,
        head_dim: usize,
        sums: &mut [f32],
        later: &Self,
        later_sums: &[f32],
    ) {
        let sums = sums.chunks_exact_mut(head_dim).zip(later_sums.chunks_exact(head_dim));
        with_isa!(kernels, isa => isa.run(|| {
            for ((softmax, later), (sums, later_sums)) in self.0.iter_mut().zip(&later.0).zip(sums) {
                softmax.add(sums, *later, later_sums);
            }
        }));
    }

    /// Turns sums, `[n_q, head_dim]`, into means: what attention gives.
    pub fn divide(&self, head_dim: usize, sums: &mut [f32]) {
        for (softmax, sums) in self.0.iter().zip(sums.chunks_exact_mut(head_dim)) {
            elementwise::scale(sums, 1.0 / softmax.total);
        }
    }
}

/// What a head knows of the scores so far.
#[derive(Debug, Clone, Copy)]
struct Softmax {
    maximum: f32,
    /// Sum of the weights, relative to `maximum`.
    total: f32,
}

impl Default for Softmax {
    fn default() -> Self {
        Self { maximum: f32::NEG_INFINITY, total: 0.0 }
    }
}

impl Softmax {
    /// Turns the next dot products, the first `n` of `block`, into weights, and brings what was summed so far to the new maximum.
    #[inline(always)]
    fn weigh(&mut self, block: &mut [f32; BLOCK], n: usize, scale: f32, sums: &mut [f32]) {
        elementwise::scale(block, scale);
        block[n..].fill(f32::NEG_INFINITY);
        let maximum = greater(self.maximum, reduce(block, greater));
        if maximum != self.maximum {
            let shrink = exp(self.maximum - maximum);
            self.total *= shrink;
            elementwise::scale(sums, shrink);
            self.maximum = maximum;
        }
        for weight in &mut *block {
            *weight = exp(*weight - maximum);
        }
        block[n..].fill(0.0);
        self.total += reduce(block, |a, b| a + b);
    }

    /// Brings both to the greater maximum and adds them up.
    #[inline(always)]
    fn add(&mut self, sums: &mut [f32], later: Self, later_sums: &[f32]) {
        let maximum =
            if later.maximum > self.maximum || later.maximum.is_nan() { later.maximum } else { self.maximum };
        let (own, other) = (exp(self.maximum - maximum), exp(later.maximum - maximum));
        self.maximum = maximum;
        self.total = own * self.total + other * later.total;
        for (sum, later) in sums.iter_mut().zip(later_sums) {
            *sum = own * *sum + other * later;
        }
    }
}

/// The greater number; a NaN is greater than anything and stays, and so reaches the output.
#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// All numbers of a block, joined by `join`: the two halves, then the halves of what that gives, and so on, since a chain of single
/// numbers would wait for each of them.
#[inline(always)]
fn reduce(block: &[f32; BLOCK], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = *block;
    let mut n = BLOCK;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = join(lanes[i], lanes[i + n]);
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, step: f32, amplitude: f32) -> Vec<f16> {
        (0..n).map(|i| f16::from_f32((i as f32 * step).sin() * amplitude)).collect()
    }

    fn heads<'a>(q: &'a [f32], keys: HeadRing<'a>, values: HeadRing<'a>) -> Heads<'a> {
        Heads { q, keys, values, scale: 0.5 }
    }

    /// Two-pass softmax in float64 over rings of `n_slots`.
    fn oracle(q: &[f32], k: &[f16], v: &[f16], positions: Range<usize>, scale: f64) -> Vec<f64> {
        let n_slots = k.len() / q.len();
        let at = |ring: &[f16], p: usize| {
            let start = p % n_slots * q.len();
            ring[start..start + q.len()].iter().map(|x| x.to_f64()).collect::<Vec<_>>()
        };
        let scores: Vec<f64> = positions
            .clone()
            .map(|p| scale * q.iter().zip(at(k, p)).map(|(a, b)| f64::from(*a) * b).sum::<f64>())
            .collect();
        let maximum = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - maximum).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; q.len()];
        for (w, p) in weights.iter().zip(positions) {
            for (o, x) in out.iter_mut().zip(at(v, p)) {
                *o += w / total * x;
            }
        }
        out
    }

    #[test]
    fn agrees_with_the_two_pass_softmax_on_every_isa() {
        for head_dim in [16, 24, 32, 256] {
            let n_slots = 77;
            let (k, v) = (wave(n_slots * head_dim, 0.7, 2.0), wave(n_slots * head_dim, 0.13, 3.0));
            let widen = |x: &[f16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
            let (k32, v32) = (widen(&k), widen(&v));
            let q: Vec<f32> = (0..head_dim).map(|i| (i as f32).cos()).collect();
            for positions in [0..1, 0..31, 0..32, 5..70, 60..137, 1000..1077] {
                let want = oracle(&q, &k, &v, positions.clone(), 0.5);
                if head_dim % 32 == 0 {
                    assert_bytes_are_near(&q, &k32, &v32, positions.clone(), &want);
                }
                for kernels in Kernels::available() {
                    for (k, v) in
                        [(RingData::F16(&k), RingData::F16(&v)), (RingData::F32(&k32), RingData::F32(&v32))]
                    {
                        let (k, v) = (HeadRing::new(k, head_dim), HeadRing::new(v, head_dim));
                        let mut out = vec![7.0; head_dim];
                        attend(&kernels, &heads(&q, k, v), positions.clone(), &mut out);
                        for (got, want) in out.iter().zip(&want) {
                            let ok = (f64::from(*got) - want).abs() < 2e-4;
                            assert!(ok, "{} {head_dim} {positions:?}: {got} {want}", kernels.name());
                        }
                        assert_heads_do_not_meet(&kernels, &out, &q, k, v, positions.clone());
                    }
                }
            }
        }
    }

    /// Keys and values as bytes give the same bits on every instruction set, those of widened vectors, and
    /// nearly the exact answer.
    fn assert_bytes_are_near(q: &[f32], k: &[f32], v: &[f32], positions: Range<usize>, want: &[f64]) {
        let quantise = |x: &[f32]| {
            let (mut codes, mut scales) = (vec![0; x.len()], vec![f16::ZERO; x.len() / 32]);
            Kernels::scalar().to_q8(x, &mut codes, &mut scales);
            let mut halves = vec![f16::ZERO; x.len()];
            Kernels::scalar().widen_q8(&codes, &scales, &mut halves);
            (codes, scales, halves)
        };
        let (k, v) = (quantise(k), quantise(v));
        let ring = |data| HeadRing::new(data, q.len());
        let [k_bytes, v_bytes] = [&k, &v].map(|x| ring(RingData::Q8 { codes: &x.0, scales: &x.1 }));
        let [k_halves, v_halves] = [&k, &v].map(|x| ring(RingData::F16(&x.2)));
        let mut widened = vec![7.0; q.len()];
        attend(&Kernels::scalar(), &heads(q, k_halves, v_halves), positions.clone(), &mut widened);
        for kernels in Kernels::available() {
            let mut out = vec![7.0; q.len()];
            attend(&kernels, &heads(q, k_bytes, v_bytes), positions.clone(), &mut out);
            assert_eq!(out, widened, "{} {} {positions:?}", kernels.name(), q.len());
            assert_heads_do_not_meet(&kernels, &out, q, k_bytes, v_bytes, positions.clone());
        }
        // Keys are off by up to half of a 127th of 2, which moves scores and so weights by some percent.
        for (got, want) in widened.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 0.3, "{} {positions:?}: {got} {want}", q.len());
        }
    }

    /// A head among others has the bits that it has alone.
    fn assert_heads_do_not_meet(
        kernels: &Kernels,
        alone: &[f32],
        q: &[f32],
        k: HeadRing<'_>,
        v: HeadRing<'_>,
        positions: Range<usize>,
    ) {
        for n_q in 2..=MAX_GROUP {
            for at in 0..n_q {
                let mut group: Vec<f32> = (0..n_q * q.len()).map(|i| (i as f32).sin()).collect();
                group[at * q.len()..][..q.len()].copy_from_slice(q);
                let mut out = vec![7.0; n_q * q.len()];
                attend(kernels, &heads(&group, k, v), positions.clone(), &mut out);
                assert_eq!(&out[at * q.len()..][..q.len()], alone, "{} {at} of {n_q}", kernels.name());
            }
        }
    }

    #[test]
    fn parts_are_whole_blocks_few_and_all_positions() {
        let lengths = |positions: Range<usize>| parts(positions).map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(lengths(7..8), [1]);
        assert_eq!(lengths(100..612), [512]);
        assert_eq!(lengths(100..613), [512, 1]);
        assert_eq!(lengths(0..16 * 512), [512; 16]);
        for n in [16 * 512 + 1, 100_000, 131_072] {
            let found = lengths(3..3 + n);
            assert!(found.len() <= MAX_PARTS && found.iter().sum::<usize>() == n, "{found:?}");
            assert!(
                found[..found.len() - 1].iter().all(|len| *len == found[0] && len % BLOCK == 0),
                "{found:?}"
            );
        }
    }

    #[test]
    fn merged_parts_agree_with_the_two_pass_softmax() {
        let (head_dim, n_slots) = (16, 1500);
        // The greatest scores lie in the first, the second and the last part.
        for (step, positions) in [(0.7, 0..1500), (0.0013, 100..1400), (-0.0007, 2000..3500)] {
            let (k, v) = (wave(n_slots * head_dim, step, 2.0), wave(n_slots * head_dim, 0.13, 3.0));
            let q: Vec<f32> = (0..head_dim).map(|i| (i as f32).cos()).collect();
            let want = oracle(&q, &k, &v, positions.clone(), 0.5);
            let (k, v) =
                (HeadRing::new(RingData::F16(&k), head_dim), HeadRing::new(RingData::F16(&v), head_dim));
            let mut out = vec![7.0; head_dim];
            attend(&Kernels::scalar(), &heads(&q, k, v), positions.clone(), &mut out);
            for (got, want) in out.iter().zip(&want) {
                assert!((f64::from(*got) - want).abs() < 2e-4, "{step} {positions:?}: {got} {want}");
            }
            for kernels in Kernels::available() {
                assert_heads_do_not_meet(&kernels, &out, &q, k, v, positions.clone());
            }
        }
    }

    #[test]
    fn where_the_ring_begins_anew_changes_no_bit() {
        let (head_dim, n_slots, len) = (32, 80, 77);
        let (k, v) = (wave(len * head_dim, 0.7, 2.0), wave(len * head_dim, 0.13, 3.0));
        let q: Vec<f32> = (0..3 * head_dim).map(|i| (i as f32).cos()).collect();
        for kernels in Kernels::available() {
            let answer = |k: &[f16], v: &[f16], positions| {
                let ring = |x| HeadRing::new(RingData::F16(x), head_dim);
                let mut out = vec![7.0; q.len()];
                attend(&kernels, &heads(&q, ring(k), ring(v)), positions, &mut out);
                out
            };
            let want = answer(&k, &v, 0..len);
            for start in 0..n_slots {
                let in_ring = |x: &[f16]| {
                    let mut ring = vec![f16::NAN; n_slots * head_dim];
                    for (i, x) in x.chunks_exact(head_dim).enumerate() {
                        ring[(start + i) % n_slots * head_dim..][..head_dim].copy_from_slice(x);
                    }
                    ring
                };
                let got = answer(&in_ring(&k), &in_ring(&v), start..start + len);
                assert_eq!(got, want, "{} from {start}", kernels.name());
            }
        }
    }

    #[test]
    fn the_greatest_is_found_wherever_it_stands() {
        for at in 0..BLOCK {
            let mut block: [f32; BLOCK] = std::array::from_fn(|i| -(i as f32));
            block[at] = 3.0;
            assert_eq!(reduce(&block, greater), 3.0);
            block[at] = f32::NAN;
            assert!(greater(5.0, reduce(&block, greater)).is_nan());
        }
    }

    #[test]
    fn not_a_number_reaches_the_output() {
        for at in (0..40).chain([700]) {
            assert_nan_reaches_the_output(at);
        }
    }

    fn assert_nan_reaches_the_output(at: usize) {
        let mut k = wave(1100 * 16, 0.7, 2.0);
        let v = wave(1100 * 16, 0.1, 1.0);
        k[at * 16] = f16::NAN;
        let mut out = vec![0.0; 16];
        let (k, v) = (HeadRing::new(RingData::F16(&k), 16), HeadRing::new(RingData::F16(&v), 16));
        attend(&Kernels::scalar(), &heads(&[1.0; 16], k, v), 0..1100, &mut out);
        assert!(out.iter().all(|x| x.is_nan()), "{at}: {out:?}");
    }
}
