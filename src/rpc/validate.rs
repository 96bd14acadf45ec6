//! Messages to requests: what the wire leaves open is checked here or by the engine's own request, once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::Request;

use super::pb::{self, chat_request, generate_request};
use crate::access::Owner;
use crate::engine::{Draft, Priority, Stopping, Violation, check_session_id};
use crate::sampling::SamplingParams;
use crate::sampling::constraint::Grammar;
use crate::serving::{self, Form, PRIORITY, Problem, Promptless};

/// The most tokens that a Detokenize call takes: their text may be a hundred times as long.
pub(super) const MAX_DETOKENIZE_IDS: usize = 1 << 17;
/// The longest text that Tokenize takes: the answer may take sixty times as much memory. Unit: bytes.
pub(super) const MAX_TOKENIZE_BYTES: usize = 1 << 18;
/// The longest text that CountTokens takes. Unit: bytes.
pub(super) const MAX_COUNT_BYTES: usize = 1 << 20;

/// A prompt as it came.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Prompt {
    /// To be tokenised, a beginning-of-sequence token in front.
    Text(String),
    /// Taken as it is.
    Tokens(Vec<u32>),
}

/// Translates a message. The prompt comes later, because tokenising takes time.
pub(super) fn generate(
    message: pb::GenerateRequest,
    defaults: &SamplingParams,
    request_id: String,
    deadline: Option<Instant>,
) -> Result<(Prompt, Promptless), Problem> {
    let mut violations = Vec::new();
    let (field, prompt) = match message.prompt {
        Some(pb::generate_request::Prompt::Text(text)) => ("text", Prompt::Text(text)),
        Some(pb::generate_request::Prompt::Tokens(tokens)) => ("tokens.ids", Prompt::Tokens(tokens.ids)),
        None => {
            violations.push(violation("prompt", "is missing: text or tokens must be set"));
            ("prompt", Prompt::Tokens(Vec::new()))
        }
    };
    let stopping = stopping(message.stopping.unwrap_or_default(), &mut violations);
    let form = message.constraint.map(Wanted::from).and_then(|wanted| wanted.form(&mut violations));
    if !violations.is_empty() {
        return Err(Problem::Fields(violations));
    }
    let session = session_of(&message.session)?;
    let rest = Draft {
        prompt: Vec::new(),
        sampling: sampling(message.sampling.unwrap_or_default(), defaults),
        stopping,
        top_logprobs: message.top_logprobs.map(|n| n as usize),
        request_id,
        deadline,
        session,
        ..Draft::default()
    };
    Ok((prompt, Promptless { field, rest, form }))
}

/// Translates what a conversation asks for besides being answered.
pub(super) fn chat_options(
    message: &mut pb::ChatRequest,
    defaults: &SamplingParams,
    request_id: String,
    deadline: Option<Instant>,
) -> Result<Promptless, Problem> {
    let mut violations = Vec::new();
    let stopping = stopping(message.stopping.take().unwrap_or_default(), &mut violations);
    let form = message.constraint.take().map(Wanted::from).and_then(|wanted| wanted.form(&mut violations));
    if !violations.is_empty() {
        return Err(Problem::Fields(violations));
    }
    let sampling = sampling(message.sampling.take().unwrap_or_default(), defaults);
    let session = session_of(&message.session)?;
    let rest = Draft { sampling, stopping, request_id, deadline, session, ..Draft::default() };
    Ok(Promptless { field: "messages", rest, form })
}

