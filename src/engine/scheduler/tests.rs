use super::*;

const UNKNOWN: Pace =
    Pace { decode_s: None, prompt_token_s: None, added_token_s: None, n_added: 0, n_answers: 0 };

/// A slot of a prompt of `total` tokens, `done` of them computed.
fn prompt(s: &Scheduler, done: usize, total: usize) -> Slot {
    let Range { start, end } = s.chunk(done, total, &UNKNOWN, false);
    Slot::Prefill { start, end }
}

/// The next step where all slots are of one class.
fn next(s: &mut Scheduler, slots: &[Slot]) -> Action {
    s.next(slots, &vec![false; slots.len()])
}

/// Applies an action as the engine would: a finished prompt decodes. `totals`: tokens of the prompts.
fn apply(s: &Scheduler, slots: &mut [Slot], totals: &[usize], action: &Action) {
    if let Action::Step { chunk: Some((slot, range)), .. } = action {
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
    loop {
        let action = next(&mut s, &slots);
        let Action::Step { chunk: Some((0, range)), decode } = &action else { break };
        assert!(decode.is_empty());
        chunks.push(range.clone());
        apply(&s, &mut slots, &[10], &action);
    }
    assert_eq!(chunks, [0..4, 4..8, 8..10]);
    assert_eq!(next(&mut s, &slots), Action::Step { chunk: None, decode: vec![0] });
}

#[test]
fn answers_move_in_every_step_of_a_prompt() {
    let mut s = Scheduler::new(1);
    let mut slots = [Slot::Decode, prompt(&s, 0, 4), Slot::Decode];
    assert_eq!(next(&mut s, &slots), Action::Step { chunk: None, decode: vec![0, 2] }, "to be measured");
    for done in 0..4 {
        let action = next(&mut s, &slots);
        assert_eq!(action, Action::Step { chunk: Some((1, done..done + 1)), decode: vec![0, 2] });
        apply(&s, &mut slots, &[0, 4, 0], &action);
    }
    assert_eq!(next(&mut s, &slots), Action::Step { chunk: None, decode: vec![0, 1, 2] });
}

#[test]
fn prompts_take_turns() {
    let mut s = Scheduler::new(8);
    let mut slots = [prompt(&s, 0, 800), prompt(&s, 0, 16)];
    let mut order = Vec::new();
    for _ in 0..7 {
        let action = next(&mut s, &slots);
        if let Action::Step { chunk: Some((slot, _)), .. } = &action {
            order.push(*slot);
        }
        apply(&s, &mut slots, &[800, 16], &action);
    }
    // The short one is through after its second turn although the long one was first; its answer is then measured.
    assert_eq!(order, [0, 1, 0, 1, 0, 0]);
}

#[test]
fn a_parked_slot_is_passed_over() {
    let mut s = Scheduler::new(8);
    let slots = [Slot::Parked, Slot::Decode, Slot::Parked];
    assert_eq!(next(&mut s, &slots), Action::Step { chunk: None, decode: vec![1] });
}

/// A machine that takes `fixed_s` to read the weights, and `token_s` more for each token beyond `n_hidden`.
struct Machine {
    fixed_s: f64,
    token_s: f64,
    n_hidden: usize,
}

impl Machine {
    fn step_s(&self, n_tokens: usize) -> f64 {
        self.fixed_s + self.token_s * n_tokens.saturating_sub(self.n_hidden) as f64
    }
}

/// The boards, and what is much slower and much faster.
const MACHINES: [Machine; 5] = [
    Machine { fixed_s: 0.4, token_s: 0.22, n_hidden: 0 },
    Machine { fixed_s: 0.12, token_s: 0.03, n_hidden: 0 },
    Machine { fixed_s: 5.0, token_s: 3.0, n_hidden: 0 },
    Machine { fixed_s: 0.001, token_s: 0.0001, n_hidden: 0 },
    Machine { fixed_s: 0.044, token_s: 0.0031, n_hidden: 10 },
];

#[test]
fn a_chunk_makes_a_step_twice_as_long() {
    for machine in MACHINES {
        let s = Scheduler::new(128);
        let mut pace = UNKNOWN;
        // What is known when a prompt enters: the prompts before were computed alone.
        let decode_s = machine.step_s(1);
        pace.stepped(128, 0, machine.step_s(128));
        pace.stepped(0, 1, decode_s);
        let (mut done, mut n_chunks) = (0, 0);
        while done < 2000 {
            let chunk = s.chunk(done, 2000, &pace, true);
            let taken = machine.step_s(chunk.len() + 1);
            assert!(taken <= 2.3 * decode_s, "{chunk:?} and a token take {taken} s, the token {decode_s} s");
            pace.stepped(chunk.len(), 1, taken);
            done = chunk.end;
            n_chunks += 1;
        }
        // And it does not shrink to nothing.
        let most = 1.7 * decode_s;
        assert!(machine.step_s(2000 / n_chunks + 2) >= most.min(machine.step_s(128)), "{n_chunks} chunks");
    }
}

#[test]
fn a_slow_step_is_believed_slowly_and_other_answers_at_once() {
    let mut pace = UNKNOWN;
    for s in [0.04, 0.04, 0.4] {
        pace.stepped(0, 1, s);
    }
    assert!(pace.decode_s.is_some_and(|s| s < 0.046), "{pace:?}");
    pace.stepped(0, 7, 0.1);
    assert_eq!(pace.decode_s, Some(0.1));
    pace.stepped(0, 1, 0.04);
    assert_eq!(pace.decode_s, Some(0.04));
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
            pace.stepped(n, 0, taken);
        }
    }
}

