//! Messages.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::super::conversation::{shown, violation};
use crate::engine::Violation;
use crate::tokenizer::chat::{self, Message, Role};

#[derive(Debug, Deserialize)]
pub(super) struct ChatMessage {
    role: String,
    content: Option<Content>,
    tool_calls: Option<Vec<Call>>,
    tool_call_id: Option<String>,
    function_call: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of parts")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Call {
    #[serde(default)]
    id: String,
    function: Function,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: String,
}

/// The messages as the model's format knows them; fields are named as gRPC does.
pub(super) fn translated(messages: Vec<ChatMessage>, wrong: &mut Vec<Violation>) -> Vec<Message> {
    messages.into_iter().enumerate().map(|(i, m)| one(m, i, wrong)).collect()
}

fn one(m: ChatMessage, i: usize, wrong: &mut Vec<Violation>) -> Message {
    let at = |field: &str| format!("messages[{i}].{field}");
    let role = match m.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let problem =
                format!("is {:?}; system, developer, user, assistant and tool are possible", shown(other));
            wrong.push(violation(at("role"), problem));
            Role::User
        }
    };
    if m.function_call.is_some() {
        wrong.push(violation(at("function_call"), "is not supported: tool_calls is"));
    }
    let mut text = String::new();
    match m.content {
        None => {}
        Some(Content::Text(all)) => text = all,
        Some(Content::Parts(parts)) => {
            for (p, part) in parts.into_iter().enumerate() {
                match part {
                    Part { r#type, text: Some(more) } if r#type == "text" => text.push_str(&more),
                    Part { r#type, .. } => {
                        let problem = format!("is a part of type {:?}; text is possible", shown(&r#type));
                        wrong.push(violation(at(&format!("content[{p}]")), problem));
                    }
                }
            }
        }
    }
    let calls = m.tool_calls.unwrap_or_default().into_iter().enumerate();
    let tool_calls = calls.map(|(c, call)| {
        let field = at(&format!("tool_calls[{c}].arguments_json"));
        let arguments = arguments(&call.function.arguments, &field, wrong);
        chat::ToolCall { id: call.id, name: call.function.name, arguments }
    });
    let tool_calls = tool_calls.collect();
    Message { role, text, tool_calls, tool_call_id: m.tool_call_id.unwrap_or_default() }
}

fn arguments(text: &str, field: &str, wrong: &mut Vec<Violation>) -> Map<String, Value> {
    if text.trim().is_empty() {
        return Map::new();
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => return arguments,
        Ok(_) => wrong.push(violation(field, "is no JSON object")),
        Err(e) => wrong.push(violation(field, format!("is no JSON: {e}"))),
    }
    Map::new()
}
