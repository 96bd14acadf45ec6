//! Whose turn it is: a pure state machine from the state of the slots to the next piece of work.
//!
//! Two rules make it fair. Chunks of prompts alternate with decode steps, so that answers under way
//! keep moving while a long prompt is computed and the prompt keeps moving while others answer. Slots
//! with a prompt take their chunks in turn, so that a short prompt does not wait for a long one.
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
    /// `done < total` tokens of the prompt are computed.
    Prefill {
        /// Tokens computed.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
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
            Slot::Prefill { done, total } => Some((slot, self.chunk(done, total))),
            _ => None,
        })
    }

    /// The chunk that begins at `done` in a prompt of `total` tokens; empty at its end.
    pub(super) fn chunk(&self, done: usize, total: usize) -> Range<usize> {
        done..total.min(done.saturating_add(self.prefill_chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies an action as the engine would: a finished prompt decodes.
    fn apply(slots: &mut [Slot], action: &Action) {
        if let Action::Prefill { slot, range } = action {
            let Slot::Prefill { done, total } = slots[*slot] else { panic!("slot {slot} has no prompt") };
            assert_eq!(range.start, done, "a chunk begins where the last ended");
            assert!(!range.is_empty() && range.end <= total);
            slots[*slot] =
                if range.end == total { Slot::Decode } else { Slot::Prefill { done: range.end, total } };
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
        let mut slots = [Slot::Prefill { done: 0, total: 10 }];
        let mut chunks = Vec::new();
        while let Action::Prefill { slot, range } = s.next(&slots) {
            chunks.push(range.clone());
            apply(&mut slots, &Action::Prefill { slot, range });
        }
        assert_eq!(chunks, [0..4, 4..8, 8..10]);
        assert_eq!(s.next(&slots), Action::Decode { slots: vec![0] });
    }

    #[test]
    fn chunks_and_decode_steps_alternate() {
        let mut s = Scheduler::new(1);
        let mut slots = [Slot::Decode, Slot::Prefill { done: 0, total: 4 }, Slot::Decode];
        let mut kinds = String::new();
        for _ in 0..8 {
            let action = s.next(&slots);
            kinds.push(match &action {
                Action::Prefill { .. } => 'p',
                Action::Decode { slots } if slots == &[0, 2] => 'd',
                Action::Decode { slots } if slots == &[0, 1, 2] => 'D',
                other => panic!("{other:?}"),
            });
            apply(&mut slots, &action);
        }
        assert_eq!(kinds, "pdpdpdpD");
    }

    #[test]
    fn prompts_take_turns() {
        let mut s = Scheduler::new(8);
        let mut slots = [Slot::Prefill { done: 0, total: 800 }, Slot::Prefill { done: 0, total: 16 }];
        let mut order = Vec::new();
        for _ in 0..6 {
            let action = s.next(&slots);
            if let Action::Prefill { slot, .. } = &action {
                order.push(*slot);
            }
            apply(&mut slots, &action);
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
            for step in 0..200 {
                // The world changes: requests come, readers stall and return, answers end.
                let i = random(n as u64) as usize;
                slots[i] = match (slots[i], random(8)) {
                    (Slot::Free, 0..5) => Slot::Prefill { done: 0, total: 1 + random(40) as usize },
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
                apply(&mut slots, &action);
            }
        }
    }
}
