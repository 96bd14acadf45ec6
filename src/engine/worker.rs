//! The engine's thread: the only owner of sequences, their memory and the backend.
//!
//! One turn of its loop takes in new requests, ends those whose time is over or whose reader is gone,
//! fills free slots, and does one piece of work: one token for each sequence that decodes, with a chunk of one
//! prompt. So nothing waits longer for its cancellation than such a piece takes. A piece whose rows storage does
//! not give in a moment is given up, and its sequence passed over until they have come. With nothing to
//! do the thread sleeps until a handle, a reader or rows wake it, or until the next deadline.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Instant;

use super::backend::{Backend, NotRun};
use super::event::{Delta, Done, Event, Failure, FinishReason, Timings, Usage, ms};
use super::held::{Held, Pinned};
use super::life::{End, Ending, Life};
use super::options::EngineOptions;
use super::persist::Persisting;
use super::prefix_cache::PrefixCache;
use super::request::{Priority, Purpose, Request};
use super::scheduler::{Action, Pace, Scheduler, Slot};
use super::sequence::{Answer, Chosen, Sequence, announce};
use super::sessions::SessionKey;
use super::shared::Shared;
use super::stats::Outcome;
use crate::prefix_store::PrefixStore;
use crate::tokenizer::Tokenizer;

/// A request on its way to a slot.
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) life: Life,
}

pub(super) struct Worker<B: Backend> {
    pub(super) backend: B,
    tokenizer: Arc<Tokenizer>,
    pub(super) options: EngineOptions,
    pub(super) shared: Arc<Shared>,
    jobs: Receiver<Job>,
    waiting: VecDeque<Job>,
    pub(super) slots: Vec<Option<Sequence<B::Seq>>>,
    pub(super) scheduler: Scheduler,
    /// How long steps take, for the scheduler.
    pace: Pace,
    /// What sequences have computed, for those to come.
    pub(super) prefixes: PrefixCache<B::Kept>,
    pub(super) held: BTreeMap<SessionKey, Held>,
    /// What stays in memory as long as the engine lives.
    pub(super) pinned: Vec<Pinned>,
    /// The version of the table of sessions that `held` was compared with.
    pub(super) sessions_seen: u64,
    /// Where prefixes outlast the process, if anywhere.
    pub(super) disk: Option<Persisting>,
}

impl<B: Backend> Worker<B> {
    pub(super) fn new(
        backend: B,
        tokenizer: Arc<Tokenizer>,
        options: EngineOptions,
        shared: Arc<Shared>,
        jobs: Receiver<Job>,
        store: Option<PrefixStore>,
    ) -> Self {
        Self {
            prefixes: PrefixCache::new(backend.lookback()),
            backend,
            tokenizer,
            shared,
            jobs,
            waiting: VecDeque::new(),
            slots: (0..options.max_sessions).map(|_| None).collect(),
            scheduler: Scheduler::new(options.prefill_chunk),
            pace: Pace::default(),
            held: BTreeMap::new(),
            pinned: Vec::new(),
            sessions_seen: 0,
            disk: store.map(|store| Persisting::new(store, options.worth_tokens.max(1))),
            options,
        }
    }

    /// Works until no handle is left, or the engine drains, and nothing is left to do.
    pub(super) fn run(mut self) {
        self.backend.wake(thread::current());
        loop {
            self.shared.beats.fetch_add(1, Ordering::Relaxed);
            self.waiting.extend(self.jobs.try_iter());
            let now = Instant::now();
            self.end_what_is_due(now);
            self.let_go_of_sessions();
            self.fill_slots(now);
            self.take_restored();
            self.look_for_rows();
            self.backend.warm_on();
            self.begin_what_can(now);
            let is_over = self.shared.is_over();
            self.write_what_is_due(now, is_over);
            self.publish_gauges();
            let slots: Vec<Slot> =
                self.slots.iter_mut().map(|s| s.as_mut().map_or(Slot::Free, |s| s.slot(now))).collect();
            let is_background = |s: &Option<Sequence<B::Seq>>| s.as_ref().is_some_and(|s| s.is_background);
            let background: Vec<bool> = self.slots.iter().map(is_background).collect();
            match self.scheduler.next(&slots, &background) {
                Action::Step { chunk, decode } => self.compute(chunk, &decode),
                // What is being written may take until the end of the drain.
                Action::Idle if is_over && (self.is_written() || self.is_past_drain(now)) => return,
                Action::Idle => self.sleep(now),
            }
        }
    }

