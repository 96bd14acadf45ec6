//! Chat and ChatStream: messages to a checked conversation, an answer's tokens to text, thoughts and calls.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use serde_json::{Map, Value};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Status};

use super::deadline::Deadline;
use super::intake::Place;
use super::pb::{self, chat_stream_response as stream};
use super::reading::Reading;
use super::state::{Ready, State};
use super::status::Problem;
use super::translate;
use super::validate::{self, violation};
use crate::engine::{Done, Event, Violation};
use crate::sampling::StopMatcher;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::{
    Answer, AnswerParser, Channel, ChatFormat, Conversation, Family, Message, Role, Tool, ToolCall,
};

/// The prompt of a conversation, and the conversation.
pub(super) async fn prompt(
    state: &State,
    ready: &Ready,
    message: pb::ChatRequest,
) -> Result<(Vec<u32>, Conversation), Problem> {
    let format = Arc::clone(ready.engine.chat().ok_or(Problem::NoChat)?);
    ready.check_prompt_bytes("messages", n_bytes(&message))?;
    let conversation = conversation(message, format.family())?;
    let rendered = state.with_tokenizer(ready, move |tokenizer| {
        format.prompt(tokenizer, &conversation).map(|ids| (ids, conversation))
    });
    rendered.await?.map_err(|e| Problem::Fields(vec![violation("messages", &e.to_string())]))
}

/// What the messages are made of at least. Unit: bytes.
fn n_bytes(message: &pb::ChatRequest) -> usize {
    let of_part = |part: &pb::ChatPart| match &part.part {
        Some(pb::chat_part::Part::Text(text)) => text.trim().len(),
        None => 0,
    };
    message.messages.iter().flat_map(|m| &m.parts).map(of_part).sum()
}

/// Translates and checks.
fn conversation(message: pb::ChatRequest, family: Family) -> Result<Conversation, Problem> {
    let mut wrong = Vec::new();
    let choice = message.tool_choice.unwrap_or_default();
    let mode = pb::ToolChoiceMode::try_from(choice.mode);
    match mode {
        Ok(pb::ToolChoiceMode::Required) => {
            wrong.push(violation("tool_choice.mode", "is REQUIRED, which is not supported yet"));
        }
        Err(_) => wrong.push(violation("tool_choice.mode", &format!("is {}, which is no mode", choice.mode))),
        Ok(_) => {}
    }
    if !choice.name.is_empty() {
        wrong.push(violation("tool_choice.name", "is set, which is not supported yet"));
    }
    let mut tools = Vec::with_capacity(message.tools.len());
    for (i, t) in message.tools.into_iter().enumerate() {
        let field = format!("tools[{i}].parameters_json_schema");
        let parameters = json(&t.parameters_json_schema, &field, &mut wrong);
        tools.push(Tool { name: t.name, description: t.description, parameters });
    }
    if mode == Ok(pb::ToolChoiceMode::None) {
        tools.clear();
    }
    let mut messages = Vec::with_capacity(message.messages.len());
    for (i, m) in message.messages.into_iter().enumerate() {
        messages.push(one_message(m, i, &mut wrong));
    }
    if !wrong.is_empty() {
        return Err(Problem::Fields(wrong));
    }
    let checked = Conversation::new(messages, tools, message.thinking, family);
    checked.map_err(|e| Problem::Fields(vec![Violation { field: e.field, problem: e.problem }]))
}

fn one_message(m: pb::ChatMessage, i: usize, wrong: &mut Vec<Violation>) -> Message {
    let role = match m.role() {
        pb::ChatRole::System => Role::System,
        pb::ChatRole::User => Role::User,
        pb::ChatRole::Assistant => Role::Assistant,
        pb::ChatRole::Tool => Role::Tool,
        pb::ChatRole::Unspecified => {
            wrong.push(violation(&format!("messages[{i}].role"), "is missing or no role"));
            Role::User
        }
    };
    let mut text = String::new();
    for (p, part) in m.parts.into_iter().enumerate() {
        match part.part {
            Some(pb::chat_part::Part::Text(more)) => text.push_str(&more),
            None => wrong.push(violation(&format!("messages[{i}].parts[{p}]"), "is empty: text must be set")),
        }
    }
    let mut tool_calls = Vec::with_capacity(m.tool_calls.len());
    for (c, call) in m.tool_calls.into_iter().enumerate() {
        let field = format!("messages[{i}].tool_calls[{c}].arguments_json");
        let arguments = match json(&call.arguments_json, &field, wrong) {
            None => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => {
                wrong.push(violation(&field, "is no JSON object"));
                Map::new()
            }
        };
        tool_calls.push(ToolCall { id: call.id, name: call.name, arguments });
    }
    Message { role, text, tool_calls, tool_call_id: m.tool_call_id }
}

