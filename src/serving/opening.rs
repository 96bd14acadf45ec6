//! What prompts have in common that go on from the same words: what is worth computing before anybody asks.

use super::{Problem, Ready, State, chat};
use crate::prefix_store::agreement;
use crate::tokenizer::chat::{CallRules, Message, Role, Tool};

/// The tokens that all conversations begin with which go on from this one. If the last word is the user's or a tool's,
/// what is next is the answer: the whole prompt then.
///
/// # Errors
/// What is wrong with the conversation, or that it cannot fit the context.
pub async fn conversation_opening(
    state: &State,
    ready: &Ready,
    messages: Vec<Message>,
    tools: Vec<Tool>,
    thinking: bool,
    calls: CallRules,
) -> Result<Vec<u32>, Problem> {
    let checked = |messages| chat::conversation(ready, messages, tools.clone(), thinking, calls.clone());
    if matches!(messages.last().map(|m| m.role), Some(Role::User | Role::Tool)) {
        return Ok(chat::prompt(state, ready, checked(messages)?).await?.0);
    }
    let with = |text: &str| {
        let (text, tool_calls, tool_call_id) = (text.to_owned(), Vec::new(), String::new());
        let said = Message { role: Role::User, text, tool_calls, tool_call_id };
        checked(messages.iter().cloned().chain([said]).collect())
    };
    let (one, _) = chat::prompt(state, ready, with("a")?).await?;
    let (other, _) = chat::prompt(state, ready, with("Z")?).await?;
    Ok(one[..agreement(&one, &other)].to_vec())
}

/// The tokens that texts begin with which go on from this one. The last of its own tokens may be others then, as far as
/// some ways to go on tell.
///
/// # Errors
/// If it cannot fit the context.
pub async fn text_opening(state: &State, ready: &Ready, text: &str) -> Result<Vec<u32>, Problem> {
    let mut opening = state.prompt_tokens(ready, text.to_owned()).await?;
    for more in ["a", "e", "s", " a", ".", "\n", "1"] {
        let longer = state.prompt_tokens(ready, format!("{text}{more}")).await?;
        opening.truncate(agreement(&opening, &longer));
    }
    Ok(opening)
}
