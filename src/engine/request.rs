//! Requests that need no further range checks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sessions::{SessionKey, check_session_id};
use crate::sampling::constraint::Constraint;
use crate::sampling::{SamplingParams, StopMatcher};

/// What requests are measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Prompt and answer together. Unit: tokens.
    pub n_ctx: usize,
    /// Token ids are below this.
    pub n_vocab: usize,
}

/// The most log probabilities that a request may ask for at each place.
pub const MAX_TOP_LOGPROBS: usize = 20;
/// The most stop tokens of a request.
pub const MAX_STOP_TOKEN_IDS: usize = 64;
/// The most logit biases of a request.
pub const MAX_LOGIT_BIASES: usize = 1024;
/// The longest name of a request. Unit: bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

/// What a caller asks for, unchecked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// Token ids, a beginning-of-sequence token included where the model wants one.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// When to end.
    pub stopping: Stopping,
    /// Asks for log probabilities of the chosen token and so many most likely ones.
    pub top_logprobs: Option<usize>,
    /// Name in logs: visible ASCII.
    pub request_id: String,
    /// When the caller stops waiting; the answer is then of no use.
    pub deadline: Option<Instant>,
    /// Id of the session that it belongs to; empty for none.
    pub session: String,
    /// Whose session that is: the name of the caller's token; empty if it has none.
    pub owner: Arc<str>,
    /// What it is for.
    pub purpose: Purpose,
    /// Whether somebody waits for it.
    pub priority: Priority,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// To be answered.
    #[default]
    Answer,
    /// Its prompt is computed for requests to come, and no token is chosen.
    Prewarm,
    /// So, and what is computed of it stays in memory as long as the engine lives.
    Pin,
}

/// Whether somebody waits for what is computed. It changes when a request is computed, and never what comes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Somebody does.
    #[default]
    Interactive,
    /// Nobody does: it is computed where interactive requests leave room, and a little beside them.
    Background,
}

/// When a generation ends, besides the model's own end and the end of the context.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stopping {
    /// Most tokens; at least 1.
    pub max_tokens: Option<usize>,
    /// No end-of-generation token and no stop token is chosen before this many tokens.
    pub min_tokens: usize,
    /// The text ends before the first of these.
    pub stop: Vec<String>,
    /// Tokens that end the answer.
    pub stop_token_ids: Vec<u32>,
    /// Goes on after the model's own end-of-generation tokens.
    pub ignore_eos: bool,
    /// Most time from acceptance; what there is by then is the answer.
    pub time_limit: Option<Duration>,
}

/// A checked request.
#[derive(Clone, Debug)]
pub struct Request {
    draft: Draft,
    constraint: Option<Constraint>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, as "stopping.max_tokens".
    pub field: String,
    /// What is wrong, with the value.
    pub problem: String,
}

/// Why a draft is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Fields out of their ranges; at least one.
    #[error("{}", list(.0))]
    Fields(Vec<Violation>),
    /// The prompt does not fit the context.
    #[error("the prompt has {n_prompt} tokens, the context has room for {n_ctx}")]
    PromptTooLong {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Tokens that fit.
        n_ctx: usize,
    },
}

fn list(violations: &[Violation]) -> String {
    let each: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.problem)).collect();
    each.join("; ")
}

impl Request {
    /// Checks every field; the error names all that are wrong.
    pub fn new(draft: Draft, limits: Limits) -> Result<Self, RequestError> {
        let mut v = Violations::default();
        v.prompt(&draft.prompt, limits);
        v.sampling(&draft.sampling, limits);
        v.stopping(&draft.stopping, limits);
        if let Some(n) = draft.top_logprobs.filter(|&n| n > MAX_TOP_LOGPROBS) {
            v.add("top_logprobs", format!("is {n}, at most {MAX_TOP_LOGPROBS} are given"));
        }
        v.request_id(&draft.request_id);
        if !draft.session.is_empty()
            && let Err(problem) = check_session_id(&draft.session)
        {
            v.add("session", problem);
        }
        if !v.0.is_empty() {
            return Err(RequestError::Fields(v.0));
        }
        let n_prompt = draft.prompt.len();
        if n_prompt > limits.n_ctx {
            return Err(RequestError::PromptTooLong { n_prompt, n_ctx: limits.n_ctx });
        }
        Ok(Self { draft, constraint: None })
    }

    /// The same request for an answer that has to have this form, and ends when it is complete.
    #[must_use]
    pub fn constrained(self, constraint: Option<Constraint>) -> Self {
        Self { constraint, ..self }
    }

    /// Token ids; not empty, at most `n_ctx`.
    pub fn prompt(&self) -> &[u32] {
        &self.draft.prompt
    }

