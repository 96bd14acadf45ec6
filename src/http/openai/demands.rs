//! What a request demands of the answer's form: `response_format` and `tool_choice`.

use serde::Deserialize;
use serde_json::Value;

use super::super::conversation::{shown, violation};
use crate::engine::Violation;
use crate::sampling::constraint::Grammar;
use crate::serving::Form;
use crate::tokenizer::chat::ToolChoice;

/// What the text has to be. A schema is kept whether it is called strict or not.
#[derive(Debug, Deserialize)]
pub(super) struct Format {
    r#type: String,
    json_schema: Option<Schema>,
}

#[derive(Debug, Deserialize)]
struct Schema {
    schema: Option<Value>,
}

impl Format {
    /// `None`: any text.
    pub(super) fn form(self, wrong: &mut Vec<Violation>) -> Option<Form> {
        match self.r#type.as_str() {
            "text" => None,
            "json_object" => Some(Form { field: "response_format", grammar: Grammar::JsonObject }),
            "json_schema" => {
                let field = "response_format.json_schema.schema";
                let schema = self.json_schema.and_then(|schema| schema.schema);
                if schema.is_none() {
                    wrong.push(violation(field, "is missing"));
                }
                schema.map(|schema| Form { field, grammar: Grammar::JsonSchema(schema) })
            }
            other => {
                let problem =
                    format!("is {:?}; text, json_object and json_schema are possible", shown(other));
                wrong.push(violation("response_format.type", problem));
                None
            }
        }
    }
}

/// Whether there has to be a call.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a mode as text, or an object that names a function")]
pub(super) enum Choice {
    Mode(String),
    Named { r#type: String, function: Option<Function> },
}

#[derive(Debug, Deserialize)]
pub(super) struct Function {
    name: String,
}

impl Choice {
    /// `None`: no calls at all.
    pub(super) fn choice(self, wrong: &mut Vec<Violation>) -> Option<ToolChoice> {
        match self {
            Self::Mode(mode) => match mode.as_str() {
                "none" => return None,
                "auto" => return Some(ToolChoice::Auto),
                "required" => return Some(ToolChoice::Required),
                other => {
                    let problem = format!("is {:?}; none, auto and required are possible", shown(other));
                    wrong.push(violation("tool_choice", problem));
                }
            },
            Self::Named { r#type, function } => match (r#type.as_str(), function) {
                ("function", Some(function)) => return Some(ToolChoice::Named(function.name)),
                ("function", None) => wrong.push(violation("tool_choice.function", "is missing")),
                (other, _) => {
                    let problem = format!("is {:?}; function is possible", shown(other));
                    wrong.push(violation("tool_choice.type", problem));
                }
            },
        }
        Some(ToolChoice::Auto)
    }
}