/// A constraint as it came.
enum Wanted {
    Anything,
    JsonSchema(String),
    Grammar(&'static str, Grammar),
}

/// Both requests have the same fields, but the generated types differ.
macro_rules! wanted_from {
    ($request:ident) => {
        impl From<$request::Constraint> for Wanted {
            fn from(constraint: $request::Constraint) -> Self {
                use $request::Constraint as From;
                match constraint {
                    From::JsonSchema(schema) => Self::JsonSchema(schema),
                    From::JsonObject(true) => Self::Grammar("json_object", Grammar::JsonObject),
                    From::JsonObject(false) => Self::Anything,
                    From::Regex(regex) => Self::Grammar("regex", Grammar::Regex(regex)),
                    From::LarkGrammar(text) => Self::Grammar("lark_grammar", Grammar::Lark(text)),
                    From::Choice(choice) => Self::Grammar("choice", Grammar::Choice(choice.values)),
                }
            }
        }
    };
}

wanted_from!(generate_request);
wanted_from!(chat_request);

impl Wanted {
    fn form(self, violations: &mut Vec<Violation>) -> Option<Form> {
        match self {
            Self::Anything => None,
            Self::Grammar(field, grammar) => Some(Form { field, grammar }),
            Self::JsonSchema(text) => {
                Form::json_schema("json_schema", &text).map_err(|v| violations.push(v)).ok()
            }
        }
    }
}

/// How urgent a call is.
pub(super) fn priority<T>(request: &Request<T>) -> Result<Priority, Problem> {
    serving::priority(request.metadata().get(PRIORITY).map(|said| said.as_bytes()))
}

/// Whose sessions a call may name.
pub(super) fn owner<T>(request: &Request<T>) -> Arc<str> {
    request.extensions().get::<Owner>().cloned().unwrap_or_default().0
}

/// The id of the session that a request names, if it names one.
fn session_of(name: &str) -> Result<String, Problem> {
    if name.is_empty() { Ok(String::new()) } else { session_id(name, "session") }
}

/// The id in the resource name of a session.
pub(super) fn session_id(name: &str, field: &str) -> Result<String, Problem> {
    let Some(id) = name.strip_prefix("sessions/") else {
        return Err(Problem::field(field, "is no name of a session, which is \"sessions/\" and an id"));
    };
    check_session_id(id).map_err(|problem| Problem::field(field, problem))?;
    Ok(id.to_owned())
}

fn sampling(message: pb::SamplingParams, defaults: &SamplingParams) -> SamplingParams {
    let or = |value: Option<f32>, default| value.unwrap_or(default);
    let bias = match message.logit_bias.is_empty() {
        true => defaults.logit_bias.clone(),
        false => message.logit_bias.into_iter().collect(),
    };
    SamplingParams {
        temperature: or(message.temperature, defaults.temperature),
        top_k: message.top_k.unwrap_or(defaults.top_k),
        top_p: or(message.top_p, defaults.top_p),
        min_p: or(message.min_p, defaults.min_p),
        repetition_penalty: or(message.repetition_penalty, defaults.repetition_penalty),
        presence_penalty: or(message.presence_penalty, defaults.presence_penalty),
        frequency_penalty: or(message.frequency_penalty, defaults.frequency_penalty),
        seed: message.seed.or(defaults.seed),
        logit_bias: bias,
    }
}

fn stopping(message: pb::StoppingCriteria, violations: &mut Vec<Violation>) -> Stopping {
    let time_limit = message.time_limit.and_then(|limit| match Duration::try_from(limit) {
        Ok(limit) => Some(limit),
        Err(e) => {
            violations.push(violation("stopping.time_limit", &format!("is no positive duration: {e}")));
            None
        }
    });
    Stopping {
        max_tokens: message.max_tokens.map(|n| n as usize),
        min_tokens: message.min_tokens.unwrap_or(0) as usize,
        stop: message.stop,
        stop_token_ids: message.stop_token_ids,
        ignore_eos: message.ignore_eos,
        time_limit,
    }
}

/// The ids of a Detokenize call.
pub(super) fn detokenize(ids: &[u32], n_vocab: usize) -> Result<(), Problem> {
    if ids.len() > MAX_DETOKENIZE_IDS {
        let problem = format!("has {} ids, at most {MAX_DETOKENIZE_IDS}", ids.len());
        return Err(Problem::Fields(vec![violation("ids", &problem)]));
    }
    match ids.iter().enumerate().find(|(_, id)| **id as usize >= n_vocab) {
        None => Ok(()),
        Some((i, id)) => {
            let problem = format!("is {id}, the vocabulary has {n_vocab} tokens");
            Err(Problem::Fields(vec![violation(&format!("ids[{i}]"), &problem)]))
        }
    }
}

/// The text of a Tokenize or CountTokens call.
pub(super) fn tokenize(text: &str, max_bytes: usize) -> Result<(), Problem> {
    if text.len() <= max_bytes {
        return Ok(());
    }
    let problem = format!("has {} bytes, at most {max_bytes}", text.len());
    Err(Problem::Fields(vec![violation("text", &problem)]))
}

pub(super) fn violation(field: &str, problem: &str) -> Violation {
    Violation { field: field.to_owned(), problem: problem.to_owned() }
}
