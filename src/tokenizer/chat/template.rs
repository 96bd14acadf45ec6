//! The templates: which one a model gets, what it sees, and the bounds it runs in.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value as Seen, ValueKind};
use minijinja::{Environment, ErrorKind, Output, State, context};
use serde_json::{Map, Value, json};

use super::super::{Specials, Tokenizer};
use super::Family;
use super::conversation::{CallRules, Conversation, ConversationError, Message, Role, Tool, ToolCall};
use super::grammar::{CallGrammar, call_grammar};
use super::parser::AnswerParser;
use super::shield::{bare, shielded};
use crate::gguf::Metadata;

const KEY: &str = "tokenizer.chat_template";
const GEMMA4: &str = include_str!("gemma4.jinja");
const GEMMA3: &str = include_str!("gemma3.jinja");
/// The largest template that is compiled. Unit: bytes.
const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// The longest prompt that a template may write. Unit: bytes.
const MAX_PROMPT_BYTES: usize = 16 << 20;
/// Steps of a template: some seconds on a slow board.
const FUEL: u64 = 20_000_000;

/// Ids of the tokens that give an answer its structure; `None` where the vocabulary has no such token.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    pub(super) channel: Option<u32>,
    pub(super) end_channel: Option<u32>,
    pub(super) tool_call: Option<u32>,
    pub(super) end_tool_call: Option<u32>,
    pub(super) quote: Option<u32>,
}

/// How a model wants conversations.
#[derive(Debug)]
pub struct ChatFormat {
    family: Family,
    environment: Environment<'static>,
    marks: Marks,
    /// The large models want an empty thought before an answer without thinking.
    empty_thought: bool,
    built_in: Option<String>,
}

/// Why a prompt was not rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chat template failed: {0}")]
pub struct RenderError(String);

