//! Gemma 4 (E2B, E4B and the dense shapes without per-layer embeddings): metadata to hyper-parameters.
//!
//! The mixture-of-experts shape is refused.

use super::error::ModelError;
use super::hparams::{
    Architecture, HParams, LayerHParams, LayerKind, read_head_dim, read_layer_kinds, read_logit_softcap,
    read_n_layer, read_per_layer, read_positive, read_window,
};
use crate::gguf::{Metadata, quote};
use crate::ops::RopeFrequencies;

const PREFIX: &str = "gemma4";

/// `n_vocab` is the number of rows of the embedding, `rope_divisors` the tensor `rope_freqs`.
pub(super) fn read(
    metadata: &Metadata,
    n_vocab: usize,
    rope_divisors: &[f32],
) -> Result<HParams, ModelError> {
    let key = |name: &str| format!("{PREFIX}.{name}");
    if metadata.opt_u32(&key("expert_count"))?.unwrap_or(0) > 0 {
        return Err(ModelError::Unsupported {
            what: "a gemma4 model with a mixture of experts (gemma4.expert_count)".to_owned(),
            hint: "use a dense model such as Gemma 4 E2B or E4B",
        });
    }
    if let Some(scaling) = metadata.opt_str(&key("rope.scaling.type"))?.filter(|kind| *kind != "none") {
        return Err(ModelError::HParam {
            key: key("rope.scaling.type"),
            value: quote(scaling.as_bytes()),
            why: "positions of gemma4 models are not scaled",
        });
    }
    let n_layer = read_n_layer(metadata, PREFIX)?;
    let n_head = read_per_layer(metadata, &key("attention.head_count"), n_layer)?;
    let n_head_kv = read_per_layer(metadata, &key("attention.head_count_kv"), n_layer)?;
    let n_ff = read_per_layer(metadata, &key("feed_forward_length"), n_layer)?;
    let kinds = read_layer_kinds(metadata, &key("attention.sliding_window_pattern"), n_layer, None)?;
    let n_ctx_train = metadata.u32(&key("context_length"))? as usize;
    let head_dim_full = read_head_dim(metadata, PREFIX, "")?;
    let head_dim_sliding = read_head_dim(metadata, PREFIX, "_swa")?;
    let n_shared = metadata.opt_u32(&key("attention.shared_kv_layers"))?.unwrap_or(0) as usize;
    let kv_layers = kv_layers(&kinds, n_shared)?;

    let layers = (0..n_layer)
        .map(|i| LayerHParams {
            kind: kinds[i],
            n_head: n_head[i],
            n_head_kv: n_head_kv[i],
            head_dim: match kinds[i] {
                LayerKind::Full => head_dim_full,
                LayerKind::Sliding => head_dim_sliding,
            },
            n_ff: n_ff[i],
            kv_layer: kv_layers[i],
        })
        .collect::<Vec<_>>();
    for (i, layer) in layers.iter().enumerate() {
        if layers[layer.kv_layer].n_head_kv != layer.n_head_kv {
            return Err(ModelError::HParam {
                key: key("attention.head_count_kv"),
                value: format!("{} in layer {i}", layer.n_head_kv),
                why: "must equal that of the layer whose keys and values it shares",
            });
        }
    }
    let base_full = read_positive(metadata, &key("rope.freq_base"), None)?;
    let base_sliding = read_positive(metadata, &key("rope.freq_base_swa"), Some(10_000.0))?;
    if rope_divisors.len() != head_dim_full / 2 {
        return Err(ModelError::TensorShape {
            name: "rope_freqs.weight".to_owned(),
            found: vec![rope_divisors.len() as u64],
            expected: vec![head_dim_full as u64 / 2],
        });
    }
    let hparams = HParams {
        architecture: Architecture::Gemma4,
        n_vocab,
        n_embd: metadata.u32(&key("embedding_length"))? as usize,
        n_embd_per_layer: metadata.opt_u32(&key("embedding_length_per_layer_input"))?.unwrap_or(0) as usize,
        n_ctx_train,
        rms_eps: read_positive(metadata, &key("attention.layer_norm_rms_epsilon"), None)?,
        window: read_window(metadata, PREFIX, n_ctx_train)?,
        // q_norm carries the scale.
        attention_scale: 1.0,
        normalise_values: true,
        logit_softcap: read_logit_softcap(metadata, PREFIX)?,
        layers,
        rope_sliding: RopeFrequencies::new(head_dim_sliding, base_sliding, 1.0, None),
        rope_full: RopeFrequencies::new(head_dim_full, base_full, 1.0, Some(rope_divisors)),
    };
    hparams.check(PREFIX)?;
    Ok(hparams)
}

/// For each layer the one whose keys and values it reads.
///
/// The last `n_shared` layers own none and read those of the last layer of their kind before them
/// that does.
fn kv_layers(kinds: &[LayerKind], n_shared: usize) -> Result<Vec<usize>, ModelError> {
    let refuse = |why| {
        Err(ModelError::HParam {
            key: format!("{PREFIX}.attention.shared_kv_layers"),
            value: n_shared.to_string(),
            why,
        })
    };
    let Some(first_shared) = kinds.len().checked_sub(n_shared).filter(|&n| n > 0) else {
        return refuse("must be smaller than the number of layers");
    };
    let mut result: Vec<usize> = (0..first_shared).collect();
    for kind in &kinds[first_shared..] {
        let Some(producer) = (0..first_shared).rev().find(|&i| kinds[i] == *kind) else {
            return refuse("leaves no layer of one kind that owns keys and values");
        };
        result.push(producer);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use LayerKind::{Full, Sliding};

    #[test]
    fn shared_layers_read_the_last_producer_of_their_kind() {
        let kinds = [Sliding, Sliding, Full, Sliding, Sliding, Full];
        assert_eq!(kv_layers(&kinds, 2).unwrap(), [0, 1, 2, 3, 3, 2]);
        assert_eq!(kv_layers(&kinds, 0).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert!(kv_layers(&kinds, 6).is_err());
        assert!(kv_layers(&kinds, 7).is_err());
        assert!(kv_layers(&[Sliding, Full], 1).is_err());
    }
}
