//! What clients ask before they use a model.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::clock::rfc3339;
use super::super::message::{Message, read};
use super::super::refusal::Refusal;
use super::answered;
use crate::serving::{Ready, State};
use crate::tokenizer::chat::Family;

/// The model stays loaded.
const NEVER: &str = "9999-12-31T23:59:59Z";

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/api/version", get(version))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(running))
        .route("/api/show", post(show))
}

/// The name of the model with its tag.
pub(super) fn name(ready: &Ready) -> String {
    format!("{}:latest", ready.engine.model().id)
}

async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}

async fn tags(Shared(state): Shared<Arc<State>>) -> Response {
    let list = |ready: &Ready| {
        let mut model = described(ready);
        // When the file was written nobody needs to know: it is the one that the server began with.
        model["modified_at"] = rfc3339(state.started_at()).into();
        Json(json!({ "models": [model] })).into_response()
    };
    answered(state.model("").map(list).map_err(Refusal::from))
}

async fn running(Shared(state): Shared<Arc<State>>) -> Response {
    let list = |ready: &Ready| {
        let mut model = described(ready);
        model["expires_at"] = NEVER.into();
        model["size_vram"] = 0.into();
        model["context_length"] = ready.engine.limits().n_ctx.into();
        Json(json!({ "models": [model] })).into_response()
    };
    answered(state.model("").map(list).map_err(Refusal::from))
}

#[derive(Debug, Deserialize)]
struct Show {
    model: Option<String>,
    /// What `model` was called before.
    name: Option<String>,
}

async fn show(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    answered(shown(&state, request).await)
}

async fn shown(state: &State, request: Request) -> Result<Response, Refusal> {
    let message: Message<Show> = read(request).await?;
    let asked = message.body.model.or(message.body.name).unwrap_or_default();
    let ready = super::model(state, &asked)?;
    let model = ready.engine.model();
    let s = &model.default_sampling;
    let architecture = model.architecture.as_str();
    let mut info = json!({
        "general.architecture": architecture,
        "general.name": model.name,
        "general.parameter_count": model.n_params,
    });
    info[format!("{architecture}.context_length")] = model.n_ctx_train.into();
    let capabilities = match ready.engine.chat().map(|format| format.family()) {
        Some(Family::Gemma4) => json!(["completion", "tools", "thinking"]),
        Some(Family::Gemma3) | None => json!(["completion"]),
    };
    let answer = json!({
        "modelfile": "",
        "template": "",
        "parameters": format!("temperature {}\ntop_k {}\ntop_p {}", s.temperature, s.top_k, s.top_p),
        "details": details(ready),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": rfc3339(state.started_at()),
    });
    Ok(Json(answer).into_response())
}

fn described(ready: &Ready) -> Value {
    let model = ready.engine.model();
    let name = name(ready);
    json!({
        "name": name,
        "model": name,
        "size": model.resident_bytes + model.storage_bytes,
        // Nobody has computed one.
        "digest": "",
        "details": details(ready),
    })
}

fn details(ready: &Ready) -> Value {
    let model = ready.engine.model();
    let quantization = model.quantizations.first().map_or("", |q| q.format.as_str());
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": model.architecture,
        "families": [model.architecture],
        "parameter_size": in_short(model.n_params),
        "quantization_level": quantization,
    })
}

/// As in "4.6B" and "268M".
fn in_short(n_params: u64) -> String {
    match n_params {
        n if n >= 1_000_000_000 => format!("{:.1}B", n as f64 / 1e9),
        n => format!("{:.0}M", n as f64 / 1e6),
    }
}
