//! The gated MLP of a layer.

use super::Model;
use super::probe::Step;
use super::scratch::Scratch;
use crate::ops::{add_rms_norm_rows, gelu_mul, matmul, rms_norm_rows};

/// Elements of the gate that are computed, and quantised, at a time.
const GATE_PIECE: usize = 1024;

/// `h += norm(down(gelu(gate x) * (up x)))` with `x = norm(h)`.
pub(super) fn add_mlp(model: &Model, i: usize, s: &mut Scratch) {
    let hp = &model.hparams;
    let weights = &model.weights.layers[i];
    let (n_embd, n_ff) = (hp.n_embd, hp.layers[i].n_ff);
    let n_tokens = s.rows.len();
    s.begin(Step::Small);
    let h = &s.h[..n_tokens * n_embd];
    rms_norm_rows(&model.compute, h, &weights.ffn_norm, hp.rms_eps, weights.ffn_gate.format(), &mut s.x);
    s.begin_products(Step::GateUp, [&weights.ffn_gate, &weights.ffn_up]);
    let gate = &mut s.gate[..n_tokens * n_ff];
    let up = &mut s.up[..n_tokens * n_ff];
    matmul(&model.compute, &weights.ffn_gate, 0..n_ff, &mut s.x, gate);
    matmul(&model.compute, &weights.ffn_up, 0..n_ff, &mut s.x, up);
    s.begin(Step::Gelu);
    let (gate, up) = (&s.gate[..n_tokens * n_ff], &s.up[..n_tokens * n_ff]);
    s.x.fill(&model.compute, [n_tokens, n_ff], GATE_PIECE, weights.ffn_down.format(), |start, x| {
        let place = start..start + x.len();
        gelu_mul(model.compute.kernels, &gate[place.clone()], &up[place], x);
    });
    s.begin_products(Step::Down, [&weights.ffn_down]);
    let y = &mut s.y[..n_tokens * n_embd];
    matmul(&model.compute, &weights.ffn_down, 0..n_embd, &mut s.x, y);
    s.begin(Step::Small);
    let y = &s.y[..n_tokens * n_embd];
    let h = &mut s.h[..n_tokens * n_embd];
    add_rms_norm_rows(&model.compute.pool, h, y, &weights.post_ffw_norm, hp.rms_eps);
}
