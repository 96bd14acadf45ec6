//! The one table of status codes.

use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};

use crate::access::Refused;
use crate::serving::{Problem, RESTART, SOON};

/// A call that is not answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// For programs.
    pub(super) code: Option<&'static str>,
    /// The field that is wrong, by the name that the dialect has for it.
    pub(super) field: Option<String>,
    /// For people.
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: None, field: None, message: message.into(), retry_after: None }
    }

    /// A response with this status and body.
    pub(super) fn response(&self, body: impl IntoResponse) -> Response {
        let mut response = (self.status, body).into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, whole_seconds(after).into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let message = problem.to_string();
        let of = |status, code| Self { code, ..Self::new(status, message) };
        let later = |after: Duration, refusal: Self| Self { retry_after: Some(after), ..refusal };
        match problem {
            Problem::Fields(violations) => {
                let field = violations.into_iter().next().map(|v| v.field);
                Self { field, ..of(StatusCode::BAD_REQUEST, None) }
            }
            Problem::PromptTooLong { field, .. } => {
                let refusal = of(StatusCode::BAD_REQUEST, Some("context_length_exceeded"));
                Self { field: Some(field), ..refusal }
            }
            Problem::UnknownModel(_) => {
                let refusal = of(StatusCode::NOT_FOUND, Some("model_not_found"));
                Self { field: Some("model".to_owned()), ..refusal }
            }
            Problem::UnknownSession(_) => of(StatusCode::NOT_FOUND, Some("session_not_found")),
            Problem::SessionExists(_) => of(StatusCode::CONFLICT, Some("session_exists")),
            Problem::TooManySessions(_) => of(StatusCode::TOO_MANY_REQUESTS, Some("too_many_sessions")),
            Problem::NoChat => of(StatusCode::BAD_REQUEST, Some("no_conversations")),
            Problem::Access(Refused::NoToken | Refused::WrongToken) => {
                of(StatusCode::UNAUTHORIZED, Some("invalid_api_key"))
            }
            Problem::Access(Refused::FiguresOnly) => of(StatusCode::FORBIDDEN, Some("permission_denied")),
            Problem::Access(Refused::TooOften { retry_after, .. }) => {
                later(retry_after, of(StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded")))
            }
            Problem::Access(Refused::TooMany { .. }) => {
                later(SOON, of(StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded")))
            }
            Problem::QueueFull { retry_after } => {
                later(retry_after, of(StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded")))
            }
            Problem::Busy | Problem::CompilersBusy => {
                later(SOON, of(StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded")))
            }
            Problem::OutOfMemory(_) => {
                later(RESTART, of(StatusCode::SERVICE_UNAVAILABLE, Some("out_of_memory")))
            }
            Problem::Loading => later(RESTART, of(StatusCode::SERVICE_UNAVAILABLE, Some("model_loading"))),
            Problem::Draining => later(RESTART, of(StatusCode::SERVICE_UNAVAILABLE, Some("shutting_down"))),
            Problem::EngineEnded => later(RESTART, of(StatusCode::SERVICE_UNAVAILABLE, Some("engine_ended"))),
            Problem::DeadlineExceeded => of(StatusCode::GATEWAY_TIMEOUT, Some("deadline_exceeded")),
            Problem::ReaderStalled => of(StatusCode::REQUEST_TIMEOUT, Some("reader_stalled")),
            Problem::Rows(fault) => match fault.device_gone {
                true => of(StatusCode::SERVICE_UNAVAILABLE, Some("storage_gone")),
                false => of(StatusCode::INTERNAL_SERVER_ERROR, Some("storage_read_failed")),
            },
            Problem::Unfollowable(_) => of(StatusCode::BAD_REQUEST, Some("grammar_unfollowable")),
            Problem::Internal(_) => of(StatusCode::INTERNAL_SERVER_ERROR, None),
        }
    }
}

/// At least 1, and not too early.
fn whole_seconds(after: Duration) -> u64 {
    after.as_secs().max(1) + u64::from(after.as_secs() > 0 && after.subsec_nanos() > 0)
}
