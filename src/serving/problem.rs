//! Everything that a call can end with besides an answer. Each dialect has one table of it to its status codes.

use std::time::Duration;

use crate::access::Refused;
use crate::engine::{Failure, RowFault, SessionError, SubmitError, Violation};

/// What a caller is told to wait while the server starts or ends. systemd starts it again at once; most of
/// the time goes into reading the weights.
pub const RESTART: Duration = Duration::from_secs(10);

/// What a caller is told to wait for what is done quickly.
pub const SOON: Duration = Duration::from_secs(1);

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Fields out of their ranges.
    #[error("{}", summary(.0))]
    Fields(Vec<Violation>),
    /// The prompt does not fit the context.
    #[error("{field}: has {}{n_prompt} tokens, the context has room for {n_ctx}", if *.at_least { "at least " } else { "" })]
    PromptTooLong {
        /// The field that holds the prompt.
        field: String,
        /// Tokens of the prompt.
        n_prompt: usize,
        /// `n_prompt` is a lower bound: the prompt was too long to be counted.
        at_least: bool,
        /// Tokens that fit.
        n_ctx: usize,
    },
    /// No loaded model has this name, which is fit to be shown.
    #[error("model \"{0}\" is not loaded")]
    UnknownModel(String),
    /// No session has this id.
    #[error("there is no session \"{0}\"")]
    UnknownSession(String),
    /// A session has this id already.
    #[error("session \"{0}\" exists")]
    SessionExists(String),
    /// As many sessions as there may be are in use.
    #[error("there are {0} sessions already, which is the most")]
    TooManySessions(usize),
    /// The model was not trained on conversations.
    #[error(
        "this model knows no conversations: its vocabulary has no tokens for turns; it can continue a text"
    )]
    NoChat,
    /// The caller may not do this, or not now.
    #[error("{0}")]
    Access(Refused),
    /// As many requests as may wait do so.
    #[error("the queue is full")]
    QueueFull {
        /// About when a place will be free.
        retry_after: Duration,
    },
    /// As many answers of the tokenizer as may wait for their readers do so.
    #[error("too many answers of the tokenizer wait to be read")]
    Busy,
    /// As many grammars as may be compiled at a time are, and take long.
    #[error("too many grammars are being compiled")]
    CompilersBusy,
    /// There is no model yet.
    #[error("the model is being loaded")]
    Loading,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// The caller waits no longer.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// The caller did not read its answer.
    #[error("the answer was not read for too long")]
    ReaderStalled,
    /// A read of the per-layer embedding table failed.
    #[error("{0}")]
    Rows(RowFault),
    /// There is no memory for the sequence.
    #[error("{0}")]
    OutOfMemory(String),
    /// The engine's thread is gone: the process ends and is started again.
    #[error("the engine has ended, the server starts again")]
    EngineEnded,
    /// What the answer has to be is too costly to follow, or at odds with what else was asked for. It shows late.
    #[error("{0}")]
    Unfollowable(String),
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

impl Problem {
    /// The same, with fields by the names that a dialect has for them.
    #[must_use]
    pub fn with_fields(self, name: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Fields(violations) => {
                let renamed = violations.into_iter().map(|v| Violation { field: name(&v.field), ..v });
                Self::Fields(renamed.collect())
            }
            Self::PromptTooLong { field, n_prompt, at_least, n_ctx } => {
                Self::PromptTooLong { field: name(&field), n_prompt, at_least, n_ctx }
            }
            other => other,
        }
    }

    /// A single field that is wrong.
    pub fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Fields(vec![Violation { field: field.into(), problem: problem.into() }])
    }
}

fn summary(violations: &[Violation]) -> String {
    let each: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.problem)).collect();
    each.join("; ")
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::Access(refused)
    }
}

impl From<SubmitError> for Problem {
    fn from(e: SubmitError) -> Self {
        match e {
            SubmitError::QueueFull { retry_after } => Self::QueueFull { retry_after },
            SubmitError::UnknownSession(id) => Self::UnknownSession(id),
            SubmitError::Draining => Self::Draining,
            SubmitError::Ended => Self::EngineEnded,
        }
    }
}

impl From<SessionError> for Problem {
    fn from(e: SessionError) -> Self {
        match e {
            SessionError::Field(violation) => Self::Fields(vec![violation]),
            SessionError::Exists(id) => Self::SessionExists(id),
            SessionError::TooMany(most) => Self::TooManySessions(most),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DeadlineExceeded => Self::DeadlineExceeded,
            Failure::ReaderStalled => Self::ReaderStalled,
            Failure::Draining => Self::Draining,
            Failure::Rows(fault) => Self::Rows(fault),
            Failure::OutOfMemory(_) | Failure::Unpinnable { .. } => Self::OutOfMemory(failure.to_string()),
            Failure::EngineEnded => Self::EngineEnded,
            Failure::Constraint(e) => Self::Unfollowable(e.to_string()),
            Failure::Logits(_) | Failure::Step(_) => Self::Internal(failure.to_string()),
        }
    }
}
