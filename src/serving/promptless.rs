//! Requests whose prompt is not in tokens yet, because tokenising takes time.

use super::Problem;
use crate::engine::{Draft, Limits, Request, RequestError, Violation};

/// A request in which everything but the prompt is translated.
#[derive(Debug)]
pub struct Promptless {
    /// The field that the prompt came in.
    pub field: &'static str,
    /// The rest; its prompt is empty.
    pub rest: Draft,
}

impl Promptless {
    /// The request, with its prompt in tokens.
    ///
    /// Errors: fields out of their ranges, or a prompt that does not fit.
    pub fn with_prompt(self, prompt: Vec<u32>, limits: Limits) -> Result<Request, Problem> {
        let Self { field, rest } = self;
        Request::new(Draft { prompt, ..rest }, limits).map_err(|e| match e {
            RequestError::Fields(all) => {
                Problem::Fields(all.into_iter().map(|v| at_prompt(v, field)).collect())
            }
            RequestError::PromptTooLong { n_prompt, n_ctx } => {
                Problem::PromptTooLong { field: field.to_owned(), n_prompt, at_least: false, n_ctx }
            }
        })
    }
}

/// Names the field of the message that the engine calls the prompt.
fn at_prompt(v: Violation, prompt: &str) -> Violation {
    match v.field.strip_prefix("prompt") {
        Some(index) => Violation { field: format!("{prompt}{index}"), ..v },
        None => v,
    }
}
