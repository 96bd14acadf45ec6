//! The one table of status codes.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::engine::{Failure, RowFault, SubmitError, Violation};

/// Names the source of reasons in `ErrorInfo`.
const DOMAIN: &str = "pled";
/// What a caller is told to wait while the server starts or ends. systemd starts it again at once; most of
/// the time goes into reading the weights.
const RESTART: Duration = Duration::from_secs(10);

/// What a caller is told to wait for what is done quickly.
const SOON: Duration = Duration::from_secs(1);

/// Everything that a call can end with besides an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Problem {
    /// Fields out of their ranges.
    Fields(Vec<Violation>),
    /// The prompt does not fit the context.
    PromptTooLong {
        /// The field that holds the prompt.
        field: &'static str,
        n_prompt: usize,
        /// `n_prompt` is a lower bound: the prompt was too long to be counted.
        at_least: bool,
        n_ctx: usize,
    },
    UnknownModel(String),
    /// The model was not trained on conversations.
    NoChat,
    QueueFull {
        retry_after: Duration,
    },
    /// As many answers of the tokenizer as may wait for their readers do so.
    Busy,
    Loading,
    Draining,
    DeadlineExceeded,
    /// The caller did not read its answer.
    ReaderStalled,
    Rows(RowFault),
    /// There is no memory for the sequence.
    OutOfMemory(String),
    /// The engine's thread is gone: the process ends and is started again.
    EngineEnded,
    Internal(String),
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let of = |code, message: String, details| Status::with_error_details(code, message, details);
        match problem {
            Problem::Fields(violations) => {
                of(Code::InvalidArgument, summary(&violations), bad_request(violations))
            }
            Problem::PromptTooLong { field, n_prompt, at_least, n_ctx } => {
                let about = if at_least { "at least " } else { "" };
                let problem = format!("has {about}{n_prompt} tokens, the context has room for {n_ctx}");
                let violation = Violation { field: field.to_owned(), problem };
                let numbers = [("n_prompt", n_prompt.to_string()), ("n_ctx", n_ctx.to_string())];
                let message = summary(std::slice::from_ref(&violation));
                let mut details = bad_request(vec![violation]);
                details.set_error_info("PROMPT_TOO_LONG", DOMAIN, metadata(numbers));
                of(Code::InvalidArgument, message, details)
            }
            Problem::UnknownModel(model) => {
                let message = format!("model \"{model}\" is not loaded; ListModels names those that are");
                let details = ErrorDetails::with_resource_info("model", model, "", "not loaded");
                of(Code::NotFound, message, details)
            }
            Problem::NoChat => Status::failed_precondition(
                "this model knows no conversations: its vocabulary has no tokens for turns; Generate continues a text",
            ),
            Problem::QueueFull { retry_after } => of(
                Code::ResourceExhausted,
                "the queue is full".to_owned(),
                ErrorDetails::with_retry_info(Some(retry_after)),
            ),
            Problem::OutOfMemory(message) => {
                of(Code::ResourceExhausted, message, ErrorDetails::with_retry_info(Some(RESTART)))
            }
            Problem::Busy => of(
                Code::ResourceExhausted,
                "too many answers of the tokenizer wait to be read".to_owned(),
                ErrorDetails::with_retry_info(Some(SOON)),
            ),
            Problem::Loading => of(
                Code::Unavailable,
                "the model is being loaded".to_owned(),
                ErrorDetails::with_retry_info(Some(RESTART)),
            ),
            Problem::Draining => of(
                Code::Unavailable,
                "the server is shutting down".to_owned(),
                ErrorDetails::with_retry_info(Some(RESTART)),
            ),
            Problem::EngineEnded => of(
                Code::Unavailable,
                "the engine has ended, the server starts again".to_owned(),
                ErrorDetails::with_retry_info(Some(RESTART)),
            ),
            Problem::DeadlineExceeded => Status::deadline_exceeded("the deadline passed"),
            Problem::ReaderStalled => Status::cancelled("the answer was not read for too long"),
            Problem::Rows(fault) => {
                let (code, reason) = match fault.device_gone {
                    true => (Code::Unavailable, "STORAGE_GONE"),
                    false => (Code::DataLoss, "STORAGE_READ_FAILED"),
                };
                let errno = fault.errno.map(|e| ("errno", e.to_string()));
                let place =
                    [("file", fault.path.display().to_string()), ("offset", fault.offset.to_string())];
                let details = metadata(place.into_iter().chain(errno));
                of(code, fault.message, ErrorDetails::with_error_info(reason, DOMAIN, details))
            }
            Problem::Internal(message) => Status::internal(message),
        }
    }
}

fn bad_request(violations: Vec<Violation>) -> ErrorDetails {
    let each = violations.into_iter().map(|v| FieldViolation::new(v.field, v.problem));
    ErrorDetails::with_bad_request(each.collect::<Vec<_>>())
}

/// One line for people; programs read the details.
fn summary(violations: &[Violation]) -> String {
    let each: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.problem)).collect();
    each.join("; ")
}

fn metadata(pairs: impl IntoIterator<Item = (&'static str, String)>) -> HashMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

impl From<SubmitError> for Problem {
    fn from(e: SubmitError) -> Self {
        match e {
            SubmitError::QueueFull { retry_after } => Self::QueueFull { retry_after },
            SubmitError::Draining => Self::Draining,
            SubmitError::Ended => Self::EngineEnded,
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
            Failure::OutOfMemory(_) => Self::OutOfMemory(failure.to_string()),
            Failure::EngineEnded => Self::EngineEnded,
            Failure::Logits(_) | Failure::Step(_) => Self::Internal(failure.to_string()),
        }
    }
}
