//! What can be wrong with a model file, and with a call of the forward pass.

use crate::gguf::GgufError;
use crate::ops::ShapeError;
use crate::storage::StorageError;
use std::path::PathBuf;

/// Why a model could not be opened or loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file system refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file is no valid GGUF file.
    #[error("{path}: {source}", path = .path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: GgufError,
    },
    /// The file is a part of a split model, but not named as its first.
    #[error("{path} is one of {n_parts} files: give the first, named NAME-00001-of-{n_parts:05}.gguf", path = .path.display())]
    NotTheFirstPart {
        /// The file.
        path: PathBuf,
        /// Files that belong together.
        n_parts: u32,
    },
    /// A metadata value has the wrong type or is absent.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// The model is of a kind that pled does not compute.
    #[error("{what} is not supported: {hint}")]
    Unsupported {
        /// What the file holds.
        what: String,
        /// What pled supports, or what to do.
        hint: &'static str,
    },
    /// A hyper-parameter has a value that no model can have.
    #[error("metadata key {key} is {value}: {why}")]
    HParam {
        /// The metadata key.
        key: String,
        /// Its value.
        value: String,
        /// What it should be.
        why: &'static str,
    },
    /// A tensor that the architecture needs is absent.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// Name of the tensor.
        name: String,
    },
    /// A tensor has another shape than the hyper-parameters say.
    #[error("tensor {name} has shape {found:?}, expected {expected:?} (innermost first)")]
    TensorShape {
        /// Name of the tensor.
        name: String,
        /// Shape in the file.
        found: Vec<u64>,
        /// Shape that follows from the metadata.
        expected: Vec<u64>,
    },
    /// A tensor has a type that pled cannot compute with.
    #[error("tensor {name} has type {found}, expected {expected}")]
    TensorType {
        /// Name of the tensor.
        name: String,
        /// Name of its type.
        found: String,
        /// Names of the types that it may have.
        expected: String,
    },
    /// A tensor that must hold finite numbers does not.
    #[error("tensor {name} holds {value} at index {index}: the file is corrupt")]
    TensorValue {
        /// Name of the tensor.
        name: String,
        /// Index of the element.
        index: usize,
        /// The element.
        value: f32,
    },
    /// A matrix does not fit its bytes.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

impl ModelError {
    /// Whether the file could not be read at all, as opposed to being malformed.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Storage(_))
    }
}

/// Memory for keys and values or for a step that the system does not give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the system does not give {n_bytes} bytes of memory")]
pub struct OutOfMemory {
    /// Bytes asked for; `u64::MAX` for more than can be counted.
    pub n_bytes: u64,
}

/// Why per-layer rows could not be had. Carries the row store's own error.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RowError(pub Box<dyn std::error::Error + Send + Sync>);

/// Why a forward pass was not made. No cache has advanced.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The rows of the per-layer embedding table could not be read.
    #[error("per-layer embedding rows: {0}")]
    Rows(#[from] RowError),
    /// A sequence would grow beyond its context.
    #[error("sequence {span} would hold {n_tokens} tokens, its context has {n_ctx}")]
    ContextFull {
        /// Index of the span.
        span: usize,
        /// Tokens that it would hold.
        n_tokens: usize,
        /// Tokens that fit.
        n_ctx: usize,
    },
    /// A token id is outside the vocabulary.
    #[error("token id {id} of sequence {span} is outside the vocabulary of {n_vocab}")]
    TokenOutOfRange {
        /// Index of the span.
        span: usize,
        /// The id.
        id: u32,
        /// Tokens in the vocabulary.
        n_vocab: usize,
    },
    /// The batch is larger than the scratch buffers or the cache's chunk.
    #[error("a batch of {found} {what}, at most {limit} were reserved")]
    TooLarge {
        /// What there are too many of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many were reserved.
        limit: usize,
    },
}
