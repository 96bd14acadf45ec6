//! Requests whose prompt is not in tokens yet, because tokenising takes time.

use super::form::{self, Besides};
use super::{Form, Problem, Ready, State};
use crate::engine::{Draft, Request, RequestError, Violation};
use crate::tokenizer::Tokenizer;

/// A request in which everything but the prompt is translated.
#[derive(Debug)]
pub struct Promptless {
    /// The field that the prompt came in.
    pub field: &'static str,
    /// The rest; its prompt is empty.
    pub rest: Draft,
    /// What the answer's text has to be; `None` if it may be anything.
    pub form: Option<Form>,
}

impl Promptless {
    /// The request, with its prompt in tokens.
    ///
    /// Errors: fields out of their ranges, a prompt that does not fit, or a form that cannot be kept.
    pub async fn with_prompt(
        self,
        state: &State,
        ready: &Ready,
        prompt: Vec<u32>,
    ) -> Result<Request, Problem> {
        self.with_prompt_besides(state, ready, prompt, Besides::default()).await
    }

    /// [`with_prompt`](Self::with_prompt) for an answer that may hold more than text.
    pub(super) async fn with_prompt_besides(
        self,
        state: &State,
        ready: &Ready,
        prompt: Vec<u32>,
        besides: Besides,
    ) -> Result<Request, Problem> {
        let Self { field, rest, form } = self;
        // Grammars come last: to compile one takes longer than all other checks.
        let request = Request::new(Draft { prompt, ..rest }, ready.engine.limits()).map_err(|e| match e {
            RequestError::Fields(all) => {
                Problem::Fields(all.into_iter().map(|v| at_prompt(v, field)).collect())
            }
            RequestError::PromptTooLong { n_prompt, n_ctx } => {
                Problem::PromptTooLong { field: field.to_owned(), n_prompt, at_least: false, n_ctx }
            }
        })?;
        // Whoever sets this level asks for it; at every other one what people say stays out of logs.
        if log::log_enabled!(log::Level::Trace) {
            let text = pieces(ready.engine.tokenizer(), request.prompt());
            // Escaped, lest a prompt writes lines of its own.
            log::trace!(request_id = request.request_id(), prompt:? = text; "a prompt");
        }
        let constraint = form::compile(state, ready, request.request_id(), form, besides).await?;
        Ok(request.constrained(constraint))
    }
}

/// The text of tokens, marks included.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut bytes = Vec::new();
    for &id in ids {
        match tokenizer.piece(id) {
            Some(mark) if tokenizer.is_control(id) => bytes.extend_from_slice(mark),
            _ => tokenizer.token_bytes(id, &mut bytes),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Names the field of the message that the engine calls the prompt.
fn at_prompt(v: Violation, prompt: &str) -> Violation {
    match v.field.strip_prefix("prompt") {
        Some(index) => Violation { field: format!("{prompt}{index}"), ..v },
        None => v,
    }
}
