//! How long a request lives: its reader, its deadlines, its place in the engine.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::event::{Event, Failure, FinishReason};
use super::request::Request;
use super::shared::Place;
use super::stats::Outcome;

/// Places in the channel that only the end may take: the last text and the last event.
const TAIL: usize = 2;

/// The engine's end of a request. The engine is the only sender of its channel, so a free place that it
/// has seen stays free until it sends.
#[derive(Debug)]
pub(super) struct Life {
    request_id: String,
    events: mpsc::Sender<Event>,
    /// Counts towards `max_sessions + queue_depth`.
    _place: Place,
    accepted_at: Instant,
    deadline: Option<Instant>,
    ends_at: Option<Instant>,
}

/// How a request ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ending {
    /// Without a word: nobody listens.
    Gone,
    /// With what there is of the answer.
    Done(End),
    /// With an error.
    Failed(Failure),
}

/// Why and by what an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct End {
    pub(super) reason: FinishReason,
    pub(super) matched_stop: Option<String>,
}

impl From<FinishReason> for End {
    fn from(reason: FinishReason) -> Self {
        Self { reason, matched_stop: None }
    }
}

impl Ending {
    /// What it counts as.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Gone | Self::Failed(Failure::Draining | Failure::ReaderStalled) => Outcome::Cancelled,
            Self::Done(End { reason: FinishReason::Cancelled, .. }) => Outcome::Cancelled,
            Self::Done(_) => Outcome::Finished,
            Self::Failed(Failure::DeadlineExceeded) => Outcome::DeadlineExceeded,
            Self::Failed(_) => Outcome::Failed,
        }
    }
}

impl Life {
    /// A request and the receiver of its events, of which `room` may wait before the sequence is parked.
    pub(super) fn new(request: &Request, place: Place, room: usize) -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(room.max(1) + TAIL);
        let accepted_at = Instant::now();
        let ends_at = request.stopping().time_limit.and_then(|t| accepted_at.checked_add(t));
        let request_id = request.request_id().to_owned();
        let deadline = request.deadline();
        (Self { request_id, events, _place: place, accepted_at, deadline, ends_at }, receiver)
    }

    pub(super) fn accepted_at(&self) -> Instant {
        self.accepted_at
    }

    /// Room for one event before the tail.
    pub(super) fn has_room(&self) -> bool {
        self.events.capacity() > TAIL
    }

    /// Sends if there is room before the tail; for events that may be left out.
    pub(super) fn offer(&self, event: Event) {
        // One place more, so that an event which must not be left out still has room.
        if self.events.capacity() > TAIL + 1 {
            self.send(event);
        }
    }

    /// Sends an event for which [`has_room`](Self::has_room) was seen, or one of the tail. That the reader
    /// is gone meanwhile is noticed at the next look.
    pub(super) fn send(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            unreachable!("no place was kept for {event:?}");
        }
    }

    /// How the request has to end now, if it has to. `drain`: when everything ends.
    pub(super) fn due(&self, now: Instant, drain: Option<Instant>) -> Option<Ending> {
        let past = |t: Option<Instant>| t.is_some_and(|t| t <= now);
        if past(self.deadline) {
            return Some(Ending::Failed(Failure::DeadlineExceeded));
        }
        if self.events.is_closed() {
            return Some(Ending::Gone);
        }
        if past(self.ends_at) {
            return Some(Ending::Done(FinishReason::TimeLimit.into()));
        }
        past(drain).then_some(Ending::Done(FinishReason::Cancelled.into()))
    }

    /// The next time at which [`due`](Self::due) may change by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        [self.deadline, self.ends_at].into_iter().flatten().min()
    }

    /// Gives the place back and the sender with it, for the last words.
    pub(super) fn leave(self) -> Farewell {
        Farewell { request_id: self.request_id, events: self.events, age: self.accepted_at.elapsed() }
    }
}

/// What is left of a request that has given back all it held.
#[derive(Debug)]
pub(super) struct Farewell {
    request_id: String,
    events: mpsc::Sender<Event>,
    /// Time since acceptance.
    pub(super) age: Duration,
}

impl Farewell {
    /// One line for each request. Never its text: what people ask at home stays out of logs, unless they are to tell
    /// everything (`serving` writes the prompt at the level trace).
    pub(super) fn log(&self, last_word: Option<&Event>) {
        let request_id = self.request_id.as_str();
        match last_word {
            Some(Event::Done(done)) => log::info!(
                request_id,
                finish_reason:? = done.finish_reason,
                prompt_tokens = done.usage.prompt_tokens,
                cached_tokens = done.usage.cached_tokens,
                completion_tokens = done.usage.completion_tokens,
                queue_ms = done.timings.queue_ms,
                prefill_ms = done.timings.prefill_ms,
                decode_ms = done.timings.decode_ms,
                ple_wait_ms = done.timings.ple_wait_ms;
                "request finished"
            ),
            Some(Event::Failed(
                failure @ (Failure::DeadlineExceeded | Failure::Draining | Failure::ReaderStalled),
            )) => {
                log::info!(request_id; "request ended: {failure}");
            }
            Some(Event::Failed(failure)) => log::error!(request_id; "request failed: {failure}"),
            _ => log::info!(request_id; "request cancelled: nobody reads the answer"),
        }
    }

    /// The last words. Nobody may be there to hear them.
    pub(super) fn say(self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let _ = self.events.try_send(event);
        }
    }
}
