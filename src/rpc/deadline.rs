//! The deadline of a call, as its client states it in `grpc-timeout`.
//!
//! This layer stands around all that a call may wait for: it answers DEADLINE_EXCEEDED, also while a
//! request's own bytes are still on their way, and tells methods that answer in streams what their
//! deadline is. Calls of other dialects have no such header and pass.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http;
use tonic::Status;
use tonic::codegen::Service;

use super::is_grpc;
use crate::serving::Problem;

/// Stands among the extensions of requests whose client waits no longer than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline(pub(super) Instant);

/// Keeps the deadlines of the calls of a service.
#[derive(Clone, Debug)]
pub struct KeepDeadlines<S>(pub S);

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B> Service<http::Request<B>> for KeepDeadlines<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let timeout = request.headers().get("grpc-timeout").filter(|_| is_grpc(request.headers()));
        let timeout = timeout.and_then(|v| parse(v.to_str().ok()?));
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let Some(deadline) = deadline else { return Box::pin(self.0.call(request)) };
        request.extensions_mut().insert(Deadline(deadline));
        let answer = self.0.call(request);
        Box::pin(async move {
            match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::from(Problem::DeadlineExceeded).into_http()),
            }
        })
    }
}

/// A `grpc-timeout` value: at most 8 digits and a unit. Anything else is no timeout.
fn parse(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        assert_eq!(parse("3H"), Some(Duration::from_secs(3 * 3600)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse("42m"), Some(Duration::from_millis(42)));
        assert_eq!(parse("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parse("82n"), Some(Duration::from_nanos(82)));
        for wrong in ["", "S", "1", "1x", "123456789S", "-1S", "+1S", "1é", "é"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
