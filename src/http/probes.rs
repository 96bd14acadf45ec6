//! Whether the server lives, whether it takes requests in, and what it is.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::refusal::Refusal;
use super::{ollama, openai};
use crate::serving::{Life, State};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/", get(hello)).route("/healthz", get(healthy)).route("/readyz", get(ready))
}

async fn hello() -> &'static str {
    concat!("pled ", env!("CARGO_PKG_VERSION"), " is running\n")
}

/// Whether a restart would not help.
async fn healthy(Shared(state): Shared<Arc<State>>) -> Response {
    match state.life() {
        Life::Ended => (StatusCode::SERVICE_UNAVAILABLE, "the engine has ended\n").into_response(),
        Life::Loading | Life::Serving | Life::Draining => "ok\n".into_response(),
    }
}

async fn ready(Shared(state): Shared<Arc<State>>) -> Response {
    let not_ready = |why: &'static str| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    match state.life() {
        Life::Serving => "ready\n".into_response(),
        Life::Loading => not_ready("the model is being loaded\n"),
        Life::Draining => not_ready("the server is shutting down\n"),
        Life::Ended => not_ready("the engine has ended\n"),
    }
}

/// Answers in the dialect of the path.
pub(super) fn refused(path: &str, refusal: &Refusal) -> Response {
    match path.starts_with("/api/") {
        true => ollama::refused(refusal),
        false => openai::refused(refusal),
    }
}

pub(super) async fn no_such_path(uri: axum::http::Uri) -> Response {
    let shown: String = uri.path().chars().take(100).collect();
    let message = format!("there is nothing at {}", shown.escape_debug());
    refused(uri.path(), &Refusal::new(StatusCode::NOT_FOUND, message))
}

pub(super) async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> Response {
    let shown: String = method.as_str().chars().take(20).collect();
    let message = format!("{shown} is not possible here");
    refused(uri.path(), &Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message))
}
