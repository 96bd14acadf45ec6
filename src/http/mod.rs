//! HTTP: the dialects of OpenAI and Ollama, probes and metrics, onto the same conversations as gRPC.
//!
//! The rule of the room: clients that exist work unchanged. Fields that the real services ignore are ignored;
//! a field that would change the answer and is not supported is refused by name and never passed over.
//!
//! | file | what it does |
//! |---|---|
//! | `message` | the bytes of a request to a checked shape |
//! | `conversation` | what both dialects write alike |
//! | `refusal` | the one table of status codes |
//! | `streamed`, `whole` | an answer as it comes; an answer at once |
//! | `openai` | `/v1/…`, server-sent events |
//! | `ollama` | `/api/…`, newline-delimited JSON |
//! | `probes`, `metrics` | `/healthz`, `/readyz`, `/`; `/metrics` for Prometheus |
//! | `clock` | times as the dialects write them |
//! | `origin` | keeps web pages of strangers out |
//!
//! Deliberately absent: anything that a browser would need to be let in from elsewhere (CORS), pulling and
//! deleting models, embeddings.

mod clock;
mod conversation;
mod message;
mod metrics;
mod ollama;
mod openai;
mod origin;
mod probes;
mod refusal;
mod streamed;
mod whole;

pub use openai::opening;

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::middleware::from_fn;
use axum::response::Response;

use crate::access::Wants;
use crate::serving::{Problem, State};

/// All calls of HTTP that are not gRPC's.
pub fn calls(state: Arc<State>) -> Router {
    let all = probes::routes().merge(metrics::routes()).merge(openai::routes()).merge(ollama::routes());
    let all = all.fallback(probes::no_such_path).method_not_allowed_fallback(probes::wrong_method);
    all.layer(from_fn(origin::refuse_strangers)).with_state(state)
}

/// What a call wants.
pub fn wants(method: &Method, path: &str) -> Wants {
    match path {
        "/healthz" | "/readyz" => Wants::Health,
        "/metrics" => Wants::Figures,
        _ if matches!(*method, Method::GET | Method::HEAD) => Wants::Facts,
        _ => Wants::Work,
    }
}

/// Whether the engine tells of a call that it was asked for, by the call's path.
pub fn is_told_by_engine(path: &str) -> bool {
    matches!(path, "/v1/chat/completions" | "/v1/completions" | "/api/chat" | "/api/generate")
}

/// Why a call is not answered, in the dialect of its path.
pub fn refused(path: &str, problem: Problem) -> Response {
    probes::refused(path, &problem.into())
}
