//! What of a model will lie in memory and what stays on storage, before anything large is read.

use crate::engine::EngineOptions;
use crate::gguf::TensorInfo;
use crate::model::{HParams, KvType, ModelFile};
use crate::quant::BlockFormat;

/// Where a tensor lies while the model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In memory, all of it.
    Memory,
    /// In the file: rows are read when they are needed.
    Storage,
    /// In the file and never read: the forward pass has no use for it.
    Unread,
}

/// Bytes by place, and what a sequence adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights in memory, bytes.
    pub resident_bytes: u64,
    /// The per-layer embedding table, bytes; 0 for models without one.
    pub storage_bytes: u64,
    /// Tensors that are never read, bytes.
    pub unread_bytes: u64,
    /// What a decoded token reads, bytes: every matrix once, and its row of the table.
    pub token_bytes: u64,
    /// Type of cached keys and values.
    pub kv_type: KvType,
    /// Keys and values that a sequence holds however long it gets: those of sliding layers, bytes.
    pub kv_fixed_bytes: u64,
    /// Keys and values that each token adds, bytes.
    pub kv_token_bytes: u64,
    /// Tokens that a sliding layer holds: the window and one chunk.
    pub ring_tokens: u64,
    /// What the first grammar or tool adds: the vocabulary as a trie, bytes.
    pub grammar_bytes: u64,
}

/// The trie of a vocabulary, for each token of it: 61 MB with that of Gemma 4, where a daemon grew by 66 MB in all at its
/// first JSON answer. Unit: bytes.
const TRIE_TOKEN_BYTES: u64 = 240;

impl MemoryPlan {
    /// The plan for `file`, whose hyper-parameters are `hparams`.
    pub fn new(file: &ModelFile, hparams: &HParams) -> MemoryPlan {
        let placed: Vec<(Place, &TensorInfo)> =
            file.gguf.tensors().iter().map(|tensor| (place_of(hparams, &tensor.name), tensor)).collect();
        let bytes_in = |wanted| {
            let there = placed.iter().filter(|(place, _)| *place == wanted);
            there.filter_map(|(_, tensor)| tensor.n_bytes).sum()
        };
        let matrices =
            || placed.iter().filter(|(place, tensor)| *place == Place::Memory && tensor.dims().len() == 2);
        // Beside a head of its own the embedding is looked up and not multiplied by.
        let is_looked_up =
            |name: &str| name == "token_embd.weight" && file.gguf.tensor("output.weight").is_some();
        let multiplied = matrices().filter(|(_, tensor)| !is_looked_up(&tensor.name));
        let row_bytes = placed.iter().find(|(place, _)| *place == Place::Storage).map_or(0, |(_, table)| {
            let n_rows = table.dims().get(1).copied().unwrap_or(1);
            table.n_bytes.unwrap_or(0) / n_rows.max(1)
        });
        let token_bytes = multiplied.filter_map(|(_, tensor)| tensor.n_bytes).sum::<u64>() + row_bytes;
        let kv_type = match matrices().all(|(_, tensor)| tensor.format() == Some(BlockFormat::F32)) {
            true => KvType::F32,
            false => KvType::F16,
        };
        let ring_tokens = (hparams.window + EngineOptions::default().prefill_chunk) as u64;
        let plan = MemoryPlan {
            resident_bytes: bytes_in(Place::Memory),
            storage_bytes: bytes_in(Place::Storage),
            unread_bytes: bytes_in(Place::Unread),
            token_bytes,
            kv_type,
            kv_fixed_bytes: 0,
            kv_token_bytes: 0,
            ring_tokens,
            grammar_bytes: hparams.n_vocab as u64 * TRIE_TOKEN_BYTES,
        };
        plan.with_kv_type(hparams, kv_type)
    }

    /// The same with keys and values kept as `kv_type`.
    pub fn with_kv_type(mut self, hparams: &HParams, kv_type: KvType) -> MemoryPlan {
        let (full, sliding) = hparams.kv_bytes(kv_type);
        self.kv_type = kv_type;
        self.kv_fixed_bytes = sliding as u64 * self.ring_tokens;
        self.kv_token_bytes = full as u64;
        self
    }

    /// Keys and values of a sequence of `n_ctx` tokens, bytes.
    pub fn kv_bytes(&self, n_ctx: usize) -> u64 {
        let n_ctx = n_ctx as u64;
        self.kv_fixed_bytes / self.ring_tokens * n_ctx.min(self.ring_tokens) + self.kv_token_bytes * n_ctx
    }

    /// What the process plans to hold, bytes: weights, `n_contexts` contexts of `n_ctx` tokens, those kept for
    /// later requests included, `row_bytes` for rows of the table, and what grammars need. Buffers of a step and the
    /// vocabulary's texts come on top.
    pub fn needed_bytes(&self, n_ctx: usize, n_contexts: usize, row_bytes: u64) -> u64 {
        self.resident_bytes + self.kv_bytes(n_ctx) * n_contexts as u64 + row_bytes + self.grammar_bytes
    }
}

