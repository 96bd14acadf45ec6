//! Bounds of the engine.

use std::time::Duration;

/// How much the engine takes on. Each bound is at least 1 except `queue_depth`, `worth_tokens` and `kept_contexts`, which may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Context of a sequence: prompt and answer. Unit: tokens.
    pub n_ctx: usize,
    /// Sequences that are computed at once.
    pub max_sessions: usize,
    /// Whole contexts' worth of memory for what later requests may begin with, besides what sequences leave of
    /// theirs. 0: nothing is kept.
    pub kept_contexts: usize,
    /// A prefix is written to disk, if there is a store, if that saves computing so many tokens of it. Unit: tokens.
    pub worth_tokens: usize,
    /// Requests that may wait for a turn.
    pub queue_depth: usize,
    /// The most tokens of a prompt in one step.
    pub prefill_chunk: usize,
    /// Events that may wait for a reader before its sequence is parked.
    pub event_room: usize,
    /// A reader that leaves its events alone for so long is taken for gone.
    pub stall_limit: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl EngineOptions {
    /// What everybody gets who says nothing else; the configuration takes its defaults from here.
    pub const DEFAULT: Self = Self {
        n_ctx: 4096,
        max_sessions: 4,
        kept_contexts: 1,
        worth_tokens: 256,
        queue_depth: 8,
        prefill_chunk: 128,
        event_room: 32,
        stall_limit: Duration::from_secs(60),
    };

    /// Contexts that there is memory for: sequences, and what is kept for later ones.
    pub const fn n_contexts(&self) -> usize {
        self.max_sessions + self.kept_contexts
    }

    /// Slots that are not for requests of the background, so that who speaks finds one: the last one that is free,
    /// unless it is the only one.
    pub(super) fn n_reserved(&self) -> usize {
        usize::from(self.max_sessions > 1)
    }

    /// The most tokens that one step computes: a chunk of one sequence's prompt, and a token of each other one.
    pub fn max_batch(&self) -> usize {
        self.prefill_chunk.saturating_add(self.max_sessions.saturating_sub(1))
    }
}
