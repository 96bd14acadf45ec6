//! One request in computation: its tokens, its memory, and the way from logits to events.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backend::{Backend, SeqSpan};
use super::event::{Delta, Done, Failure, FinishReason, Timings, Usage, ms};
use super::life::{End, Life};
use super::request::{Priority, Purpose, Request, Stopping};
use super::scheduler::Slot;
use super::sessions::SessionKey;
use super::stats::{Arrival, RowCounters};
use crate::sampling::constraint::{Constraint, ConstraintError};
use crate::sampling::{Logprobs, Sampler, SamplingError, StopMatcher, logprobs};
use crate::tokenizer::{StreamDecoder, Tokenizer};

/// For so long prompts of others stay cut for an answer whose reader has no room: it may have some at any moment.
const READER_IS_AWAY: Duration = Duration::from_secs(5);
/// Rows that are so late may never come: others then compute themselves what they would have waited for, and do not make
/// room for an answer that does not move. A slow card brings the rows of a chunk sooner.
const ROWS_STALL: Duration = Duration::from_secs(2);

/// A sequence in a slot.
pub(super) struct Sequence<S> {
    pub(super) life: Life,
    /// What the backend keeps for it.
    pub(super) state: S,
    /// Prompt and answer.
    pub(super) tokens: Vec<u32>,
    pub(super) n_prompt: usize,
    /// Its session, if it has one.
    pub(super) session: Option<SessionKey>,
    pub(super) purpose: Purpose,
    pub(super) priority: Priority,
    /// Nobody waits for it, nor does an interactive one for what it computes.
    pub(super) is_background: bool,
    /// Tokens whose keys and values are held. While the prompt is computed less than `n_prompt`, then less than
    /// `tokens.len()`: what was chosen last is not run yet. That is one token, or several where a grammar left
    /// one way only.
    pub(super) n_done: usize,
    /// Tokens of the prompt that were not computed here, once that is known.
    pub(super) n_cached: Option<usize>,
    /// The disk was asked for what it knows of the prompt.
    pub(super) asked_disk: bool,
    /// What is being read is for this one.
    pub(super) waits_for_disk: bool,
    /// Since when a step was given up because its rows were late. It is passed over until they are there.
    pub(super) late_since: Option<Instant>,
    /// Tokens of `n_done` that are kept for others.
    pub(super) n_kept: usize,
    /// What the backend was told that it will run, in order.
    pub(super) announced: VecDeque<Range<usize>>,
    pub(super) answer: Answer,
    began: Instant,
    first_token: Option<Instant>,
    /// When the last token was chosen; not if the reader has been behind since.
    last_token: Option<Instant>,
    /// Since when the reader has no room.
    pub(super) parked: Option<Instant>,
}

impl<S> Sequence<S> {
    pub(super) fn new(request: Request, life: Life, state: S, answer: Answer, now: Instant) -> Self {
        let (session, purpose, priority) = (request.session(), request.purpose(), request.priority());
        let tokens = request.into_prompt();
        Self {
            life,
            state,
            n_prompt: tokens.len(),
            session,
            purpose,
            priority,
            is_background: priority == Priority::Background,
            tokens,
            n_done: 0,
            n_cached: None,
            asked_disk: false,
            waits_for_disk: false,
            late_since: None,
            n_kept: 0,
            announced: VecDeque::new(),
            answer,
            began: now,
            first_token: None,
            last_token: None,
            parked: None,
        }
    }

    /// Whether it computes its prompt, and nothing holds it up for long.
    pub(super) fn is_prefilling(&self, now: Instant) -> bool {
        self.n_cached.is_some()
            && self.n_done < self.n_prompt
            && self.parked.is_none()
            && !self.is_stalled(now)
    }

    /// When its late rows will count as stalled, if that is still to come.
    pub(super) fn stalls_at(&self, now: Instant) -> Option<Instant> {
        self.late_since.map(|since| since + ROWS_STALL).filter(|at| *at > now)
    }

    /// Whether its rows are so late that nobody should reckon with it.
    fn is_stalled(&self, now: Instant) -> bool {
        self.late_since.is_some_and(|since| now - since >= ROWS_STALL)
    }

    /// Whether its tokens are waited for in steps to come: its prompt is computed, or what was announced ends it, and its reader
    /// reads.
    pub(super) fn will_decode(&self, now: Instant) -> bool {
        let end = self.announced.back().map_or(self.n_done, |announced| announced.end);
        let reads = self.parked.is_none_or(|since| now - since < READER_IS_AWAY);
        end >= self.n_prompt && reads && !self.is_stalled(now)
    }

    /// What the scheduler is to know. Also notes since when the reader has no room.
    pub(super) fn slot(&mut self, now: Instant) -> Slot {
        if !self.life.has_room() {
            self.parked.get_or_insert(now);
            self.last_token = None;
            return Slot::Parked;
        }
        self.parked = None;
        if self.n_cached.is_none() || self.late_since.is_some() {
            return Slot::Parked;
        }
        match self.announced.front() {
            // Several known tokens are run like a prompt, in one step.
            Some(next) if self.n_done < self.n_prompt || self.n_done + 1 < self.tokens.len() => {
                Slot::Prefill { start: next.start, end: next.end }
            }
            _ => Slot::Decode,
        }
    }