/// A field that holds JSON, or nothing.
fn json(text: &str, field: &str, wrong: &mut Vec<Violation>) -> Option<Value> {
    if text.trim().is_empty() {
        return None;
    }
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(e) => {
            wrong.push(violation(field, &format!("is no JSON: {e}")));
            None
        }
    }
}

/// A conversation that was taken in.
pub(super) struct Accepted {
    reading: Reading,
    queue_position: usize,
    request_id: String,
    writer: Writer,
}

impl Accepted {
    pub(super) async fn new(state: &State, request: Request<pb::ChatRequest>) -> Result<Self, Problem> {
        let deadline = request.extensions().get::<Deadline>().map(|d| d.0);
        // Until the engine has its own place for the request.
        let _place = request.extensions().get::<Place>().cloned();
        let message = request.into_inner();
        let ready = state.model(&message.model)?;
        let format: Arc<ChatFormat> = Arc::clone(ready.engine.chat().ok_or(Problem::NoChat)?);
        let request_id = state.request_id(&message.request_id);
        let defaults = &ready.engine.model().default_sampling;
        let options = validate::chat_options(&message, defaults, request_id.clone(), deadline)?;
        let (prompt, conversation) = prompt(state, ready, message).await?;
        let request = options.with_prompt(prompt, ready.engine.limits())?;
        let stops = request.stopping().stop.clone();
        let generation = ready.engine.submit(request)?;
        let queue_position = generation.queue_position();
        let writer = Writer {
            tokenizer: Arc::clone(ready.engine.tokenizer()),
            parser: format.parser(&conversation),
            matcher: matcher(&stops),
            stops,
            channel: Channel::Final,
            call_ids: state.unique_name(),
            n_calls: 0,
        };
        Ok(Self { reading: Reading::new(generation, deadline), queue_position, request_id, writer })
    }

    /// The answer as it comes.
    pub(super) fn events(self) -> Events {
        let queue_position = translate::count(self.queue_position);
        let started = stream::Event::Started(pb::ChatStarted { request_id: self.request_id, queue_position });
        Events { reading: self.reading, writer: self.writer, ready: VecDeque::from([started]) }
    }

    /// The answer as one message.
    pub(super) async fn whole(self) -> Result<pb::ChatResponse, Status> {
        let mut answer = pb::ChatResponse { request_id: self.request_id.clone(), ..Default::default() };
        let (mut text, mut tool_calls) = (String::new(), Vec::new());
        let mut events = self.events();
        while let Some(event) = events.next().await {
            match event?.event {
                Some(stream::Event::Delta(delta)) if delta.channel() == pb::ChatChannel::Thinking => {
                    answer.thinking.push_str(&delta.text);
                }
                Some(stream::Event::Delta(delta)) => text.push_str(&delta.text),
                Some(stream::Event::ToolCall(call)) => tool_calls.push(call),
                Some(stream::Event::Done(done)) => {
                    answer.finish_reason = done.finish_reason;
                    answer.matched_stop = done.matched_stop;
                    answer.usage = done.usage;
                    answer.timings = done.timings;
                }
                Some(stream::Event::Started(_) | stream::Event::Prefill(_)) | None => {}
            }
        }
        let parts = if text.is_empty() { Vec::new() } else { vec![part(text)] };
        let role = pb::ChatRole::Assistant.into();
        answer.message = Some(pb::ChatMessage { role, parts, tool_calls, ..Default::default() });
        Ok(answer)
    }
}

fn part(text: String) -> pb::ChatPart {
    pb::ChatPart { part: Some(pb::chat_part::Part::Text(text)) }
}