    /// How tokens are chosen.
    pub fn sampling(&self) -> &SamplingParams {
        &self.draft.sampling
    }

    /// When to end.
    pub fn stopping(&self) -> &Stopping {
        &self.draft.stopping
    }

    /// What the answer has to be; `None` if it may be anything.
    pub fn constraint(&self) -> Option<&Constraint> {
        self.constraint.as_ref()
    }

    /// How many most likely tokens to tell at each place.
    pub fn top_logprobs(&self) -> Option<usize> {
        self.draft.top_logprobs
    }

    /// Name in logs.
    pub fn request_id(&self) -> &str {
        &self.draft.request_id
    }

    /// When the caller stops waiting.
    pub fn deadline(&self) -> Option<Instant> {
        self.draft.deadline
    }

    /// The session that it belongs to.
    pub fn session(&self) -> Option<SessionKey> {
        let Draft { session, owner, .. } = &self.draft;
        (!session.is_empty()).then(|| SessionKey { owner: Arc::clone(owner), id: session.clone() })
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.draft.purpose
    }

    /// Whether somebody waits for it.
    pub fn priority(&self) -> Priority {
        self.draft.priority
    }

    pub(super) fn into_prompt(self) -> Vec<u32> {
        self.draft.prompt
    }

    /// Tokens of context that the request can use up, when the engine gives at most `n_ctx`.
    pub(super) fn n_ctx_needed(&self, n_ctx: usize) -> usize {
        // The last token chosen is never run, so it takes no place.
        let answer = match self.purpose() {
            Purpose::Answer => self.stopping().max_tokens.map_or(usize::MAX, |n| n - 1),
            Purpose::Prewarm | Purpose::Pin => 0,
        };
        self.prompt().len().saturating_add(answer).min(n_ctx)
    }
}

/// Collects what is wrong, so that a caller learns all of it at once.
#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Violation { field: field.into(), problem: problem.into() });
    }

    /// Names the first unknown token only: there may be thousands, and an answer has to stay small.
    fn tokens(&mut self, field: &str, ids: &[u32], limits: Limits) {
        let unknown = ids.iter().enumerate().find(|(_, id)| **id as usize >= limits.n_vocab);
        if let Some((i, id)) = unknown {
            let problem = format!("is {id}, the vocabulary has {} tokens", limits.n_vocab);
            self.add(format!("{field}[{i}]"), problem);
        }
    }

    fn prompt(&mut self, prompt: &[u32], limits: Limits) {
        if prompt.is_empty() {
            self.add("prompt", "has no tokens, at least one is needed");
        }
        self.tokens("prompt", prompt, limits);
    }

    fn sampling(&mut self, sampling: &SamplingParams, limits: Limits) {
        let n = sampling.logit_bias.len();
        if n > MAX_LOGIT_BIASES {
            return self.add("sampling.logit_bias", format!("has {n} entries, at most {MAX_LOGIT_BIASES}"));
        }
        if let Err(e) = sampling.check(limits.n_vocab) {
            let field = e.field().map_or("sampling".to_owned(), |f| format!("sampling.{f}"));
            self.add(field, e.to_string());
        }
    }

    fn stopping(&mut self, stopping: &Stopping, limits: Limits) {
        if stopping.max_tokens == Some(0) {
            self.add("stopping.max_tokens", "is 0, at least 1 is needed");
        }
        if let Some(max) = stopping.max_tokens.filter(|&max| max < stopping.min_tokens) {
            let min = stopping.min_tokens;
            self.add("stopping.min_tokens", format!("is {min}, more than max_tokens, which is {max}"));
        }
        if let Err(e) = StopMatcher::check(&stopping.stop) {
            self.add("stopping.stop", e.to_string());
        }
        let n = stopping.stop_token_ids.len();
        if n > MAX_STOP_TOKEN_IDS {
            self.add("stopping.stop_token_ids", format!("has {n} ids, at most {MAX_STOP_TOKEN_IDS}"));
        } else {
            self.tokens("stopping.stop_token_ids", &stopping.stop_token_ids, limits);
        }
        if stopping.time_limit.is_some_and(|t| t.is_zero()) {
            self.add("stopping.time_limit", "is 0, it must be more");
        }
    }

    fn request_id(&mut self, id: &str) {
        if id.len() > MAX_REQUEST_ID_BYTES {
            self.add("request_id", format!("has {} bytes, at most {MAX_REQUEST_ID_BYTES}", id.len()));
        } else if !id.bytes().all(|b| b.is_ascii_graphic()) {
            self.add("request_id", "has characters other than visible ASCII ones");
        }
    }
}
