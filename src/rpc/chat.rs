//! Chat and ChatStream: messages to a conversation, its answer to messages.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde_json::{Map, Value};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Status};

use super::deadline::Deadline;
use super::pb::{self, chat_stream_response as stream};
use super::translate;
use super::validate::{self, violation};
use crate::engine::Violation;
use crate::port::Place;
use crate::serving::{self, Answering, Ending, Named, Piece, Problem, Ready, State};
use crate::tokenizer::chat::{CallRules, Channel, Conversation, Message, Role, Tool, ToolCall, ToolChoice};

/// A conversation as it was said.
pub(super) struct Said {
    pub(super) messages: Vec<Message>,
    pub(super) tools: Vec<Tool>,
    pub(super) thinking: bool,
    pub(super) calls: CallRules,
}

/// Translates and checks.
pub(super) fn conversation(ready: &Ready, message: pb::ChatRequest) -> Result<Conversation, Problem> {
    let Said { messages, tools, thinking, calls } = said(message)?;
    serving::conversation(ready, messages, tools, thinking, calls)
}

/// Translates.
pub(super) fn said(message: pb::ChatRequest) -> Result<Said, Problem> {
    let mut wrong = Vec::new();
    let choice = message.tool_choice.unwrap_or_default();
    let mode = pb::ToolChoiceMode::try_from(choice.mode);
    if mode.is_err() {
        wrong.push(violation("tool_choice.mode", &format!("is {}, which is no mode", choice.mode)));
    }
    let calls = CallRules {
        choice: match (mode, choice.name) {
            (Ok(pb::ToolChoiceMode::None), _) => ToolChoice::Auto,
            (_, name) if !name.is_empty() => ToolChoice::Named(name),
            (Ok(pb::ToolChoiceMode::Required), _) => ToolChoice::Required,
            _ => ToolChoice::Auto,
        },
        single: choice.single_call,
    };
    let mut tools = Vec::with_capacity(message.tools.len());
    for (i, t) in message.tools.into_iter().enumerate() {
        let field = format!("tools[{i}].parameters_json_schema");
        let parameters = json(&t.parameters_json_schema, &field, &mut wrong);
        tools.push(Tool { name: t.name, description: t.description, parameters });
    }
    if mode == Ok(pb::ToolChoiceMode::None) {
        tools.clear();
    }
    let mut messages = Vec::with_capacity(message.messages.len());
    for (i, m) in message.messages.into_iter().enumerate() {
        messages.push(one_message(m, i, &mut wrong));
    }
    match wrong.is_empty() {
        true => Ok(Said { messages, tools, thinking: message.thinking, calls }),
        false => Err(Problem::Fields(wrong)),
    }
}

fn one_message(m: pb::ChatMessage, i: usize, wrong: &mut Vec<Violation>) -> Message {
    let role = match m.role() {
        pb::ChatRole::System => Role::System,
        pb::ChatRole::User => Role::User,
        pb::ChatRole::Assistant => Role::Assistant,
        pb::ChatRole::Tool => Role::Tool,
        pb::ChatRole::Unspecified => {
            wrong.push(violation(&format!("messages[{i}].role"), "is missing or no role"));
            Role::User
        }
    };
    let mut text = String::new();
    for (p, part) in m.parts.into_iter().enumerate() {
        match part.part {
            Some(pb::chat_part::Part::Text(more)) => text.push_str(&more),
            None => wrong.push(violation(&format!("messages[{i}].parts[{p}]"), "is empty: text must be set")),
        }
    }
    let mut tool_calls = Vec::with_capacity(m.tool_calls.len());
    for (c, call) in m.tool_calls.into_iter().enumerate() {
        let field = format!("messages[{i}].tool_calls[{c}].arguments_json");
        let arguments = match json(&call.arguments_json, &field, wrong) {
            None => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => {
                wrong.push(violation(&field, "is no JSON object"));
                Map::new()
            }
        };
        tool_calls.push(ToolCall { id: call.id, name: call.name, arguments });
    }
    Message { role, text, tool_calls, tool_call_id: m.tool_call_id }
}

/// A field that holds JSON, or nothing.
fn json(text: &str, field: &str, wrong: &mut Vec<Violation>) -> Option<Value> {
    if text.trim().is_empty() {
        return None;
    }
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(e) => {
            wrong.push(violation(field, &format!("is no JSON: {e}")));
            None
        }
    }
}

/// A conversation that was taken in.
pub(super) struct Accepted {
    answering: Answering,
    request_id: String,
}

