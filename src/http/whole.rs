//! An answer at once.

use super::refusal::Refusal;
use crate::engine::FinishReason;
use crate::sampling::Logprobs;
use crate::serving::{Answering, Ending, Piece, Problem};
use crate::tokenizer::chat::{Channel, ToolCall};

/// A complete answer.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) text: String,
    pub(super) thinking: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) logprobs: Vec<Logprobs>,
    pub(super) ending: Ending,
}

/// Reads an answer to its end. Dropped when the client goes away, which cancels the generation.
pub(super) async fn whole(mut answering: Answering) -> Result<Whole, Refusal> {
    let (mut text, mut thinking, mut calls, mut logprobs) =
        (String::new(), String::new(), Vec::new(), Vec::new());
    while let Some(piece) = answering.next().await {
        match piece {
            Piece::Prefill { .. } => {}
            Piece::Text { channel: Channel::Final, text: more, logprobs: of } => {
                text.push_str(&more);
                logprobs.extend(of);
            }
            Piece::Text { channel: Channel::Thinking, text: more, .. } => thinking.push_str(&more),
            Piece::Call(call) => calls.push(call),
            Piece::Done(ending) => {
                return match cut_short(&ending) {
                    Some(problem) => Err(problem.into()),
                    None => Ok(Whole { text, thinking, calls, logprobs, ending }),
                };
            }
            Piece::Failed(problem) => return Err(problem.into()),
        }
    }
    Err(Problem::EngineEnded.into())
}

/// What the engine ends before its time is no answer in dialects that have no word for it.
pub(super) fn cut_short(ending: &Ending) -> Option<Problem> {
    (ending.finish_reason == FinishReason::Cancelled).then_some(Problem::Draining)
}