impl ChatFormat {
    /// The format of a model file, with the file's own template if that can be used.
    ///
    /// `None` for a vocabulary that has no tokens for turns.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Option<Self> {
        Self::new(metadata.opt_str(KEY).ok().flatten(), tokenizer)
    }

    /// The format of a model with this vocabulary and template.
    pub fn new(template: Option<&str>, tokenizer: &Tokenizer) -> Option<Self> {
        let find = |text| tokenizer.find(text);
        let family = match (find("<|turn>"), find("<start_of_turn>")) {
            (Some(_), _) => Family::Gemma4,
            (None, Some(_)) => Family::Gemma3,
            (None, None) => return None,
        };
        let marks = match family {
            Family::Gemma3 => Marks::default(),
            Family::Gemma4 => Marks {
                channel: find("<|channel>"),
                end_channel: find("<channel|>"),
                tool_call: find("<|tool_call>"),
                end_tool_call: find("<tool_call|>"),
                quote: find("<|\"|>"),
            },
        };
        let of = |environment, empty_thought, built_in| Self {
            family,
            environment,
            marks,
            empty_thought,
            built_in,
        };
        let why = match template.map(environment) {
            None => "the file has none".to_owned(),
            Some(Err(why)) => why,
            Some(Ok(own)) => {
                let format = of(own, false, None);
                match format.trial() {
                    Ok(()) => return Some(format),
                    // A file of a large model with an old template still says this about its model.
                    Err(why) => {
                        let empty_thought = format.begins_with_empty_thought();
                        return Some(of(built_in(family), empty_thought, Some(why)));
                    }
                }
            }
        };
        Some(of(built_in(family), false, Some(why)))
    }

    /// How turns are marked.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Why the built-in template is used; `None` if the file's own is.
    pub fn built_in(&self) -> Option<&str> {
        self.built_in.as_deref()
    }

    /// The prompt of a conversation: its ids, from the beginning-of-sequence token to where the model goes on.
    ///
    /// Errors: the file's template refuses the conversation or exceeds its bounds.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
    ) -> Result<Vec<u32>, RenderError> {
        let text = self.render(conversation, |text| shielded(tokenizer, text).into_owned())?;
        let mut ids = tokenizer.encode_mapped(&text, Specials::Parse, bare);
        if let Some(bos) = tokenizer.bos().filter(|&bos| tokenizer.add_bos() && ids.first() != Some(&bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// Reads the answer to a conversation.
    pub fn parser(&self, conversation: &Conversation) -> AnswerParser {
        AnswerParser::new(self.marks, conversation)
    }

    /// The tokens around a thought, if the answer may begin with one.
    pub fn thought(&self, conversation: &Conversation) -> Option<(u32, u32)> {
        self.marks.channel.zip(self.marks.end_channel).filter(|_| conversation.thinking)
    }

    /// A grammar of the calls that the answer may hold; `None` where it may hold none.
    ///
    /// Errors: a call is required and its arguments cannot be kept to their schema by a grammar.
    pub fn call_grammar(
        &self,
        conversation: &Conversation,
    ) -> Result<Option<CallGrammar>, ConversationError> {
        call_grammar(&self.marks, conversation)
    }

    /// The prompt's text; `content` is applied to everything that the conversation brings along.
    pub(super) fn render(
        &self,
        conversation: &Conversation,
        content: impl Fn(&str) -> String,
    ) -> Result<String, RenderError> {
        let messages: Vec<Value> = conversation.messages.iter().map(|m| message(m, &content)).collect();
        let tools: Vec<Value> = conversation.tools.iter().map(|t| tool(t, &content)).collect();
        let seen = context! {
            messages => Seen::from(Serde(&messages)),
            tools => if tools.is_empty() { Seen::from(()) } else { Seen::from(Serde(&tools)) },
            enable_thinking => conversation.thinking,
            add_generation_prompt => true,
            empty_thought => self.empty_thought,
            bos_token => "<bos>",
        };
        let mut out = Bounded::default();
        let failed = |e: minijinja::Error| {
            // The message may quote content at length.
            let line = format!("{e}").chars().take(300).collect();
            RenderError(if e.kind() == ErrorKind::OutOfFuel {
                "it does not come to an end".to_owned()
            } else {
                line
            })
        };
        let template = self.environment.get_template("chat").map_err(failed)?;
        template.render_captured_to(seen, &mut out).map_err(failed)?;
        String::from_utf8(out.0).map_err(|e| RenderError(e.to_string()))
    }

    /// Whether the template knows what a conversation may hold; the error says what it does not.
    fn trial(&self) -> Result<(), String> {
        let conversation = trial_conversation(self.family);
        let text = self.render(&conversation, str::to_owned).map_err(|e| e.to_string())?;
        let n = |part: &str| text.matches(part).count();
        let as_expected = match self.family {
            Family::Gemma3 => n("<start_of_turn>user\n") == 2 && text.ends_with("<start_of_turn>model\n"),
            Family::Gemma4 => {
                n("<|tool>declaration:trial{") == 1
                    && n("<|tool_call>call:trial{") == 1
                    && n("<|tool_response>response:trial{") == 1
                    // One turn for call, result and answer, and one to go on with.
                    && n("<|turn>model\n") == 2
                    && n("<|turn>") == 5
                    && n("{,") + n(",,") + n(",}") == 0
            }
        };
        if as_expected {
            Ok(())
        } else {
            Err("the file's own does not render a trial conversation rightly".to_owned())
        }
    }

    fn begins_with_empty_thought(&self) -> bool {
        let hello = Conversation {
            messages: vec![said(Role::User, "Hello")],
            tools: Vec::new(),
            validators: Vec::new(),
            thinking: false,
            calls: CallRules::default(),
        };
        self.render(&hello, str::to_owned).is_ok_and(|text| text.ends_with("<|channel>thought\n<channel|>"))
    }
}

fn built_in(family: Family) -> Environment<'static> {
    let template = match family {
        Family::Gemma3 => GEMMA3,
        Family::Gemma4 => GEMMA4,
    };
    environment(template).expect("the built-in templates compile, as tests show")
}

/// An environment like the one that templates of models are written for: transformers' of Jinja.
fn environment(template: &str) -> Result<Environment<'static>, String> {
    if template.len() > MAX_TEMPLATE_BYTES {
        return Err(format!("the file's own has {} bytes, at most {MAX_TEMPLATE_BYTES}", template.len()));
    }
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|e| e.to_string())?);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(print_like_python);
    environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment
        .add_template_owned("chat", template.to_owned())
        .map_err(|e| format!("the file's own does not compile: {e}").chars().take(300).collect::<String>())?;
    Ok(environment)
}

