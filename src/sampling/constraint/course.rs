//! The course of one answer: thoughts, calls and text, each under its own rule.

use std::sync::Arc;

use llguidance::Matcher;

use super::compile::reason;
use super::mask::TokenSet;

/// A grammar that cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the grammar cannot be followed: {0}")]
pub struct ConstraintError(String);

impl ConstraintError {
    /// None of the allowed tokens is left by what else is asked of the answer.
    pub fn nothing_left() -> Self {
        Self("what it allows next is excluded by min_tokens, ignore_eos or suppressed tokens".to_owned())
    }
}

/// What an answer has to be, and how much of it there is.
#[derive(Clone)]
pub struct Constraint {
    n_vocab: usize,
    eog: Arc<[u32]>,
    text: Option<Matcher>,
    /// The tokens that begin and end a thought, as long as none has come to its end.
    thought: Option<(u32, u32)>,
    calls: Option<CallRule>,
    state: State,
}

/// What calls have to be.
#[derive(Clone)]
pub(super) struct CallRule {
    /// The token that begins one.
    pub(super) open: u32,
    /// There has to be one.
    pub(super) required: bool,
    /// The answer ends behind the first.
    pub(super) single: bool,
    /// At the beginning of a call.
    pub(super) grammar: Matcher,
}

#[derive(Clone)]
enum State {
    /// Nothing but thoughts so far.
    Start,
    Thought,
    /// In text that a grammar rules.
    Text(Matcher),
    /// In text that none rules.
    Free,
    Call(Matcher),
    AfterCall,
    Complete,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::Start => "start",
            State::Thought => "thought",
            State::Text(_) => "text",
            State::Free => "free",
            State::Call(_) => "call",
            State::AfterCall => "after a call",
            State::Complete => "complete",
        };
        f.debug_struct("Constraint").field("state", &state).finish_non_exhaustive()
    }
}

impl Constraint {
    pub(super) fn new(
        n_vocab: usize,
        eog: &[u32],
        text: Option<Matcher>,
        thought: Option<(u32, u32)>,
        calls: Option<CallRule>,
    ) -> Self {
        Self { n_vocab, eog: eog.into(), text, thought, calls, state: State::Start }
    }

    /// The tokens that may come next; `None` if all may.
    ///
    /// Errors: the grammar is too costly to follow, or has come to an end.
    pub fn allowed(&mut self) -> Result<Option<TokenSet>, ConstraintError> {
        if self.is_free() {
            return Ok(None);
        }
        let (n_vocab, calls, thought) = (self.n_vocab, self.calls.as_ref().map(|c| c.open), self.thought);
        match &mut self.state {
            State::Text(matcher) | State::Call(matcher) => mask(matcher).map(Some),
            State::Start => {
                let mut set = match &mut self.text {
                    Some(matcher) => mask(matcher)?,
                    None => TokenSet::empty(n_vocab),
                };
                set.add(calls.as_slice());
                set.add(thought.map(|(open, _)| open).as_slice());
                Ok(Some(set))
            }
            State::AfterCall => {
                let mut set = TokenSet::empty(n_vocab);
                set.add(calls.as_slice());
                set.add(&self.eog);
                Ok(Some(set))
            }
            State::Thought | State::Free | State::Complete => Ok(None),
        }
    }

    /// Whether all tokens may come next, which [`allowed`](Self::allowed) would say too.
    pub fn is_free(&self) -> bool {
        match self.state {
            State::Text(_) | State::Call(_) => false,
            State::Start | State::AfterCall => !self.is_bound(),
            State::Thought | State::Free | State::Complete => true,
        }
    }

    /// Tokens that may not come next although [`allowed`](Self::allowed) does not say so: an answer that has to have a
    /// form does not end within a thought.
    pub fn excluded(&self) -> &[u32] {
        match self.state {
            State::Thought if self.is_bound() => &self.eog,
            _ => &[],
        }
    }

    /// Takes a chosen token over, which has to be an allowed one.
    pub fn accept(&mut self, id: u32) -> Result<(), ConstraintError> {
        let opens_call = self.calls.as_ref().is_some_and(|calls| calls.open == id);
        match &mut self.state {
            State::Text(matcher) => consume(matcher, id)?,
            State::Call(matcher) => {
                consume(matcher, id)?;
                if matcher.is_stopped() {
                    let is_last = self.calls.as_ref().is_some_and(|calls| calls.single);
                    self.state = if is_last { State::Complete } else { State::AfterCall };
                }
            }
            // A call within a thought ends the thought.
            _ if opens_call => self.open_call(),
            State::Start if self.thought.is_some_and(|(open, _)| open == id) => self.state = State::Thought,
            State::Start => match &self.text {
                Some(matcher) => {
                    let mut matcher = matcher.clone();
                    consume(&mut matcher, id)?;
                    self.state = State::Text(matcher);
                }
                None => self.state = State::Free,
            },
            State::Thought if self.thought.is_some_and(|(_, close)| close == id) => {
                // One is enough: an answer has to come.
                self.thought = None;
                self.state = State::Start;
            }
            State::Thought | State::Free | State::Complete => {}
            State::AfterCall => self.state = State::Free,
        }
        Ok(())
    }

    /// The tokens that have to come next whatever the model thinks of them, at most `n_most`; they are taken over.
    /// Empty where there is a choice.
    pub fn forced(&mut self, n_most: usize) -> Result<Vec<u32>, ConstraintError> {
        let mut ids = Vec::new();
        if n_most == 0 {
            return Ok(ids);
        }
        if let (State::Start, None, None) = (&self.state, &self.thought, &self.text)
            && let Some(calls) = self.calls.as_ref().filter(|calls| calls.required)
        {
            ids.push(calls.open);
            self.open_call();
        }
        if let (State::Start, None, None, Some(matcher)) =
            (&self.state, &self.thought, &self.calls, &self.text)
        {
            self.state = State::Text(matcher.clone());
        }
        if let State::Text(matcher) | State::Call(matcher) = &mut self.state
            && !matcher.is_stopped()
        {
            let forced = matcher.compute_ff_tokens();
            if let Some(e) = matcher.get_error() {
                return Err(ConstraintError(reason(&e)));
            }
            for id in forced.into_iter().take(n_most - ids.len()) {
                self.accept(id)?;
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Whether nothing can follow what there is.
    pub fn is_complete(&self) -> bool {
        match &self.state {
            State::Text(matcher) => matcher.is_stopped(),
            State::Complete => true,
            _ => false,
        }
    }

    /// Whether the answer as a whole has to have a form.
    fn is_bound(&self) -> bool {
        self.text.is_some() || self.calls.as_ref().is_some_and(|calls| calls.required)
    }

    fn open_call(&mut self) {
        if let Some(calls) = &self.calls {
            self.state = State::Call(calls.grammar.clone());
        }
    }
}

fn mask(matcher: &mut Matcher) -> Result<TokenSet, ConstraintError> {
    matcher.compute_mask().map(TokenSet::of).map_err(error)
}

fn consume(matcher: &mut Matcher, id: u32) -> Result<(), ConstraintError> {
    matcher.consume_token(id).map_err(error)
}

fn error(e: impl std::fmt::Display) -> ConstraintError {
    ConstraintError(reason(&e.to_string()))
}