    /// The tokens that are not run yet, as a range of `tokens`.
    pub(super) fn pending(&self) -> Range<usize> {
        self.n_done..self.tokens.len()
    }

    /// Whether the logits of the last token of `range` are wanted: nothing is known to follow it.
    fn wants_logits(&self, range: &Range<usize>) -> bool {
        range.end == self.tokens.len()
    }

    /// The span of `range` for the backend, and what turns its logits into a token.
    pub(super) fn span(&mut self, range: Range<usize>) -> (SeqSpan<'_, S>, &mut Answer) {
        debug_assert_eq!(range.start, self.n_done);
        let wants_logits = self.wants_logits(&range);
        let greatest = self.answer.n_greatest();
        let span = SeqSpan { tokens: &self.tokens[range], seq: &mut self.state, wants_logits, greatest };
        (span, &mut self.answer)
    }

    /// Takes over chosen tokens.
    pub(super) fn accept(&mut self, ids: &[u32]) -> Arrival {
        let now = Instant::now();
        self.tokens.extend_from_slice(ids);
        let before = self.last_token.replace(now);
        match (self.first_token, before) {
            (None, _) => {
                self.first_token = Some(now);
                Arrival::First(now - self.life.accepted_at())
            }
            (Some(_), Some(before)) => Arrival::Next(now - before),
            (Some(_), None) => Arrival::Late,
        }
    }

    pub(super) fn done(&self, end: End, rows: RowCounters) -> Done {
        let now = Instant::now();
        let first_token = self.first_token.unwrap_or(now);
        Done {
            finish_reason: end.reason,
            matched_stop: end.matched_stop,
            usage: Usage {
                prompt_tokens: self.n_prompt,
                completion_tokens: self.tokens.len() - self.n_prompt,
                cached_tokens: self.n_cached.unwrap_or(0),
            },
            timings: Timings {
                queue_ms: ms(self.began - self.life.accepted_at()),
                prefill_ms: ms(first_token - self.began),
                decode_ms: ms(now - first_token),
                ple_rows: rows.rows,
                ple_distinct_rows: rows.distinct,
                ple_cache_hits: rows.cache_hits,
                ple_bytes_read: rows.bytes_read,
                ple_wait_ms: ms(rows.wait),
            },
        }
    }
}

/// A chosen token, those that a grammar makes follow it, and what follows from all of them.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) delta: Delta,
    pub(super) end: Option<End>,
}

/// From logits to text: grammar, sampler, stop detection, incremental decoding.
pub(super) struct Answer {
    tokenizer: Arc<Tokenizer>,
    constraint: Option<Constraint>,
    sampler: Sampler,
    decoder: StreamDecoder,
    stop: StopMatcher,
    stopping: Stopping,
    top_logprobs: Option<usize>,
    /// Tokens that end the answer, which are not to be chosen before `min_tokens`.
    ending: Vec<u32>,
    n_chosen: usize,
    /// Tokens that may be chosen until the context is full.
    n_room: usize,
}

impl Answer {
    /// For a context of `n_ctx` tokens.
    pub(super) fn new(request: &Request, tokenizer: &Arc<Tokenizer>, n_vocab: usize, n_ctx: usize) -> Self {
        let stopping = request.stopping().clone();
        let mut sampler = Sampler::new(request.sampling().clone(), n_vocab, tokenizer.suppressed())
            .expect("a request's sampling parameters are checked");
        sampler.accept_prompt(request.prompt());
        let mut ending = stopping.stop_token_ids.clone();
        if !stopping.ignore_eos {
            ending.extend_from_slice(tokenizer.eog_ids());
        }
        Self {
            tokenizer: Arc::clone(tokenizer),
            constraint: request.constraint().cloned(),
            sampler,
            decoder: StreamDecoder::new(),
            stop: StopMatcher::new(stopping.stop.clone()).expect("a request's stop strings are checked"),
            top_logprobs: request.top_logprobs(),
            ending,
            n_chosen: 0,
            // The last token is never run and takes no place.
            n_room: n_ctx - request.prompt().len() + 1,
            stopping,
        }
    }

