//! An answer's tokens to pieces: text, thoughts and tool calls.
//!
//! Driven by ids: only the token `<|tool_call>` begins a call, its letters do not. Models are not always tidy, so
//! the parser takes what comes: channels that are opened twice or closed without having been opened, thoughts that end in
//! a call, calls that end with the answer.
//!
//! A call that is unfinished, malformed, too long, of an unknown tool, or with arguments that are not as declared is no
//! call: its text goes to the client as text, without its marks, so that nothing the model said is lost.

use serde_json::{Map, Value};

use super::super::{StreamDecoder, Tokenizer};
use super::call::{self, QUOTE};
use super::conversation::Conversation;
use super::schema::Validator;
use super::template::Marks;

/// The longest text of a call. Unit: bytes.
const MAX_CALL_BYTES: usize = 16 << 10;
/// The longest name of a channel, with the white space behind it. Unit: bytes.
const MAX_CHANNEL_NAME_BYTES: usize = 32;

/// What a text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The answer.
    Final,
    /// What the model thinks before it answers.
    Thinking,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Further text of a channel; never empty.
    Text(Channel, String),
    /// A whole call: a declared tool, arguments valid against its schema.
    Call {
        /// The tool.
        name: String,
        /// A JSON object.
        arguments: Map<String, Value>,
    },
}

/// Reads one answer.
#[derive(Debug)]
pub struct AnswerParser {
    marks: Marks,
    tools: Vec<(String, Option<Validator>)>,
    state: State,
    decoder: StreamDecoder,
}

#[derive(Debug)]
enum State {
    Final,
    /// After `<|channel>`: the name is being read.
    ChannelName(String),
    Thinking,
    /// After `<|tool_call>`: its text so far, [`QUOTE`] for quote tokens.
    Call(String),
}

impl AnswerParser {
    pub(super) fn new(marks: Marks, conversation: &Conversation) -> Self {
        let names = conversation.tools.iter().map(|tool| tool.name.clone());
        let tools = names.zip(conversation.validators.iter().cloned()).collect();
        Self { marks, tools, state: State::Final, decoder: StreamDecoder::new() }
    }

    /// Takes the next token of the answer; appends to `out` what it completes.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut Vec<Answer>) {
        let is = |mark: Option<u32>| mark == Some(id);
        if is(self.marks.channel) {
            // Opened again before its name came: one of them is enough.
            if !matches!(&self.state, State::ChannelName(name) if name.is_empty()) {
                self.leave(out);
                self.state = State::ChannelName(String::new());
            }
        } else if is(self.marks.end_channel) {
            match self.state {
                State::Thinking | State::ChannelName(_) => {
                    self.leave(out);
                    self.state = State::Final;
                }
                // Closed without having been opened: means nothing.
                State::Final | State::Call(_) => {}
            }
        } else if is(self.marks.tool_call) && !self.tools.is_empty() {
            self.leave(out);
            self.state = State::Call(String::new());
        } else if is(self.marks.end_tool_call) {
            if let State::Call(text) = &mut self.state {
                let text = std::mem::take(text);
                self.state = State::Final;
                out.extend(self.call(&text));
            }
        } else if is(self.marks.quote) && matches!(self.state, State::Call(_)) {
            self.text(|_, out| out.push(QUOTE), out);
        } else if !tokenizer.is_eog(id) {
            self.text(|decoder, out| decoder.push(tokenizer, id, out), out);
        }
    }

    /// Whether the last token was of the answer's own text.
    pub fn is_in_final_text(&self) -> bool {
        matches!(self.state, State::Final)
    }

    /// The answer has ended: appends what is left.
    pub fn finish(&mut self, out: &mut Vec<Answer>) {
        self.leave(out);
        self.state = State::Final;
    }

    /// Further text of whatever is being read.
    fn text(&mut self, add: impl FnOnce(&mut StreamDecoder, &mut String), out: &mut Vec<Answer>) {
        let mut more = String::new();
        add(&mut self.decoder, &mut more);
        match &mut self.state {
            State::Final => say(Channel::Final, more, out),
            State::Thinking => say(Channel::Thinking, more, out),
            State::ChannelName(name) => {
                name.push_str(&more);
                // The name ends with its line. Without an end it never was one.
                if let Some(end) = name.find('\n') {
                    let rest = name[end + 1..].to_owned();
                    self.state = State::Thinking;
                    say(Channel::Thinking, rest, out);
                } else if name.len() > MAX_CHANNEL_NAME_BYTES {
                    let text = std::mem::take(name);
                    self.state = State::Thinking;
                    say(Channel::Thinking, text, out);
                }
            }
            State::Call(text) => {
                text.push_str(&more);
                if text.len() > MAX_CALL_BYTES {
                    let text = std::mem::take(text);
                    self.state = State::Final;
                    say(Channel::Final, shown(&text), out);
                }
            }
        }
    }

    /// Ends what is being read because something else begins.
    fn leave(&mut self, out: &mut Vec<Answer>) {
        self.text(|decoder, out| decoder.finish(out), out);
        match std::mem::replace(&mut self.state, State::Final) {
            // A name alone is no thought.
            State::Final | State::Thinking | State::ChannelName(_) => {}
            State::Call(text) => say(Channel::Final, shown(&text), out),
        }
    }

    /// What a finished call's text is; nothing if it is empty.
    fn call(&self, text: &str) -> Option<Answer> {
        let parsed = call::parse(text).map(|(name, arguments)| (name, Value::Object(arguments)));
        let valid = parsed.filter(|(name, arguments)| {
            self.tools.iter().any(|(tool, validator)| {
                tool == name
                    && match validator {
                        Some(validator) => validator.allows(arguments),
                        // Declared to take none.
                        None => arguments.as_object().is_some_and(Map::is_empty),
                    }
            })
        });
        match valid {
            Some((name, Value::Object(arguments))) => Some(Answer::Call { name: name.to_owned(), arguments }),
            _ if text.is_empty() => None,
            _ => Some(Answer::Text(Channel::Final, shown(text))),
        }
    }
}

fn say(channel: Channel, text: String, out: &mut Vec<Answer>) {
    if !text.is_empty() {
        out.push(Answer::Text(channel, text));
    }
}

/// A failed call as people may see it.
fn shown(text: &str) -> String {
    text.replace(QUOTE, "\"")
}
