//! The attention block of a layer: from the residual stream, through the cache, back to it.

use super::Model;
use super::forward::Span;
use super::hparams::{HParams, LayerHParams, LayerKind};
use super::probe::{Step, Work};
use super::residual::{Reader, add_and_read};
use super::scratch::{Angles, MAX_SHARED_CONTEXTS, Row, Scratch};
use crate::ops::{
    Compute, GroupSoftmax, Heads, Kernels, MAX_GROUP, MAX_HEAD_DIM, attend, attend_part, matmul, parts,
    rms_norm_in_place, rms_norm_unweighted, rotate,
};
use std::ops::Range;

/// Computes keys and values of every token and appends them to the caches, if layer `i` owns any.
///
/// `s.x` holds the normalised input.
pub(super) fn append_kv(model: &Model, i: usize, spans: &mut [Span<'_>], s: &mut Scratch) {
    let hp = &model.hparams;
    let Some(kv) = &model.weights.layers[i].kv else { return };
    let layer = &hp.layers[i];
    let (n_kv, head_dim) = (layer.n_embd_kv(), layer.head_dim);
    let n = s.rows.len() * n_kv;
    s.begin_products(Step::KeysValues, [Some(&kv.k), kv.v.as_ref()].into_iter().flatten());
    let (k, v) = (&mut s.k[..n], &mut s.v[..n]);
    matmul(&model.compute, &kv.k, 0..n_kv, &mut s.x, k);
    match &kv.v {
        Some(weights) => matmul(&model.compute, weights, 0..n_kv, &mut s.x, v),
        None => v.copy_from_slice(k),
    }
    s.begin(Step::Small);
    let (k, v, rows) = (&mut s.k[..n], &mut s.v[..n], &s.rows);
    let angles = angles(layer.kind, &s.rope_sliding, &s.rope_full);
    normalise_and_rotate(model, (rows, angles), layer.n_head_kv, &kv.k_norm, k);
    let Compute { pool, kernels } = &*model.compute;
    if hp.normalise_values {
        pool.for_each_rows_mut(v, head_dim, |_, v| {
            v.chunks_exact_mut(head_dim).for_each(|head| rms_norm_unweighted(*kernels, head, hp.rms_eps));
        });
    }
    for (row, (k, v)) in rows.iter().zip(k.chunks_exact(n_kv).zip(v.chunks_exact(n_kv))) {
        let heads = k.chunks_exact(head_dim).zip(v.chunks_exact(head_dim));
        for (head, (k, v)) in heads.enumerate() {
            spans[row.span].kv.write(kernels, (i, head), row.position, k, v);
        }
    }
}

/// Queries, attention over the cache that layer `i` reads, output projection, residual sum.
///
/// `s.x` holds the normalised input, and that of the MLP afterwards.
pub(super) fn attend_and_add(model: &Model, i: usize, spans: &[Span<'_>], s: &mut Scratch) {
    make_queries(model, i, s);
    attend_to_cache(model, i, spans, s);
    let hp = &model.hparams;
    let weights = &model.weights.layers[i];
    let (n_tokens, n_embd) = (s.rows.len(), hp.n_embd);
    s.begin_products(Step::AttentionOutput, [&weights.attn_output]);
    let y = &mut s.y[..n_tokens * n_embd];
    matmul(&model.compute, &weights.attn_output, 0..n_embd, &mut s.x, y);
    add_and_read(model, &weights.post_attention_norm, 1.0, Reader::Mlp(i), s);
}

/// `s.q`: the queries of every token, normalised and rotated.
fn make_queries(model: &Model, i: usize, s: &mut Scratch) {
    let hp = &model.hparams;
    let layer = &hp.layers[i];
    let weights = &model.weights.layers[i];
    let n_q = layer.n_embd_q();
    let n = s.rows.len() * n_q;
    s.begin_products(Step::Queries, [&weights.attn_q]);
    matmul(&model.compute, &weights.attn_q, 0..n_q, &mut s.x, &mut s.q[..n]);
    s.begin(Step::Small);
    let angles = angles(layer.kind, &s.rope_sliding, &s.rope_full);
    normalise_and_rotate(model, (&s.rows, angles), layer.n_head, &weights.attn_q_norm, &mut s.q[..n]);
}

/// Normalises each head of `x`, `[rows, n_heads, norm.len()]`, and turns it by the angles of its token.
fn normalise_and_rotate(
    model: &Model,
    (rows, angles): (&[Row], &Angles),
    n_heads: usize,
    norm: &[f32],
    x: &mut [f32],
) {
    let Compute { pool, kernels } = &*model.compute;
    let n = n_heads * norm.len();
    pool.for_each_rows_mut(x, n, |first, x| {
        for (row, x) in rows[first..].iter().zip(x.chunks_exact_mut(n)) {
            let (cos, sin) = angles.of(row.index);
            for head in x.chunks_exact_mut(norm.len()) {
                rms_norm_in_place(*kernels, head, norm, model.hparams.rms_eps);
                rotate(*kernels, head, cos, sin);
            }
        }
    });
}

/// Those of the two kinds of layers that belong to `kind`.
fn angles<'a>(kind: LayerKind, sliding: &'a Angles, full: &'a Angles) -> &'a Angles {
    match kind {
        LayerKind::Sliding => sliding,
        LayerKind::Full => full,
    }
}

/// `s.x`: what each query head finds in the cache that layer `i` reads.
///
/// Threads share heads. Where there are few tokens, and so few heads, with long contexts, they share parts of contexts.
fn attend_to_cache(model: &Model, i: usize, spans: &[Span<'_>], s: &mut Scratch) {
    let hp = &model.hparams;
    let layer = &hp.layers[i];
    let n_q = layer.n_embd_q();
    s.begin_work(|rows| Work {
        step: Step::Attention,
        n_tokens: rows.len(),
        // A key and a value of each position, for each element of the query.
        multiply_adds: rows.iter().map(|row| 2 * (positions(hp, layer, row).len() * n_q) as u64).sum(),
        weight_bytes: 0,
    });
    let out = s.x.reset(s.rows.len(), n_q);
    let look = Look { model, layer, spans, rows: &s.rows, q: &s.q };
    let are_long = || s.rows.iter().any(|row| parts(positions(hp, layer, row)).len() > 1);
    if model.compute.pool.n_threads() > 1 && s.rows.len() <= MAX_SHARED_CONTEXTS && are_long() {
        look.share_contexts(&mut s.part_sums, &mut s.part_softmax, out);
    } else {
        look.share_heads(out);
    }
}

/// Positions that the token of `row` sees in `layer`.
fn positions(hp: &HParams, layer: &LayerHParams, row: &Row) -> Range<usize> {
    let end = row.position + 1;
    match layer.kind {
        LayerKind::Full => 0..end,
        LayerKind::Sliding => end.saturating_sub(hp.window)..end,
    }
}

/// The query heads of a batch and what they look at. Heads are counted through all tokens.
struct Look<'a> {
    model: &'a Model,
    layer: &'a LayerHParams,
    spans: &'a [Span<'a>],
    rows: &'a [Row],
    /// `[T, n_head * head_dim]`.
    q: &'a [f32],
}

impl Look<'_> {
    /// Positions that `head` sees.
    fn positions(&self, head: usize) -> Range<usize> {
        positions(&self.model.hparams, self.layer, &self.rows[head / self.layer.n_head])
    }

    /// `group` heads from `first` on, which share a KV head.
    fn heads(&self, first: usize, group: usize) -> Heads<'_> {
        let layer = self.layer;
        let cache = &*self.spans[self.rows[first / layer.n_head].span].kv;
        let kv_head = first % layer.n_head / (layer.n_head / layer.n_head_kv);
        Heads {
            q: &self.q[first * layer.head_dim..][..group * layer.head_dim],
            keys: cache.keys(layer.kv_layer, kv_head),
            values: cache.values(layer.kv_layer, kv_head),
            scale: self.model.hparams.attention_scale,
        }
    }

    /// Attention of all heads, each computed by one thread, into `out` `[T, n_head * head_dim]`.
    fn share_heads(&self, out: &mut [f32]) {
        let Compute { pool, kernels } = &*self.model.compute;
        let group = heads_together(self.layer, self.rows.len() * self.layer.n_head, pool.n_threads());
        let len = group * self.layer.head_dim;
        // Later tokens see more: they are shared in small pieces, and first, so that no long one is left at the end.
        let per_task = pool.items_per_long_task(out.len() / len);
        let tasks = out.chunks_mut(per_task * len).enumerate().rev();
        pool.for_each(tasks, |(task, outs)| {
            for (at, out) in (task * per_task..).zip(outs.chunks_exact_mut(len)) {
                let head = at * group;
                attend(kernels, &self.heads(head, group), self.positions(head), out);
            }
        });
    }

    /// The same with several threads at each head's context: `sums` and `softmax` are those of the parts.
    fn share_contexts(&self, sums: &mut [f32], softmax: &mut [GroupSoftmax], out: &mut [f32]) {
        let Compute { pool, kernels } = &*self.model.compute;
        let (n_head, head_dim) = (self.layer.n_head, self.layer.head_dim);
        let group = heads_together(self.layer, n_head, 1);
        let (groups, len) = (n_head / group, group * head_dim);
        let parts_of = |token: usize| parts(self.positions(token * n_head));
        // Groups that read the same keys and values follow each other, so that a cache may still hold them.
        let tasks = (0..self.rows.len()).flat_map(|token| {
            let groups = move |part: Range<usize>| {
                (0..groups).map(move |g| (token * n_head + g * group, part.clone()))
            };
            parts_of(token).flat_map(groups)
        });
        let results = sums.chunks_exact_mut(len).zip(&mut *softmax);
        pool.for_each(tasks.zip(results), |((head, part), (sums, softmax))| {
            *softmax = attend_part(kernels, &self.heads(head, group), part, sums);
        });
        let mut done = 0;
        for (token, out) in out.chunks_exact_mut(groups * len).enumerate() {
            let n = parts_of(token).len() * groups;
            for (g, out) in out.chunks_exact_mut(len).enumerate() {
                let parts = (done + g..done + n).step_by(groups);
                merge_parts(*kernels, head_dim, parts.map(|i| (&softmax[i], &sums[i * len..][..len])), out);
            }
            done += n;
        }
    }
}

