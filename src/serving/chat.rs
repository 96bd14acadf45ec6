//! Conversations, checked, and their prompts.

use std::sync::Arc;

use super::{Problem, Ready, State};
use crate::tokenizer::chat::{CallRules, ChatFormat, Conversation, Message, Tool};

/// Checks a conversation for the loaded model.
///
/// Errors: what is wrong with it, or that it cannot fit the context.
pub fn conversation(
    ready: &Ready,
    messages: Vec<Message>,
    tools: Vec<Tool>,
    thinking: bool,
    calls: CallRules,
) -> Result<Conversation, Problem> {
    let format = format(ready)?;
    let n_bytes = messages.iter().map(|m| m.text.trim().len()).sum();
    ready.check_prompt_bytes("messages", n_bytes)?;
    let checked = Conversation::new(messages, tools, thinking, format.family())
        .and_then(|conversation| conversation.with_rules(calls));
    checked.map_err(|e| Problem::field(e.field, e.problem))
}

pub(super) fn format(ready: &Ready) -> Result<&Arc<ChatFormat>, Problem> {
    ready.engine.chat().ok_or(Problem::NoChat)
}

/// The prompt of a conversation, and the conversation.
///
/// Errors: the model's template refuses it.
pub async fn prompt(
    state: &State,
    ready: &Ready,
    conversation: Conversation,
) -> Result<(Vec<u32>, Conversation), Problem> {
    let format = Arc::clone(format(ready)?);
    let rendered = state.with_tokenizer(ready, move |tokenizer| {
        format.prompt(tokenizer, &conversation).map(|ids| (ids, conversation))
    });
    rendered.await?.map_err(|e| Problem::field("messages", e.to_string()))
}
