//! Whose turn it is: a pure state machine from the state of the slots to the next step.
//!
//! A step reads the weights once, for a token of every answer that is under way and for a chunk of one prompt. So
//! answers keep moving while a long prompt is computed, and the prompt while others answer. Slots with a prompt take
//! their chunks in turn, so that a short prompt does not wait for a long one. While others answer a chunk is cut to what
//! makes a step twice as long; where none does, to a moment that nobody minds waiting for, since who
//! cancels, or comes, is heard between two steps. How long a step is without a chunk is measured: now and then the
//! answers get one for themselves. An answer of which a grammar makes several tokens certain gets them as a chunk, in
//! turn with the prompts.
//!
//! While somebody waits for an answer, prompts of the background, for which nobody does, get a chunk in one step of
//! several, and its answers move in the steps in which others do, and in that one.
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

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// What is computed in one pass over the weights; not empty.
    Step {
        /// The slot whose prompt gets a chunk, if one does, and which tokens: not empty, as announced.
        chunk: Option<(usize, Range<usize>)>,
        /// Slots that get one token each; ascending.
        decode: Vec<usize>,
    },
    /// Nobody can move.
    Idle,
}

/// What a chunk may add to a step while others answer. Two tokens are then twice as far from each other as without a
/// prompt, which leaves room below three times for a step that takes longer than the last ones did. Unit: decode steps.
const CHUNK_DECODE_STEPS: f64 = 1.0;
/// While others answer a chunk is at most so many times as long as the one before, where it is not small: some tokens cost
/// nearly nothing beside the reading of the weights, which says little about many.
const CHUNK_GROWTH: f64 = 1.25;
/// The longest that a chunk may take while nobody answers. Unit: s.
const CHUNK_S: f64 = 2.0;
/// Where nobody answers a chunk is no shorter, so that the weights are read for enough tokens at once; before anything is
/// known of the time that it takes it is no longer, and so large may any chunk be beside answers whose time allows
/// it, however small the last one was. Unit: tokens.
const CHUNK_TOKENS: usize = 16;
/// After so many steps with a chunk the answers get one for themselves, which delays the prompt by 3 %.
const MEASURE_EVERY: usize = 16;
/// And after so many where the answers are more or fewer than when they were measured, or were so once only: the machine may have
/// done something else meanwhile. Unlike the other this may happen at
/// any time, as answers of which a grammar makes tokens certain are now among them and now not.
const MEASURE_OTHERS: usize = 4;
/// A step of the same answers that took more times as long as before counts as if it had taken so many times as long: one
/// during which the machine did something else is no reason for large chunks.
const DECODE_S_GROWTH: f64 = 1.25;
/// Of so many steps one is for the background while interactive slots can move. Its chunk makes that step twice as long, so that
/// an interactive answer takes 1.13 times as long beside a prompt of the background, where it would take twice
/// as long beside one of its own class; and nobody waits for ever.
const BACKGROUND_SHARE: usize = 8;
/// Weight of the newest step in the running means.
const MEAN_WEIGHT: f64 = 0.5;

/// How long steps took of late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    /// A step without a chunk. Unit: s.
    pub(super) decode_s: Option<f64>,
    /// The answers of that step.
    pub(super) n_answers: usize,
    /// A chunk alone, for each of its tokens. Unit: s.
    pub(super) prompt_token_s: Option<f64>,
    /// What a chunk adds to a step, for each of its tokens. Unit: s.
    pub(super) added_token_s: Option<f64>,
    /// Tokens of the last chunk in a step with answers.
    pub(super) n_added: usize,
}

impl Pace {
    /// Takes note of a step that took `s`, with a chunk of `n_prompt_tokens` and, or, a token of each of `n_answers`.
    pub(super) fn stepped(&mut self, n_prompt_tokens: usize, n_answers: usize, s: f64) {
        let n = n_prompt_tokens as f64;
        match (n_prompt_tokens, n_answers) {
            (0, _) => {
                let of_the_same = self.decode_s.filter(|_| self.n_answers == n_answers);
                let s = of_the_same.map_or(s, |before| s.min(DECODE_S_GROWTH * before));
                self.decode_s = Some(mean(of_the_same, s));
                self.n_answers = n_answers;
            }
            (_, 0) => self.prompt_token_s = Some(mean(self.prompt_token_s, s / n)),
            (_, _) => {
                self.n_added = n_prompt_tokens;
                if let Some(decode_s) = self.decode_s {
                    self.added_token_s = Some(mean(self.added_token_s, (s - decode_s).max(0.0) / n));
                }
            }
        }
    }

