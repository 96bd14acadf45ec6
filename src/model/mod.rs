//! The model: hyper-parameters, weights, caches and the forward pass.
//!
//! Reads like the paper: [`forward`] lists the steps of a layer in order, and each block of a layer has
//! a file. One file for each architecture turns metadata into [`HParams`]; everything else follows
//! from those. The forward pass does no I/O: rows of the per-layer embedding table come through
//! [`RowSource`], which the engine joins to the row store.

mod attention;
mod coarse_head;
mod error;
mod forward;
mod gemma3;
mod gemma4;
mod hparams;
mod kv_cache;
mod kv_run;
mod mlp;
mod open;
mod per_layer;
mod probe;
mod residual;
mod scratch;
mod weights;
mod zeroed;

pub use coarse_head::CoarseHead;
pub use error::{ForwardError, ModelError, OutOfMemory, RowError};
pub use forward::{Logits, NoRows, RowSource, Span, Want, forward};
pub use hparams::{Architecture, HParams, LayerHParams, LayerKind};
pub use kv_cache::{KvCache, KvType};
pub use kv_run::KvRun;
pub use open::ModelFile;
pub use probe::{Probe, Step, Work};
pub use scratch::Scratch;
pub use weights::RowTable;

use crate::gguf::quote;
use crate::ops::Compute;
use std::ops::Range;
use std::sync::Arc;
use weights::Weights;

/// A loaded model: everything that a forward pass reads and never writes.
#[derive(Debug)]
pub struct Model {
    hparams: HParams,
    weights: Weights,
    row_table: Option<RowTable>,
    kv_type: KvType,
    weights_digest: u64,
    compute: Arc<Compute>,
    coarse_head: Arc<CoarseHead>,
}

/// The longest list of rotary divisors accepted: half of the largest head.
const MAX_ROPE_DIVISORS: u64 = crate::ops::MAX_HEAD_DIM as u64 / 2;

impl Model {
    /// Checks `file` and reads its dense weights into memory.
    ///
    /// The per-layer embedding table is not read; [`Model::row_table`] says where it is.
    ///
    /// # Errors
    /// If the model is of an unsupported kind, malformed, or cannot be read.
    pub fn load(file: &ModelFile, compute: Arc<Compute>) -> Result<Self, ModelError> {
        let hparams = read_hparams(file)?;
        let row_table = weights::row_table(file, &hparams)?;
        let (weights, weights_digest) = weights::load(file, &hparams, &compute)?;
        let kv_type = weights.kv_type();
        let coarse_head = Arc::new(CoarseHead::new(Arc::clone(&compute), weights.head().clone()));
        Ok(Self { hparams, weights, row_table, kv_type, weights_digest, compute, coarse_head })
    }

    /// Hyper-parameters.
    pub fn hparams(&self) -> &HParams {
        &self.hparams
    }

    /// Where the per-layer embedding table is, for models that have one.
    pub fn row_table(&self) -> Option<&RowTable> {
        self.row_table.as_ref()
    }

    /// The pool and kernels that the model computes with.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// What makes finding the greatest logits cheaper, once it is [built](CoarseHead::build).
    pub fn coarse_head(&self) -> &Arc<CoarseHead> {
        &self.coarse_head
    }

    /// An empty cache for one sequence of at most `n_ctx` tokens, appended in chunks of at most
    /// `max_chunk`.
    ///
    /// # Errors
    /// If the system does not give that much memory.
    pub fn new_kv(&self, n_ctx: usize, max_chunk: usize) -> Result<KvCache, OutOfMemory> {
        KvCache::new(&self.hparams, self.kv_type, n_ctx, max_chunk)
    }

    /// The run of `positions` in layers of `kind` that [`KvRun::to_bytes`] made these bytes of; `None` if they are not
    /// as many as such a run has.
    ///
    /// # Errors
    /// If the system does not give that much memory.
    pub fn kv_run(
        &self,
        kind: LayerKind,
        positions: Range<usize>,
        bytes: &[u8],
    ) -> Result<Option<KvRun>, OutOfMemory> {
        let layers = (0..self.hparams.n_layer()).filter(|&i| self.hparams.owns_kv(i));
        let layers = layers.map(|i| &self.hparams.layers[i]).filter(|layer| layer.kind == kind);
        let n_values = layers.map(|layer| 2 * layer.n_embd_kv() * positions.len()).sum();
        KvRun::of_bytes(self.kv_type, kind, positions, n_values, bytes)
    }

