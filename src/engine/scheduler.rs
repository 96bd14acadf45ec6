//! Whose turn it is: a pure state machine from the state of the slots to the next piece of work.
//!
//! Four rules make it fair. Chunks of prompts alternate with decode steps, so that answers under way
//! keep moving while a long prompt is computed and the prompt keeps moving while others answer. Slots
//! with a prompt take their chunks in turn, so that a short prompt does not wait for a long one. A chunk
//! is cut to what takes a few decode steps while others answer, and to a moment that nobody minds waiting
//! for where none does: who cancels, or comes, is heard between two steps. While somebody waits for an answer,
//! the slots of the background, for which nobody does, get one decision of several for themselves, and otherwise
//! decode along with the others.
//!
//! Deliberately absent: clocks, channels, the model. Everything that decides stands in the arguments.

use std::ops::Range;

/// What the scheduler knows of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// No sequence.
    Free,
    /// A sequence that waits: for its reader to take an event, for rows, or for what another is computing.
    Parked,
    /// These tokens of the prompt are its next chunk; not empty.
    Prefill {
        /// Tokens computed.
        start: usize,
        /// Behind the last token of the chunk.
        end: usize,
    },
    /// The prompt is computed; the last chosen token waits to be run.
    Decode,
}

/// The next piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Compute these tokens of the slot's prompt.
    Prefill {
        /// Index of the slot.
        slot: usize,
        /// Which tokens of its prompt; not empty, at most a chunk.
        range: Range<usize>,
    },
    /// One token for each of these slots, in one step; ascending, not empty.
    Decode {
        /// Indices of the slots.
        slots: Vec<usize>,
    },
    /// Nobody can move.
    Idle,
}

/// The longest that a chunk may take while others answer. Unit: decode steps.
const CHUNK_DECODE_STEPS: f64 = 3.0;
/// The longest that a chunk may take while nobody answers. Unit: s.
const CHUNK_S: f64 = 2.0;
/// Where nobody answers a chunk is no shorter, so that the weights are read for enough tokens at once; nor is
/// it longer before anything is known of the time that it takes. Unit: tokens.
const CHUNK_TOKENS: usize = 16;
/// Of so many decisions the background gets one while interactive slots can move. Its chunk takes as long as three
/// decode steps, so that an interactive answer takes 10/7 of its time at most beside a prompt of the background,
/// where it would take four times as long beside one of its own class; and nobody waits for ever.
const BACKGROUND_SHARE: usize = 8;
/// Weight of the newest step in the running means.
const MEAN_WEIGHT: f64 = 0.5;

/// How long steps took of late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    /// A decode step. Unit: s.
    pub(super) decode_s: Option<f64>,
    /// A chunk, for each of its tokens. Unit: s.
    pub(super) prompt_token_s: Option<f64>,
}

impl Pace {
    /// Takes note of a decode step.
    pub(super) fn decoded(&mut self, s: f64) {
        self.decode_s = Some(mean(self.decode_s, s));
    }

    /// Takes note of a chunk of `n_tokens`.
    pub(super) fn prefilled(&mut self, n_tokens: usize, s: f64) {
        self.prompt_token_s = Some(mean(self.prompt_token_s, s / n_tokens as f64));
    }

    /// The most tokens that a chunk should have.
    ///
    /// Small chunks cost more for each token. Since that is measured too, the size settles where a chunk takes
    /// as long as it may.
    fn chunk_tokens(&self, others_decode: bool) -> usize {
        let Some(token_s) = self.prompt_token_s else { return CHUNK_TOKENS };
        // A float that is too large for its type becomes the largest.
        let within = |s: f64| (s / token_s.max(1e-9)) as usize;
        match others_decode {
            true => within(CHUNK_DECODE_STEPS * self.decode_s.unwrap_or(token_s)).max(1),
            false => within(CHUNK_S).max(CHUNK_TOKENS),
        }
    }
}

fn mean(before: Option<f64>, s: f64) -> f64 {
    before.map_or(s, |before| before + MEAN_WEIGHT * (s - before))
}

/// Memory between two decisions.
#[derive(Clone, Debug)]
pub(super) struct Scheduler {
    prefill_chunk: usize,
    interactive: Turn,
    background: Turn,
    /// Decisions for interactive slots since the last one for the background, where it could have moved.
    n_passed_over: usize,
}

/// Whose turn it is among the slots of one class. Each class has its own: with one for both, chunks of an interactive
/// prompt would make it the turn of the background's answers at each of its decisions, and never that of its prompts.
#[derive(Clone, Debug, Default)]
struct Turn {
    /// Slot whose prompt is looked at first.
    first: usize,
    /// The last step of this class was a chunk of a prompt.
    prefilled: bool,
}

impl Scheduler {
    /// `prefill_chunk`: the most tokens of a prompt in one step; at least 1.
    pub(super) fn new(prefill_chunk: usize) -> Self {
        assert!(prefill_chunk > 0, "a chunk has at least one token");
        Self { prefill_chunk, interactive: Turn::default(), background: Turn::default(), n_passed_over: 0 }
    }

    /// The next piece of work for slots in this state. `background`: of each slot, whether nobody waits for it.
    pub(super) fn next(&mut self, slots: &[Slot], background: &[bool]) -> Action {
        let for_background = self.take_for_background(slots, background);
        let turn = if for_background { &mut self.background } else { &mut self.interactive };
        let counts = |i: &usize| background[*i] == for_background;
        let decoding = (0..slots.len()).filter(counts).any(|i| slots[i] == Slot::Decode);
        if !(turn.prefilled && decoding)
            && let Some((slot, range)) = turn.next_chunk(slots, counts)
        {
            *turn = Turn { first: slot + 1, prefilled: true };
            return Action::Prefill { slot, range };
        }
        (self.interactive.prefilled, self.background.prefilled) = (false, false);
        if !decoding {
            return Action::Idle;
        }
        // One pass over the weights decodes for all.
        let is_decoding = |&i: &usize| slots[i] == Slot::Decode;
        Action::Decode { slots: (0..slots.len()).filter(is_decoding).collect() }
    }

    /// Whether this decision is for the slots of the background; counts it.
    fn take_for_background(&mut self, slots: &[Slot], background: &[bool]) -> bool {
        let can_move = |class: bool| {
            let of_class =
                |(slot, of): (&Slot, &bool)| *of == class && !matches!(slot, Slot::Free | Slot::Parked);
            slots.iter().zip(background).any(of_class)
        };
        let is_due = can_move(true) && (!can_move(false) || self.n_passed_over + 1 == BACKGROUND_SHARE);
        self.n_passed_over = if is_due { 0 } else { self.n_passed_over + usize::from(can_move(true)) };
        is_due
    }

    /// The chunk that begins at `done` in a prompt of `total` tokens; empty at its end. `others_decode`: answers
    /// of others are under way.
    pub(super) fn chunk(&self, done: usize, total: usize, pace: &Pace, others_decode: bool) -> Range<usize> {
        let n = self.prefill_chunk.min(pace.chunk_tokens(others_decode));
        done..total.min(done.saturating_add(n))
    }
}

impl Turn {
    /// The chunk that is next among the slots that count.
    fn next_chunk(&self, slots: &[Slot], counts: impl Fn(&usize) -> bool) -> Option<(usize, Range<usize>)> {
        let mut in_turn = (0..slots.len()).map(|i| (self.first + i) % slots.len()).filter(counts);
        in_turn.find_map(|slot| match slots[slot] {
            Slot::Prefill { start, end } => Some((slot, start..end)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