    fn is_past_drain(&self, now: Instant) -> bool {
        self.shared.drain.get().is_some_and(|&drain| drain <= now)
    }

    /// Ends requests, waiting or in a slot, that are due.
    fn end_what_is_due(&mut self, now: Instant) {
        let drain = self.shared.drain.get().copied();
        for i in 0..self.slots.len() {
            let Some(sequence) = &self.slots[i] else { continue };
            let stalled = sequence.parked.is_some_and(|since| now - since >= self.options.stall_limit);
            let due =
                sequence.life.due(now, drain).or(stalled.then_some(Ending::Failed(Failure::ReaderStalled)));
            if let Some(ending) = due {
                self.end(i, ending);
            }
        }
        for job in std::mem::take(&mut self.waiting) {
            match job.life.due(now, drain) {
                None => self.waiting.push_back(job),
                Some(ending) => self.end_waiting(job, ending),
            }
        }
    }

    /// The first of the queue take the free slots.
    fn fill_slots(&mut self, now: Instant) {
        while let Some(i) = self.slots.iter().position(Option::is_none)
            && let Some(job) = self.next_job()
        {
            match self.new_seq(job.request.n_ctx_needed(self.options.n_ctx)) {
                Ok(state) => self.settle(i, job, state, now),
                // The others keep theirs, and shorter ones may fit.
                Err(e) => self.end_waiting(job, Ending::Failed(Failure::OutOfMemory(e))),
            }
        }
    }

    /// The first interactive request of the queue, or else, unless that would take what is reserved, the first of
    /// the background.
    fn next_job(&mut self) -> Option<Job> {
        let first = |priority| self.waiting.iter().position(|job| job.request.priority() == priority);
        let n_free = self.slots.iter().filter(|slot| slot.is_none()).count();
        let has_room = n_free > self.options.n_reserved();
        let next =
            first(Priority::Interactive).or_else(|| first(Priority::Background).filter(|_| has_room))?;
        self.waiting.remove(next)
    }

    /// Gives the request a slot. It begins once it is known what of its prompt need not be computed.
    fn settle(&mut self, i: usize, job: Job, state: B::Seq, now: Instant) {
        let Job { request, life } = job;
        self.shared.with_stats(|s| s.queue_wait.observe(now.saturating_duration_since(life.accepted_at())));
        let answer = Answer::new(&request, &self.tokenizer, self.backend.n_vocab(), self.options.n_ctx);
        self.slots[i] = Some(Sequence::new(request, life, state, answer, now));
        self.make_room();
    }

    /// Takes up again the sequences whose rows have come.
    fn look_for_rows(&mut self) {
        for sequence in self.slots.iter_mut().flatten() {
            sequence.late_since = sequence.late_since.filter(|_| !self.backend.has_rows(&sequence.state));
        }
    }

    /// One step: a chunk of a prompt, a token for each of the slots in `decode`, or both.
    fn compute(&mut self, chunk: Option<(usize, Range<usize>)>, decode: &[usize]) {
        let pending = |&i: &usize| Some((i, self.slots[i].as_ref()?.pending()));
        let mut work: Vec<_> = decode.iter().filter_map(pending).collect();
        if let Some((i, range)) = &chunk {
            // The rows of the next chunk are read while this one is computed. A step that was given up has announced it.
            if self.slots[*i].as_ref().is_some_and(|s| s.announced.len() == 1) {
                self.announce_chunk(*i, range.end);
            }
            let at = work.partition_point(|(slot, _)| slot < i);
            work.insert(at, (*i, range.clone()));
        }
        // A few tokens that a grammar makes certain say nothing about chunks of prompts.
        let of_prompt = chunk
            .as_ref()
            .is_none_or(|(i, range)| self.slots[*i].as_ref().is_some_and(|s| range.end <= s.n_prompt));
        let begin = Instant::now();
        if self.step(&work) && of_prompt {
            let n_prompt_tokens = chunk.map_or(0, |(_, range)| range.len());
            self.pace.stepped(n_prompt_tokens, decode.len(), begin.elapsed().as_secs_f64());
        }
    }

