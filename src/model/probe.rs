//! The steps of a forward pass, named to whoever wants to know where its time goes.
//!
//! The pass says what begins; reading a clock is the listener's business. Without a listener a step costs a
//! comparison.

use std::fmt;

use crate::ops::Matrix;

/// A kind of step. Layers are not told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Word embeddings and rotation angles.
    Embed,
    /// Product of the word embeddings that makes the per-layer inputs.
    PerLayerProjection,
    /// Waiting for rows of the per-layer embedding table, and unpacking them.
    Rows,
    /// Norms, rotation, writing to the cache, sums of the residual stream.
    Small,
    /// Key and value products.
    KeysValues,
    /// Query products.
    Queries,
    /// Attention over the cache.
    Attention,
    /// Output products of attention.
    AttentionOutput,
    /// Gate and up products of the MLP, and the GELU of the one times the other.
    GateUp,
    /// Down products of the MLP.
    Down,
    /// Both products that add a layer's per-layer input.
    LayerInput,
    /// The output head and its soft-cap.
    Head,
    /// Nothing: the pass is over.
    End,
}

impl Step {
    /// Name for reports, in snake case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::PerLayerProjection => "per_layer_projection",
            Self::Rows => "rows",
            Self::Small => "small",
            Self::KeysValues => "keys_values",
            Self::Queries => "queries",
            Self::Attention => "attention",
            Self::AttentionOutput => "attention_output",
            Self::GateUp => "gate_up",
            Self::Down => "down",
            Self::LayerInput => "layer_input",
            Self::Head => "head",
            Self::End => "end",
        }
    }
}

/// What a step is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Its kind.
    pub step: Step,
    /// Tokens that it computes; 0 where that is not known yet.
    pub n_tokens: usize,
    /// Products of weights or cached values with activations.
    pub multiply_adds: u64,
    /// Bytes of weights, read once each.
    pub weight_bytes: u64,
}

impl Work {
    /// Of products of whole matrices with `n_tokens` tokens.
    pub(super) fn of<'a>(
        step: Step,
        matrices: impl IntoIterator<Item = &'a Matrix>,
        n_tokens: usize,
    ) -> Self {
        let mut work = Self { step, n_tokens, multiply_adds: 0, weight_bytes: 0 };
        for m in matrices {
            work.multiply_adds += (m.n_rows() * m.n_cols() * n_tokens) as u64;
            work.weight_bytes += m.n_bytes() as u64;
        }
        work
    }
}

/// Hears of every step at its beginning.
pub struct Probe(Box<dyn FnMut(Work) + Send>);

impl Probe {
    /// Calls `listen` on the thread that runs the pass.
    pub fn new(listen: impl FnMut(Work) + Send + 'static) -> Self {
        Self(Box::new(listen))
    }

    pub(super) fn begin(&mut self, work: Work) {
        (self.0)(work);
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}
