//! What is known of a model and of the engine that runs it; does not change while it runs.

use std::collections::HashMap;

use crate::gguf::Metadata;
use crate::model::{Model, ModelFile};
use crate::sampling::SamplingParams;

/// The longest name and id of a model. Unit: characters.
const MAX_NAME: usize = 100;

/// A model as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// What requests name.
    pub id: String,
    /// Display name from the file's metadata; empty where it has none.
    pub name: String,
    /// GGUF architecture, as "gemma4".
    pub architecture: String,
    /// Parameters, the per-layer embedding table included.
    pub n_params: u64,
    /// Parameters of the per-layer embedding table.
    pub n_params_per_layer_embedding: u64,
    /// Context that the model was trained for. Unit: tokens.
    pub n_ctx_train: usize,
    /// Tensors by block format, most bytes first.
    pub quantizations: Vec<Quantization>,
    /// Weights in memory. Unit: bytes.
    pub resident_bytes: u64,
    /// Weights that are read from storage row by row. Unit: bytes.
    pub storage_bytes: u64,
    /// What requests get where they set nothing.
    pub default_sampling: SamplingParams,
}

impl ModelInfo {
    /// Describes a loaded model. Its id is `general.name`, lower case, or the file's stem, with dashes for
    /// whatever needs quoting.
    pub fn of(file: &ModelFile, model: &Model) -> Self {
        let metadata = &file.gguf.metadata;
        let name = name_of(metadata.opt_str("general.name").ok().flatten().unwrap_or_default());
        let stem = file.path().file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let id = id_of(&if name.is_empty() { stem } else { name.to_lowercase() });
        let hparams = model.hparams();
        let table = model.row_table();
        let (rows, row) = table.map_or((0, 0), |t| (u64::from(t.n_rows), t.row_bytes as u64));
        Self {
            id,
            name,
            architecture: hparams.architecture.name().to_owned(),
            n_params: file.gguf.tensors().iter().map(|t| t.n_elements()).sum(),
            n_params_per_layer_embedding: rows * hparams.n_embd_per_layer_row() as u64,
            n_ctx_train: hparams.n_ctx_train,
            quantizations: quantizations(file),
            resident_bytes: model.weights_bytes(),
            storage_bytes: rows * row,
            default_sampling: default_sampling(metadata, hparams.n_vocab),
        }
    }
}

/// The name as it may be shown: the file says it, and it goes to logs and terminals.
fn name_of(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()
}

fn id_of(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._+-".contains(c) { c } else { '-' };
    text.chars().map(plain).take(MAX_NAME).collect()
}

fn quantizations(file: &ModelFile) -> Vec<Quantization> {
    let mut by_format: HashMap<&str, Quantization> = HashMap::new();
    for tensor in file.gguf.tensors() {
        let (Some(format), Some(bytes)) = (tensor.format(), tensor.n_bytes) else { continue };
        let format = format.name();
        let new = || Quantization { format: format.to_owned(), n_tensors: 0, bytes: 0 };
        let q = by_format.entry(format).or_insert_with(new);
        q.n_tensors += 1;
        q.bytes += bytes;
    }
    let mut all: Vec<_> = by_format.into_values().collect();
    all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.format.cmp(&b.format)));
    all
}

/// What the file recommends; what it leaves open, or states as nonsense, is Gemma's usual.
fn default_sampling(metadata: &Metadata, n_vocab: usize) -> SamplingParams {
    let usual = SamplingParams::default();
    let f32_at = |key| metadata.opt_f32(key).ok().flatten();
    let recommended = SamplingParams {
        temperature: f32_at("general.sampling.temp").unwrap_or(usual.temperature),
        top_k: metadata.opt_u32("general.sampling.top_k").ok().flatten().unwrap_or(usual.top_k),
        top_p: f32_at("general.sampling.top_p").unwrap_or(usual.top_p),
        ..usual.clone()
    };
    match recommended.check(n_vocab) {
        Ok(()) => recommended,
        Err(e) => {
            log::warn!("the sampling that the model file recommends is ignored: {e}");
            usual
        }
    }
}

/// How many tensors a block format has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantization {
    /// Name of the block format, as "Q4_0".
    pub format: String,
    /// Tensors.
    pub n_tensors: usize,
    /// Bytes.
    pub bytes: u64,
}

/// How a backend computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Instruction set of the kernels, as "neon+dotprod".
    pub isa: String,
    /// Threads that compute.
    pub n_threads: usize,
    /// How rows of the per-layer embedding table are read, as "direct".
    pub ple_mode: Option<String>,
    /// Layers of the model.
    pub n_layers: usize,
    /// Layers that a prompt token runs whose logits are not wanted.
    pub prompt_token_layers: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_to_be_shown() {
        assert_eq!(name_of("Gemma 4 é\n\u{1b}[31m"), "Gemma 4 é[31m");
        assert_eq!(name_of(&"x".repeat(1000)).len(), MAX_NAME);
        assert_eq!(id_of("gemma-4_e2b.it+qat \u{202e}\n\"é"), "gemma-4_e2b.it+qat----é");
        assert_eq!(id_of(&"x".repeat(1000)).len(), MAX_NAME);
    }
}
