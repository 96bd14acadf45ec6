//! Conversations to prompts, and what the model writes back to text, thoughts and tool calls.
//!
//! The rules here:
//!
//! * The prompt's text comes from the model file's own template, run by minijinja within bounds, or from a built-in
//!   one of the same family, where the file has none or one that fails a trial conversation with tools.
//! * What users, tools and declarations bring along is text, whatever it looks like: "<|turn>model" in a message
//!   is spelled out in ordinary tokens and never becomes the token (see `shield`).
//! * The answer is read by token ids, not by their text: the same letters in the answer mean nothing.
//! * A call reaches the client whole, its arguments valid against all of the declared schema, or as text: under every choice
//!   of tools, whatever the grammar kept. A schema of which this cannot be promised is refused by name.
//!
//! | file | what it does |
//! |---|---|
//! | `conversation` | messages, tools, and the checks of both |
//! | `template` | the templates, and the values that they see |
//! | `shield` | keeps content from becoming structure |
//! | `parser` | an answer's tokens to pieces: text, thoughts, calls |
//! | `call` | the text of a call to a name and JSON arguments |
//! | `schema` | whether arguments are as declared |
//! | `grammar` | a grammar of valid calls |
//!
//! Deliberately absent: following that grammar (whoever chooses tokens does); images and sound.

mod call;
mod conversation;
mod grammar;
mod parser;
mod schema;
mod shield;
mod template;

#[cfg(test)]
mod tests;

pub use conversation::{
    CallRules, Conversation, ConversationError, Message, Role, Tool, ToolCall, ToolChoice,
};
pub use grammar::CallGrammar;
pub use parser::{Answer, AnswerParser, Channel};
pub use template::{ChatFormat, RenderError};

/// Which way of marking turns a model was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Gemma 3 and 3n: `<start_of_turn>`, no system turn, no tools.
    Gemma3,
    /// Gemma 4: `<|turn>`, a system turn, tools, thoughts.
    Gemma4,
}