    /// The most tokens that a chunk should have.
    ///
    /// What a token costs depends on the size of the chunk: alone less in a large one, beside answers less in a small one, part
    /// of which the reading of the weights hides. Since it is measured again and again, the size settles where
    /// a chunk takes as long as it may.
    fn chunk_tokens(&self, others_decode: bool) -> usize {
        let token_s =
            if others_decode { self.added_token_s.or(self.prompt_token_s) } else { self.prompt_token_s };
        let Some(token_s) = token_s else { return CHUNK_TOKENS };
        // A float that is too large for its type becomes the largest.
        let within = |s: f64| (s / token_s.max(1e-9)) as usize;
        match others_decode {
            true => {
                let most = (CHUNK_GROWTH * self.n_added as f64) as usize;
                within(CHUNK_DECODE_STEPS * self.decode_s.unwrap_or(token_s)).clamp(1, most.max(CHUNK_TOKENS))
            }
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
    /// Of each class the slot whose prompt is looked at first.
    first_interactive: usize,
    first_background: usize,
    /// Steps for interactive slots since the last one for the background, where it could have moved.
    n_passed_over: usize,
    /// How many answers the last step without a chunk had, and how many such steps in a row had as many.
    n_answers_alone: usize,
    n_alike: usize,
    /// Steps with answers and a chunk since then.
    n_mixed: usize,
}

impl Scheduler {
    /// `prefill_chunk`: the most tokens of a prompt in one step; at least 1.
    pub(super) fn new(prefill_chunk: usize) -> Self {
        assert!(prefill_chunk > 0, "a chunk has at least one token");
        Self {
            prefill_chunk,
            first_interactive: 0,
            first_background: 0,
            n_passed_over: 0,
            n_answers_alone: 0,
            n_alike: 0,
            n_mixed: MEASURE_EVERY,
        }
    }

    /// The next step for slots in this state. `background`: of each slot, whether nobody waits for it.
    pub(super) fn next(&mut self, slots: &[Slot], background: &[bool]) -> Action {
        let is_decoding = |&i: &usize| slots[i] == Slot::Decode;
        let mut decode: Vec<usize> = (0..slots.len()).filter(is_decoding).collect();
        let has_interactive = |class: fn(&Slot) -> bool| {
            slots.iter().zip(background).any(|(slot, of_background)| class(slot) && !of_background)
        };
        // Answers of the background ride along with others, and do not make an interactive prompt's steps longer.
        let move_alone = has_interactive(|s| *s == Slot::Decode)
            || !has_interactive(|s| matches!(s, Slot::Prefill { .. }));
        if move_alone && self.is_to_measure(decode.len()) {
            return self.answers_alone(decode);
        }
        let for_background = self.take_for_background(slots, background);
        let of_background = for_background.then(|| self.next_chunk(slots, background, true)).flatten();
        // Where the background has no prompt its step has room for another.
        let chunk = of_background.or_else(|| self.next_chunk(slots, background, false));
        if !for_background && !move_alone {
            decode.clear();
        }
        match (&chunk, decode.is_empty()) {
            (None, true) => Action::Idle,
            (None, false) => self.answers_alone(decode),
            (Some(_), is_alone) => {
                self.n_mixed += usize::from(!is_alone);
                Action::Step { chunk, decode }
            }
        }
    }

    /// Whether `n_answers` get a step for themselves although prompts wait.
    fn is_to_measure(&self, n_answers: usize) -> bool {
        let is_known = n_answers == self.n_answers_alone && self.n_alike > 1;
        let limit = if is_known { MEASURE_EVERY } else { MEASURE_OTHERS };
        n_answers > 0 && self.n_mixed >= limit
    }

    fn answers_alone(&mut self, decode: Vec<usize>) -> Action {
        self.n_alike = if decode.len() == self.n_answers_alone { self.n_alike + 1 } else { 1 };
        (self.n_answers_alone, self.n_mixed) = (decode.len(), 0);
        Action::Step { chunk: None, decode }
    }

    /// The chunk that is next in its class; the turn is then another's.
    fn next_chunk(
        &mut self,
        slots: &[Slot],
        background: &[bool],
        class: bool,
    ) -> Option<(usize, Range<usize>)> {
        let first = if class { &mut self.first_background } else { &mut self.first_interactive };
        let mut in_turn =
            (0..slots.len()).map(|i| (*first + i) % slots.len()).filter(|&i| background[i] == class);
        let (slot, range) = in_turn.find_map(|slot| match slots[slot] {
            Slot::Prefill { start, end } => Some((slot, start..end)),
            _ => None,
        })?;
        *first = slot + 1;
        Some((slot, range))
    }

    /// Whether this step is for the slots of the background; counts it.
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
    /// of others are under way when it will be computed. A request that comes later, and whose prompt is computed before
    /// this chunk is, waits for a large one once.
    pub(super) fn chunk(&self, done: usize, total: usize, pace: &Pace, others_decode: bool) -> Range<usize> {
        let n = self.prefill_chunk.min(pace.chunk_tokens(others_decode));
        done..total.min(done.saturating_add(n))
    }
}

#[cfg(test)]
mod tests;
