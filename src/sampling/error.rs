//! What can be wrong with parameters, stop strings or logits.

use thiserror::Error;

/// A refused parameter, or logits from which nothing can be chosen.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum SamplingError {
    /// A number outside its range, or not a number.
    #[error("{field} is {value}, it must be {rule}")]
    OutOfRange {
        /// Name of the parameter as the interfaces spell it.
        field: &'static str,
        /// The refused value.
        value: f32,
        /// The range in words.
        rule: &'static str,
    },
    /// A bias for a token that does not exist.
    #[error("logit_bias names token {id}, the vocabulary has {n_vocab} tokens")]
    BiasTokenOutOfRange {
        /// The refused id.
        id: u32,
        /// Number of tokens.
        n_vocab: usize,
    },
    /// A bias that is NaN or infinite.
    #[error("logit_bias of token {id} is {value}, it must be finite")]
    BiasNotFinite {
        /// The token.
        id: u32,
        /// The refused value.
        value: f32,
    },
    /// More stop strings than [`MAX_STOP_STRINGS`](super::MAX_STOP_STRINGS).
    #[error("stop has {count} strings, at most {max} are allowed")]
    TooManyStops {
        /// How many were given.
        count: usize,
        /// How many are allowed.
        max: usize,
    },
    /// An empty stop string would end every answer at once.
    #[error("stop[{index}] is empty")]
    EmptyStop {
        /// Which of the stop strings.
        index: usize,
    },
    /// A stop string longer than [`MAX_STOP_BYTES`](super::MAX_STOP_BYTES).
    #[error("stop[{index}] has {bytes} bytes, at most {max} are allowed")]
    StopTooLong {
        /// Which of the stop strings.
        index: usize,
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// A row of logits of another length than the vocabulary.
    #[error("{got} logits for a vocabulary of {n_vocab} tokens")]
    WrongLength {
        /// Length of the row.
        got: usize,
        /// Number of tokens.
        n_vocab: usize,
    },
    /// NaN among the logits: the model or its file is broken.
    #[error("the logit of token {id} is NaN")]
    NanLogit {
        /// The first such token.
        id: u32,
    },
    /// Plus infinity among the logits: the model or its file is broken.
    #[error("the logit of token {id} is infinite")]
    InfiniteLogit {
        /// The first such token.
        id: u32,
    },
    /// Every token is forbidden.
    #[error("no token is left to choose from: every logit is masked")]
    NothingLeft,
    /// A token id outside the row whose log-probability was asked for.
    #[error("token {id} is outside the vocabulary of {n_vocab} tokens")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Number of tokens.
        n_vocab: usize,
    },
}

impl SamplingError {
    /// The request field that the error is about; `None` when the logits are at fault.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::OutOfRange { field, .. } => Some(field),
            Self::BiasTokenOutOfRange { .. } | Self::BiasNotFinite { .. } => Some("logit_bias"),
            Self::TooManyStops { .. } | Self::EmptyStop { .. } | Self::StopTooLong { .. } => Some("stop"),
            Self::WrongLength { .. }
            | Self::NanLogit { .. }
            | Self::InfiniteLogit { .. }
            | Self::NothingLeft
            | Self::TokenOutOfRange { .. } => None,
        }
    }
}
