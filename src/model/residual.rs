//! The residual stream between blocks: the sum of a block's output and, row by row while it is in the cache, what the next block reads.

use super::Model;
use super::probe::Step;
use super::scratch::Scratch;
use crate::ops::{Matrix, NextInput, ReadBy, add_rms_norm_rows, copy_rows, rms_norm_rows};

/// Who reads the residual stream next, and of which layer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reader<'a> {
    /// A product that reads it as it is: what per-layer inputs begin with, and their gates.
    Product(&'a Matrix),
    /// The attention block.
    Attention(usize),
    /// The MLP.
    Mlp(usize),
    /// Nobody in the layers.
    Nobody,
}

/// `s.x`: what `reader` reads of the residual stream `s.h`.
pub(super) fn read(model: &Model, reader: Reader<'_>, s: &mut Scratch) {
    let h = &s.h[..s.rows.len() * model.hparams.n_embd];
    match input_of(model, reader) {
        Some((Some(norm), read_by)) => {
            rms_norm_rows(&model.compute, h, norm, model.hparams.rms_eps, read_by, &mut s.x);
        }
        Some((None, read_by)) => copy_rows(&model.compute, h, model.hparams.n_embd, read_by, &mut s.x),
        None => {}
    }
}

/// `h = (h + norm(y)) * factor`, and `s.x`: what `reader` reads of that.
pub(super) fn add_and_read(model: &Model, norm: &[f32], factor: f32, reader: Reader<'_>, s: &mut Scratch) {
    s.begin(Step::Small);
    let n = s.rows.len() * model.hparams.n_embd;
    let next = input_of(model, reader).map(|(norm, read_by)| NextInput { norm, read_by, to: &mut s.x });
    let (h, y) = (&mut s.h[..n], &s.y[..n]);
    add_rms_norm_rows(&model.compute, h, y, norm, model.hparams.rms_eps, factor, next);
}

/// What the sum at the end of layer `i` is multiplied with, and who reads it.
pub(super) fn after_layer(model: &Model, i: usize) -> (f32, Reader<'static>) {
    let factor = model.weights.layers[i].layer_output_scale.as_ref().map_or(1.0, |factor| factor[0]);
    let is_last = i + 1 == model.hparams.n_layer();
    (factor, if is_last { Reader::Nobody } else { Reader::Attention(i + 1) })
}

/// The norm that `reader` sees the stream through, if any, and what it multiplies that with.
fn input_of<'m>(model: &'m Model, reader: Reader<'_>) -> Option<(Option<&'m [f32]>, ReadBy)> {
    let layers = &model.weights.layers;
    match reader {
        Reader::Product(matrix) => Some((None, ReadBy::matrices([matrix]))),
        Reader::Attention(i) => {
            let weights = &layers[i];
            let kv = weights.kv.iter().flat_map(|kv| [Some(&kv.k), kv.v.as_ref()]).flatten();
            Some((Some(&weights.attn_norm), ReadBy::matrices(kv.chain([&weights.attn_q]))))
        }
        Reader::Mlp(i) => {
            let weights = &layers[i];
            Some((Some(&weights.ffn_norm), ReadBy::matrices([&weights.ffn_gate, &weights.ffn_up])))
        }
        Reader::Nobody => None,
    }
}