#[test]
fn before_anything_is_known_chunks_are_small() {
    let s = Scheduler::new(128);
    assert_eq!(s.chunk(0, 2000, &UNKNOWN, false), 0..CHUNK_TOKENS);
    assert_eq!(s.chunk(5, 2000, &UNKNOWN, true), 5..5 + CHUNK_TOKENS);
    let pace = Pace { prompt_token_s: Some(0.01), ..UNKNOWN };
    assert_eq!(s.chunk(5, 2000, &pace, true), 5..6);
    // Clocks may stand still, or jump.
    for (decode_s, token_s) in [(0.0, 0.0), (1e9, 0.0), (0.0, 1e9)] {
        let token_s = Some(token_s);
        let pace = Pace {
            decode_s: Some(decode_s),
            prompt_token_s: token_s,
            added_token_s: token_s,
            n_added: 128,
            n_answers: 1,
        };
        for others_decode in [true, false] {
            assert!((1..=128).contains(&s.chunk(0, 2000, &pace, others_decode).len()), "{pace:?}");
        }
    }
}

/// `n` steps, a letter for each: `p` and `b` for chunks of interactive prompts and those of the background, in capitals
/// with tokens of answers; `d` for such tokens alone.
fn steps(s: &mut Scheduler, slots: &[Slot], background: &[bool], n: usize) -> String {
    let mut letter = || {
        let Action::Step { chunk, decode } = s.next(slots, background) else { panic!("{slots:?} can move") };
        let decoding: Vec<usize> = (0..slots.len()).filter(|&i| slots[i] == Slot::Decode).collect();
        assert!(decode.is_empty() || decode == decoding, "whoever decodes rides along: {decode:?}");
        match chunk {
            Some((slot, _)) => match (background[slot], decode.is_empty()) {
                (false, true) => 'p',
                (false, false) => 'P',
                (true, true) => 'b',
                (true, false) => 'B',
            },
            None => 'd',
        }
    };
    (0..n).map(|_| letter()).collect()
}

#[test]
fn a_prompt_of_the_background_gets_an_eighth_beside_interactive_ones() {
    let mut s = Scheduler::new(4);
    let long = prompt(&s, 0, 8000);
    assert_eq!(steps(&mut s, &[long, long], &[true, false], 32), "pppppppb".repeat(4));
    // Beside an interactive answer, and beside both.
    let beside = steps(&mut s, &[long, Slot::Decode], &[true, false], 33);
    assert_eq!(beside, format!("d{}", "dddddddB".repeat(4)), "the first is to be measured");
    let all = steps(&mut s, &[long, long, Slot::Decode], &[true, false, false], 17 * 8);
    assert_eq!(all.replace('d', ""), "PPPPPPPB".repeat(16), "and eight steps to measure");
    // Alone it has all.
    assert_eq!(steps(&mut s, &[long, Slot::Parked], &[true, false], 8), "b".repeat(8));
}

