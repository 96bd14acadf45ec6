//! Per-layer embeddings (PLE): a second embedding of each token, one slice for each layer.
//!
//! `input = (row * sqrt(P) + norm(W h0 / sqrt(n_embd))) / sqrt(2)`, where `row` is the token's row of
//! the table and `h0` its scaled word embedding. The product with `W` needs no row, so it runs
//! before layer 0; the rows are asked for at the end of layer 0, where the first slice is used.
//! Tokens whose logits nobody wants get slices of the layers below `c` only (see [`Scratch`]).

use super::Model;
use super::error::RowError;
use super::forward::RowSource;
use super::probe::{Step, Work};
use super::residual::{Reader, add_and_read, after_layer, read};
use super::scratch::Scratch;
use crate::ops::{ReadBy, gelu_mul, matmul, rms_norm_in_place, scale, scale_all};
use std::f32::consts::FRAC_1_SQRT_2;

/// The projection of the word embeddings `s.h`, before the rows are there.
pub(super) fn project_embeddings(model: &Model, s: &mut Scratch) {
    let Some(weights) = &model.weights.per_layer else { return };
    let hp = &model.hparams;
    let n_embd = hp.n_embd;
    let n_all = hp.n_embd_per_layer_row();
    let n_low = hp.last_kv_layer() * hp.n_embd_per_layer;
    let factor = 1.0 / (n_embd as f32).sqrt();

    let n_tokens = s.rows.len();
    let n_high = s.wanted.len() * (n_all - n_low);
    s.begin_work(|rows| Work {
        multiply_adds: (n_embd * (rows.len() * n_low + n_high)) as u64,
        ..Work::of(Step::PerLayerProjection, [&weights.model_proj], rows.len())
    });
    read(model, Reader::Product(&weights.model_proj), s);
    let low = &mut s.inputs_low[..n_tokens * n_low];
    matmul(&model.compute, &weights.model_proj, 0..n_low, &mut s.x, low);
    scale_all(&model.compute.pool, low, factor);

    if s.wanted.len() < n_tokens {
        let x = s.x.reset(s.wanted.len(), n_embd);
        for (x, &token) in x.chunks_exact_mut(n_embd).zip(&s.wanted) {
            x.copy_from_slice(&s.h[token * n_embd..(token + 1) * n_embd]);
        }
    }
    let high = &mut s.inputs_high[..n_high];
    matmul(&model.compute, &weights.model_proj, n_low..n_all, &mut s.x, high);
    scale(high, factor);
}

/// Waits for the rows and completes the inputs of all layers.
pub(super) fn add_rows(model: &Model, source: &mut dyn RowSource, s: &mut Scratch) -> Result<(), RowError> {
    let (Some(weights), Some(table)) = (&model.weights.per_layer, &model.row_table) else { return Ok(()) };
    s.begin(Step::Rows);
    let hp = &model.hparams;
    let n_slice = hp.n_embd_per_layer;
    let n_all = hp.n_embd_per_layer_row();
    let n_low = hp.last_kv_layer() * n_slice;
    let complete = |inputs: &mut [f32], row: &[f32]| {
        for (input, row) in inputs.chunks_exact_mut(n_slice).zip(row.chunks_exact(n_slice)) {
            rms_norm_in_place(model.compute.kernels, input, &weights.proj_norm, hp.rms_eps);
            for (b, a) in input.iter_mut().zip(row) {
                *b = (a * (n_slice as f32).sqrt() + *b) * FRAC_1_SQRT_2;
            }
        }
    };

    source.fetch()?;
    let mut wanted = s.wanted.iter().enumerate().peekable();
    for token in 0..s.n_batch {
        let row = source.row(token);
        let place = wanted.next_if(|(_, t)| **t == token).map(|(w, _)| w);
        let n_bytes = if place.is_some() { table.row_bytes } else { table.prefix_bytes };
        let n_values = n_bytes / table.format.block_bytes() * table.format.block_len();
        let values = &mut s.table_row[..n_values];
        table.format.dequantize(&row[..n_bytes], values);
        complete(&mut s.inputs_low[token * n_low..(token + 1) * n_low], values);
        if let Some(w) = place {
            let n_high = n_all - n_low;
            complete(&mut s.inputs_high[w * n_high..(w + 1) * n_high], &values[n_low..]);
        }
    }
    Ok(())
}

/// `h += norm(proj(gelu(gate h) * input))`: adds layer `i`'s slice to the residual stream, the last of what the layer does.
///
/// `s.x` holds the residual stream as it is, and the input of the next layer afterwards.
pub(super) fn add_input(model: &Model, i: usize, s: &mut Scratch) {
    let hp = &model.hparams;
    let Some(weights) = &model.weights.layers[i].per_layer else { return };
    let (n_embd, n_slice) = (hp.n_embd, hp.n_embd_per_layer);
    let n_tokens = s.rows.len();
    s.begin_products(Step::LayerInput, [&weights.inp_gate, &weights.proj]);
    let gate = &mut s.gate[..n_tokens * n_slice];
    matmul(&model.compute, &weights.inp_gate, 0..n_slice, &mut s.x, gate);

    let c = hp.last_kv_layer();
    let (inputs, n_layers, slice) =
        if i < c { (&s.inputs_low, c, i) } else { (&s.inputs_high, hp.n_layer() - c, i - c) };
    let (gate, kernels) = (&s.gate[..n_tokens * n_slice], model.compute.kernels);
    s.x.fill(&model.compute, [n_tokens, n_slice], ReadBy::matrices([&weights.proj]), |token, x| {
        let input = &inputs[(token * n_layers + slice) * n_slice..][..n_slice];
        gelu_mul(kernels, &gate[token * n_slice..][..n_slice], input, x);
    });
    let y = &mut s.y[..n_tokens * n_embd];
    matmul(&model.compute, &weights.proj, 0..n_embd, &mut s.x, y);
    let (factor, reader) = after_layer(model, i);
    add_and_read(model, &weights.post_norm, factor, reader, s);
}
