//! What a generation tells its reader.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::OutOfMemory;
use crate::sampling::constraint::ConstraintError;
use crate::sampling::{Logprobs, SamplingError};

/// One step of a generation. The last event of every generation is [`Event::Done`] or
/// [`Event::Failed`], and only the last.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A chunk of the prompt is computed. Left out when the reader has no room.
    Prefill {
        /// Tokens of the prompt that are computed.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// Tokens were chosen.
    Delta(Delta),
    /// The answer is complete.
    Done(Done),
    /// There will be no more of the answer.
    Failed(Failure),
}

/// A piece of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Further text; empty while a character or a stop string may still be completed.
    pub text: String,
    /// Tokens chosen since the last event.
    pub token_ids: Vec<u32>,
    /// One for each of `token_ids` where the request asks for them.
    pub logprobs: Vec<Logprobs>,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The stop string that was met, or the text of the stop token.
    pub matched_stop: Option<String>,
    /// What it consumed.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop string or stop token was met.
    Stop,
    /// As many tokens as were asked for.
    MaxTokens,
    /// Prompt and answer fill the context.
    ContextFull,
    /// The request's time is over.
    TimeLimit,
    /// The engine ended it before its time.
    Cancelled,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens chosen, the one that ended the answer included.
    pub completion_tokens: usize,
    /// Tokens of the prompt that were known from earlier requests and not computed again.
    pub cached_tokens: usize,
}

/// Where the time of a request went. Turns of other requests are included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// From acceptance until computing began. Unit: ms.
    pub queue_ms: f64,
    /// From there until the first token was chosen. Unit: ms.
    pub prefill_ms: f64,
    /// From there until the end. Unit: ms.
    pub decode_ms: f64,
    /// Per-layer embedding rows asked for.
    pub ple_rows: u64,
    /// Different ones of each run of tokens.
    pub ple_distinct_rows: u64,
    /// Rows answered from memory.
    pub ple_cache_hits: u64,
    /// Bytes read from storage for rows.
    pub ple_bytes_read: u64,
    /// Time that computing stood still for rows. Unit: ms.
    pub ple_wait_ms: f64,
}

/// Why a generation failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The caller's deadline passed.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// The reader left events alone for longer than [`stall_limit`](super::EngineOptions::stall_limit).
    #[error("the answer was not read for too long")]
    ReaderStalled,
    /// The engine ends and had not begun with the request.
    #[error("the server is shutting down")]
    Draining,
    /// There is no memory for the keys and values of the sequence.
    #[error("no room for the sequence: {0}")]
    OutOfMemory(OutOfMemory),
    /// Rows of the per-layer embedding table could not be read.
    #[error("{0}")]
    Rows(RowFault),
    /// The logits are no numbers to choose from.
    #[error("the model gave unusable logits: {0}")]
    Logits(SamplingError),
    /// The grammar of the answer is too costly to follow.
    #[error("{0}")]
    Constraint(ConstraintError),
    /// The step could not be computed.
    #[error("the step could not be computed: {0}")]
    Step(String),
    /// There is no memory to keep the prompt for as long as the engine lives.
    #[error(
        "what is pinned would take up to {n_bytes} bytes with it, {bound} are possible: the memory of one context"
    )]
    Unpinnable {
        /// What would be pinned then. Unit: bytes.
        n_bytes: u64,
        /// What may be pinned. Unit: bytes.
        bound: u64,
    },
    /// The engine thread is gone.
    #[error("the engine has ended")]
    EngineEnded,
}

/// A read of the per-layer embedding table that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RowFault {
    /// What happened, in words.
    pub message: String,
    /// The file.
    pub path: PathBuf,
    /// Where in the file. Unit: bytes.
    pub offset: u64,
    /// Error number of the system, if it gave one.
    pub errno: Option<i32>,
    /// The whole device is gone, not just a row.
    pub device_gone: bool,
}

pub(super) fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}
