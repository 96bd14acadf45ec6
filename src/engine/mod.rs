//! Sequences, the prefix cache, sessions, the scheduler, and the one worker thread that computes.
//!
//! The rule of the room: mutable state has one owner. The thread of [`EngineHandle`]'s engine owns the
//! model's memory, every sequence and the row store; the rest of the process meets it in two bounded
//! channels, requests in and events out, and in counters. A [`Request`] that exists is valid; a
//! [`Generation`] that is dropped is cancelled; a reader that does not read stops its own sequence only.
//!
//! Deliberately absent: wire formats, chat templates, any waiting for a reader. The engine never blocks
//! on a channel, on storage no longer than a moment, and never refuses what it has taken in.

mod backend;
mod event;
mod handle;
mod held;
mod histogram;
mod info;
mod life;
mod model_backend;
mod options;
mod persist;
mod prefix_cache;
mod request;
mod reuse;
mod rows;
mod scheduler;
mod sequence;
mod sessions;
mod shared;
mod stats;
mod vocabulary;
mod worker;

pub use backend::{Backend, NotRun, SeqSpan, SpanFailure};
pub use event::{Delta, Done, Event, Failure, FinishReason, RowFault, Timings, Usage};
pub use handle::{Ended, Engine, EngineHandle, Generation, Heartbeat, StartError, SubmitError};
pub use histogram::Histogram;
pub use info::{BackendInfo, ModelInfo, Quantization};
pub use model_backend::{ModelBackend, ModelSeq};
pub use options::EngineOptions;
pub use prefix_cache::BLOCK_TOKENS;
pub use request::{
    Draft, Limits, MAX_LOGIT_BIASES, MAX_REQUEST_ID_BYTES, MAX_STOP_TOKEN_IDS, MAX_TOP_LOGPROBS, Priority,
    Purpose, Request, RequestError, Stopping, Violation,
};
pub use sessions::{
    DEFAULT_TTL, MAX_SESSION_ID_BYTES, MAX_SESSIONS, MAX_SESSIONS_OF_ONE, Session, SessionDraft,
    SessionError, SessionKey, Sessions, check_session_id,
};
pub use stats::{RowCounters, RowStats, Stats};
