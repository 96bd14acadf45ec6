//! What a chat request holds, checked.

use serde_json::{Map, Value};

use super::Family;
use super::schema::{Patterns, Validator};

/// The most messages of a conversation.
const MAX_MESSAGES: usize = 4096;
/// The most tools.
const MAX_TOOLS: usize = 256;
/// The longest name of a tool. Unit: bytes.
const MAX_NAME_BYTES: usize = 128;
/// How deep arguments, results and schemas may be nested: templates and parsers recurse over them.
pub(super) const MAX_DEPTH: usize = 32;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions. First message only.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool, with the result of a call.
    Tool,
}

/// A call that the model made earlier.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// What the result names.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said. Of a tool: its result; the text of a JSON object is shown to the model as an object.
    pub text: String,
    /// Of the assistant: what it called.
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool: the call that this is the result of.
    pub tool_call_id: String,
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// What calls name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// JSON schema of its arguments; `None` for a tool that takes none.
    pub parameters: Option<Value>,
}

/// Whether the model has to call a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// It may.
    #[default]
    Auto,
    /// It has to.
    Required,
    /// It has to call this one.
    Named(String),
}

/// How the model may use the tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallRules {
    /// Whether it has to call one.
    pub choice: ToolChoice,
    /// It may call one only, and only once.
    pub single: bool,
}

/// A checked conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    pub(super) messages: Vec<Message>,
    pub(super) tools: Vec<Tool>,
    /// What holds calls against each tool's schema; `None` for a tool without one.
    pub(super) validators: Vec<Option<Validator>>,
    pub(super) thinking: bool,
    pub(super) calls: CallRules,
}

/// What is wrong with one field of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConversationError {
    /// Path of the field, as `messages[2].role`.
    pub field: String,
    /// What is wrong, with the value.
    pub problem: String,
}

impl Conversation {
    /// Checks what the formats ask of a conversation: a system message comes first, the last word is not the
    /// assistant's own, results answer calls, and so on.
    ///
    /// Errors: the first field that is wrong.
    pub fn new(
        messages: Vec<Message>,
        tools: Vec<Tool>,
        thinking: bool,
        family: Family,
    ) -> Result<Self, ConversationError> {
        let error = |field: String, problem: String| ConversationError { field, problem };
        let wrong = |field: String, problem: String| Err(error(field, problem));
        if messages.is_empty() {
            return wrong("messages".into(), "is empty, at least one is needed".into());
        }
        if messages.len() > MAX_MESSAGES {
            return wrong(
                "messages".into(),
                format!("has {} entries, at most {MAX_MESSAGES}", messages.len()),
            );
        }
        if family == Family::Gemma3 {
            if !tools.is_empty() {
                return wrong("tools".into(), "this model's chat format has no tools".into());
            }
            if thinking {
                return wrong("thinking".into(), "this model's chat format has no thoughts".into());
            }
        }
        let validators = check_tools(&tools)?;
        let mut open: Vec<&str> = Vec::new();
        let mut before: Option<Role> = None;
        for (i, m) in messages.iter().enumerate() {
            let at = |field: &str| format!("messages[{i}].{field}");
            if m.role != Role::Assistant && !m.tool_calls.is_empty() {
                return wrong(at("tool_calls"), "only an assistant's message has calls".into());
            }
            match m.role {
                Role::System if i > 0 => {
                    return wrong(at("role"), "a system message is possible in the first place only".into());
                }
                Role::Tool if family == Family::Gemma3 => {
                    return wrong(at("role"), "this model's chat format has no results of tools".into());
                }
                Role::Tool => match open.iter().position(|id| *id == m.tool_call_id) {
                    Some(which) => drop(open.remove(which)),
                    None => {
                        let shown = m.tool_call_id.chars().take(64).collect::<String>();
                        let problem =
                            format!("is {shown:?}, which no call before it has that waits for a result");
                        return wrong(at("tool_call_id"), problem);
                    }
                },
                Role::Assistant | Role::User if before == Some(m.role) && family == Family::Gemma3 => {
                    return wrong(
                        at("role"),
                        "user and assistant must alternate in this model's chat format".into(),
                    );
                }
                Role::Assistant if before.is_none_or(|r| r == Role::System) && family == Family::Gemma3 => {
                    return wrong(at("role"), "the first to speak must be the user".into());
                }
                _ => {}
            }
            for (c, call) in m.tool_calls.iter().enumerate() {
                let call_at = |field: &str| at(&format!("tool_calls[{c}].{field}"));
                if family == Family::Gemma3 {
                    return wrong(at("tool_calls"), "this model's chat format has no calls".into());
                }
                check_name(&call.name).map_err(|problem| error(call_at("name"), problem))?;
                if !object_is_shallow(&call.arguments) {
                    return wrong(call_at("arguments_json"), format!("is nested deeper than {MAX_DEPTH}"));
                }
                if open.contains(&call.id.as_str()) {
                    return wrong(call_at("id"), "is that of another call that waits for a result".into());
                }
                open.push(&call.id);
            }
            if matches!(m.role, Role::User) && !open.is_empty() {
                // The person speaks on: what a tool has not answered by now it never will.
                open.clear();
            }
            before = Some(m.role);
        }
        let last = messages.last().map(|m| m.role);
        if matches!(last, Some(Role::Assistant | Role::System)) {
            let field = format!("messages[{}].role", messages.len() - 1);
            return wrong(field, "the last message must be the user's or a tool's".into());
        }
        if !open.is_empty() {
            let problem = format!("ends while {} calls wait for their results", open.len());
            return wrong("messages".into(), problem);
        }
        Ok(Self { messages, tools, validators, thinking, calls: CallRules::default() })
    }

