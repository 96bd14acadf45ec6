//! Hyper-parameters: what a forward pass must know of a model besides its weights.
//!
//! Everything is derived from the file and checked here, once; nothing below checks again. Which
//! metadata keys an architecture has stands in the file of that architecture.

use super::error::ModelError;
use super::kv_cache::KvType;
use crate::gguf::{Metadata, Value};
use crate::ops::{MAX_HEAD_DIM, RopeFrequencies};

/// More layers than any model of the family has: bounds what a hostile file can make us plan.
const MAX_LAYERS: usize = 512;

/// Largest width accepted of anything that a buffer of a step is sized by: several times that of any
/// model, and 64 MiB of float32 for each buffer of a step of 128 tokens.
const MAX_WIDTH: usize = 1 << 17;

/// Longest context accepted: keeps sums of bytes far from 64 bits.
const MAX_CONTEXT: usize = 1 << 24;

/// The architectures that the forward pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Gemma 3 text models.
    Gemma3,
    /// Gemma 4 text models, dense, with or without per-layer embeddings.
    Gemma4,
}

impl Architecture {
    /// The name in `general.architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gemma3 => "gemma3",
            Self::Gemma4 => "gemma4",
        }
    }
}

/// Which earlier positions a layer's queries see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// The last `window` positions, the query's own included.
    Sliding,
    /// All positions.
    Full,
}

/// Hyper-parameters of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerHParams {
    /// Sliding or full.
    pub kind: LayerKind,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; divides `n_head`.
    pub n_head_kv: usize,
    /// Elements of one head; even.
    pub head_dim: usize,
    /// Width of the MLP.
    pub n_ff: usize,
    /// The layer whose keys and values this one reads: itself, or an earlier one of the same kind.
    pub kv_layer: usize,
}

impl LayerHParams {
    /// Elements of all query heads.
    pub fn n_embd_q(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// Elements of all key heads, and of all value heads.
    pub fn n_embd_kv(&self) -> usize {
        self.n_head_kv * self.head_dim
    }
}

/// Hyper-parameters of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct HParams {
    /// Which formulas apply.
    pub architecture: Architecture,
    /// Tokens of the vocabulary: rows of the embedding.
    pub n_vocab: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of a layer's per-layer embedding; 0 for models without.
    pub n_embd_per_layer: usize,
    /// The longest context that the model was trained for.
    pub n_ctx_train: usize,
    /// Added to the mean square in every normalisation.
    pub rms_eps: f32,
    /// Positions that a sliding layer sees, the query's own included.
    pub window: usize,
    /// Factor of the attention scores.
    pub attention_scale: f32,
    /// Whether values are normalised without a weight before they are cached (Gemma 4).
    pub normalise_values: bool,
    /// Bound of the logits, if the model has one.
    pub logit_softcap: Option<f32>,
    /// Layers in order.
    pub layers: Vec<LayerHParams>,
    /// Frequencies of sliding layers.
    pub rope_sliding: RopeFrequencies,
    /// Frequencies of full layers.
    pub rope_full: RopeFrequencies,
}

impl HParams {
    /// Number of layers.
    pub fn n_layer(&self) -> usize {
        self.layers.len()
    }

    /// Whether layer `i` computes and caches keys and values of its own.
    pub fn owns_kv(&self, i: usize) -> bool {
        self.layers[i].kv_layer == i
    }

    /// The last layer that writes keys and values.
    ///
    /// A prompt token whose logits nobody wants stops there, after its K and V: tokens influence
    /// each other only through the caches, and no layer above writes one.
    pub fn last_kv_layer(&self) -> usize {
        (0..self.n_layer()).rev().find(|&i| self.owns_kv(i)).expect("layer 0 owns its keys and values")
    }

    /// Whether a layer may lack `attn_v`: its values are then the keys before norm and rotation.
    pub(super) fn may_share_k_and_v(&self, i: usize) -> bool {
        self.architecture == Architecture::Gemma4 && self.layers[i].kind == LayerKind::Full
    }

    /// Whether each layer ends by scaling the residual stream.
    pub(super) fn has_layer_output_scale(&self) -> bool {
        self.architecture == Architecture::Gemma4
    }

