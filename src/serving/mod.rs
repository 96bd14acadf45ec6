//! What the dialects of clients share: the loaded model, prompts and conversations to generations, and what can go wrong.
//!
//! The rule of the room: a dialect translates words, and nothing else. Whatever needs the model (is it there,
//! what does a conversation become, what does its answer mean) stands here once, so that all dialects answer alike.
//!
//! | file | what it holds |
//! |---|---|
//! | `state` | the engine, once there is one; names; who may use the tokenizer |
//! | `promptless` | requests whose prompt is not in tokens yet |
//! | `priority` | the header that says how urgent a call is |
//! | `refusals` | calls that were refused, counted |
//! | `reading` | the events of a generation |
//! | `form` | what an answer has to be, compiled |
//! | `compiling` | places for what compiles, and its time |
//! | `chat` | conversations, checked, and their prompts |
//! | `opening` | what prompts begin with that go on from the same words |
//! | `answering`, `turn` | an answer as it comes, in text, thoughts and calls |
//! | `problem` | everything that a call can end with besides an answer |
//!
//! Deliberately absent: any wire format, any status code.

mod answering;
mod chat;
mod compiling;
mod form;
mod opening;
mod priority;
mod problem;
mod promptless;
mod reading;
mod refusals;
mod state;
mod turn;

pub use answering::{Answering, Ending, Piece};
pub use chat::{conversation, prompt};
pub use form::Form;
pub use opening::{conversation_opening, text_opening};
pub use priority::{PRIORITY, priority};
pub use problem::{Problem, RESTART, SOON};
pub use promptless::Promptless;
pub use reading::Reading;
pub use refusals::{Refusals, Why};
pub use state::{Life, Named, Ready, State};