/// Jinja prints Python's words.
fn print_like_python(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Seen,
) -> Result<(), minijinja::Error> {
    let word = match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        _ => return minijinja::escape_formatter(out, state, value),
    };
    out.write_str(word).map_err(minijinja::Error::from)
}

/// A message as templates see it.
fn message(m: &Message, content: &impl Fn(&str) -> String) -> Value {
    let role = match m.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut seen = json!({ "role": role });
    seen["content"] = match m.role {
        Role::Tool => result(&m.text, content),
        // Thoughts that a client sends back; as content they would be spelled out.
        Role::Assistant => Value::String(content(&without_thoughts(&m.text))),
        Role::System | Role::User => Value::String(content(&m.text)),
    };
    if m.role == Role::Tool {
        seen["tool_call_id"] = Value::String(content(&m.tool_call_id));
    }
    if !m.tool_calls.is_empty() {
        let call = |c: &ToolCall| {
            json!({
                "id": content(&c.id),
                "type": "function",
                "function": { "name": c.name, "arguments": mapped_object(&c.arguments, content) },
            })
        };
        seen["tool_calls"] = m.tool_calls.iter().map(call).collect();
    }
    seen
}

/// A tool's result: the text of a JSON object as an object, other text as it is.
fn result(text: &str, content: &impl Fn(&str) -> String) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(fields)) if super::conversation::is_shallow(&Value::Object(fields.clone())) => {
            Value::Object(mapped_object(&fields, content))
        }
        _ => Value::String(content(text)),
    }
}

fn without_thoughts(text: &str) -> String {
    let spoken = text.split("<channel|>").map(|part| part.split("<|channel>").next().unwrap_or_default());
    spoken.collect::<String>()
}

fn tool(tool: &Tool, content: &impl Fn(&str) -> String) -> Value {
    let mut function = json!({ "name": tool.name, "description": content(&tool.description) });
    if let Some(parameters) = &tool.parameters {
        function["parameters"] = mapped(parameters, content);
    }
    json!({ "type": "function", "function": function })
}

/// The value with `content` over every text in it, names of fields included.
fn mapped(value: &Value, content: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(content(text)),
        Value::Array(items) => items.iter().map(|v| mapped(v, content)).collect(),
        Value::Object(fields) => Value::Object(mapped_object(fields, content)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn mapped_object(fields: &Map<String, Value>, content: &impl Fn(&str) -> String) -> Map<String, Value> {
    fields.iter().map(|(key, value)| (content(key), mapped(value, content))).collect()
}

fn said(role: Role, text: &str) -> Message {
    Message { role, text: text.to_owned(), tool_calls: Vec::new(), tool_call_id: String::new() }
}

/// Everything that a template has to know, in small.
fn trial_conversation(family: Family) -> Conversation {
    if family == Family::Gemma3 {
        let messages = vec![said(Role::User, "a"), said(Role::Assistant, "b"), said(Role::User, "c")];
        let (tools, validators) = (Vec::new(), Vec::new());
        return Conversation { messages, tools, validators, thinking: false, calls: CallRules::default() };
    }
    let call = ToolCall { id: "1".to_owned(), name: "trial".to_owned(), arguments: Map::new() };
    let messages = vec![
        said(Role::System, "a"),
        said(Role::User, "b"),
        Message { tool_calls: vec![call], ..said(Role::Assistant, "") },
        Message { tool_call_id: "1".to_owned(), ..said(Role::Tool, "c") },
        said(Role::Assistant, "d"),
        said(Role::User, "e"),
    ];
    let list = json!({ "type": "array", "items": { "type": "string" } });
    let parameters = json!({ "type": "object", "properties": { "list": list }, "required": ["list"] });
    let tool = Tool { name: "trial".to_owned(), description: "f".to_owned(), parameters: Some(parameters) };
    let (tools, validators) = (vec![tool], vec![None]);
    Conversation { messages, tools, validators, thinking: false, calls: CallRules::default() }
}

/// Takes so much and no more.
#[derive(Default)]
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_PROMPT_BYTES {
            return Err(std::io::Error::other(format!("the prompt has more than {MAX_PROMPT_BYTES} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