#[test]
fn answers_of_the_background_ride_along_and_move_without_interactive_ones_too() {
    let mut s = Scheduler::new(4);
    let long = prompt(&s, 0, 8000);
    // `steps` holds that the one of the background is in every step in which the other is.
    assert_eq!(
        steps(&mut s, &[Slot::Decode, Slot::Decode, long], &[true, false, false], 35),
        format!("dPPPPd{}d{}", "P".repeat(16), "P".repeat(12))
    );
    assert_eq!(steps(&mut s, &[Slot::Decode, long], &[true, false], 16), "pppppppP".repeat(2));
}

#[test]
fn a_prompt_of_the_background_does_not_starve_behind_an_answer_of_its_class() {
    let mut s = Scheduler::new(4);
    let long = prompt(&s, 0, 8000);
    let all = steps(&mut s, &[long, Slot::Decode, long], &[true, true, false], 32);
    assert_eq!(all, "pppppppB".repeat(4));
}

#[test]
fn prompts_take_turns_within_their_class() {
    let mut s = Scheduler::new(4);
    let long = prompt(&s, 0, 8000);
    // More interactive prompts than there are steps between two of the background.
    let mut n_chunks = [0; 11];
    let background: [bool; 11] = std::array::from_fn(|i| i == 0 || i == 5);
    for _ in 0..720 {
        let Action::Step { chunk: Some((slot, _)), .. } = s.next(&[long; 11], &background) else {
            panic!("all are prompts")
        };
        n_chunks[slot] += 1;
    }
    assert_eq!(n_chunks, [45, 70, 70, 70, 70, 45, 70, 70, 70, 70, 70]);
}

#[test]
fn answers_are_measured_without_a_chunk_when_they_change_and_now_and_then() {
    let mut s = Scheduler::new(4);
    let long = prompt(&s, 0, 8000);
    let all = |n: usize| vec![false; n];
    let one = [long, Slot::Decode, Slot::Parked];
    // What was measured once only is soon measured again.
    assert_eq!(steps(&mut s, &one, &all(3), 24), format!("dPPPPd{}dP", "P".repeat(MEASURE_EVERY)));
    let two = [long, Slot::Decode, Slot::Decode];
    assert_eq!(steps(&mut s, &two, &all(3), 5), "PPPdP");
    // However often they change, most steps have a chunk.
    let changing: String =
        (0..20).map(|i| steps(&mut s, if i % 2 == 0 { &one } else { &two }, &all(3), 1)).collect();
    assert!((1..=4).contains(&changing.matches('d').count()), "{changing}");
    // Answers of the background do not hold up an interactive prompt.
    assert_eq!(steps(&mut s, &[long, Slot::Decode], &[false, true], 40), "pppppppP".repeat(5));
}

/// Whatever the state, a slot that can move does so within a bounded number of steps.
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
                    Action::Step { chunk, decode } => {
                        chunk.as_ref().is_some_and(|(slot, _)| *slot == i) || decode.contains(&i)
                    }
                    Action::Idle => false,
                };
                let can_move = matches!(slot, Slot::Decode | Slot::Prefill { .. });
                assert!(can_move || !moved, "round {round} step {step}: {slot:?} was moved");
                waited[i] = if can_move && !moved { waited[i] + 1 } else { 0 };
                // Prompts wait for each other, now and then for one of the background, and before each
                // chunk perhaps for answers that are measured.
                let bound = match (*slot == Slot::Decode, background[i]) {
                    (true, _) if has_one_class => 0,
                    (false, _) if has_one_class => 2 * n,
                    (true, false) => 0,
                    (false, false) => 2 * (n + n / (BACKGROUND_SHARE - 1) + 1),
                    (true, true) => 2 * BACKGROUND_SHARE,
                    (false, true) => 2 * n * BACKGROUND_SHARE,
                };
                assert!(waited[i] <= bound, "round {round} step {step}: {slot:?} waited {}", waited[i]);
            }
            apply(&s, &mut slots, &totals, &action);
        }
    }
}
