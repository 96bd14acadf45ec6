//! The grammar of calls: from the tools' JSON schemas to the format's own syntax.
//!
//! What follows it parses as a call of a declared tool, and is valid wherever the grammar keeps all of the schema. It
//! allows less than the schemas do where more would not help: one order of keys, the one in which templates show them;
//! no white space; no keys besides the declared ones of an object that declares any; numbers of some fifteen digits,
//! without exponents.
//!
//! A keyword that cannot be kept by a grammar leaves its part free, and whoever reads the call holds it against the whole
//! schema (`schema`); where a call is required such a keyword is refused by name.
//!
//! | file | what it does |
//! |---|---|
//! | `rules` | rules as they are written, and those that all grammars share |
//! | `value` | a schema to the rule of its values |
//! | `number` | numbers within bounds |
//! | `pattern` | patterns of JSON schema to expressions for whole texts |

mod number;
mod pattern;
mod rules;
mod value;

use super::conversation::{Conversation, ConversationError, Tool, ToolChoice};
use super::schema::Validator;
use super::template::Marks;
use rules::{Rules, literal};
use value::{Schema, Unkept};

/// A grammar of the calls that an answer may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallGrammar {
    /// The token that begins a call.
    pub open: u32,
    /// What follows it, to the token that ends the call: a grammar in llguidance's variant of the syntax of Lark.
    pub lark: String,
    /// There has to be a call.
    pub required: bool,
    /// There may be one only.
    pub single: bool,
}

/// `None` where there are no tools, or no tokens for calls and none are required.
pub(super) fn call_grammar(
    marks: &Marks,
    conversation: &Conversation,
) -> Result<Option<CallGrammar>, ConversationError> {
    let rules = &conversation.calls;
    let required = rules.choice != ToolChoice::Auto;
    let (Some(open), Some(close), Some(quote)) = (marks.tool_call, marks.end_tool_call, marks.quote) else {
        if required {
            let problem = "asks for a call, for which this model's vocabulary has no tokens".to_owned();
            return Err(ConversationError { field: "tool_choice".to_owned(), problem });
        }
        return Ok(None);
    };
    let is_chosen = |tool: &Tool| match &rules.choice {
        ToolChoice::Named(name) => *name == tool.name,
        ToolChoice::Auto | ToolChoice::Required => true,
    };
    let mut written = Rules::new(quote, required);
    let mut calls = Vec::new();
    let tools = conversation.tools.iter().zip(&conversation.validators);
    for (i, (tool, validator)) in tools.enumerate().filter(|(_, (tool, _))| is_chosen(tool)) {
        let call =
            call(tool, validator.as_ref(), &mut written).map_err(|Unkept(path)| ConversationError {
                field: format!("tools[{i}].parameters_json_schema"),
                problem: format!("{path} cannot be kept by a grammar, which a required call needs"),
            })?;
        calls.push(call);
    }
    if calls.is_empty() {
        return Ok(None);
    }
    let lark = format!("start: \"call:\" ({}) <[{close}]>\n{}", calls.join(" | "), written.text);
    Ok(Some(CallGrammar { open, lark, required, single: rules.single }))
}

/// A call of this tool, without its marks.
fn call(tool: &Tool, validator: Option<&Validator>, rules: &mut Rules) -> Result<String, Unkept> {
    let arguments = match (&tool.parameters, validator) {
        (Some(schema), Some(validator)) => Schema::new(rules, schema, validator).arguments()?,
        _ => literal("{}"),
    };
    Ok(format!("{} {arguments}", literal(&tool.name)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::schema::Patterns;
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_named_where_a_call_is_required() {
        let tool = |schema: Value| Tool {
            name: "f".to_owned(),
            description: String::new(),
            parameters: Some(json!({"properties": {"x": {"properties": {"y": schema}}}, "$defs": {"d": {}}})),
        };
        for (schema, named) in [
            (json!({"allOf": []}), Some("x.y.allOf")),
            (json!({"type": "number", "multipleOf": 2}), Some("x.y.multipleOf")),
            (json!({"type": "string", "pattern": "a^"}), Some("x.y.pattern")),
            (json!({"type": "array", "maxItems": 1000}), Some("x.y.maxItems")),
            (json!({"enum": [[1]]}), Some("x.y.enum")),
            (json!({"type": "string", "enum": [1]}), Some("x.y.enum")),
            (json!({"type": "array", "items": {"not": {}}}), Some("x.y.items.not")),
            (json!({"anyOf": [{"properties": {" a": {}}}]}), Some("x.y.anyOf[0].properties")),
            (json!({"$ref": "#/$defs/d", "type": "string"}), Some("x.y.$ref")),
            (json!({"$ref": "#/$defs/d", "anyOf": [{"minLength": 2}]}), Some("x.y.$ref")),
            (json!({"type": "array", "items": [{}]}), Some("x.y.items")),
            (json!({"type": "array", "uniqueItems": false}), None),
            (json!({"type": "string", "format": "date", "description": "a day"}), None),
        ] {
            let tool = tool(schema);
            let validator = Validator::new(tool.parameters.as_ref().unwrap(), &mut Patterns::new()).unwrap();
            assert!(call(&tool, Some(&validator), &mut Rules::new(52, false)).is_ok(), "{tool:?}");
            let refused = call(&tool, Some(&validator), &mut Rules::new(52, true)).err();
            assert_eq!(refused, named.map(|path| Unkept(path.to_owned())), "{tool:?}");
        }
    }
}
