use super::*;

const UNKNOWN: Pace = Pace { decode_s: None, prompt_token_s: None };

/// A slot of a prompt of `total` tokens, `done` of them computed.
fn prompt(s: &Scheduler, done: usize, total: usize) -> Slot {
    let Range { start, end } = s.chunk(done, total, &UNKNOWN, false);
    Slot::Prefill { start, end }
}

/// The next piece of work where all slots are of one class.
fn next(s: &mut Scheduler, slots: &[Slot]) -> Action {
    s.next(slots, &vec![false; slots.len()])
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
    assert_eq!(next(&mut s, &[]), Action::Idle);
    assert_eq!(next(&mut s, &[Slot::Free, Slot::Parked]), Action::Idle);
}

#[test]
fn a_prompt_alone_is_computed_in_chunks_and_then_decodes() {
    let mut s = Scheduler::new(4);
    let mut slots = [prompt(&s, 0, 10)];
    let mut chunks = Vec::new();
    while let Action::Prefill { slot, range } = next(&mut s, &slots) {
        chunks.push(range.clone());
        apply(&s, &mut slots, &[10], &Action::Prefill { slot, range });
    }
    assert_eq!(chunks, [0..4, 4..8, 8..10]);
    assert_eq!(next(&mut s, &slots), Action::Decode { slots: vec![0] });
}

#[test]
fn chunks_and_decode_steps_alternate() {
    let mut s = Scheduler::new(1);
    let mut slots = [Slot::Decode, prompt(&s, 0, 4), Slot::Decode];
    let mut kinds = String::new();
    for _ in 0..8 {
        let action = next(&mut s, &slots);
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
        let action = next(&mut s, &slots);
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
    assert_eq!(next(&mut s, &slots), Action::Decode { slots: vec![1] });
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
        assert!(machine.step_s(2000 / n_chunks + 1) >= most.min(machine.step_s(128)), "{n_chunks} chunks");
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
            assert!(i < 10 || n == 128 || machine.step_s(n + 2) > 0.9 * CHUNK_S, "{n} tokens take {taken} s");
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

/// `n` decisions, a letter for each: `p` and `b` for chunks of interactive prompts and those of the background, `d` for
/// a decode step.
fn decisions(s: &mut Scheduler, slots: &[Slot], background: &[bool], n: usize) -> String {
    let mut kind = || match s.next(slots, background) {
        Action::Prefill { slot, .. } => {
            if background[slot] {
                'b'
            } else {
                'p'
            }
        }
        Action::Decode { slots: moved } => {
            let decoding: Vec<usize> = (0..slots.len()).filter(|&i| slots[i] == Slot::Decode).collect();
            assert_eq!(moved, decoding, "whoever decodes does so in every decode step");
            'd'
        }
        Action::Idle => panic!("{slots:?} can move"),
    };
    (0..n).map(|_| kind()).collect()
}

#[test]
fn a_prompt_of_the_background_gets_an_eighth_beside_interactive_ones() {
    let mut s = Scheduler::new(4);
    let long = prompt(&s, 0, 8000);
    assert_eq!(decisions(&mut s, &[long, long], &[true, false], 32), "pppppppb".repeat(4));
    // Beside an interactive answer, and beside both.
    assert_eq!(decisions(&mut s, &[long, Slot::Decode], &[true, false], 32), "dddddddb".repeat(4));
    let all = decisions(&mut s, &[long, long, Slot::Decode], &[true, false, false], 800);
    assert_eq!(all.matches('b').count(), 100);
    // Nothing else changes for the others.
    assert_eq!(all.replace('b', ""), "pd".repeat(350));
    // Alone it has all.
    assert_eq!(decisions(&mut s, &[long, Slot::Parked], &[true, false], 8), "b".repeat(8));
}

#[test]
fn answers_of_the_background_ride_along_and_move_without_interactive_ones_too() {
    let mut s = Scheduler::new(4);
    let long = prompt(&s, 0, 8000);
    // `decisions` holds that the one of the background is in every step.
    let beside = decisions(&mut s, &[Slot::Decode, Slot::Decode, long], &[true, false, false], 80);
    assert!(beside.matches('d').count() >= 40 && !beside.contains("dd"), "{beside}");
    assert_eq!(decisions(&mut s, &[Slot::Decode, long], &[true, false], 16), "pppppppd".repeat(2));
}

#[test]
fn a_prompt_of_the_background_does_not_starve_behind_an_answer_of_its_class() {
    let mut s = Scheduler::new(4);
    let long = prompt(&s, 0, 8000);
    let all = decisions(&mut s, &[long, Slot::Decode, long], &[true, true, false], 32);
    assert_eq!(all, "pppppppbpppppppd".repeat(2));
}

#[test]
fn prompts_take_turns_within_their_class() {
    let mut s = Scheduler::new(4);
    let long = prompt(&s, 0, 8000);
    // More interactive prompts than there are decisions between two of the background.
    let mut n_chunks = [0; 11];
    let background: [bool; 11] = std::array::from_fn(|i| i == 0 || i == 5);
    for _ in 0..720 {
        let Action::Prefill { slot, .. } = s.next(&[long; 11], &background) else {
            panic!("all are prompts")
        };
        n_chunks[slot] += 1;
    }
    assert_eq!(n_chunks, [45, 70, 70, 70, 70, 45, 70, 70, 70, 70, 70]);
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
        let mut background = vec![false; n];
        let has_one_class = matches!(round % 5, 0 | 4);
        for step in 0..200 {
            // The world changes: requests come, readers stall and return, answers end.
            let i = random(n as u64) as usize;
            slots[i] = match (slots[i], random(8)) {
                (Slot::Free, 0..5) => {
                    totals[i] = 1 + random(40) as usize;
                    background[i] = random(4) < round % 5;
                    prompt(&s, 0, totals[i])
                }
                (Slot::Decode, 0) => Slot::Free,
                (Slot::Decode, 1) => Slot::Parked,
                (Slot::Parked, 0..4) => Slot::Decode,
                (same, _) => same,
            };
            let action = s.next(&slots, &background);
            for (i, slot) in slots.iter().enumerate() {
                let moved = match &action {
                    Action::Prefill { slot, .. } => *slot == i,
                    Action::Decode { slots } => slots.contains(&i),
                    Action::Idle => false,
                };
                let can_move = matches!(slot, Slot::Decode | Slot::Prefill { .. });
                assert!(can_move || !moved, "round {round} step {step}: {slot:?} was moved");
                waited[i] = if can_move && !moved { waited[i] + 1 } else { 0 };
                // A chunk stands between two decode steps, and now and then one of the background too.
                let bound = match (*slot == Slot::Decode, background[i]) {
                    (true, _) if has_one_class => 1,
                    (false, _) if has_one_class => 2 * n,
                    (true, false) => 2,
                    (false, false) => 2 * n + 2 * n / (BACKGROUND_SHARE - 1) + 1,
                    (true, true) => 2 * BACKGROUND_SHARE,
                    (false, true) => 2 * n * BACKGROUND_SHARE,
                };
                assert!(waited[i] <= bound, "round {round} step {step}: {slot:?} waited {}", waited[i]);
            }
            apply(&s, &mut slots, &totals, &action);
        }
    }
}
