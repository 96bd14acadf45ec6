//! Gemma 3 text models: metadata to hyper-parameters.

use super::error::ModelError;
use super::hparams::{
    Architecture, HParams, LayerHParams, read_head_dim, read_layer_kinds, read_logit_softcap, read_n_layer,
    read_per_layer, read_positive, read_window,
};
use crate::gguf::{Metadata, quote};
use crate::ops::RopeFrequencies;

const PREFIX: &str = "gemma3";

/// Files without a pattern key have five sliding layers to each full one.
const DEFAULT_PERIOD: usize = 6;

/// The 27B model alone scales its scores by the width of a query head before projection.
const N_LAYER_27B: usize = 62;

/// `n_vocab` is the number of rows of the embedding.
pub(super) fn read(metadata: &Metadata, n_vocab: usize) -> Result<HParams, ModelError> {
    let key = |name: &str| format!("{PREFIX}.{name}");
    let n_layer = read_n_layer(metadata, PREFIX)?;
    let n_head = read_per_layer(metadata, &key("attention.head_count"), n_layer)?;
    let n_head_kv = read_per_layer(metadata, &key("attention.head_count_kv"), n_layer)?;
    let n_ff = read_per_layer(metadata, &key("feed_forward_length"), n_layer)?;
    let kinds =
        read_layer_kinds(metadata, &key("attention.sliding_window_pattern"), n_layer, Some(DEFAULT_PERIOD))?;
    let n_embd = metadata.u32(&key("embedding_length"))? as usize;
    let n_ctx_train = metadata.u32(&key("context_length"))? as usize;
    let head_dim = read_head_dim(metadata, PREFIX, "")?;
    let layers = (0..n_layer)
        .map(|i| LayerHParams {
            kind: kinds[i],
            n_head: n_head[i],
            n_head_kv: n_head_kv[i],
            head_dim,
            n_ff: n_ff[i],
            kv_layer: i,
        })
        .collect::<Vec<_>>();
    let scaled_width =
        if n_layer == N_LAYER_27B { n_embd as f32 / n_head[0].max(1) as f32 } else { head_dim as f32 };
    let base_full = read_positive(metadata, &key("rope.freq_base"), Some(1_000_000.0))?;
    let base_sliding = read_positive(metadata, &key("rope.freq_base_swa"), Some(10_000.0))?;
    let hparams = HParams {
        architecture: Architecture::Gemma3,
        n_vocab,
        n_embd,
        n_embd_per_layer: 0,
        n_ctx_train,
        rms_eps: read_positive(metadata, &key("attention.layer_norm_rms_epsilon"), None)?,
        window: read_window(metadata, PREFIX, n_ctx_train)?,
        attention_scale: 1.0 / scaled_width.sqrt(),
        normalise_values: false,
        logit_softcap: read_logit_softcap(metadata, PREFIX)?,
        layers,
        rope_sliding: RopeFrequencies::new(head_dim, base_sliding, 1.0, None),
        rope_full: RopeFrequencies::new(head_dim, base_full, position_scale(metadata)?, None),
    };
    hparams.check(PREFIX)?;
    Ok(hparams)
}

/// Linear scaling of positions in full layers (4B and larger); 1 for none.
fn position_scale(metadata: &Metadata) -> Result<f32, ModelError> {
    let (key, factor) = (format!("{PREFIX}.rope.scaling.type"), format!("{PREFIX}.rope.scaling.factor"));
    match metadata.opt_str(&key)? {
        Some("none") => Ok(1.0),
        None => read_positive(metadata, &factor, Some(1.0)),
        Some("linear") => read_positive(metadata, &factor, None),
        Some(other) => {
            let value = quote(other.as_bytes());
            Err(ModelError::HParam { key, value, why: "must be \"none\" or \"linear\"" })
        }
    }
}
