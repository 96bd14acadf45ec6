//! An answer as it comes, in pieces that every dialect can write down.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::form::Besides;
use super::turn::Turn;
use super::{Problem, Promptless, Reading, Ready, State, chat};
use crate::engine::{Delta, Done, Event, FinishReason, Request, Timings, Usage};
use crate::sampling::Logprobs;
use crate::tokenizer::chat::{Channel, Conversation, ToolCall};

/// A piece of an answer.
#[derive(Debug)]
pub enum Piece {
    /// A chunk of the prompt is computed.
    Prefill {
        /// Tokens of the prompt that are computed.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// Further text.
    Text {
        /// What it belongs to.
        channel: Channel,
        /// Never empty.
        text: String,
        /// Of the answer's own tokens up to here, where the request asks for them. Tokens whose text is held
        /// back because it may become a stop string are among them.
        logprobs: Vec<Logprobs>,
    },
    /// A whole call, valid against its tool's schema.
    Call(ToolCall),
    /// The end of the answer.
    Done(Ending),
    /// There will be no more of the answer.
    Failed(Problem),
}

/// The end of an answer.
#[derive(Debug)]
pub struct Ending {
    /// Why the generation ended.
    pub finish_reason: FinishReason,
    /// The model ended its turn to hear the results of calls.
    pub called: bool,
    /// The stop string that was met.
    pub matched_stop: Option<String>,
    /// What it consumed.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}

/// An answer, read as it comes. Dropping it cancels the generation.
pub struct Answering {
    reading: Reading,
    writer: Writer,
    queue_position: usize,
    /// Pieces that wait to be taken: those of one event of the engine at most.
    ready: VecDeque<Piece>,
}

impl Answering {
    /// Gives a conversation to the engine.
    ///
    /// Errors: the conversation or the options are wrong, or the engine takes no more requests in.
    pub async fn conversation(
        state: &State,
        ready: &Ready,
        conversation: Conversation,
        options: Promptless,
        deadline: Option<Instant>,
    ) -> Result<Self, Problem> {
        let format = Arc::clone(chat::format(ready)?);
        let (prompt, conversation) = chat::prompt(state, ready, conversation).await?;
        let besides = Besides::of(&format, &conversation)?;
        let request = options.with_prompt_besides(state, ready, prompt, besides).await?;
        let stops = request.stopping().stop.clone();
        let tokenizer = Arc::clone(ready.engine.tokenizer());
        let turn = Turn::new(tokenizer, format.parser(&conversation), stops, state.unique_name());
        let writer = Writer::Turn(Box::new(turn));
        Self::begin(ready, request, writer, deadline)
    }

    /// Gives a text to the engine that is to be continued: its answer is all text of the final channel.
    ///
    /// Errors: the options are wrong, or the engine takes no more requests in.
    pub async fn text(
        state: &State,
        ready: &Ready,
        prompt: Vec<u32>,
        options: Promptless,
        deadline: Option<Instant>,
    ) -> Result<Self, Problem> {
        let request = options.with_prompt(state, ready, prompt).await?;
        Self::begin(ready, request, Writer::Text { logprobs: Vec::new() }, deadline)
    }

    fn begin(
        ready: &Ready,
        request: Request,
        writer: Writer,
        deadline: Option<Instant>,
    ) -> Result<Self, Problem> {
        let generation = ready.engine.submit(request)?;
        let queue_position = generation.queue_position();
        let reading = Reading::new(generation, deadline);
        Ok(Self { reading, writer, queue_position, ready: VecDeque::new() })
    }

    /// Place in the queue when the request was taken in.
    pub fn queue_position(&self) -> usize {
        self.queue_position
    }

    /// The next piece; `None` after [`Piece::Done`] or [`Piece::Failed`], of which there is always one.
    pub async fn next(&mut self) -> Option<Piece> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`next`](Self::next) for streams.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(piece));
            }
            match ready!(self.reading.poll_event(cx)) {
                None => return Poll::Ready(None),
                Some(Event::Prefill { done, total }) => self.ready.push_back(Piece::Prefill { done, total }),
                Some(Event::Delta(delta)) => self.writer.delta(delta, &mut self.ready),
                Some(Event::Done(done)) => self.writer.done(done, &mut self.ready),
                Some(Event::Failed(failure)) => return Poll::Ready(Some(Piece::Failed(failure.into()))),
            }
        }
    }
}

/// Makes pieces of what the engine says.
enum Writer {
    /// Of an assistant's turn.
    Turn(Box<Turn>),
    /// Of a text that is continued.
    Text {
        /// Of tokens whose text has not come yet.
        logprobs: Vec<Logprobs>,
    },
}

impl Writer {
    fn delta(&mut self, delta: Delta, out: &mut VecDeque<Piece>) {
        match self {
            Self::Turn(turn) => turn.tokens(delta, out),
            Self::Text { logprobs } => {
                logprobs.extend(delta.logprobs);
                if !delta.text.is_empty() {
                    let logprobs = std::mem::take(logprobs);
                    out.push_back(Piece::Text { channel: Channel::Final, text: delta.text, logprobs });
                }
            }
        }
    }

    fn done(&mut self, done: Done, out: &mut VecDeque<Piece>) {
        match self {
            Self::Turn(turn) => turn.done(done, out),
            Self::Text { .. } => out.push_back(Piece::Done(Ending {
                finish_reason: done.finish_reason,
                called: false,
                matched_stop: done.matched_stop,
                usage: done.usage,
                timings: done.timings,
            })),
        }
    }
}
