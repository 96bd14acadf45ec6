//! Whose turn it is: a pure state machine from the state of the slots to the next piece of work.
//!
//! Three rules make it fair. Chunks of prompts alternate with decode steps, so that answers under way
//! keep moving while a long prompt is computed and the prompt keeps moving while others answer. Slots
//! with a prompt take their chunks in turn, so that a short prompt does not wait for a long one. A chunk
//! is cut to what takes a few decode steps while others answer, and to a moment that nobody minds waiting
//! for where none does: who cancels, or comes, is heard between two steps.
//!
//! Deliberately absent: clocks, channels, the model. Everything that decides stands in the arguments.

use std::ops::Range;

/// What the scheduler knows of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// No sequence.
    Free,
    /// A sequence that waits: for its reader to take an event, or for what another is computing.
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
    /// Slot whose prompt is looked at first.
    turn: usize,
    /// The last action was a chunk of a prompt.
    prefilled: bool,
}

impl Scheduler {
    /// `prefill_chunk`: the most tokens of a prompt in one step; at least 1.
    pub(super) fn new(prefill_chunk: usize) -> Self {
        assert!(prefill_chunk > 0, "a chunk has at least one token");
        Self { prefill_chunk, turn: 0, prefilled: false }
    }

    /// The next piece of work for slots in this state.
    pub(super) fn next(&mut self, slots: &[Slot]) -> Action {
        let decoding = slots.contains(&Slot::Decode);
        if !(self.prefilled && decoding)
            && let Some((slot, range)) = self.next_chunk(slots)
        {
            self.prefilled = true;
            self.turn = slot + 1;
            return Action::Prefill { slot, range };
        }
        self.prefilled = false;
        if !decoding {
            return Action::Idle;
        }
        let is_decoding = |&i: &usize| slots[i] == Slot::Decode;
        Action::Decode { slots: (0..slots.len()).filter(is_decoding).collect() }
    }

    fn next_chunk(&self, slots: &[Slot]) -> Option<(usize, Range<usize>)> {
        let in_turn = (0..slots.len()).map(|i| (self.turn + i) % slots.len());
        in_turn.into_iter().find_map(|slot| match slots[slot] {
            Slot::Prefill { start, end } => Some((slot, start..end)),
            _ => None,
        })
    }

