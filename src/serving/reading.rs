//! The events of a generation, until its end or its caller's deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

use crate::engine::{Event, Failure, Generation};

/// A generation that is read as it comes. Dropping it cancels the generation.
#[derive(Debug)]
pub struct Reading {
    /// `None` after the last event.
    generation: Option<Generation>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Reading {
    /// Reads a generation until its end or `deadline`.
    pub fn new(generation: Generation, deadline: Option<Instant>) -> Self {
        Self { generation: Some(generation), deadline: deadline.map(|at| Box::pin(sleep_until(at.into()))) }
    }

    /// The next event; `None` after the last.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Some(generation) = &mut self.generation else { return Poll::Ready(None) };
        if let Poll::Ready(event) = generation.poll_next(cx) {
            return Poll::Ready(event);
        }
        // The engine keeps the deadline too, but it looks between steps only.
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
        self.generation = None;
        Poll::Ready(Some(Event::Failed(Failure::DeadlineExceeded)))
    }
}
