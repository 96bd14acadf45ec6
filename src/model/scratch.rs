//! Buffers that a forward pass works in, allocated once.

use super::error::OutOfMemory;
use super::hparams::HParams;
use super::probe::{Probe, Step, Work};
use super::zeroed::zeroed;
use crate::ops::{Activations, GreatestScratch, GroupSoftmax, MAX_PARTS, Matrix, Pool, RopeFrequencies};

/// Tokens whose contexts are shared by threads, at most: with more of them every thread has heads enough.
pub(super) const MAX_SHARED_CONTEXTS: usize = 4;

/// One token of the batch that is still being computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Index of its span.
    pub span: usize,
    /// Its position in the sequence.
    pub position: usize,
    /// Its place in the batch: spans in order, tokens in order.
    pub index: usize,
}

/// Working memory of [`super::forward`].
///
/// `T` stands for the tokens of a batch, `W` for those whose logits are wanted, `c` for the last
/// layer that writes keys and values. A batch starts with all `T` tokens and continues with the `W`
/// wanted ones above `c`.
#[derive(Debug)]
pub struct Scratch {
    pub(super) max_tokens: usize,
    pub(super) max_logits: usize,
    /// Tokens of the batch, `T`.
    pub(super) n_batch: usize,
    /// Tokens being computed: all of the batch, later the wanted ones.
    pub(super) rows: Vec<Row>,
    /// Places in the batch of the tokens whose logits are wanted: `[W]`.
    pub(super) wanted: Vec<usize>,
    /// The greatest logits that are enough for all of them, if not all are needed.
    pub(super) greatest: Option<usize>,
    /// Residual stream, `[T, n_embd]`.
    pub(super) h: Vec<f32>,
    /// Input of the matrix products at hand.
    pub(super) x: Activations,
    /// Output of a product that returns to the residual stream, `[T, n_embd]`.
    pub(super) y: Vec<f32>,
    /// Queries, `[T, n_head * head_dim]`.
    pub(super) q: Vec<f32>,
    /// Sums of the parts of shared contexts, `[tokens, parts, n_head * head_dim]` with as many parts as each token has.
    pub(super) part_sums: Vec<f32>,
    /// What belongs to them, `[tokens, parts, groups of heads]`.
    pub(super) part_softmax: Vec<GroupSoftmax>,
    /// Keys before they are cached, `[T, n_head_kv * head_dim]`.
    pub(super) k: Vec<f32>,
    /// Values before they are cached, the same shape.
    pub(super) v: Vec<f32>,
    /// Gates of per-layer inputs, `[T, n_embd_per_layer]`.
    pub(super) gate: Vec<f32>,
    /// What is between the products of the MLP, `[T, n_ff]`.
    pub(super) hidden: Activations,
    /// Per-layer inputs of layers below `c`, `[T, c, n_embd_per_layer]`.
    pub(super) inputs_low: Vec<f32>,
    /// Per-layer inputs of layers from `c`, `[W, n_layer - c, n_embd_per_layer]`.
    pub(super) inputs_high: Vec<f32>,
    /// One dequantised row of the per-layer embedding table.
    pub(super) table_row: Vec<f32>,
    pub(super) rope_sliding: Angles,
    pub(super) rope_full: Angles,
    /// `[W, n_vocab]`.
    pub(super) logits: Vec<f32>,
    pub(super) search: GreatestScratch,
    probe: Option<Probe>,
}

/// Cosines and sines of each token's position, `[T, head_dim / 2]` each.
#[derive(Debug)]
pub(super) struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    n_pairs: usize,
}

impl Angles {
    fn new(max_tokens: usize, n_pairs: usize) -> Result<Self, OutOfMemory> {
        let n = max_tokens.saturating_mul(n_pairs);
        Ok(Self { cos: zeroed(n)?, sin: zeroed(n)?, n_pairs })
    }

    /// Cosines and sines of the token at place `index` of the batch.
    pub(super) fn of(&self, index: usize) -> (&[f32], &[f32]) {
        let place = index * self.n_pairs..(index + 1) * self.n_pairs;
        (&self.cos[place.clone()], &self.sin[place])
    }

