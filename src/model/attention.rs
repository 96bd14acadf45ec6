//! The attention block of a layer: from the residual stream, through the cache, back to it.

use super::Model;
use super::forward::Span;
use super::hparams::LayerKind;
use super::probe::{Step, Work};
use super::scratch::{Row, Scratch};
use crate::ops::{
    MAX_GROUP, add_rms_norm_rows, attend, matmul, rms_norm_in_place, rms_norm_rows, rms_norm_unweighted,
    rotate,
};

/// `x = norm(h)`: the input of the query, key and value projections.
pub(super) fn normalise_input(model: &Model, i: usize, s: &mut Scratch) {
    s.begin(Step::Small);
    let n_embd = model.hparams.n_embd;
    let n_tokens = s.rows.len();
    let x = s.x.reset(n_tokens, n_embd);
    let weight = &model.weights.layers[i].attn_norm;
    rms_norm_rows(&model.compute.pool, &s.h[..n_tokens * n_embd], weight, model.hparams.rms_eps, x);
}

/// Computes keys and values of every token and appends them to the caches, if layer `i` owns any.
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
    let (k, v) = (&mut s.k[..n], &mut s.v[..n]);
    let angles = match layer.kind {
        LayerKind::Sliding => &s.rope_sliding,
        LayerKind::Full => &s.rope_full,
    };
    let tokens = s.rows.iter().zip(k.chunks_exact_mut(n_kv).zip(v.chunks_exact_mut(n_kv)));
    for (row, (k, v)) in tokens {
        let (cos, sin) = angles.of(row.index);
        let heads = k.chunks_exact_mut(head_dim).zip(v.chunks_exact_mut(head_dim));
        for (head, (k, v)) in heads.enumerate() {
            rms_norm_in_place(k, &kv.k_norm, hp.rms_eps);
            rotate(k, cos, sin);
            if hp.normalise_values {
                rms_norm_unweighted(v, hp.rms_eps);
            }
            spans[row.span].kv.write(&model.compute.kernels, (i, head), row.position, k, v);
        }
    }
}

/// Queries, attention over the cache that layer `i` reads, output projection, residual sum.
///
/// `s.x` holds the normalised input.
pub(super) fn attend_and_add(model: &Model, i: usize, spans: &[Span<'_>], s: &mut Scratch) {
    let hp = &model.hparams;
    let layer = &hp.layers[i];
    let weights = &model.weights.layers[i];
    let (n_q, head_dim, n_head) = (layer.n_embd_q(), layer.head_dim, layer.n_head);
    let n_tokens = s.rows.len();
    s.begin_products(Step::Queries, [&weights.attn_q]);
    let q = &mut s.q[..n_tokens * n_q];
    matmul(&model.compute, &weights.attn_q, 0..n_q, &mut s.x, q);
    s.begin(Step::Small);
    let q = &mut s.q[..n_tokens * n_q];
    let angles = match layer.kind {
        LayerKind::Sliding => &s.rope_sliding,
        LayerKind::Full => &s.rope_full,
    };
    let rows = &s.rows;
    model.compute.pool.for_each_rows_mut(q, n_q, |first, q| {
        for (row, q) in rows[first..].iter().zip(q.chunks_exact_mut(n_q)) {
            let (cos, sin) = angles.of(row.index);
            for head in q.chunks_exact_mut(head_dim) {
                rms_norm_in_place(head, &weights.attn_q_norm, hp.rms_eps);
                rotate(head, cos, sin);
            }
        }
    });

    let positions = |row: &Row| {
        let end = row.position + 1;
        match layer.kind {
            LayerKind::Full => 0..end,
            LayerKind::Sliding => end.saturating_sub(hp.window)..end,
        }
    };
    s.begin_work(|rows| Work {
        step: Step::Attention,
        n_tokens: rows.len(),
        // A key and a value of each position, for each element of the query.
        multiply_adds: rows.iter().map(|row| 2 * (positions(row).len() * n_q) as u64).sum(),
        weight_bytes: 0,
    });
    let (q, rows) = (&s.q[..n_tokens * n_q], &s.rows);
    let out = s.x.reset(n_tokens, n_q);
    let group = heads_together(n_head / layer.n_head_kv, n_tokens * n_head, model.compute.pool.n_threads());
    model.compute.pool.for_each_rows_mut(out, group * head_dim, |first, heads| {
        for (at, out) in (first..).zip(heads.chunks_exact_mut(group * head_dim)) {
            let (row, head) = (rows[at * group / n_head], at * group % n_head);
            let cache = &*spans[row.span].kv;
            let kv_head = head / (n_head / layer.n_head_kv);
            attend(
                &model.compute.kernels,
                &q[at * group * head_dim..][..group * head_dim],
                cache.keys(layer.kv_layer, kv_head),
                cache.values(layer.kv_layer, kv_head),
                positions(&row),
                hp.attention_scale,
                out,
            );
        }
    });

    let n_embd = hp.n_embd;
    s.begin_products(Step::AttentionOutput, [&weights.attn_output]);
    let y = &mut s.y[..n_tokens * n_embd];
    matmul(&model.compute, &weights.attn_output, 0..n_embd, &mut s.x, y);
    s.begin(Step::Small);
    let y = &s.y[..n_tokens * n_embd];
    let h = &mut s.h[..n_tokens * n_embd];
    add_rms_norm_rows(&model.compute.pool, h, y, &weights.post_attention_norm, hp.rms_eps);
}

/// Query heads that one call of [`attend`] takes: as many of the `n_shared` that share a KV head as fit, but few
/// enough that each thread gets a part of the `n_heads` of the batch.
fn heads_together(n_shared: usize, n_heads: usize, n_threads: usize) -> usize {
    let fits =
        |group: &usize| n_shared.is_multiple_of(*group) && (*group == 1 || n_heads / group >= n_threads);
    (1..=MAX_GROUP).rev().find(fits).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_gets_heads_and_no_group_has_two_kv_heads() {
        assert_eq!(heads_together(8, 8, 1), 4);
        assert_eq!(heads_together(8, 8, 2), 4);
        assert_eq!(heads_together(8, 8, 4), 2);
        assert_eq!(heads_together(8, 8, 16), 1);
        assert_eq!(heads_together(8, 128 * 8, 4), 4);
        assert_eq!(heads_together(6, 600, 4), 3);
        assert_eq!(heads_together(5, 500, 4), 1);
        assert_eq!(heads_together(1, 8, 2), 1);
    }
}