    /// The chunk that begins at `done` in a prompt of `total` tokens; empty at its end. `others_decode`: answers
    /// of others are under way.
    pub(super) fn chunk(&self, done: usize, total: usize, pace: &Pace, others_decode: bool) -> Range<usize> {
        let n = self.prefill_chunk.min(pace.chunk_tokens(others_decode));
        done..total.min(done.saturating_add(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: Pace = Pace { decode_s: None, prompt_token_s: None };

    /// A slot of a prompt of `total` tokens, `done` of them computed.
    fn prompt(s: &Scheduler, done: usize, total: usize) -> Slot {
        let Range { start, end } = s.chunk(done, total, &UNKNOWN, false);
        Slot::Prefill { start, end }
    }

    /// Applies an action as the engine would: a finished prompt decodes. `totals`: tokens of the prompts.
    fn apply(s: &Scheduler, slots: &mut [Slot], totals: &[usize], action: &Action) {
        if let Action::Prefill { slot, range } = action {
            let Slot::Prefill { start, end } = slots[*slot] else { panic!("slot {slot} has no prompt") };
            assert_eq!(*range, start..end, "a chunk is the one that was announced");
            let total = totals[*slot];
            slots[*slot] = if end == total { Slot::Decode } else { prompt(s, end, total) };
        }
    }

    #[test]
    fn nothing_to_do_is_idle() {
        let mut s = Scheduler::new(4);
        assert_eq!(s.next(&[]), Action::Idle);
        assert_eq!(s.next(&[Slot::Free, Slot::Parked]), Action::Idle);
    }

    #[test]
    fn a_prompt_alone_is_computed_in_chunks_and_then_decodes() {
        let mut s = Scheduler::new(4);
        let mut slots = [prompt(&s, 0, 10)];
        let mut chunks = Vec::new();
        while let Action::Prefill { slot, range } = s.next(&slots) {
            chunks.push(range.clone());
            apply(&s, &mut slots, &[10], &Action::Prefill { slot, range });
        }
        assert_eq!(chunks, [0..4, 4..8, 8..10]);
        assert_eq!(s.next(&slots), Action::Decode { slots: vec![0] });
    }

    #[test]
    fn chunks_and_decode_steps_alternate() {
        let mut s = Scheduler::new(1);
        let mut slots = [Slot::Decode, prompt(&s, 0, 4), Slot::Decode];
        let mut kinds = String::new();
        for _ in 0..8 {
            let action = s.next(&slots);
            kinds.push(match &action {
                Action::Prefill { .. } => 'p',
                Action::Decode { slots } if slots == &[0, 2] => 'd',
                Action::Decode { slots } if slots == &[0, 1, 2] => 'D',
                other => panic!("{other:?}"),
            });
            apply(&s, &mut slots, &[0, 4, 0], &action);
        }
        assert_eq!(kinds, "pdpdpdpD");
    }

    #[test]
    fn prompts_take_turns() {
        let mut s = Scheduler::new(8);
        let mut slots = [prompt(&s, 0, 800), prompt(&s, 0, 16)];
        let mut order = Vec::new();
        for _ in 0..6 {
            let action = s.next(&slots);
            if let Action::Prefill { slot, .. } = &action {
                order.push(*slot);
            }
            apply(&s, &mut slots, &[800, 16], &action);
        }
        // The short one is through after its second turn although the long one was first; then its
        // decode step stands between two chunks.
        assert_eq!(order, [0, 1, 0, 1, 0]);
    }

    #[test]
    fn a_parked_slot_is_passed_over() {
        let mut s = Scheduler::new(8);
        let slots = [Slot::Parked, Slot::Decode, Slot::Parked];
        assert_eq!(s.next(&slots), Action::Decode { slots: vec![1] });
    }

    /// A machine that takes `fixed_s` to read the weights, and `token_s` more for each token.
    struct Machine {
        fixed_s: f64,
        token_s: f64,
    }

    impl Machine {
        fn step_s(&self, n_tokens: usize) -> f64 {
            self.fixed_s + self.token_s * n_tokens as f64
        }
    }

    /// The boards, and what is much slower and much faster.
    const MACHINES: [Machine; 4] = [
        Machine { fixed_s: 0.4, token_s: 0.22 },
        Machine { fixed_s: 0.12, token_s: 0.03 },
        Machine { fixed_s: 5.0, token_s: 3.0 },
        Machine { fixed_s: 0.001, token_s: 0.0001 },
    ];

    #[test]
    fn a_chunk_between_decode_steps_takes_no_more_than_a_few_of_them() {
        for machine in MACHINES {
            let s = Scheduler::new(128);
            let mut pace = UNKNOWN;
            // What is known when a prompt enters: the prompts before were computed alone.
            pace.prefilled(128, machine.step_s(128));
            pace.decoded(machine.step_s(1));
            let (mut done, mut n_chunks) = (0, 0);
            while done < 2000 {
                let chunk = s.chunk(done, 2000, &pace, true);
                let (taken, step) = (machine.step_s(chunk.len()), machine.step_s(1));
                // The first chunk goes by what large ones cost, and is a little late.
                let bound = if n_chunks == 0 { 4.0 } else { 3.5 };
                assert!(taken <= bound * step, "{chunk:?} takes {taken} s, a step {step} s");
                pace.prefilled(chunk.len(), taken);
                pace.decoded(step);
                done = chunk.end;
                n_chunks += 1;
            }
            // And it does not shrink to nothing.
            let most = 2.0 * machine.step_s(1);
            assert!(
                machine.step_s(2000 / n_chunks + 1) >= most.min(machine.step_s(128)),
                "{n_chunks} chunks"
            );
        }
    }

    #[test]
    fn a_chunk_alone_is_as_large_as_is_efficient_and_ends_within_seconds() {
        for machine in MACHINES {
            let s = Scheduler::new(128);
            let mut pace = UNKNOWN;
            for i in 0..20 {
                let n = s.chunk(0, 2000, &pace, false).len();
                let taken = machine.step_s(n);
                assert!(n == CHUNK_TOKENS || taken <= 1.1 * CHUNK_S, "{n} tokens take {taken} s");
                assert!(
                    i < 10 || n == 128 || machine.step_s(n + 2) > 0.9 * CHUNK_S,
                    "{n} tokens take {taken} s"
                );
                pace.prefilled(n, taken);
            }
        }
    }

    #[test]
    fn before_anything_is_known_chunks_are_small() {
        let s = Scheduler::new(128);
        assert_eq!(s.chunk(0, 2000, &UNKNOWN, false), 0..CHUNK_TOKENS);
        assert_eq!(s.chunk(5, 2000, &UNKNOWN, true), 5..5 + CHUNK_TOKENS);
        let pace = Pace { decode_s: None, prompt_token_s: Some(0.01) };
        assert_eq!(s.chunk(5, 2000, &pace, true), 5..8);
        // Clocks may stand still, or jump.
        for (decode_s, token_s) in [(0.0, 0.0), (1e9, 0.0), (0.0, 1e9)] {
            let pace = Pace { decode_s: Some(decode_s), prompt_token_s: Some(token_s) };
            for others_decode in [true, false] {
                assert!((1..=128).contains(&s.chunk(0, 2000, &pace, others_decode).len()), "{pace:?}");
            }
        }
    }

    /// Whatever the state, a slot that can move does so within a bounded number of decisions.
    #[test]
    fn nobody_starves() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        for round in 0..300 {
            let n = 1 + random(6) as usize;
            let mut s = Scheduler::new(1 + random(5) as usize);
            let mut slots = vec![Slot::Free; n];
            let mut waited = vec![0_usize; n];
            let mut totals = vec![0; n];
            for step in 0..200 {
                // The world changes: requests come, readers stall and return, answers end.
                let i = random(n as u64) as usize;
                slots[i] = match (slots[i], random(8)) {
                    (Slot::Free, 0..5) => {
                        totals[i] = 1 + random(40) as usize;
                        prompt(&s, 0, totals[i])
                    }
                    (Slot::Decode, 0) => Slot::Free,
                    (Slot::Decode, 1) => Slot::Parked,
                    (Slot::Parked, 0..4) => Slot::Decode,
                    (same, _) => same,
                };
                let action = s.next(&slots);
                for (i, slot) in slots.iter().enumerate() {
                    let moved = match &action {
                        Action::Prefill { slot, .. } => *slot == i,
                        Action::Decode { slots } => slots.contains(&i),
                        Action::Idle => false,
                    };
                    let can_move = matches!(slot, Slot::Decode | Slot::Prefill { .. });
                    assert!(can_move || !moved, "round {round} step {step}: {slot:?} was moved");
                    waited[i] = if can_move && !moved { waited[i] + 1 } else { 0 };
                    let bound = if *slot == Slot::Decode { 1 } else { 2 * n };
                    assert!(waited[i] <= bound, "round {round} step {step}: {slot:?} waited {}", waited[i]);
                }
                apply(&s, &mut slots, &totals, &action);
            }
        }
    }
}
