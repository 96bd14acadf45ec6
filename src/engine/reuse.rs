//! The worker and the prefix cache: what a sequence need not compute, and what it leaves to others.
//!
//! A sequence keeps for others what it has computed after each chunk of its prompt and each block of its
//! answer. So one whose prompt begins like that of another under way waits for the part that they share
//! instead of computing it a second time.

use std::time::Instant;

use super::backend::Backend;
use super::prefix_cache::{BLOCK_TOKENS, Kept};
use super::request::Priority;
use super::worker::Worker;
use crate::model::OutOfMemory;
use crate::prefix_store::agreement;

impl<B: Backend> Worker<B> {
    /// Memory for a sequence; if the system has none left, in the place of what is kept.
    pub(super) fn new_seq(&mut self, n_ctx: usize) -> Result<B::Seq, OutOfMemory> {
        self.backend.new_seq(n_ctx).or_else(|_| {
            self.prefixes.clear();
            self.backend.new_seq(n_ctx)
        })
    }

    /// Bytes of the keys and values that sequences hold.
    pub(super) fn kv_bytes(&self) -> u64 {
        self.slots.iter().flatten().map(|sequence| self.backend.kv_bytes(&sequence.state)).sum()
    }

    /// Bytes that sequences leave for what is kept.
    pub(super) fn prefix_bound(&self) -> u64 {
        if self.options.kept_contexts == 0 {
            return 0;
        }
        self.shared.kv_bytes_bound().saturating_sub(self.kv_bytes())
    }

    /// Forgets as much as the sequences need.
    pub(super) fn make_room(&mut self) {
        self.prefixes.shrink_to(self.prefix_bound());
    }

    /// Lets the sequences begin that do not wait for what another is computing.
    ///
    /// An interactive one that waits for one of the background lends it its priority, or it would itself be computed
    /// at the background's pace (priority inversion). It is lent anew at each turn, so that this ends with the
    /// waiting: for what the other computes beyond the part that they share nobody waits.
    pub(super) fn begin_what_can(&mut self, now: Instant) {
        for sequence in self.slots.iter_mut().flatten() {
            sequence.is_background = sequence.priority == Priority::Background;
        }
        for i in 0..self.slots.len() {
            let begins = self.slots[i].as_ref().is_some_and(|sequence| sequence.n_cached.is_none());
            if begins && !self.waits_for_another(i, now) && !self.waits_for_disk(i) {
                self.begin(i);
            }
        }
    }

    /// Whether others are about to compute some of this one's prompt that nobody has. They do it with its priority.
    fn waits_for_another(&mut self, i: usize, now: Instant) -> bool {
        if self.options.kept_contexts == 0 {
            return false;
        }
        let Some(this) = self.slots[i].take() else { return false };
        let reusable = reusable(&this.tokens[..this.n_prompt]);
        let n_known = self.prefixes.n_known(reusable);
        let mut waits = false;
        for other in self.slots.iter_mut().flatten().filter(|other| other.is_prefilling(now)) {
            if agreement(reusable, &other.tokens[..other.n_prompt]) > n_known.max(other.n_done) {
                waits = true;
                other.is_background &= this.is_background;
            }
        }
        self.slots[i] = Some(this);
        waits
    }

    fn begin(&mut self, i: usize) {
        self.write_if_shared(i);
        let Some(sequence) = &mut self.slots[i] else { return };
        let (n_known, kept) = self.prefixes.find(reusable(&sequence.tokens[..sequence.n_prompt]));
        if n_known > 0 {
            self.backend.resume(&mut sequence.state, n_known, &kept);
        }
        sequence.n_cached = Some(n_known);
        sequence.n_done = n_known;
        sequence.n_kept = n_known;
        self.announce_chunk(i, n_known);
        self.shared.with_stats(|s| s.cached_tokens += n_known as u64);
    }

    /// Two begin alike and go on differently: more will begin so.
    fn write_if_shared(&mut self, i: usize) {
        let Some(sequence) = self.slots[i].as_ref().filter(|_| self.disk.is_some()) else { return };
        let reusable = reusable(&sequence.tokens[..sequence.n_prompt]);
        let n_known = self.prefixes.n_known(reusable);
        if self.prefixes.forks_at(reusable, n_known) {
            let shared = reusable[..n_known].to_vec();
            self.write_if_worth_it(&shared);
        }
    }

    /// Keeps what a sequence has computed since it last did so, if that is a chunk of its prompt or a block.
    pub(super) fn keep_computed(&mut self, i: usize) {
        let Some(sequence) = &self.slots[i] else { return };
        if sequence.n_done <= sequence.n_prompt || sequence.n_done - sequence.n_kept >= BLOCK_TOKENS {
            self.keep_all(i);
        }
    }

    /// Keeps all that a sequence has computed.
    pub(super) fn keep_all(&mut self, i: usize) {
        let bound = self.prefix_bound();
        let Some(sequence) = self.slots[i].as_mut().filter(|_| bound > 0) else { return };
        let (backend, state) = (&self.backend, &sequence.state);
        let done = &sequence.tokens[..sequence.n_done];
        let sliding_from = backend.sliding_from(state);
        self.prefixes.store(done, sequence.n_kept, sliding_from, bound, |positions, kind| {
            let what = backend.keep(state, positions, kind)?;
            let n_bytes = backend.kept_bytes(&what);
            Some(Kept { what, n_bytes })
        });
        sequence.n_kept = sequence.n_done;
    }
}

/// What of a prompt may be known already: the last token is always run, for its logits.
pub(super) fn reusable(prompt: &[u32]) -> &[u32] {
    &prompt[..prompt.len() - 1]
}
