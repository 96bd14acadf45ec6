//! Answers: one object, or chunks as server-sent events.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::refusal::Refusal;
use super::super::streamed;
use super::super::whole::Whole;
use super::logprobs;
use super::request::{Body, WantsLogprobs};
use crate::engine::{FinishReason, Usage};
use crate::sampling::Logprobs;
use crate::serving::{Ending, Piece, Problem, Ready};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::{Channel, ToolCall};

/// Which of the two kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A conversation to be answered.
    Chat,
    /// A text to be continued.
    Text,
}

/// Writes one answer.
pub(super) struct Words {
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    tokenizer: Arc<Tokenizer>,
    wants_usage: bool,
    wants_logprobs: bool,
    n_calls: usize,
    /// Characters of a completion so far.
    n_chars: usize,
}

impl Words {
    pub(super) fn new(kind: Kind, body: &Body, name: String, ready: &Ready, created: u64) -> Self {
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Text => "cmpl",
        };
        Self {
            kind,
            id: format!("{prefix}-{name}"),
            created,
            model: ready.engine.model().id.clone(),
            tokenizer: Arc::clone(ready.engine.tokenizer()),
            wants_usage: body.stream_options.as_ref().is_some_and(|o| o.include_usage == Some(true)),
            wants_logprobs: !matches!(body.logprobs, None | Some(WantsLogprobs::Flag(false))),
            n_calls: 0,
            n_chars: 0,
        }
    }

    /// The answer as one object.
    pub(super) fn whole(mut self, answer: Whole) -> Value {
        let Whole { text, thinking, calls, logprobs, ending } = answer;
        let logprobs = self.logprobs(&logprobs);
        let mut choice = json!({ "index": 0, "logprobs": logprobs, "finish_reason": reason(&ending) });
        match self.kind {
            Kind::Text => choice["text"] = text.into(),
            Kind::Chat => {
                let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
                let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
                if !thinking.is_empty() {
                    message["reasoning_content"] = thinking.into();
                }
                if !calls.is_empty() {
                    message["tool_calls"] = calls.into_iter().map(call).collect();
                }
                choice["message"] = message;
            }
        }
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Text => "text_completion",
        };
        let mut answer = self.frame(object, json!([choice]));
        answer["usage"] = usage(ending.usage);
        answer
    }

    fn frame(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    fn logprobs(&mut self, of: &[Logprobs]) -> Value {
        match self.kind {
            _ if !self.wants_logprobs => Value::Null,
            Kind::Chat => logprobs::of_chat(of, &self.tokenizer),
            Kind::Text => logprobs::of_text(of, &self.tokenizer, &mut self.n_chars),
        }
    }

    fn event(&self, choices: Value, usage: Value, out: &mut Vec<u8>) {
        let object = match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Text => "text_completion",
        };
        let mut chunk = self.frame(object, choices);
        if self.wants_usage {
            chunk["usage"] = usage;
        }
        write_event(&chunk, out);
    }

    /// A chunk of a conversation's answer.
    fn delta(&self, delta: Value, logprobs: Value, reason: Option<&str>, out: &mut Vec<u8>) {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason });
        self.event(json!([choice]), Value::Null, out);
    }

    /// A chunk of a completion.
    fn text(&self, text: String, logprobs: Value, reason: Option<&str>, out: &mut Vec<u8>) {
        let choice = json!({ "index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason });
        self.event(json!([choice]), Value::Null, out);
    }

    fn end(&mut self, ending: &Ending, out: &mut Vec<u8>) {
        let reason = Some(reason(ending));
        match self.kind {
            Kind::Chat => self.delta(json!({}), Value::Null, reason, out),
            Kind::Text => self.text(String::new(), Value::Null, reason, out),
        }
        if self.wants_usage {
            self.event(json!([]), usage(ending.usage), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

impl streamed::Words for Words {
    /// A comment.
    const SIGN_OF_LIFE: &'static [u8] = b":\n\n";

    fn begin(&mut self, out: &mut Vec<u8>) {
        // Clients take the role from the first chunk, and nothing else.
        if self.kind == Kind::Chat {
            self.delta(json!({ "role": "assistant", "content": "" }), Value::Null, None, out);
        }
    }

    fn piece(&mut self, piece: Piece, out: &mut Vec<u8>) {
        match piece {
            Piece::Prefill { .. } => {}
            Piece::Text { channel: Channel::Thinking, text, .. } => {
                self.delta(json!({ "reasoning_content": text }), Value::Null, None, out);
            }
            Piece::Text { channel: Channel::Final, text, logprobs } => {
                let logprobs = self.logprobs(&logprobs);
                match self.kind {
                    Kind::Chat => self.delta(json!({ "content": text }), logprobs, None, out),
                    Kind::Text => self.text(text, logprobs, None, out),
                }
            }
            // Some clients read one call of a chunk only.
            Piece::Call(one) => {
                let mut one = call(one);
                one["index"] = self.n_calls.into();
                self.n_calls += 1;
                self.delta(json!({ "tool_calls": [one] }), Value::Null, None, out);
            }
            Piece::Done(ending) => self.end(&ending, out),
            Piece::Failed(problem) => self.failed(problem, out),
        }
    }

    fn failed(&mut self, problem: Problem, out: &mut Vec<u8>) {
        write_event(&super::error(&Refusal::from(problem)), out);
    }
}

fn write_event(value: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(value.to_string().as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// Arguments are the text of a JSON object here.
fn call(call: ToolCall) -> Value {
    let arguments = Value::Object(call.arguments).to_string();
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}

fn reason(ending: &Ending) -> &'static str {
    match ending.finish_reason {
        _ if ending.called => "tool_calls",
        FinishReason::Stop => "stop",
        // The last is an error before it comes here.
        FinishReason::MaxTokens
        | FinishReason::ContextFull
        | FinishReason::TimeLimit
        | FinishReason::Cancelled => "length",
    }
}

fn usage(usage: Usage) -> Value {
    let Usage { prompt_tokens, completion_tokens, cached_tokens } = usage;
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": { "cached_tokens": cached_tokens },
    })
}
