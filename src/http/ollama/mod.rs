//! The dialect of Ollama: `/api/chat`, `/api/generate`, and what clients ask before they use them.
//!
//! There is one model, which is always loaded: `keep_alive` and what else concerns loading means nothing here,
//! and the context is as long as the server's `n_ctx` whatever `num_ctx` says. Models are told with the tag
//! `latest`, which requests may leave out.

mod answer;
mod models;
mod options;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use serde_json::json;

use super::conversation::{before_merging, in_function};
use super::message::{Message, read};
use super::refusal::Refusal;
use super::streamed;
use super::whole::whole;
use crate::engine::Draft;
use crate::serving::{Answering, Problem, Promptless, Ready, State, conversation};
use crate::tokenizer::chat::CallRules;
use answer::{Kind, Words};
use request::{Body, Input};

pub(super) fn routes() -> Router<Arc<State>> {
    models::routes().route("/api/chat", post(chat)).route("/api/generate", post(generate))
}

/// An error in this dialect.
pub(super) fn refused(refusal: &Refusal) -> Response {
    refusal.response(Json(json!({ "error": refusal.message })))
}

fn answered(answer: Result<Response, Refusal>) -> Response {
    answer.unwrap_or_else(|refusal| refused(&refusal))
}

/// The model for a request that names `name`, with or without its tag.
fn model<'s>(state: &'s State, name: &str) -> Result<&'s Ready, Problem> {
    state.model(name.strip_suffix(":latest").unwrap_or(name))
}

async fn chat(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    answered(answer(&state, request, Kind::Chat).await)
}

async fn generate(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    answered(answer(&state, request, Kind::Generate).await)
}

async fn answer(state: &State, request: Request, kind: Kind) -> Result<Response, Refusal> {
    let mut message: Message<Body> = read(request).await?;
    let body = &message.body;
    let ready = model(state, &body.model)?;
    let streams = body.stream.unwrap_or(true);
    let name = if body.model.is_empty() { models::name(ready) } else { body.model.clone() };
    let words = Words::new(kind, name);
    message.request_id = state.request_id(&message.request_id);
    let begun = begin(state, ready, message, kind).await;
    let answering = begun.map_err(|problem| problem.with_fields(|field| named(field, kind)))?;
    let Some(answering) = answering else { return Ok(Json(words.loaded()).into_response()) };
    if streams {
        let kind = [(CONTENT_TYPE, "application/x-ndjson")];
        return Ok((kind, streamed::body(answering, words)).into_response());
    }
    Ok(Json(words.whole(whole(answering).await?)).into_response())
}

/// Everything from here names fields as gRPC does. `None`: the client only wants the model to be loaded.
async fn begin(
    state: &State,
    ready: &Ready,
    message: Message<Body>,
    kind: Kind,
) -> Result<Option<Answering>, Problem> {
    let Message { body, request_id, priority, place: _place, .. } = message;
    let priority = priority?;
    let defaults = &ready.engine.model().default_sampling;
    let Some((input, rest, form)) = body.translate(kind, defaults, request_id)? else { return Ok(None) };
    let rest = Draft { priority, ..rest };
    let answering = match input {
        Input::Conversation { messages, n_merged, tools, thinking } => {
            let checked = conversation(ready, messages, tools, thinking, CallRules::default());
            let original = |field: &str| before_merging(field, n_merged);
            let conversation = checked.map_err(|problem| problem.with_fields(original))?;
            let options = Promptless { field: "messages", rest, form };
            Answering::conversation(state, ready, conversation, options, None).await?
        }
        Input::Text(text) => {
            let prompt = state.prompt_tokens(ready, text).await?;
            Answering::text(state, ready, prompt, Promptless { field: "prompt", rest, form }, None).await?
        }
    };
    Ok(Some(answering))
}

/// What a field is called here that the rooms below know by its gRPC name.
fn named(field: &str, kind: Kind) -> String {
    match field {
        "thinking" => return "think".to_owned(),
        "text" => return "prompt".to_owned(),
        "request_id" => return "x-request-id".to_owned(),
        "stopping.max_tokens" => return "options.num_predict".to_owned(),
        "sampling.repetition_penalty" => return "options.repeat_penalty".to_owned(),
        // The conversation was made here, of the system text and the prompt.
        _ if kind == Kind::Generate && field.starts_with("messages") => return "prompt".to_owned(),
        _ => {}
    }
    if let Some(plain) = field.strip_prefix("sampling.").or_else(|| field.strip_prefix("stopping.")) {
        return format!("options.{plain}");
    }
    in_function(field).unwrap_or_else(|| field.to_owned())
}