fn matcher(stops: &[String]) -> StopMatcher {
    StopMatcher::new(stops.to_vec()).expect("the request's stop strings are checked")
}

/// Makes events of what the engine says.
struct Writer {
    tokenizer: Arc<Tokenizer>,
    parser: AnswerParser,
    /// Holds back what may be the beginning of a stop string, within the channel that is being written.
    matcher: StopMatcher,
    stops: Vec<String>,
    channel: Channel,
    /// What the ids of this answer's calls begin with.
    call_ids: String,
    n_calls: usize,
}

impl Writer {
    fn tokens(&mut self, ids: &[u32], out: &mut VecDeque<stream::Event>) {
        let mut pieces = Vec::new();
        for &id in ids {
            self.parser.push(&self.tokenizer, id, &mut pieces);
        }
        self.write(pieces, out);
    }

    fn write(&mut self, pieces: Vec<Answer>, out: &mut VecDeque<stream::Event>) {
        for piece in pieces {
            match piece {
                Answer::Text(channel, text) => {
                    if channel != self.channel {
                        self.flush(out);
                        self.channel = channel;
                    }
                    let mut certain = String::new();
                    self.matcher.push(&text, &mut certain);
                    say(channel, certain, out);
                }
                Answer::Call { name, arguments } => {
                    self.flush(out);
                    let id = format!("call-{}-{}", self.call_ids, self.n_calls);
                    self.n_calls += 1;
                    let arguments_json = Value::Object(arguments).to_string();
                    out.push_back(stream::Event::ToolCall(pb::ToolCall { id, name, arguments_json }));
                }
            }
        }
    }

    /// What was held back is no stop string, since something else follows.
    fn flush(&mut self, out: &mut VecDeque<stream::Event>) {
        let mut rest = String::new();
        self.matcher.finish(&mut rest);
        self.matcher = matcher(&self.stops);
        say(self.channel, rest, out);
    }

    fn done(&mut self, done: Done, out: &mut VecDeque<stream::Event>) {
        // What belongs to a stop string that was met is not part of the answer.
        let stopped = done.matched_stop.as_ref().is_some_and(|met| self.stops.contains(met));
        if !stopped {
            let mut pieces = Vec::new();
            self.parser.finish(&mut pieces);
            self.write(pieces, out);
            self.flush(out);
        }
        let reason = match pb::FinishReason::from(done.finish_reason) {
            pb::FinishReason::Stop if self.n_calls > 0 && !stopped => pb::FinishReason::ToolCalls,
            reason => reason,
        };
        out.push_back(stream::Event::Done(pb::ChatDone {
            finish_reason: reason.into(),
            matched_stop: done.matched_stop.filter(|_| stopped),
            usage: Some(done.usage.into()),
            timings: Some(done.timings.into()),
        }));
    }
}

fn say(channel: Channel, text: String, out: &mut VecDeque<stream::Event>) {
    if text.is_empty() {
        return;
    }
    let channel = match channel {
        Channel::Final => pb::ChatChannel::Final,
        Channel::Thinking => pb::ChatChannel::Thinking,
    };
    out.push_back(stream::Event::Delta(pb::ChatDelta { channel: channel.into(), text }));
}

/// The events of one answer. Dropped when the client goes away, which cancels the generation.
pub(super) struct Events {
    reading: Reading,
    writer: Writer,
    /// Events that wait to be taken: those of one event of the engine at most.
    ready: VecDeque<stream::Event>,
}

impl Stream for Events {
    type Item = Result<pb::ChatStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(pb::ChatStreamResponse { event: Some(event) })));
            }
            match ready!(this.reading.poll_event(cx)) {
                None => return Poll::Ready(None),
                Some(Event::Prefill { done, total }) => {
                    let (done_tokens, total_tokens) = (translate::count(done), translate::count(total));
                    this.ready.push_back(stream::Event::Prefill(pb::ChatPrefillProgress {
                        done_tokens,
                        total_tokens,
                    }));
                }
                Some(Event::Delta(delta)) => this.writer.tokens(&delta.token_ids, &mut this.ready),
                Some(Event::Done(done)) => this.writer.done(done, &mut this.ready),
                Some(Event::Failed(failure)) => return Poll::Ready(Some(Err(Problem::from(failure).into()))),
            }
        }
    }
}