    /// A digest of every weight in memory, for telling models apart.
    pub fn weights_digest(&self) -> u64 {
        self.weights_digest
    }

    /// Keeps keys and values as `kv_type` in caches made from now on.
    ///
    /// # Errors
    /// Those of [`HParams::check_kv_type`].
    pub fn set_kv_type(&mut self, kv_type: KvType) -> Result<(), ModelError> {
        self.hparams.check_kv_type(kv_type)?;
        self.kv_type = kv_type;
        Ok(())
    }

    /// Type of cached keys and values: as exact as the weights that make them, unless set otherwise.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// Working memory for batches of `max_tokens`, at most `max_logits` of them with logits.
    ///
    /// # Errors
    /// If the system does not give that much memory.
    pub fn new_scratch(&self, max_tokens: usize, max_logits: usize) -> Result<Scratch, OutOfMemory> {
        Scratch::new(&self.hparams, max_tokens, max_logits)
    }

    /// Bytes that a decoded token reads: every matrix once, and its row of the table. Less where [`CoarseHead`] is used.
    pub fn weights_bytes_per_token(&self) -> u64 {
        let matrices: usize = self.weights.matrices().map(|m| m.n_bytes()).sum();
        let row = self.row_table.as_ref().map_or(0, |t| t.row_bytes);
        (matrices + row) as u64
    }

    /// Products with weights that a prompt token takes whose logits nobody wants. Of the last layer with keys and values of its
    /// own it needs these alone, and of those above nothing.
    pub fn prompt_token_products(&self) -> u64 {
        let last = self.hparams.last_kv_layer();
        let (layers, weights) = (&self.weights.layers, &self.weights);
        let below = layers[..last].iter().flat_map(|layer| layer.matrices());
        let matrices = below.chain(layers[last].kv_matrices());
        let of_matrices: usize = matrices.map(|m| m.n_rows() * m.n_cols()).sum();
        let of_inputs = match weights.per_layer {
            Some(_) => last * self.hparams.n_embd_per_layer * self.hparams.n_embd,
            None => 0,
        };
        (of_matrices + of_inputs) as u64
    }

    /// Bytes of matrices held in memory.
    pub fn weights_bytes(&self) -> u64 {
        let untied = if self.weights.output.is_some() { self.weights.token_embd.n_bytes() } else { 0 };
        (self.weights.matrices().map(|m| m.n_bytes()).sum::<usize>() + untied) as u64
    }
}

/// Reads and checks the hyper-parameters of `file` without reading its weights.
///
/// # Errors
/// If the model is of an unsupported kind or its metadata are malformed.
pub fn read_hparams(file: &ModelFile) -> Result<HParams, ModelError> {
    let metadata = &file.gguf.metadata;
    if let Some(kind) = metadata.opt_str("general.type")?.filter(|kind| *kind != "model") {
        return Err(ModelError::Unsupported {
            what: format!("a file of type {} (general.type)", quote(kind.as_bytes())),
            hint: "give the file of the language model itself",
        });
    }
    let architecture = metadata.str("general.architecture")?;
    let n_vocab = weights::n_vocab(file)?;
    match architecture {
        "gemma3" => gemma3::read(metadata, n_vocab),
        "gemma4" => {
            let name = "rope_freqs.weight";
            let divisors = weights::read_vector(file, name, MAX_ROPE_DIVISORS)?
                .ok_or_else(|| ModelError::MissingTensor { name: name.to_owned() })?;
            if let Some(index) = divisors.iter().position(|d| *d <= 0.0) {
                return Err(ModelError::TensorValue { name: name.to_owned(), index, value: divisors[index] });
            }
            gemma4::read(metadata, n_vocab, &divisors)
        }
        other => Err(ModelError::Unsupported {
            what: format!("architecture {}", quote(other.as_bytes())),
            hint: "pled runs gemma4 and gemma3 models",
        }),
    }
}