    /// Computes them for `rows`, which are those of the batch in order.
    pub(super) fn fill(&mut self, pool: &Pool, frequencies: &RopeFrequencies, rows: &[Row]) {
        let (n, per_task) = (self.n_pairs, pool.items_per_task(rows.len()));
        let tasks = self.cos.chunks_mut(per_task * n).zip(self.sin.chunks_mut(per_task * n));
        pool.for_each(tasks.zip(rows.chunks(per_task)), |((cos, sin), rows)| {
            for ((cos, sin), row) in cos.chunks_exact_mut(n).zip(sin.chunks_exact_mut(n)).zip(rows) {
                frequencies.angles(row.position, cos, sin);
            }
        });
    }
}

impl Scratch {
    /// Buffers for batches of `max_tokens`, at most `max_logits` of them with logits.
    pub(super) fn new(hp: &HParams, max_tokens: usize, max_logits: usize) -> Result<Self, OutOfMemory> {
        let widest =
            |f: fn(&super::hparams::LayerHParams) -> usize| hp.layers.iter().map(f).max().unwrap_or(0);
        let n_q = widest(|l| l.n_embd_q());
        let n_kv = widest(|l| l.n_embd_kv());
        let n_ff = widest(|l| l.n_ff);
        let of_tokens = |n: usize| zeroed(max_tokens.saturating_mul(n));
        let of_wanted = |n: usize| zeroed(max_logits.saturating_mul(n));
        let n_parts = MAX_SHARED_CONTEXTS.min(max_tokens) * MAX_PARTS;
        let n_low = hp.last_kv_layer() * hp.n_embd_per_layer;
        let n_high = hp.n_embd_per_layer_row() - n_low;
        Ok(Self {
            max_tokens,
            max_logits,
            n_batch: 0,
            rows: Vec::with_capacity(max_tokens),
            wanted: Vec::with_capacity(max_logits),
            greatest: None,
            h: of_tokens(hp.n_embd)?,
            y: of_tokens(hp.n_embd)?,
            q: of_tokens(n_q)?,
            part_sums: zeroed(n_parts.saturating_mul(n_q))?,
            part_softmax: zeroed(n_parts.saturating_mul(widest(|l| l.n_head)))?,
            k: of_tokens(n_kv)?,
            v: of_tokens(n_kv)?,
            gate: of_tokens(hp.n_embd_per_layer)?,
            hidden: Activations::with_capacity(max_tokens, n_ff),
            inputs_low: of_tokens(n_low)?,
            inputs_high: of_wanted(n_high)?,
            table_row: zeroed(hp.n_embd_per_layer_row())?,
            rope_sliding: Angles::new(max_tokens, hp.rope_sliding.n_pairs())?,
            rope_full: Angles::new(max_tokens, hp.rope_full.n_pairs())?,
            logits: of_wanted(hp.n_vocab)?,
            search: GreatestScratch::with_capacity(hp.n_vocab),
            x: Activations::with_capacity(max_tokens, hp.n_embd.max(n_q).max(hp.n_embd_per_layer)),
            probe: None,
        })
    }

    /// Tells `probe` of every step from now on.
    pub fn set_probe(&mut self, probe: Probe) {
        self.probe = Some(probe);
    }

    /// A step without weights begins.
    pub(super) fn begin(&mut self, step: Step) {
        self.begin_work(|_| Work::of(step, [], 0));
    }

    /// Products of `matrices` with every token that is being computed begin.
    pub(super) fn begin_products<'a>(&mut self, step: Step, matrices: impl IntoIterator<Item = &'a Matrix>) {
        self.begin_work(|rows| Work::of(step, matrices, rows.len()));
    }

    /// A step begins whose work follows from the tokens that are being computed.
    pub(super) fn begin_work(&mut self, work: impl FnOnce(&[Row]) -> Work) {
        if let Some(probe) = &mut self.probe {
            probe.begin(work(&self.rows));
        }
    }

    /// Drops the tokens whose logits nobody wants from what is computed.
    pub(super) fn keep_wanted(&mut self, n_embd: usize) {
        for (to, &from) in self.wanted.iter().enumerate() {
            self.rows[to] = self.rows[from];
            self.h.copy_within(from * n_embd..(from + 1) * n_embd, to * n_embd);
        }
        self.rows.truncate(self.wanted.len());
    }
}