/// Merges what is known of the parts of a group of heads, in their order, into `out` `[n_q, head_dim]`.
fn merge_parts<'a>(
    kernels: Kernels,
    head_dim: usize,
    mut parts: impl Iterator<Item = (&'a GroupSoftmax, &'a [f32])>,
    out: &mut [f32],
) {
    let (first, sums) = parts.next().expect("a token sees itself at least");
    let mut all = *first;
    out.copy_from_slice(sums);
    for (later, sums) in parts {
        all.add(kernels, head_dim, out, later, sums);
    }
    all.divide(head_dim, out);
}

/// Query heads of `layer` that one call of [`attend`] takes: [`group_of`] those that share a KV head.
fn heads_together(layer: &LayerHParams, n_heads: usize, n_threads: usize) -> usize {
    group_of(layer.n_head / layer.n_head_kv, layer.head_dim, n_heads, n_threads)
}

/// As many of `n_shared` heads as fit, but few enough that each thread gets a part of the `n_heads` of the batch.
fn group_of(n_shared: usize, head_dim: usize, n_heads: usize, n_threads: usize) -> usize {
    let most = MAX_GROUP.min(MAX_HEAD_DIM / head_dim);
    let fits =
        |group: &usize| n_shared.is_multiple_of(*group) && (*group == 1 || n_heads / group >= n_threads);
    (1..=most).rev().find(fits).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_gets_heads_and_no_group_has_two_kv_heads() {
        assert_eq!(group_of(8, 256, 8, 1), 8);
        assert_eq!(group_of(8, 256, 8, 2), 4);
        assert_eq!(group_of(8, 256, 8, 4), 2);
        assert_eq!(group_of(8, 256, 8, 16), 1);
        assert_eq!(group_of(8, 256, 128 * 8, 4), 8);
        assert_eq!(group_of(6, 256, 600, 4), 6);
        assert_eq!(group_of(16, 256, 1600, 4), 8);
        assert_eq!(group_of(11, 256, 1100, 4), 1);
        assert_eq!(group_of(1, 256, 8, 2), 1);
        assert_eq!(group_of(8, 2048, 8, 1), 2);
        assert_eq!(group_of(8, 4096, 8, 1), 1);
    }
}