    /// Announces the chunk of the slot's known tokens that begins at `start`, as large as is right by now. Answers of
    /// the background wait for an interactive prompt however large its chunks are.
    pub(super) fn announce_chunk(&mut self, i: usize, start: usize) {
        let Some(this) = &self.slots[i] else { return };
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != i);
        let mut others = others.filter_map(|(_, slot)| slot.as_ref());
        let now = Instant::now();
        let others_decode = others.any(|s| s.will_decode(now) && (this.is_background || !s.is_background));
        let Some(sequence) = &mut self.slots[i] else { return };
        let chunk = self.scheduler.chunk(start, sequence.tokens.len(), &self.pace, others_decode);
        announce(&mut self.backend, sequence, chunk);
    }

    /// Runs these tokens of these slots, ascending, and whatever follows from their logits. False if nothing
    /// was run.
    fn step(&mut self, work: &[(usize, Range<usize>)]) -> bool {
        let in_work = |i| work.binary_search_by_key(&i, |(slot, _)| *slot).ok();
        let mut spans = Vec::with_capacity(work.len());
        let mut answers = Vec::with_capacity(work.len());
        for (i, slot) in self.slots.iter_mut().enumerate() {
            if let Some(w) = in_work(i)
                && let Some(sequence) = slot
            {
                let (span, answer) = sequence.span(work[w].1.clone());
                spans.push(span);
                answers.push(answer);
            }
        }
        debug_assert_eq!(spans.len(), work.len(), "work is for sequences only, ascending");
        let mut chosen: Vec<Option<Result<Chosen, Failure>>> = work.iter().map(|_| None).collect();
        let ran = self.backend.forward(&mut spans, &mut |span, logits| {
            chosen[span] = Some(answers[span].choose(logits));
        });
        if let Err(NotRun { failed, late }) = ran {
            // The others have not advanced; the next turn makes the step again without these.
            let now = Instant::now();
            for span in late {
                self.slots[work[span].0].iter_mut().for_each(|s| s.late_since = Some(now));
            }
            for f in failed {
                self.end(work[f.span].0, Ending::Failed(f.failure));
            }
            return false;
        }
        for ((i, range), chosen) in work.iter().zip(chosen) {
            self.advance(*i, range.clone(), chosen);
        }
        true
    }

    /// Takes over a step that succeeded.
    fn advance(&mut self, i: usize, range: Range<usize>, chosen: Option<Result<Chosen, Failure>>) {
        let Some(sequence) = &mut self.slots[i] else { return };
        sequence.n_done = range.end;
        sequence.announced.pop_front();
        let of_prompt = range.end <= sequence.n_prompt;
        let purpose = sequence.purpose;
        if of_prompt {
            sequence.life.offer(Event::Prefill { done: range.end, total: sequence.n_prompt });
        }
        self.shared.with_stats(|s| {
            s.prompt_tokens += if of_prompt { range.len() as u64 } else { 0 };
        });
        if !matches!(chosen, Some(Err(_))) {
            self.keep_computed(i);
        }
        let Some(sequence) = &mut self.slots[i] else { return };
        match chosen {
            None => {}
            Some(Err(failure)) => {
                // Where such a fault began is not known, and nobody is to begin with it, after a restart either.
                if matches!(failure, Failure::Logits(_)) {
                    self.prefixes.clear();
                    self.disk.iter_mut().for_each(|disk| disk.forget(&sequence.tokens, 0));
                }
                self.end(i, Ending::Failed(failure));
            }
            Some(Ok(_)) if purpose != Purpose::Answer => {
                let pinned = self.pin_if_asked(i);
                let done = |()| Ending::Done(FinishReason::MaxTokens.into());
                self.end(i, pinned.map_or_else(Ending::Failed, done));
            }
            Some(Ok(Chosen { delta, end })) => {
                let arrival = sequence.accept(&delta.token_ids);
                self.shared.with_stats(|s| s.tokens(delta.token_ids.len(), arrival));
                sequence.life.send(Event::Delta(delta));
                match end {
                    Some(end) => self.end(i, Ending::Done(end)),
                    None => {
                        let start = sequence.n_done;
                        self.announce_chunk(i, start);
                    }
                }
            }
        }
    }

    /// Frees the slot and all that its sequence holds, counts it, and only then tells the reader: who has
    /// read the end finds the place free and the memory given back.
    fn end(&mut self, i: usize, ending: Ending) {
        if !matches!(ending, Ending::Failed(Failure::Logits(_))) {
            self.keep_all(i);
            self.hold_for_session(i);
            self.pin_again();
        }
        let Some(mut sequence) = self.slots[i].take() else { return };
        let outcome = ending.outcome();
        let last_words = match ending {
            Ending::Gone => vec![],
            Ending::Failed(failure) => vec![Event::Failed(failure)],
            Ending::Done(end) => {
                let text = sequence.answer.rest();
                let rows = self.backend.row_counters(&sequence.state);
                let done = Event::Done(sequence.done(end, rows));
                let rest = (!text.is_empty()).then(|| Event::Delta(Delta { text, ..Delta::default() }));
                rest.into_iter().chain([done]).collect()
            }
        };
        let Sequence { life, state, .. } = sequence;
        drop(state);
        self.leave(life, outcome, last_words);
    }

    fn end_waiting(&self, job: Job, ending: Ending) {
        let Job { request, life } = job;
        // What never began has no part of an answer: the caller may ask elsewhere or again.
        let ending = match ending {
            Ending::Done(End { reason: FinishReason::Cancelled, .. }) => Ending::Failed(Failure::Draining),
            other => other,
        };
        let outcome = ending.outcome();
        let last_words = match ending {
            Ending::Gone => vec![],
            Ending::Failed(failure) => vec![Event::Failed(failure)],
            Ending::Done(end) => vec![Event::Done(Done {
                finish_reason: end.reason,
                matched_stop: end.matched_stop,
                usage: Usage { prompt_tokens: request.prompt().len(), ..Usage::default() },
                timings: Timings { queue_ms: ms(life.accepted_at().elapsed()), ..Timings::default() },
            })],
        };
        self.leave(life, outcome, last_words);
    }

    fn leave(&self, life: Life, outcome: Outcome, last_words: Vec<Event>) {
        let farewell = life.leave();
        farewell.log(last_words.last());
        self.shared.count(outcome, farewell.age);
        self.publish_gauges();
        farewell.say(last_words);
    }

    fn publish_gauges(&self) {
        let n_active = self.slots.iter().flatten().count();
        let kv_bytes = self.kv_bytes();
        let rows = self.backend.row_stats();
        let in_flight = self.shared.in_flight();
        self.shared.with_stats(|s| {
            s.active_sequences = n_active;
            s.queue_length = in_flight.saturating_sub(n_active);
            s.kv_bytes_in_use = kv_bytes;
            s.prefix_tokens = self.prefixes.n_tokens();
            s.prefix_bytes = self.prefixes.n_bytes();
            s.rows = rows;
            s.store = self.disk.as_ref().map(|disk| disk.store.stats());
        });
    }

    /// Sleeps until woken, or until something is due.
    fn sleep(&self, now: Instant) {
        let lives = self.waiting.iter().map(|job| &job.life);
        let lives = lives.chain(self.slots.iter().flatten().map(|s| &s.life));
        let stalls =
            self.slots.iter().flatten().filter_map(|s| s.parked?.checked_add(self.options.stall_limit));
        let drain = self.shared.drain.get().copied().filter(|_| self.shared.in_flight() > 0);
        let disk = self.next_write().into_iter().chain(self.end_of_patience(now));
        let rows = self.slots.iter().flatten().filter_map(|s| s.stalls_at(now));
        let due = lives.filter_map(Life::next_due).chain(stalls).chain(drain).chain(disk).chain(rows).min();
        self.shared.idle.store(true, Ordering::Relaxed);
        match due {
            Some(due) => thread::park_timeout(due.saturating_duration_since(now)),
            None => thread::park(),
        }
        self.shared.idle.store(false, Ordering::Relaxed);
    }
}
