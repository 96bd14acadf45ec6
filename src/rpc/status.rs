//! The one table of status codes.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::access::Refused;
use crate::engine::Violation;
use crate::serving::{Problem, RESTART, SOON};

/// Names the source of reasons in `ErrorInfo`.
const DOMAIN: &str = "pled";
impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let message = problem.to_string();
        let of = |code, details| Status::with_error_details(code, message.clone(), details);
        let retry = |after| ErrorDetails::with_retry_info(Some(after));
        match problem {
            Problem::Fields(violations) => of(Code::InvalidArgument, bad_request(violations)),
            Problem::PromptTooLong { field, n_prompt, n_ctx, .. } => {
                // The message is "field: problem" here, too.
                let problem = message.strip_prefix(&format!("{field}: ")).unwrap_or(&message).to_owned();
                let mut details = bad_request(vec![Violation { field, problem }]);
                let numbers = [("n_prompt", n_prompt.to_string()), ("n_ctx", n_ctx.to_string())];
                details.set_error_info("PROMPT_TOO_LONG", DOMAIN, metadata(numbers));
                of(Code::InvalidArgument, details)
            }
            Problem::UnknownModel(model) => {
                let details = ErrorDetails::with_resource_info("model", model, "", "not loaded");
                let message = format!("{message}; ListModels names those that are");
                Status::with_error_details(Code::NotFound, message, details)
            }
            Problem::UnknownSession(id) => {
                let name = format!("sessions/{id}");
                let details = ErrorDetails::with_resource_info("session", name, "", "no such session");
                let message = format!("{message}; CreateSession makes one");
                Status::with_error_details(Code::NotFound, message, details)
            }
            Problem::SessionExists(_) => Status::already_exists(message),
            Problem::TooManySessions(_) => {
                let message = format!("{message}; DeleteSession makes room");
                Status::resource_exhausted(message)
            }
            Problem::NoChat => Status::failed_precondition(message),
            Problem::Access(Refused::NoToken | Refused::WrongToken) => Status::unauthenticated(message),
            Problem::Access(Refused::FiguresOnly) => Status::permission_denied(message),
            Problem::Access(Refused::TooOften { retry_after, .. }) => {
                of(Code::ResourceExhausted, retry(retry_after))
            }
            Problem::Access(Refused::TooMany { .. }) => of(Code::ResourceExhausted, retry(SOON)),
            Problem::QueueFull { retry_after } => of(Code::ResourceExhausted, retry(retry_after)),
            Problem::OutOfMemory(_) => of(Code::ResourceExhausted, retry(RESTART)),
            Problem::Busy | Problem::CompilersBusy => of(Code::ResourceExhausted, retry(SOON)),
            Problem::Loading | Problem::Draining | Problem::EngineEnded => {
                of(Code::Unavailable, retry(RESTART))
            }
            Problem::DeadlineExceeded => Status::deadline_exceeded(message),
            Problem::ReaderStalled => Status::cancelled(message),
            Problem::Rows(fault) => {
                let (code, reason) = match fault.device_gone {
                    true => (Code::Unavailable, "STORAGE_GONE"),
                    false => (Code::DataLoss, "STORAGE_READ_FAILED"),
                };
                let errno = fault.errno.map(|e| ("errno", e.to_string()));
                let place =
                    [("file", fault.path.display().to_string()), ("offset", fault.offset.to_string())];
                let details = metadata(place.into_iter().chain(errno));
                of(code, ErrorDetails::with_error_info(reason, DOMAIN, details))
            }
            Problem::Unfollowable(_) => Status::invalid_argument(message),
            Problem::Internal(_) => Status::internal(message),
        }
    }
}

fn bad_request(violations: Vec<Violation>) -> ErrorDetails {
    let each = violations.into_iter().map(|v| FieldViolation::new(v.field, v.problem));
    ErrorDetails::with_bad_request(each.collect::<Vec<_>>())
}

fn metadata(pairs: impl IntoIterator<Item = (&'static str, String)>) -> HashMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