    /// Chooses a token by its logits `[n_vocab]`.
    pub(super) fn choose(&mut self, logits: &mut [f32]) -> Result<Chosen, Failure> {
        let allowed =
            self.constraint.as_mut().map(Constraint::allowed).transpose().map_err(Failure::Constraint)?;
        // Probabilities are those before the mask.
        let before = (self.top_logprobs.is_some() && self.constraint.is_some()).then(|| logits.to_vec());
        let excluded = self.excluded();
        let id = match allowed.flatten() {
            None => self.sampler.sample_excluding(logits, &excluded),
            Some(allowed) => self.sampler.sample_among(logits, &allowed, &excluded),
        };
        let id = id.map_err(|e| match e {
            SamplingError::NothingLeft if self.constraint.is_some() => {
                Failure::Constraint(ConstraintError::nothing_left())
            }
            e => Failure::Logits(e),
        })?;
        let logprobs = self.logprobs(before.as_deref().unwrap_or(logits), id)?;
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(id).map_err(Failure::Constraint)?;
        }
        let mut delta = Delta { logprobs: logprobs.into_iter().collect(), ..Delta::default() };
        let mut end = self.take(id, &mut delta, true);
        if end.is_none() {
            end = self.take_forced(&mut delta)?;
        }
        Ok(Chosen { delta, end })
    }

    /// How many of the greatest logits decide which token is chosen; `None` if all are needed. Tokens that the tokenizer suppresses do
    /// not count: a model gives them no logits then.
    fn n_greatest(&self) -> Option<usize> {
        let is_free = self.constraint.as_ref().is_none_or(Constraint::is_free);
        let n = self.sampler.n_greatest().filter(|_| is_free && self.top_logprobs.is_none())?;
        Some(n + self.excluded().len())
    }

    /// The tokens that are not to be chosen now.
    fn excluded(&self) -> Vec<u32> {
        let mut excluded = Vec::new();
        if self.n_chosen < self.stopping.min_tokens {
            excluded.extend_from_slice(&self.ending);
        }
        if let Some(constraint) = &self.constraint {
            excluded.extend_from_slice(constraint.excluded());
            // A grammar knows nothing that could follow them.
            if self.stopping.ignore_eos {
                excluded.extend_from_slice(self.tokenizer.eog_ids());
            }
        }
        excluded
    }

    /// Takes over what the grammar makes follow, without logits; probabilities would need some.
    fn take_forced(&mut self, delta: &mut Delta) -> Result<Option<End>, Failure> {
        let Some(constraint) = self.constraint.as_mut().filter(|_| self.top_logprobs.is_none()) else {
            return Ok(None);
        };
        let n_most = self.stopping.max_tokens.unwrap_or(usize::MAX).min(self.n_room) - self.n_chosen;
        let forced = constraint.forced(n_most).map_err(Failure::Constraint)?;
        let n_forced = forced.len();
        // The grammar stands behind the last of them already.
        Ok(forced.into_iter().enumerate().find_map(|(i, id)| self.take(id, delta, i + 1 == n_forced)))
    }

    /// Takes over a token that the grammar has accepted; an end if there is one. `is_last`: the grammar has accepted
    /// nothing behind it.
    fn take(&mut self, id: u32, delta: &mut Delta, is_last: bool) -> Option<End> {
        self.sampler.accept(id);
        self.n_chosen += 1;
        delta.token_ids.push(id);
        if let Some(end) = self.say(id, &mut delta.text) {
            return Some(end);
        }
        if is_last && self.constraint.as_ref().is_some_and(Constraint::is_complete) {
            return Some(FinishReason::Stop.into());
        }
        if Some(self.n_chosen) == self.stopping.max_tokens {
            return Some(FinishReason::MaxTokens.into());
        }
        (self.n_chosen == self.n_room).then_some(FinishReason::ContextFull.into())
    }

    /// Appends the text that the token makes certain; an end if the token or its text is one.
    fn say(&mut self, id: u32, text: &mut String) -> Option<End> {
        if !self.stopping.ignore_eos && self.tokenizer.is_eog(id) {
            return Some(FinishReason::Stop.into());
        }
        if self.stopping.stop_token_ids.contains(&id) {
            return Some(End { reason: FinishReason::Stop, matched_stop: Some(self.name(id)) });
        }
        let mut piece = String::new();
        self.decoder.push(&self.tokenizer, id, &mut piece);
        if !self.stop.push(&piece, text) {
            return None;
        }
        Some(End { reason: FinishReason::Stop, matched_stop: self.stop.matched().map(str::to_owned) })
    }

    /// The text that was held back, once nothing can follow. Empty after a stop string.
    pub(super) fn rest(&mut self) -> String {
        let (mut incomplete, mut text) = (String::new(), String::new());
        self.decoder.finish(&mut incomplete);
        if !self.stop.push(&incomplete, &mut text) {
            self.stop.finish(&mut text);
        }
        text
    }

    /// The text of a token, or what the vocabulary calls it where it has none.
    fn name(&self, id: u32) -> String {
        let mut bytes = Vec::new();
        self.tokenizer.token_bytes(id, &mut bytes);
        let bytes = if bytes.is_empty() { self.tokenizer.piece(id).unwrap_or_default() } else { &bytes };
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn logprobs(&self, logits: &[f32], id: u32) -> Result<Option<Logprobs>, Failure> {
        let wanted = self.top_logprobs.map(|n| logprobs(logits, id, n));
        wanted.transpose().map_err(Failure::Logits)
    }
}

/// Announces tokens to the backend, if there are any.
pub(super) fn announce<B: Backend>(backend: &mut B, sequence: &mut Sequence<B::Seq>, range: Range<usize>) {
    if !range.is_empty() {
        let wants_logits = sequence.wants_logits(&range);
        backend.announce(&mut sequence.state, &sequence.tokens[range.clone()], wants_logits);
        sequence.announced.push_back(range);
    }
}
