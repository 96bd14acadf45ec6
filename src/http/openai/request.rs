//! What a request asks for.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::conversation::{Tool, merged, shown, tools, violation};
use super::answer::Kind;
use super::demands::{Choice, Format};
use super::messages::{self, ChatMessage};
use crate::engine::{Draft, Stopping, Violation};
use crate::sampling::SamplingParams;
use crate::serving::{Form, Problem};
use crate::tokenizer::chat::{self, CallRules, ToolChoice};

/// Tokens of a completion whose request does not say how many, as the interface has it.
const DEFAULT_COMPLETION_TOKENS: usize = 16;

/// The body of both kinds of requests. What is not here is ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Body {
    #[serde(default)]
    pub(super) model: String,
    messages: Option<Vec<ChatMessage>>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<Choice>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<Format>,
    reasoning_effort: Option<String>,
    prompt: Option<Prompt>,

    user: Option<String>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    max_tokens: Option<usize>,
    pub(super) max_completion_tokens: Option<usize>,
    stop: Option<Stop>,

    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    seed: Option<Seed>,
    logit_bias: Option<BTreeMap<String, f32>>,
    pub(super) logprobs: Option<WantsLogprobs>,
    top_logprobs: Option<usize>,

    // What would change the answer and is possible in part or not at all.
    n: Option<u64>,
    best_of: Option<u64>,
    echo: Option<bool>,
    suffix: Option<String>,
    modalities: Option<Vec<String>>,
    verbosity: Option<String>,
    functions: Option<IgnoredAny>,
    function_call: Option<IgnoredAny>,
    audio: Option<IgnoredAny>,
    web_search_options: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string, an array of one string, or an array of token ids")]
enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
enum Stop {
    One(String),
    Several(Vec<String>),
}

/// Any 64 bits are a seed.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "expected an integer of 64 bits")]
enum Seed {
    Positive(u64),
    Negative(i64),
}

/// A flag of conversations, a number of completions.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "expected true or false, of a completion a number")]
pub(super) enum WantsLogprobs {
    Flag(bool),
    Number(usize),
}

/// What is to be continued.
#[derive(Debug)]
pub(super) enum Input {
    Conversation {
        messages: Vec<chat::Message>,
        /// How many messages of the request went into the first one, less one.
        n_merged: usize,
        tools: Vec<chat::Tool>,
        thinking: bool,
        calls: CallRules,
    },
    Text(String),
    Tokens(Vec<u32>),
}

/// The session of a user, whose name may have any characters.
fn session_of_user(user: &str) -> String {
    let mut id = String::new();
    for byte in user.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            true => id.push(byte as char),
            false => id.push_str(&format!("~{byte:02x}")),
        }
    }
    if id.is_empty() { id } else { format!("user-{id}") }
}

impl Body {
    /// Checks what the engine does not, and translates.
    pub(super) fn translate(
        mut self,
        kind: Kind,
        defaults: &SamplingParams,
        request_id: String,
    ) -> Result<(Input, Draft, Option<Form>), Problem> {
        let mut wrong = Vec::new();
        self.refuse_unsupported(kind, &mut wrong);
        let sampling = self.sampling(defaults, &mut wrong);
        let top_logprobs = self.wanted_logprobs(kind, &mut wrong);
        let max_tokens = self.max_completion_tokens.or(self.max_tokens);
        let default_max_tokens = (kind == Kind::Text).then_some(DEFAULT_COMPLETION_TOKENS);
        let stopping = Stopping {
            max_tokens: max_tokens.or(default_max_tokens),
            stop: match self.stop.take() {
                None => Vec::new(),
                Some(Stop::One(text)) => vec![text],
                Some(Stop::Several(texts)) => texts,
            },
            ..Stopping::default()
        };
        let form = self.response_format.take().and_then(|format| format.form(&mut wrong));
        let input = match kind {
            Kind::Chat => self.conversation(&mut wrong),
            Kind::Text => self.prompt(&mut wrong),
        };
        match input {
            Some(input) if wrong.is_empty() => {
                let session = self.user.as_deref().map(session_of_user).unwrap_or_default();
                let rest =
                    Draft { sampling, stopping, top_logprobs, request_id, session, ..Draft::default() };
                Ok((input, rest, form))
            }
            _ => Err(Problem::Fields(wrong)),
        }
    }