impl Accepted {
    pub(super) async fn new(state: &State, request: Request<pb::ChatRequest>) -> Result<Self, Problem> {
        let deadline = request.extensions().get::<Deadline>().map(|d| d.0);
        // Until the engine has its own place for the request.
        let _place = request.extensions().get::<Place>().cloned();
        let owner = validate::owner(&request);
        let priority = validate::priority(&request)?;
        let named = request.extensions().get::<Named>().cloned().unwrap_or_default();
        let mut message = request.into_inner();
        named.set(&message.request_id);
        let ready = state.model(&message.model)?;
        let request_id = state.request_id(&message.request_id);
        let defaults = &ready.engine.model().default_sampling;
        let mut options = validate::chat_options(&mut message, defaults, request_id.clone(), deadline)?;
        (options.rest.owner, options.rest.priority) = (owner, priority);
        let conversation = conversation(ready, message)?;
        let answering = Answering::conversation(state, ready, conversation, options, deadline).await?;
        Ok(Self { answering, request_id })
    }

    /// The answer as it comes.
    pub(super) fn events(self) -> Events {
        let queue_position = translate::count(self.answering.queue_position());
        let started = stream::Event::Started(pb::ChatStarted { request_id: self.request_id, queue_position });
        Events { started: Some(started), answering: self.answering }
    }

    /// The answer as one message.
    pub(super) async fn whole(self) -> Result<pb::ChatResponse, Status> {
        let mut answer = pb::ChatResponse { request_id: self.request_id.clone(), ..Default::default() };
        let (mut text, mut tool_calls) = (String::new(), Vec::new());
        let mut events = self.events();
        while let Some(event) = events.next().await {
            match event?.event {
                Some(stream::Event::Delta(delta)) if delta.channel() == pb::ChatChannel::Thinking => {
                    answer.thinking.push_str(&delta.text);
                }
                Some(stream::Event::Delta(delta)) => text.push_str(&delta.text),
                Some(stream::Event::ToolCall(call)) => tool_calls.push(call),
                Some(stream::Event::Done(done)) => {
                    answer.finish_reason = done.finish_reason;
                    answer.matched_stop = done.matched_stop;
                    answer.usage = done.usage;
                    answer.timings = done.timings;
                }
                Some(stream::Event::Started(_) | stream::Event::Prefill(_)) | None => {}
            }
        }
        let parts = if text.is_empty() { Vec::new() } else { vec![part(text)] };
        let role = pb::ChatRole::Assistant.into();
        answer.message = Some(pb::ChatMessage { role, parts, tool_calls, ..Default::default() });
        Ok(answer)
    }
}

fn part(text: String) -> pb::ChatPart {
    pb::ChatPart { part: Some(pb::chat_part::Part::Text(text)) }
}

fn done(done: Ending) -> pb::ChatDone {
    let reason = match done.called {
        true => pb::FinishReason::ToolCalls,
        false => done.finish_reason.into(),
    };
    pb::ChatDone {
        finish_reason: reason.into(),
        matched_stop: done.matched_stop,
        usage: Some(done.usage.into()),
        timings: Some(done.timings.into()),
    }
}

fn event(piece: Piece) -> Result<stream::Event, Status> {
    Ok(match piece {
        Piece::Prefill { done, total } => stream::Event::Prefill(pb::ChatPrefillProgress {
            done_tokens: translate::count(done),
            total_tokens: translate::count(total),
        }),
        Piece::Text { channel, text, .. } => {
            let channel = match channel {
                Channel::Final => pb::ChatChannel::Final,
                Channel::Thinking => pb::ChatChannel::Thinking,
            };
            stream::Event::Delta(pb::ChatDelta { channel: channel.into(), text })
        }
        Piece::Call(ToolCall { id, name, arguments }) => {
            let arguments_json = Value::Object(arguments).to_string();
            stream::Event::ToolCall(pb::ToolCall { id, name, arguments_json })
        }
        Piece::Done(end) => stream::Event::Done(done(end)),
        Piece::Failed(problem) => return Err(problem.into()),
    })
}

/// The events of one answer. Dropped when the client goes away, which cancels the generation.
pub(super) struct Events {
    started: Option<stream::Event>,
    answering: Answering,
}

impl Stream for Events {
    type Item = Result<pb::ChatStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = match self.started.take() {
            Some(started) => Some(Ok(started)),
            None => ready!(self.answering.poll_next(cx)).map(event),
        };
        Poll::Ready(event.map(|event| event.map(|e| pb::ChatStreamResponse { event: Some(e) })))
    }
}
