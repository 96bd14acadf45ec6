//! The output head's coarse copy: made while the model already answers, used as soon as it is there.
//!
//! Most of what a sampler looks at are the greatest few logits. [`CoarseHead`] lets the forward pass find these without reading the
//! whole head, which is a quarter of all weights that a token of Gemma 4 E2B reads.

use super::error::ModelError;
use crate::ops::{CoarseMatrix, Compute, Matrix};
use crate::storage::AlignedBytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The head and its coarse copy.
#[derive(Debug)]
pub struct CoarseHead {
    compute: Arc<Compute>,
    head: Matrix,
    coarse: OnceLock<CoarseMatrix>,
    n_searches: AtomicU64,
    /// Bytes of the head's exact weights that searches have read.
    exact_bytes: AtomicU64,
}

impl CoarseHead {
    pub(super) fn new(compute: Arc<Compute>, head: Matrix) -> Self {
        Self {
            compute,
            head,
            coarse: OnceLock::new(),
            n_searches: AtomicU64::new(0),
            exact_bytes: AtomicU64::new(0),
        }
    }

    /// Bytes of memory that [`build`](Self::build) takes; `None` if this head can have no coarse copy, or none that is worth it.
    pub fn n_bytes(&self) -> Option<usize> {
        CoarseMatrix::n_bytes(&self.head)
    }

    /// Bytes of the head itself.
    pub fn head_bytes(&self) -> usize {
        self.head.n_bytes()
    }

    /// Makes the coarse copy on the calling thread; forward passes on others may go on meanwhile. Tokens of `suppressed`, which no
    /// sampler chooses, are never among the greatest. False if there is none to be made.
    ///
    /// # Errors
    /// If the system does not give the memory.
    pub fn build(&self, suppressed: &[u32]) -> Result<bool, ModelError> {
        let Some(n_bytes) = self.n_bytes() else { return Ok(false) };
        let buffer = AlignedBytes::zeroed(n_bytes)?;
        let coarse = CoarseMatrix::new(&self.compute, &self.head, suppressed, buffer);
        let Some(coarse) = coarse else { return Ok(false) };
        self.coarse.get_or_init(|| coarse);
        Ok(true)
    }

    /// The coarse copy, once it is there.
    pub(super) fn get(&self) -> Option<&CoarseMatrix> {
        self.coarse.get()
    }

    /// Counts the searches of `n_tokens`, for which `n_panels` panels of exact outputs were computed.
    pub(super) fn count(&self, n_tokens: usize, n_panels: usize) {
        self.n_searches.fetch_add(n_tokens as u64, Ordering::Relaxed);
        let bytes = n_panels * CoarseMatrix::panel_bytes(&self.head);
        self.exact_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that a token has read of the head and its copy in the mean of all searches so far; `None` if there was none.
    pub fn bytes_per_token(&self) -> Option<u64> {
        let n_searches = self.n_searches.load(Ordering::Relaxed);
        let exact = self.exact_bytes.load(Ordering::Relaxed).checked_div(n_searches)?;
        Some(self.get()?.matrix().n_bytes() as u64 + exact)
    }
}
