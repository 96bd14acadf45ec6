//! Answers: one object, or one for each piece on a line of its own.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::clock::rfc3339;
use super::super::refusal::Refusal;
use super::super::streamed;
use super::super::whole::Whole;
use crate::engine::{FinishReason, Timings, Usage};
use crate::serving::{Ending, Piece, Problem};
use crate::tokenizer::chat::{Channel, ToolCall};

/// Which of the two kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A conversation to be answered.
    Chat,
    /// A prompt to be answered or continued.
    Generate,
}

/// Writes one answer.
pub(super) struct Words {
    kind: Kind,
    model: String,
}

impl Words {
    pub(super) fn new(kind: Kind, model: String) -> Self {
        Self { kind, model }
    }

    /// The answer to a request that only wants the model to be loaded.
    pub(super) fn loaded(&self) -> Value {
        let mut answer = self.said(String::new(), String::new(), Vec::new());
        answer["done"] = true.into();
        answer["done_reason"] = "load".into();
        answer
    }

    /// The answer as one object.
    pub(super) fn whole(&self, answer: Whole) -> Value {
        let Whole { text, thinking, calls, ending, .. } = answer;
        end(&ending, self.said(text, thinking, calls))
    }

    /// An answer or a piece of one.
    fn said(&self, text: String, thinking: String, calls: Vec<ToolCall>) -> Value {
        let created_at = rfc3339(SystemTime::now());
        let mut frame = json!({ "model": self.model, "created_at": created_at, "done": false });
        let mut said = match self.kind {
            Kind::Chat => json!({ "role": "assistant", "content": text }),
            Kind::Generate => {
                frame["response"] = text.into();
                Value::Null
            }
        };
        let place = if self.kind == Kind::Chat { &mut said } else { &mut frame };
        if !thinking.is_empty() {
            place["thinking"] = thinking.into();
        }
        if !calls.is_empty() {
            place["tool_calls"] = calls.into_iter().map(call).collect();
        }
        if self.kind == Kind::Chat {
            frame["message"] = said;
        }
        frame
    }
}

impl streamed::Words for Words {
    /// There is nothing that all clients skip.
    const SIGN_OF_LIFE: &'static [u8] = b"";

    fn begin(&mut self, _: &mut Vec<u8>) {}

    fn piece(&mut self, piece: Piece, out: &mut Vec<u8>) {
        let line = match piece {
            Piece::Prefill { .. } => return,
            Piece::Text { channel: Channel::Final, text, .. } => self.said(text, String::new(), Vec::new()),
            Piece::Text { channel: Channel::Thinking, text, .. } => {
                self.said(String::new(), text, Vec::new())
            }
            Piece::Call(call) => self.said(String::new(), String::new(), vec![call]),
            Piece::Done(ending) => end(&ending, self.said(String::new(), String::new(), Vec::new())),
            Piece::Failed(problem) => return self.failed(problem, out),
        };
        write_line(&line, out);
    }

    fn failed(&mut self, problem: Problem, out: &mut Vec<u8>) {
        write_line(&json!({ "error": Refusal::from(problem).message }), out);
    }
}

fn write_line(value: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(value.to_string().as_bytes());
    out.push(b'\n');
}

/// Arguments are an object here.
fn call(call: ToolCall) -> Value {
    json!({ "id": call.id, "function": { "name": call.name, "arguments": call.arguments } })
}

/// The last object of an answer.
fn end(ending: &Ending, mut frame: Value) -> Value {
    let Usage { prompt_tokens, completion_tokens, .. } = ending.usage;
    let Timings { queue_ms, prefill_ms, decode_ms, .. } = ending.timings;
    frame["done"] = true.into();
    frame["done_reason"] = match ending.finish_reason {
        FinishReason::Stop => "stop",
        // The last is an error before it comes here.
        FinishReason::MaxTokens
        | FinishReason::ContextFull
        | FinishReason::TimeLimit
        | FinishReason::Cancelled => "length",
    }
    .into();
    frame["total_duration"] = ns(queue_ms + prefill_ms + decode_ms).into();
    // The model is loaded before requests are taken in.
    frame["load_duration"] = 0.into();
    frame["prompt_eval_count"] = prompt_tokens.into();
    frame["prompt_eval_duration"] = ns(prefill_ms).into();
    frame["eval_count"] = completion_tokens.into();
    frame["eval_duration"] = ns(decode_ms).into();
    frame
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6) as u64
}