    /// Positions before its own that a token sees in sliding layers; 0 for models without any.
    pub fn lookback(&self) -> usize {
        let slides = self.layers.iter().any(|layer| layer.kind == LayerKind::Sliding);
        if slides { self.window - 1 } else { 0 }
    }

    /// Elements of a whole row of the per-layer embedding table.
    pub fn n_embd_per_layer_row(&self) -> usize {
        self.n_layer() * self.n_embd_per_layer
    }

    /// Bytes of keys and values of one token in all full layers, and in all sliding ones. Those keep the
    /// tokens of the window and one chunk.
    pub fn kv_bytes(&self, kind: KvType) -> (usize, usize) {
        let (mut full, mut sliding) = (0, 0);
        for (_, layer) in self.layers.iter().enumerate().filter(|(i, _)| self.owns_kv(*i)) {
            let bytes = 2 * kind.bytes_of(layer.n_embd_kv());
            match layer.kind {
                LayerKind::Full => full += bytes,
                LayerKind::Sliding => sliding += bytes,
            }
        }
        (full, sliding)
    }

    /// Whether keys and values can be kept as `kv_type`.
    ///
    /// # Errors
    /// If the heads are not whole groups of 32, which [`KvType::Q8_0`] needs.
    pub fn check_kv_type(&self, kv_type: KvType) -> Result<(), ModelError> {
        let unfit = |dim: usize| kv_type == KvType::Q8_0 && !dim.is_multiple_of(32);
        match self.layers.iter().map(|layer| layer.head_dim).find(|&dim| unfit(dim)) {
            None => Ok(()),
            Some(dim) => Err(ModelError::Unsupported {
                what: format!("kv_type q8_0 with heads of {dim} elements"),
                hint: "they must be a multiple of 32; leave kv_type at f16",
            }),
        }
    }

    /// Checks the relations that the forward pass relies on. `prefix` is that of the metadata keys.
    pub(super) fn check(&self, prefix: &str) -> Result<(), ModelError> {
        let refuse = |key: &str, value: usize, why: &'static str| {
            Err(ModelError::HParam { key: format!("{prefix}.{key}"), value: value.to_string(), why })
        };
        if self.n_ctx_train == 0 || self.n_ctx_train > MAX_CONTEXT {
            return refuse("context_length", self.n_ctx_train, "must be from 1 to 16777216");
        }
        if self.window == 0 {
            return refuse("attention.sliding_window", self.window, "must be positive");
        }
        if self.n_embd == 0 || self.n_embd > MAX_WIDTH {
            return refuse("embedding_length", self.n_embd, "must be from 1 to 131072");
        }
        if self.n_embd_per_layer.saturating_mul(self.n_layer()) > MAX_WIDTH {
            let why = "gives rows of more than 131072 elements";
            return refuse("embedding_length_per_layer_input", self.n_embd_per_layer, why);
        }
        for layer in &self.layers {
            let widths = [
                ("attention.head_count", layer.n_head),
                ("attention.head_count_kv", layer.n_head_kv),
                ("feed_forward_length", layer.n_ff),
            ];
            for (key, value) in widths {
                if value == 0 || value > MAX_WIDTH {
                    return refuse(key, value, "must be from 1 to 131072");
                }
            }
            if !layer.n_head.is_multiple_of(layer.n_head_kv) {
                return refuse("attention.head_count_kv", layer.n_head_kv, "must divide head_count");
            }
            if layer.n_head * layer.head_dim > MAX_WIDTH {
                return refuse(
                    "attention.head_count",
                    layer.n_head,
                    "gives heads of more than 131072 elements together",
                );
            }
        }
        Ok(())
    }
}

/// Reads `block_count`, bounded.
pub(super) fn read_n_layer(metadata: &Metadata, prefix: &str) -> Result<usize, ModelError> {
    let key = format!("{prefix}.block_count");
    let n_layer = metadata.u32(&key)? as usize;
    if n_layer == 0 || n_layer > MAX_LAYERS {
        return Err(ModelError::HParam { key, value: n_layer.to_string(), why: "must be from 1 to 512" });
    }
    Ok(n_layer)
}

