//! What an answer has to be: from the words of dialects to a compiled constraint.

use std::sync::Arc;

use serde_json::Value;

use super::{Problem, Ready, State};
use crate::engine::Violation;
use crate::sampling::constraint::{Calls, Compiled, Constraint, Grammar, Outline, Part};
use crate::tokenizer::chat::{CallGrammar, ChatFormat, Conversation};

/// What an answer's text has to be, as a dialect asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// The field that it came in.
    pub field: &'static str,
    /// What the text has to be.
    pub grammar: Grammar,
}

impl Form {
    /// JSON valid against this schema, which is still text.
    ///
    /// Errors: the text is no JSON.
    pub fn json_schema(field: &'static str, text: &str) -> Result<Self, Violation> {
        match serde_json::from_str::<Value>(text) {
            Ok(schema) => Ok(Self { field, grammar: Grammar::JsonSchema(schema) }),
            Err(e) => Err(Violation { field: field.to_owned(), problem: format!("is no JSON: {e}") }),
        }
    }
}

/// What an answer may consist of besides its text.
#[derive(Debug, Default)]
pub(super) struct Besides {
    /// The tokens around a thought.
    thought: Option<(u32, u32)>,
    calls: Option<Calls>,
}

impl Besides {
    /// Of the answer to a conversation.
    ///
    /// Errors: a call is required and cannot be kept to its tool's schema.
    pub(super) fn of(format: &ChatFormat, conversation: &Conversation) -> Result<Self, Problem> {
        let calls = format.call_grammar(conversation).map_err(|e| Problem::field(e.field, e.problem))?;
        let calls = calls.map(|CallGrammar { open, lark, required, single }| Calls {
            open,
            grammar: Grammar::Lark(lark),
            required,
            single,
        });
        Ok(Self { thought: format.thought(conversation), calls })
    }
}

/// Compiles what an answer has to be; `None` if it may be anything. That calls are left free is told in the log: the
/// answer's reader holds them against their schemas all the same, but more of them will become text.
///
/// Errors: a grammar that cannot be kept, by its field.
pub(super) async fn compile(
    state: &State,
    ready: &Ready,
    request_id: &str,
    form: Option<Form>,
    besides: Besides,
) -> Result<Option<Constraint>, Problem> {
    let Besides { thought, calls } = besides;
    if form.is_none() && calls.is_none() {
        return Ok(None);
    }
    let field = form.as_ref().map_or("", |form| form.field);
    let outline = Outline { text: form.map(|form| form.grammar), thought, calls };
    let grammars = Arc::clone(ready.engine.grammars());
    let prepared = Arc::clone(&grammars);
    // Without a form of its own the tools' grammars are all that there is to compile.
    let blamed = if field.is_empty() { "tools" } else { field };
    let compile = state.compiling.run(blamed, move || prepared.prepare(), move || grammars.compile(outline));
    let compiled = compile.await?;
    let Compiled { constraint, calls_left_free } = compiled.map_err(|e| match e.part {
        Part::Text => Problem::field(field, e.problem),
        Part::Calls => Problem::field("tools", e.problem),
    })?;
    if let Some(reason) = calls_left_free {
        // The reason is bounded; it quotes what a stranger sent.
        log::debug!(request_id; "the calls of this answer follow no grammar: {reason:?}");
    }
    Ok(Some(constraint))
}