/// Tensors outside of the layers that are held in memory.
const MODEL_PARTS: [&str; 6] =
    ["token_embd", "output", "output_norm", "per_layer_model_proj", "per_layer_proj_norm", "rope_freqs"];
/// Tensors of every layer that are held in memory.
const LAYER_PARTS: [&str; 14] = [
    "attn_norm",
    "attn_q",
    "attn_q_norm",
    "attn_output",
    "post_attention_norm",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "post_ffw_norm",
    "inp_gate",
    "proj",
    "post_norm",
    "layer_output_scale",
];
/// Tensors of the layers that own keys and values; others may have them and nobody reads them.
const KV_PARTS: [&str; 3] = ["attn_k", "attn_v", "attn_k_norm"];

/// Where the tensor `name` of such a model lies.
pub fn place_of(hparams: &HParams, name: &str) -> Place {
    let Some(stem) = name.strip_suffix(".weight") else { return Place::Unread };
    if stem == "per_layer_token_embd" && hparams.n_embd_per_layer > 0 {
        return Place::Storage;
    }
    if MODEL_PARTS.contains(&stem) {
        return Place::Memory;
    }
    let layer_part = stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let Some((Ok(layer), part)) = layer_part.map(|(layer, part)| (layer.parse::<usize>(), part)) else {
        return Place::Unread;
    };
    let is_used = layer < hparams.n_layer()
        && (LAYER_PARTS.contains(&part) || KV_PARTS.contains(&part) && hparams.owns_kv(layer));
    if is_used { Place::Memory } else { Place::Unread }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::model::{Model, read_hparams};
    use crate::ops::{Compute, Kernels, Pool};

    /// The plan names tensors a second time, so it is held against what loading really takes.
    #[test]
    fn the_plan_is_what_loading_takes() {
        for folder in ["gemma4-ple", "gemma4-keqv", "gemma3"] {
            for name in ["model-f32.gguf", "model-q4_0.gguf"] {
                let path =
                    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder).join(name);
                let file = ModelFile::open(&path).unwrap();
                let hparams = read_hparams(&file).unwrap();
                let plan = MemoryPlan::new(&file, &hparams);

                let compute = Compute { pool: Pool::new(1).unwrap(), kernels: Kernels::scalar() };
                let model = Model::load(&file, Arc::new(compute)).unwrap();
                let matrix_bytes: u64 = file
                    .gguf
                    .tensors()
                    .iter()
                    .filter(|t| place_of(&hparams, &t.name) == Place::Memory && t.dims().len() == 2)
                    .map(|t| t.n_bytes.unwrap())
                    .sum();
                assert_eq!(matrix_bytes, model.weights_bytes(), "{folder}/{name}");
                let table = model.row_table().map_or(0, |t| t.row_bytes as u64 * u64::from(t.n_rows));
                assert_eq!(plan.storage_bytes, table, "{folder}/{name}");
                assert_eq!(plan.token_bytes, model.weights_bytes_per_token(), "{folder}/{name}");
                assert_eq!(plan.kv_type, model.kv_type(), "{folder}/{name}");
                for n_ctx in [1, 20, 200] {
                    let kv = model.new_kv(n_ctx, EngineOptions::default().prefill_chunk).unwrap();
                    assert_eq!(plan.kv_bytes(n_ctx), kv.n_bytes() as u64, "{folder}/{name}");
                }

                if hparams.check_kv_type(KvType::Q8_0).is_ok() {
                    let (plan, mut model) = (plan.clone().with_kv_type(&hparams, KvType::Q8_0), model);
                    model.set_kv_type(KvType::Q8_0).unwrap();
                    let kv = model.new_kv(200, EngineOptions::default().prefill_chunk).unwrap();
                    assert_eq!(plan.kv_bytes(200), kv.n_bytes() as u64, "{folder}/{name}");
                }

                let all: u64 = file.gguf.tensors().iter().map(|t| t.n_bytes.unwrap()).sum();
                assert_eq!(plan.resident_bytes + plan.storage_bytes + plan.unread_bytes, all);
                let has_sharing = (0..hparams.n_layer()).any(|i| !hparams.owns_kv(i));
                assert_eq!(plan.unread_bytes > 0, has_sharing, "{folder}/{name}");
            }
        }
    }

    #[test]
    fn what_nobody_names_is_not_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gemma3/model-q4_0.gguf");
        let hparams = read_hparams(&ModelFile::open(&path).unwrap()).unwrap();
        for name in [
            "v.patch_embd.weight",
            "blk.99.attn_q.weight",
            "blk.0.attn_q.bias",
            "blk.x.attn_q.weight",
            "per_layer_token_embd.weight",
            "token_embd",
        ] {
            assert_eq!(place_of(&hparams, name), Place::Unread, "{name}");
        }
    }
}