/// Reads the size of a head, of sliding layers where `suffix` is `_swa`. Keys and values must agree, and
/// all of a head must be rotated.
pub(super) fn read_head_dim(metadata: &Metadata, prefix: &str, suffix: &str) -> Result<usize, ModelError> {
    let key = |name: &str| format!("{prefix}.{name}{suffix}");
    let refuse = |name: &str, value: usize, why| {
        Err(ModelError::HParam { key: key(name), value: value.to_string(), why })
    };
    let dim = metadata.u32(&key("attention.key_length"))? as usize;
    if dim == 0 || !dim.is_multiple_of(2) || dim > MAX_HEAD_DIM {
        return refuse("attention.key_length", dim, "must be even, from 2 to 4096");
    }
    for name in ["attention.value_length", "rope.dimension_count"] {
        match metadata.opt_u32(&key(name))? {
            Some(value) if value as usize != dim => {
                return refuse(name, value as usize, "must equal attention.key_length");
            }
            _ => {}
        }
    }
    Ok(dim)
}

/// Reads the window of sliding layers. One beyond the context sees no more than the context.
pub(super) fn read_window(
    metadata: &Metadata,
    prefix: &str,
    n_ctx_train: usize,
) -> Result<usize, ModelError> {
    Ok(n_ctx_train.min(metadata.u32(&format!("{prefix}.attention.sliding_window"))? as usize))
}

/// Reads the bound of the logits; absent for models without one.
pub(super) fn read_logit_softcap(metadata: &Metadata, prefix: &str) -> Result<Option<f32>, ModelError> {
    let key = format!("{prefix}.final_logit_softcapping");
    metadata.get(&key).map(|_| read_positive(metadata, &key, None)).transpose()
}

/// Reads a positive, finite number.
pub(super) fn read_positive(metadata: &Metadata, key: &str, default: Option<f32>) -> Result<f32, ModelError> {
    let value = match (metadata.opt_f32(key)?, default) {
        (Some(value), _) => value,
        (None, Some(value)) => value,
        (None, None) => metadata.f32(key)?,
    };
    if !value.is_finite() || value <= 0.0 {
        return Err(ModelError::HParam {
            key: key.to_owned(),
            value: value.to_string(),
            why: "must be positive and finite",
        });
    }
    Ok(value)
}

/// Reads a number that a file gives once for all layers or as an array with one for each.
pub(super) fn read_per_layer(
    metadata: &Metadata,
    key: &str,
    n_layer: usize,
) -> Result<Vec<usize>, ModelError> {
    // An array or a scalar: the typed getter of the other kind would refuse it as a wrong type.
    if !is_array(metadata, key) {
        return Ok(vec![metadata.u32(key)? as usize; n_layer]);
    }
    let values = metadata.opt_u32_array(key)?.unwrap_or_default();
    check_length(key, values.len(), n_layer)?;
    Ok(values.into_iter().map(|v| v as usize).collect())
}

/// Reads the pattern of sliding layers: an array with one boolean for each layer, or a period `n` in
/// which every `n`-th layer is full; `default_period` when the key is absent.
pub(super) fn read_layer_kinds(
    metadata: &Metadata,
    key: &str,
    n_layer: usize,
    default_period: Option<usize>,
) -> Result<Vec<LayerKind>, ModelError> {
    let kind = |sliding: bool| if sliding { LayerKind::Sliding } else { LayerKind::Full };
    if is_array(metadata, key) {
        let pattern = metadata.opt_bool_array(key)?.unwrap_or(&[]);
        check_length(key, pattern.len(), n_layer)?;
        return Ok(pattern.iter().map(|sliding| kind(*sliding)).collect());
    }
    let period = match (metadata.opt_u32(key)?, default_period) {
        (Some(period), _) => period as usize,
        (None, Some(period)) => period,
        (None, None) => metadata.u32(key)? as usize,
    };
    if period == 0 {
        return Err(ModelError::HParam {
            key: key.to_owned(),
            value: "0".to_owned(),
            why: "a period must be positive",
        });
    }
    Ok((0..n_layer).map(|i| kind(!(i + 1).is_multiple_of(period))).collect())
}

fn check_length(key: &str, found: usize, n_layer: usize) -> Result<(), ModelError> {
    if found == n_layer {
        return Ok(());
    }
    Err(ModelError::HParam {
        key: key.to_owned(),
        value: format!("an array of {found}"),
        why: "must have one element for each layer",
    })
}

fn is_array(metadata: &Metadata, key: &str) -> bool {
    metadata.get(key).is_some_and(Value::is_array)
}
