//! What a request asks for.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::super::conversation::{Tool, merged, shown, tools, violation};
use super::answer::Kind;
use super::options::Options;
use crate::engine::{Draft, Violation};
use crate::sampling::SamplingParams;
use crate::sampling::constraint::Grammar;
use crate::serving::{Form, Problem};
use crate::tokenizer::chat::{self, Message, Role};

/// The body of both kinds of requests. What is not here is ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Body {
    #[serde(default)]
    pub(super) model: String,
    messages: Option<Vec<ChatMessage>>,
    tools: Option<Vec<Tool>>,
    prompt: Option<String>,
    system: Option<String>,
    raw: Option<bool>,
    pub(super) stream: Option<bool>,
    think: Option<Think>,
    options: Option<Options>,
    format: Option<Value>,

    // What would change the answer and is not supported.
    images: Option<Vec<IgnoredAny>>,
    suffix: Option<String>,
    template: Option<String>,
    context: Option<Vec<IgnoredAny>>,
    logprobs: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Option<String>,
    images: Option<Vec<IgnoredAny>>,
    tool_calls: Option<Vec<Call>>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Call {
    id: Option<String>,
    function: Function,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected true, false, or a level as text")]
enum Think {
    Flag(bool),
    Level(String),
}

/// What is to be continued.
#[derive(Debug)]
pub(super) enum Input {
    Conversation {
        messages: Vec<Message>,
        /// How many messages of the request went into the first one, less one.
        n_merged: usize,
        tools: Vec<chat::Tool>,
        thinking: bool,
    },
    Text(String),
}

impl Body {
    /// Checks what the engine does not, and translates. `None`: there is nothing to answer.
    pub(super) fn translate(
        mut self,
        kind: Kind,
        defaults: &SamplingParams,
        request_id: String,
    ) -> Result<Option<(Input, Draft, Option<Form>)>, Problem> {
        let mut wrong = Vec::new();
        self.refuse_unsupported(&mut wrong);
        let options = self.options.take().unwrap_or_default();
        let sampling = options.sampling(defaults, &mut wrong);
        let rest = Draft { sampling, stopping: options.stopping(), request_id, ..Draft::default() };
        let form = self.form(&mut wrong);
        let input = match kind {
            Kind::Chat => self.conversation(&mut wrong),
            Kind::Generate => self.prompt(&mut wrong),
        };
        if !wrong.is_empty() {
            return Err(Problem::Fields(wrong));
        }
        Ok(input.map(|input| (input, rest, form)))
    }

    /// What the text has to be: any JSON object, or JSON valid against a schema.
    fn form(&mut self, wrong: &mut Vec<Violation>) -> Option<Form> {
        let field = "format";
        match self.format.take()? {
            Value::Null => None,
            Value::String(kind) if kind.is_empty() => None,
            Value::String(kind) if kind == "json" => Some(Form { field, grammar: Grammar::JsonObject }),
            schema @ Value::Object(_) => Some(Form { field, grammar: Grammar::JsonSchema(schema) }),
            _ => {
                wrong.push(violation(field, "is neither \"json\" nor a JSON schema"));
                None
            }
        }
    }

    fn thinking(&self, wrong: &mut Vec<Violation>) -> bool {
        match &self.think {
            None => false,
            Some(Think::Flag(flag)) => *flag,
            Some(Think::Level(level)) if matches!(level.as_str(), "low" | "medium" | "high") => true,
            Some(Think::Level(other)) => {
                let problem =
                    format!("is {:?}; true, false, low, medium and high are possible", shown(other));
                wrong.push(violation("think", problem));
                false
            }
        }
    }

    fn conversation(&mut self, wrong: &mut Vec<Violation>) -> Option<Input> {
        let messages = self.messages.take().filter(|messages| !messages.is_empty())?;
        let tools = tools(self.tools.take().unwrap_or_default(), wrong);
        let (messages, n_merged) = merged(translated(messages, wrong));
        Some(Input::Conversation { messages, n_merged, tools, thinking: self.thinking(wrong) })
    }

    fn prompt(&mut self, wrong: &mut Vec<Violation>) -> Option<Input> {
        let prompt = self.prompt.take().filter(|prompt| !prompt.is_empty())?;
        let system = self.system.take().filter(|system| !system.is_empty());
        if self.raw == Some(true) {
            if system.is_some() {
                wrong.push(violation("system", "is not possible together with raw"));
            }
            return Some(Input::Text(prompt));
        }
        let said = |role, text| Message { role, text, tool_calls: Vec::new(), tool_call_id: String::new() };
        let system = system.map(|text| said(Role::System, text));
        let messages = system.into_iter().chain([said(Role::User, prompt)]).collect();
        let thinking = self.thinking(wrong);
        Some(Input::Conversation { messages, n_merged: 0, tools: Vec::new(), thinking })
    }

    fn refuse_unsupported(&self, wrong: &mut Vec<Violation>) {
        let mut refuse = |is_given: bool, field: &str| {
            if is_given {
                wrong.push(violation(field, "is not supported"));
            }
        };
        let is_text = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        let is_list = |list: &Option<Vec<IgnoredAny>>| list.as_ref().is_some_and(|l| !l.is_empty());
        refuse(is_list(&self.images), "images");
        refuse(is_text(&self.suffix), "suffix");
        refuse(is_text(&self.template), "template");
        refuse(is_list(&self.context), "context");
        refuse(self.logprobs == Some(true), "logprobs");
    }
}

/// The messages as the model's format knows them. Calls and results need not name each other here: a result is
/// that of the first call of its tool, or of the first call at all, which waits for one.
fn translated(messages: Vec<ChatMessage>, wrong: &mut Vec<Violation>) -> Vec<Message> {
    let mut all = Vec::with_capacity(messages.len());
    // Ids and tools.
    let mut waiting: Vec<(String, String)> = Vec::new();
    for (i, m) in messages.into_iter().enumerate() {
        let role = match m.role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            other => {
                let problem = format!("is {:?}; system, user, assistant and tool are possible", shown(other));
                wrong.push(violation(format!("messages[{i}].role"), problem));
                Role::User
            }
        };
        if m.images.is_some_and(|images| !images.is_empty()) {
            wrong.push(violation(format!("messages[{i}].images"), "is not supported"));
        }
        let calls = m.tool_calls.unwrap_or_default().into_iter().enumerate();
        let tool_calls: Vec<_> = calls.map(|(c, call)| one_call(call, i, c)).collect();
        match role {
            // What was not answered by now never will be.
            Role::User => waiting.clear(),
            Role::Assistant => waiting.extend(tool_calls.iter().map(|c| (c.id.clone(), c.name.clone()))),
            Role::System | Role::Tool => {}
        }
        let tool_call_id = match role {
            Role::Tool => {
                let is_it = |(id, name): &(String, String)| match (&m.tool_call_id, &m.tool_name) {
                    (Some(given), _) => given == id,
                    (None, Some(tool)) => tool == name,
                    (None, None) => true,
                };
                let found = waiting.iter().position(is_it).map(|at| waiting.remove(at).0);
                found.or(m.tool_call_id).unwrap_or_default()
            }
            _ => String::new(),
        };
        all.push(Message { role, text: m.content.unwrap_or_default(), tool_calls, tool_call_id });
    }
    all
}

/// Call `c` of message `i`.
fn one_call(call: Call, i: usize, c: usize) -> chat::ToolCall {
    let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("{i}-{c}"));
    chat::ToolCall { id, name: call.function.name, arguments: call.function.arguments }
}
