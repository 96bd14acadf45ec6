//! The dialect of OpenAI: `/v1/models`, `/v1/chat/completions`, `/v1/completions`.
//!
//! Beyond the published interface it takes `top_k`, `min_p` and `repetition_penalty`, as other local servers
//! do, and tells thoughts as `reasoning_content`.

mod answer;
mod demands;
mod fields;
mod logprobs;
mod messages;
mod request;

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Path, Request, State as Shared};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::clock::unix_s;
use super::conversation::before_merging;
use super::message::{Message, parse, read};
use super::refusal::Refusal;
use super::streamed;
use super::whole::whole;
use crate::access::Owner;
use crate::engine::{SessionError, SessionKey};
use crate::serving::{Answering, Problem, Promptless, Ready, State, conversation, conversation_opening};
use answer::{Kind, Words};
use request::{Body, Input};

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
}

/// An error in this dialect.
pub(super) fn refused(refusal: &Refusal) -> Response {
    refusal.response(Json(error(refusal)))
}

/// The tokens that all conversations begin with which go on from that of this request, the body of one to
/// `/v1/chat/completions`.
///
/// # Errors
/// What is wrong with it, by the name of the field.
pub async fn opening(state: &State, ready: &Ready, request: &[u8]) -> Result<Vec<u32>, String> {
    let body: Body = parse(request).map_err(|refusal| refusal.message)?;
    let names = fields::Names::of(Kind::Chat, &body);
    let tokens = async {
        state.model(&body.model)?;
        let defaults = &ready.engine.model().default_sampling;
        let (input, ..) = body.translate(Kind::Chat, defaults, String::new())?;
        let Input::Conversation { messages, n_merged, tools, thinking, calls } = input else {
            return Err(Problem::field("messages", "is missing"));
        };
        let opening = conversation_opening(state, ready, messages, tools, thinking, calls).await;
        opening.map_err(|problem| problem.with_fields(|field| before_merging(field, n_merged)))
    };
    tokens.await.map_err(|problem| problem.with_fields(|field| names.name(field)).to_string())
}

fn error(refusal: &Refusal) -> Value {
    let kind = match refusal.status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    json!({ "error": {
        "message": refusal.message,
        "type": kind,
        "param": refusal.field,
        "code": refusal.code,
    } })
}

fn answered(answer: Result<Response, Refusal>) -> Response {
    answer.unwrap_or_else(|refusal| refused(&refusal))
}

async fn models(Shared(state): Shared<Arc<State>>) -> Response {
    let list = |ready: &Ready| Json(json!({ "object": "list", "data": [described(&state, ready)] }));
    answered(state.model("").map(|ready| list(ready).into_response()).map_err(Refusal::from))
}

async fn model(Shared(state): Shared<Arc<State>>, Path(id): Path<String>) -> Response {
    let one = |ready| Json(described(&state, ready)).into_response();
    answered(state.model(&id).map(one).map_err(Refusal::from))
}

fn described(state: &State, ready: &Ready) -> Value {
    let created = unix_s(state.started_at());
    json!({ "id": ready.engine.model().id, "object": "model", "created": created, "owned_by": "pled" })
}

async fn chat(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    answered(answer(&state, request, Kind::Chat).await)
}

async fn completions(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    answered(answer(&state, request, Kind::Text).await)
}

async fn answer(state: &State, request: Request, kind: Kind) -> Result<Response, Refusal> {
    let mut message: Message<Body> = read(request).await?;
    let body = &message.body;
    let ready = state.model(&body.model)?;
    let streams = body.stream.unwrap_or(false);
    let words = Words::new(kind, body, state.unique_name(), ready, unix_s(SystemTime::now()));
    let names = fields::Names::of(kind, body);
    let request_id = state.request_id(&message.request_id);
    message.request_id.clone_from(&request_id);
    let begun = begin(state, ready, message, kind).await;
    let answering = begun.map_err(|problem| problem.with_fields(|field| names.name(field)))?;
    let mut response = if streams {
        let kind = [(CONTENT_TYPE, "text/event-stream"), (axum::http::header::CACHE_CONTROL, "no-cache")];
        (kind, streamed::body(answering, words)).into_response()
    } else {
        Json(words.whole(whole(answering).await?)).into_response()
    };
    // A name that was taken in is visible ASCII.
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", id);
    }
    Ok(response)
}

/// Everything from here names fields as gRPC does; [`fields`] knows what they are called here.
async fn begin(
    state: &State,
    ready: &Ready,
    message: Message<Body>,
    kind: Kind,
) -> Result<Answering, Problem> {
    let Message { body, request_id, priority, owner: Owner(owner), place: _place } = message;
    let defaults = &ready.engine.model().default_sampling;
    let (input, mut rest, form) = body.translate(kind, defaults, request_id)?;
    rest.priority = priority?;
    if !rest.session.is_empty() {
        rest.owner = Arc::clone(&owner);
        match ready.engine.open_session(&SessionKey { owner, id: rest.session.clone() }) {
            Ok(()) => {}
            // It changes no answer, so the request goes without.
            Err(SessionError::TooMany(_)) => rest.session.clear(),
            Err(e) => return Err(e.into()),
        }
    }
    match input {
        Input::Conversation { messages, n_merged, tools, thinking, calls } => {
            let checked = conversation(ready, messages, tools, thinking, calls);
            let original = |field: &str| before_merging(field, n_merged);
            let conversation = checked.map_err(|problem| problem.with_fields(original))?;
            let options = Promptless { field: "messages", rest, form };
            Answering::conversation(state, ready, conversation, options, None).await
        }
        Input::Text(text) => {
            let prompt = state.prompt_tokens(ready, text).await?;
            Answering::text(state, ready, prompt, Promptless { field: "prompt", rest, form }, None).await
        }
        Input::Tokens(prompt) => {
            Answering::text(state, ready, prompt, Promptless { field: "prompt", rest, form }, None).await
        }
    }
}
