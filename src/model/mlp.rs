//! The gated MLP of a layer.

use super::Model;
use super::probe::Step;
use super::scratch::Scratch;
use crate::ops::{add_rms_norm_rows, gated_matmul, matmul, rms_norm_rows};

/// `h += norm(down(gelu(gate x) * (up x)))` with `x = norm(h)`.
pub(super) fn add_mlp(model: &Model, i: usize, s: &mut Scratch) {
    let hp = &model.hparams;
    let weights = &model.weights.layers[i];
    let n_embd = hp.n_embd;
    let n_tokens = s.rows.len();
    s.begin(Step::Small);
    let h = &s.h[..n_tokens * n_embd];
    rms_norm_rows(&model.compute, h, &weights.ffn_norm, hp.rms_eps, weights.ffn_gate.format(), &mut s.x);
    s.begin_products(Step::GateUp, [&weights.ffn_gate, &weights.ffn_up]);
    let gate_up = [&weights.ffn_gate, &weights.ffn_up];
    gated_matmul(&model.compute, gate_up, &mut s.x, weights.ffn_down.format(), &mut s.hidden);
    s.begin_products(Step::Down, [&weights.ffn_down]);
    let y = &mut s.y[..n_tokens * n_embd];
    matmul(&model.compute, &weights.ffn_down, 0..n_embd, &mut s.hidden, y);
    s.begin(Step::Small);
    let y = &s.y[..n_tokens * n_embd];
    let h = &mut s.h[..n_tokens * n_embd];
    add_rms_norm_rows(&model.compute, h, y, &weights.post_ffw_norm, hp.rms_eps);
}