    /// The same, with a say in how the model uses the tools.
    ///
    /// Errors: there is no such tool.
    pub fn with_rules(self, calls: CallRules) -> Result<Self, ConversationError> {
        let wrong =
            |field: &str, problem: String| Err(ConversationError { field: field.to_owned(), problem });
        match &calls.choice {
            ToolChoice::Required if self.tools.is_empty() => {
                wrong("tool_choice.mode", "asks for a call, but there are no tools".to_owned())
            }
            ToolChoice::Named(name) if !self.tools.iter().any(|tool| tool.name == *name) => {
                let shown: String = name.chars().take(64).collect();
                wrong("tool_choice.name", format!("is {shown:?}, which is none of the tools"))
            }
            _ => Ok(Self { calls, ..self }),
        }
    }

    /// The tools that the model may call.
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }
}

/// What holds calls against each tool's schema.
fn check_tools(tools: &[Tool]) -> Result<Vec<Option<Validator>>, ConversationError> {
    let wrong = |i: usize, field: &str, problem: String| {
        Err(ConversationError { field: format!("tools[{i}].{field}"), problem })
    };
    if tools.len() > MAX_TOOLS {
        let problem = format!("has {} entries, at most {MAX_TOOLS}", tools.len());
        return Err(ConversationError { field: "tools".into(), problem });
    }
    let mut patterns = Patterns::new();
    let mut validators = Vec::with_capacity(tools.len());
    for (i, tool) in tools.iter().enumerate() {
        if let Err(problem) = check_name(&tool.name) {
            return wrong(i, "name", problem);
        }
        if tools[..i].iter().any(|other| other.name == tool.name) {
            return wrong(i, "name", format!("is {:?}, as that of another tool", tool.name));
        }
        let validator = tool.parameters.as_ref().map(|schema| Validator::new(schema, &mut patterns));
        match validator.transpose() {
            Ok(validator) => validators.push(validator),
            Err(problem) => return wrong(i, "parameters_json_schema", problem),
        }
    }
    Ok(validators)
}

/// Names end at a brace in the format, so they are kept to what functions are called.
fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    if name.is_empty() {
        return Err("is empty".into());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("has {} bytes, at most {MAX_NAME_BYTES}", name.len()));
    }
    match name.chars().find(|&c| !plain(c)) {
        Some(c) => Err(format!("has the character {c:?}; letters, digits and _ - . : are possible")),
        None => Ok(()),
    }
}

/// Whether a value is nested no deeper than [`MAX_DEPTH`].
pub(super) fn is_shallow(value: &Value) -> bool {
    fn within(value: &Value, depth: usize) -> bool {
        match value {
            Value::Array(items) => depth > 0 && items.iter().all(|v| within(v, depth - 1)),
            Value::Object(fields) => depth > 0 && fields.values().all(|v| within(v, depth - 1)),
            _ => true,
        }
    }
    within(value, MAX_DEPTH)
}

fn object_is_shallow(fields: &Map<String, Value>) -> bool {
    fields.values().all(is_shallow)
}
