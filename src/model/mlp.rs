//! The gated MLP of a layer.

use super::Model;
use super::probe::Step;
use super::residual::{Reader, add_and_read, after_layer};
use super::scratch::Scratch;
use crate::ops::{gated_matmul, matmul};

/// `h += norm(down(gelu(gate x) * (up x)))`.
///
/// `s.x` holds the normalised input, and that of what comes behind layer `i`'s MLP afterwards.
pub(super) fn add_mlp(model: &Model, i: usize, s: &mut Scratch) {
    let weights = &model.weights.layers[i];
    let n_embd = model.hparams.n_embd;
    let n_tokens = s.rows.len();
    s.begin_products(Step::GateUp, [&weights.ffn_gate, &weights.ffn_up]);
    let gate_up = [&weights.ffn_gate, &weights.ffn_up];
    gated_matmul(&model.compute, gate_up, &mut s.x, weights.ffn_down.format(), &mut s.hidden);
    s.begin_products(Step::Down, [&weights.ffn_down]);
    let y = &mut s.y[..n_tokens * n_embd];
    matmul(&model.compute, &weights.ffn_down, 0..n_embd, &mut s.hidden, y);
    let (factor, reader) = match &weights.per_layer {
        Some(per_layer) => (1.0, Reader::Product(&per_layer.inp_gate)),
        None => after_layer(model, i),
    };
    add_and_read(model, &weights.post_ffw_norm, factor, reader, s);
}