    fn conversation(&mut self, wrong: &mut Vec<Violation>) -> Option<Input> {
        let Some(messages) = self.messages.take() else {
            wrong.push(violation("messages", "is missing"));
            return None;
        };
        let thinking = match self.reasoning_effort.as_deref() {
            None | Some("none" | "minimal") => false,
            Some("low" | "medium" | "high" | "xhigh") => true,
            Some(other) => {
                let problem = format!("is {:?}, which is no effort", shown(other));
                wrong.push(violation("reasoning_effort", problem));
                false
            }
        };
        let mut tools = tools(self.tools.take().unwrap_or_default(), wrong);
        let choice = self.tool_choice.take().map_or(Some(ToolChoice::Auto), |choice| choice.choice(wrong));
        if choice.is_none() {
            tools.clear();
        }
        let calls =
            CallRules { choice: choice.unwrap_or_default(), single: self.parallel_tool_calls == Some(false) };
        let (messages, n_merged) = merged(messages::translated(messages, wrong));
        Some(Input::Conversation { messages, n_merged, tools, thinking, calls })
    }

    fn prompt(&mut self, wrong: &mut Vec<Violation>) -> Option<Input> {
        let several = "has several prompts, one is possible";
        match self.prompt.take() {
            None => wrong.push(violation("prompt", "is missing")),
            Some(Prompt::Text(text)) => return Some(Input::Text(text)),
            Some(Prompt::Tokens(ids)) => return Some(Input::Tokens(ids)),
            Some(Prompt::Texts(mut texts)) => match texts.pop() {
                Some(text) if texts.is_empty() => return Some(Input::Text(text)),
                _ => wrong.push(violation("prompt", several)),
            },
            Some(Prompt::TokenLists(mut lists)) => match lists.pop() {
                Some(ids) if lists.is_empty() => return Some(Input::Tokens(ids)),
                _ => wrong.push(violation("prompt", several)),
            },
        }
        None
    }

    fn sampling(&self, defaults: &SamplingParams, wrong: &mut Vec<Violation>) -> SamplingParams {
        let mut logit_bias = Vec::new();
        for (id, &bias) in self.logit_bias.iter().flatten() {
            match id.parse() {
                Ok(id) => logit_bias.push((id, bias)),
                Err(_) => {
                    let problem = format!("has the key {:?}, which is no token id", shown(id));
                    wrong.push(violation("logit_bias", problem));
                    break;
                }
            }
        }
        let seed = self.seed.map(|seed| match seed {
            Seed::Positive(seed) => seed,
            Seed::Negative(seed) => seed.cast_unsigned(),
        });
        SamplingParams {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            seed: seed.or(defaults.seed),
            logit_bias: if logit_bias.is_empty() { defaults.logit_bias.clone() } else { logit_bias },
        }
    }

    fn wanted_logprobs(&self, kind: Kind, wrong: &mut Vec<Violation>) -> Option<usize> {
        let top = self.top_logprobs;
        match (kind, self.logprobs) {
            (Kind::Chat, None | Some(WantsLogprobs::Flag(false))) => {
                if top.is_some_and(|n| n > 0) {
                    wrong.push(violation("top_logprobs", "is possible together with logprobs: true only"));
                }
                None
            }
            (Kind::Chat, Some(WantsLogprobs::Flag(true))) => Some(top.unwrap_or(0)),
            (Kind::Chat, Some(WantsLogprobs::Number(n))) => {
                wrong.push(violation("logprobs", format!("is {n}, it must be true or false")));
                None
            }
            (Kind::Text, None | Some(WantsLogprobs::Flag(false))) => None,
            (Kind::Text, Some(WantsLogprobs::Number(n))) => Some(n),
            (Kind::Text, Some(WantsLogprobs::Flag(true))) => {
                wrong.push(violation("logprobs", "is true, it must be a number"));
                None
            }
        }
    }

    /// Fields that would change the answer.
    fn refuse_unsupported(&self, kind: Kind, wrong: &mut Vec<Violation>) {
        let mut refuse = |is_wrong: bool, field: &str, problem: &str| {
            if is_wrong {
                wrong.push(violation(field, problem));
            }
        };
        let unsupported = "is not supported";
        refuse(self.n.is_some_and(|n| n != 1), "n", "must be 1: more than one answer is not supported");
        if kind == Kind::Text {
            refuse(self.best_of.is_some_and(|n| n != 1), "best_of", "must be 1: more is not supported");
            refuse(self.echo == Some(true), "echo", unsupported);
            refuse(self.suffix.as_ref().is_some_and(|s| !s.is_empty()), "suffix", unsupported);
            return;
        }
        let only_text = |kinds: &Vec<String>| kinds.iter().all(|kind| kind == "text");
        refuse(!self.modalities.as_ref().is_none_or(only_text), "modalities", "must be [\"text\"]");
        refuse(self.verbosity.as_ref().is_some_and(|v| v != "medium"), "verbosity", unsupported);
        refuse(self.functions.is_some(), "functions", "is not supported: tools is");
        refuse(self.function_call.is_some(), "function_call", "is not supported: tool_choice is");
        refuse(self.audio.is_some(), "audio", unsupported);
        refuse(self.web_search_options.is_some(), "web_search_options", unsupported);
    }
}
