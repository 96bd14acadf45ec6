//! What both dialects write alike in conversations: tools; and system messages, of which models know one.

use serde::Deserialize;
use serde_json::Value;

use crate::engine::Violation;
use crate::tokenizer::chat::{self, Message, Role};

/// A declaration of a tool.
#[derive(Debug, Deserialize)]
pub(super) struct Tool {
    #[serde(default = "function")]
    r#type: String,
    function: Option<Declaration>,
}

#[derive(Debug, Deserialize)]
struct Declaration {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
}

fn function() -> String {
    "function".to_owned()
}

/// Fields are named as gRPC does.
pub(super) fn tools(tools: Vec<Tool>, wrong: &mut Vec<Violation>) -> Vec<chat::Tool> {
    let mut all = Vec::with_capacity(tools.len());
    for (i, tool) in tools.into_iter().enumerate() {
        match tool {
            Tool { r#type, .. } if r#type != "function" => {
                let problem = format!("is {:?}; function is possible", shown(&r#type));
                wrong.push(violation(format!("tools[{i}].type"), problem));
            }
            Tool { function: None, .. } => {
                wrong.push(violation(format!("tools[{i}].function"), "is missing"));
            }
            Tool { function: Some(f), .. } => all.push(chat::Tool {
                name: f.name,
                description: f.description.unwrap_or_default(),
                parameters: f.parameters.filter(|p| !p.is_null()),
            }),
        }
    }
    all
}

/// System messages that stand together at the beginning become one. Also tells how many messages there are
/// less than before.
pub(super) fn merged(messages: Vec<Message>) -> (Vec<Message>, usize) {
    let n_leading = messages.iter().take_while(|m| m.role == Role::System).count();
    let n_merged = n_leading.saturating_sub(1);
    let mut messages = messages.into_iter();
    let first = messages.by_ref().take(n_leading).reduce(|mut one, more| {
        one.text.push_str("\n\n");
        one.text.push_str(&more.text);
        one
    });
    (first.into_iter().chain(messages).collect(), n_merged)
}

/// The name that a field of a conversation had before merging made `n_merged` messages less of it.
pub(super) fn before_merging(field: &str, n_merged: usize) -> String {
    let split = field.strip_prefix("messages[").and_then(|rest| rest.split_once(']'));
    match split.and_then(|(i, rest)| Some((i.parse::<usize>().ok()?, rest))) {
        Some((i, rest)) if i > 0 => format!("messages[{}]{rest}", i + n_merged),
        _ => field.to_owned(),
    }
}

/// The name that both dialects have for a field of a call or a tool, if there is one of their own.
pub(super) fn in_function(field: &str) -> Option<String> {
    let (path, name) = field.rsplit_once("].")?;
    let of_tool = path.starts_with("tools[") || path.contains("].tool_calls[");
    match name {
        "name" | "description" if of_tool => Some(format!("{path}].function.{name}")),
        "arguments_json" => Some(format!("{path}].function.arguments")),
        "parameters_json_schema" => Some(format!("{path}].function.parameters")),
        _ => None,
    }
}

pub(super) fn violation(field: impl Into<String>, problem: impl Into<String>) -> Violation {
    Violation { field: field.into(), problem: problem.into() }
}

/// A word of a stranger, cut to what can be shown.
pub(super) fn shown(word: &str) -> String {
    word.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: Role, text: &str) -> Message {
        Message { role, text: text.to_owned(), tool_calls: Vec::new(), tool_call_id: String::new() }
    }

    #[test]
    fn leading_system_messages_become_one() {
        let system = |text| said(Role::System, text);
        let user = || said(Role::User, "u");
        let all = vec![system("a"), system("b"), user(), system("c")];
        assert_eq!(merged(all), (vec![system("a\n\nb"), user(), system("c")], 1));
        assert_eq!(merged(vec![user(), system("c")]), (vec![user(), system("c")], 0));
        assert_eq!(merged(Vec::new()), (Vec::new(), 0));
        assert_eq!(before_merging("messages[2].role", 3), "messages[5].role");
        assert_eq!(before_merging("messages[0].role", 3), "messages[0].role");
        assert_eq!(before_merging("messages", 3), "messages");
    }

    #[test]
    fn fields_of_functions_have_their_own_names() {
        let named = |field| in_function(field).unwrap_or_else(|| "none".to_owned());
        assert_eq!(
            named("messages[3].tool_calls[1].arguments_json"),
            "messages[3].tool_calls[1].function.arguments"
        );
        assert_eq!(named("messages[3].tool_calls[1].name"), "messages[3].tool_calls[1].function.name");
        assert_eq!(named("tools[0].parameters_json_schema"), "tools[0].function.parameters");
        for other in
            ["messages[3].tool_calls[1].id", "messages[3].tool_calls", "messages[3].name", "tools", "n"]
        {
            assert_eq!(named(other), "none");
        }
    }
}
