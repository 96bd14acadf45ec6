//! An assistant's turn: tokens to text, thoughts and calls.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Ending, Piece};
use crate::engine::{Delta, Done, FinishReason};
use crate::sampling::{Logprobs, StopMatcher};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::{Answer, AnswerParser, Channel, ToolCall};

fn matcher(stops: &[String]) -> StopMatcher {
    StopMatcher::new(stops.to_vec()).expect("the request's stop strings are checked")
}

/// Reads an assistant's turn.
pub(super) struct Turn {
    tokenizer: Arc<Tokenizer>,
    parser: AnswerParser,
    /// Holds back what may be the beginning of a stop string, within the channel that is being written.
    matcher: StopMatcher,
    stops: Vec<String>,
    channel: Channel,
    call_ids: String,
    n_calls: usize,
    /// Of tokens of the final channel, until the next text of it.
    logprobs: Vec<Logprobs>,
}

impl Turn {
    /// `call_ids`: what the ids of this answer's calls begin with.
    pub(super) fn new(
        tokenizer: Arc<Tokenizer>,
        parser: AnswerParser,
        stops: Vec<String>,
        call_ids: String,
    ) -> Self {
        Self {
            tokenizer,
            parser,
            matcher: matcher(&stops),
            stops,
            channel: Channel::Final,
            call_ids,
            n_calls: 0,
            logprobs: Vec::new(),
        }
    }

    pub(super) fn tokens(&mut self, delta: Delta, out: &mut VecDeque<Piece>) {
        let mut pieces = Vec::new();
        let mut logprobs = delta.logprobs.into_iter();
        for id in delta.token_ids {
            self.parser.push(&self.tokenizer, id, &mut pieces);
            let is_of_text = self.parser.is_in_final_text() && !self.tokenizer.is_control(id);
            self.logprobs.extend(logprobs.next().filter(|_| is_of_text));
        }
        self.write(pieces, out);
    }

    fn write(&mut self, pieces: Vec<Answer>, out: &mut VecDeque<Piece>) {
        for piece in pieces {
            match piece {
                Answer::Text(channel, text) => {
                    if channel != self.channel {
                        self.flush(out);
                        self.channel = channel;
                    }
                    let mut certain = String::new();
                    self.matcher.push(&text, &mut certain);
                    self.say(certain, out);
                }
                Answer::Call { name, arguments } => {
                    self.flush(out);
                    let id = format!("call-{}-{}", self.call_ids, self.n_calls);
                    self.n_calls += 1;
                    out.push_back(Piece::Call(ToolCall { id, name, arguments }));
                }
            }
        }
    }

    /// What was held back is no stop string, since something else follows.
    fn flush(&mut self, out: &mut VecDeque<Piece>) {
        let mut rest = String::new();
        self.matcher.finish(&mut rest);
        self.matcher = matcher(&self.stops);
        self.say(rest, out);
    }

    fn say(&mut self, text: String, out: &mut VecDeque<Piece>) {
        if text.is_empty() {
            return;
        }
        let logprobs = match self.channel {
            Channel::Final => std::mem::take(&mut self.logprobs),
            Channel::Thinking => Vec::new(),
        };
        out.push_back(Piece::Text { channel: self.channel, text, logprobs });
    }

    pub(super) fn done(&mut self, done: Done, out: &mut VecDeque<Piece>) {
        // What belongs to a stop string that was met is not part of the answer.
        let stopped = done.matched_stop.as_ref().is_some_and(|met| self.stops.contains(met));
        if !stopped {
            let mut pieces = Vec::new();
            self.parser.finish(&mut pieces);
            self.write(pieces, out);
            self.flush(out);
        }
        out.push_back(Piece::Done(Ending {
            finish_reason: done.finish_reason,
            called: done.finish_reason == FinishReason::Stop && self.n_calls > 0 && !stopped,
            matched_stop: done.matched_stop.filter(|_| stopped),
            usage: done.usage,
            timings: done.timings,
        }));
    }
}
