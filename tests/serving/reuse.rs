//! What requests have in common is computed once, and the answers are the same to the last bit.

use std::sync::Arc;

use pled::engine::{Draft, EngineHandle, EngineOptions, Event, Generation, Priority, Request, Stopping};
use pled::model::{KvType, read_hparams};
use pled::ple::Mode;
use pled::sampling::{Logprobs, SamplingParams};

use super::real::{engine_keeping, engine_of};
use super::scripted::*;

/// With room for prefixes.
pub(crate) const KEEPING: EngineOptions = EngineOptions { kept_contexts: 1, n_ctx: 256, ..OPTIONS };

/// Turns that are compared for each model, and the chunks that prompts are cut into. A turn takes a second where the processor is
/// emulated: there a few show that what is kept fits the family and its kernels.
const IS_SHORT: bool = cfg!(target_arch = "aarch64");
const TURNS: usize = if IS_SHORT { 4 } else { 40 };
const PREFILL_CHUNKS: &[usize] = if IS_SHORT { &[7] } else { &[7, 128] };

/// Numbers that look random and are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low)
    }

    pub(crate) fn tokens(&mut self, n: usize) -> Vec<u32> {
        (0..n).map(|_| self.between(3, N_VOCAB) as u32).collect()
    }
}

/// People who talk: histories that begin alike, go on, fork, and are edited.
pub(crate) struct House {
    dice: Dice,
    instructions: Vec<Vec<u32>>,
    histories: Vec<Vec<u32>>,
}

impl House {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let instructions = [30, 64, 100].into_iter().map(|n| [vec![BOS], dice.tokens(n)].concat()).collect();
        Self { dice, instructions, histories: Vec::new() }
    }

    /// What is asked next.
    pub(crate) fn ask(&mut self) -> Draft {
        let dice = &mut self.dice;
        let known = dice.below(self.histories.len().max(1));
        let mut prompt = match (dice.below(8), self.histories.get(known)) {
            (0..2, _) | (_, None) => self.instructions[dice.below(3)].clone(),
            // The history is forked at any place.
            (2, Some(history)) => history[..dice.between(1, history.len() + 1)].to_vec(),
            // Somebody edits a word of it.
            (3, Some(history)) => {
                let mut history = history.clone();
                let place = dice.below(history.len());
                history[place] = dice.between(3, N_VOCAB) as u32;
                history
            }
            (_, Some(history)) => history.clone(),
        };
        prompt.truncate(180);
        // Now and then the same again.
        let n_new = if dice.below(10) == 0 { 0 } else { dice.between(1, 30) };
        prompt.extend(dice.tokens(n_new));
        let sampling = match dice.below(3) {
            0 => SamplingParams::greedy(),
            _ => SamplingParams { temperature: 2.0, seed: Some(7), ..SamplingParams::default() },
        };
        let n = dice.between(1, 45);
        let stopping = Stopping { max_tokens: Some(n), ignore_eos: true, ..Stopping::default() };
        Draft { prompt, sampling, stopping, top_logprobs: Some(20), ..Draft::default() }
    }

    pub(crate) fn hear(&mut self, draft: &Draft, answer: &Answer) {
        self.histories.push([&draft.prompt[..], &answer.tokens].concat());
        if self.histories.len() > 12 {
            let forgotten = self.dice.below(12);
            self.histories.swap_remove(forgotten);
        }
    }
}

/// The tokens, and of each the probabilities that all logits went into.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<u32>,
    logprobs: Vec<Logprobs>,
}

pub(crate) fn submit(engine: &EngineHandle, draft: &Draft) -> Generation {
    engine.submit(Request::new(draft.clone(), engine.limits()).unwrap()).unwrap()
}

/// The answer and how many tokens of the prompt were known.
pub(crate) fn hear(mut generation: Generation) -> (Answer, usize) {
    let mut answer = Answer { tokens: Vec::new(), logprobs: Vec::new() };
    while let Some(event) = generation.blocking_next() {
        match event {
            Event::Prefill { .. } => {}
            Event::Delta(delta) => {
                answer.tokens.extend(delta.token_ids);
                answer.logprobs.extend(delta.logprobs);
            }
            Event::Done(done) => return (answer, done.usage.cached_tokens),
            Event::Failed(failure) => panic!("{failure}"),
        }
    }
    unreachable!("every generation ends")
}

/// The oracle keeps nothing and computes every prompt anew. Kernels give the same bits however a prompt is
/// cut and whoever computes beside it, so any difference is one of what was kept.
#[test]
fn conversations_with_forks_and_edits_are_answered_as_without_the_cache() {
    for (folder, tag, seed) in [
        ("gemma4-ple", "q4_0", 1),
        ("gemma3", "f32", 2),
        ("gemma4-keqv", "q8_0", 3),
        ("gemma4-ple-alt", "f32", 4),
    ] {
        let file = format!("{folder}/model-{tag}.gguf");
        let start = |options| engine_of(model_file(&file), Mode::Auto, options);
        answers_are_those_without_the_cache(&file, seed, start);
    }
}

/// Keys and values as bytes are copied with their scales.
#[test]
fn with_keys_and_values_as_bytes_too() {
    let mut n_models = 0;
    for (folder, seed) in [("gemma4-ple", 5), ("gemma4-keqv", 6), ("gemma4-keqv-alt", 7), ("gemma3-alt", 8)] {
        let file = format!("{folder}/model-f32.gguf");
        if read_hparams(&model_file(&file)).unwrap().check_kv_type(KvType::Q8_0).is_err() {
            continue;
        }
        n_models += 1;
        let start = |options| engine_keeping(model_file(&file), KvType::Q8_0, options);
        answers_are_those_without_the_cache(&file, seed, start);
    }
    assert!(n_models >= 1);
}

fn answers_are_those_without_the_cache(what: &str, seed: u64, start: impl Fn(EngineOptions) -> EngineHandle) {
    let oracle = start(EngineOptions { kept_contexts: 0, prefill_chunk: 64, ..KEEPING });
    for &prefill_chunk in PREFILL_CHUNKS {
        let engine = start(EngineOptions { prefill_chunk, ..KEEPING });
        let mut house = House::new(seed * 1000 + prefill_chunk as u64);
        let mut n_known = 0;
        for turn in 0..TURNS {
            // One alone, or several that may share what is being computed.
            let priority = |i| if (turn + i) % 2 == 0 { Priority::Background } else { Priority::Interactive };
            let ask = |i| Draft { priority: priority(i), ..house.ask() };
            let drafts: Vec<Draft> = (0..1 + turn % 3).map(ask).collect();
            let together: Vec<_> = drafts.iter().map(|draft| submit(&engine, draft)).collect();
            for (draft, generation) in drafts.iter().zip(together) {
                let (answer, cached) = hear(generation);
                let (expected, none) = hear(submit(&oracle, draft));
                assert_eq!(none, 0);
                assert!(cached < draft.prompt.len());
                assert!(answer == expected, "{what} chunks of {prefill_chunk}, turn {turn}");
                n_known += cached;
                house.hear(draft, &answer);
            }
        }
        let stats = engine.stats();
        assert_eq!(stats.cached_tokens, n_known as u64);
        assert!(stats.kv_bytes_in_use == 0 && stats.prefix_bytes <= stats.kv_bytes_bound, "{stats:?}");
        assert!(n_known > 0, "nothing was known: {stats:?}");
        if !IS_SHORT {
            assert!(stats.cached_tokens > stats.prompt_tokens / 5, "little was known: {stats:?}");
            assert!(stats.prefix_bytes > stats.kv_bytes_bound / 4, "there was no need to forget: {stats:?}");
        }
    }
}

#[test]
fn a_prompt_is_known_to_the_token_up_to_where_it_differs() {
    let f = start(Script::default(), KEEPING);
    let first: Vec<u32> = (0..100).map(|i| 3 + i).collect();
    assert_eq!(hear_all(f.submit(draft(&first, 3))).done().usage.cached_tokens, 0);
    // The last token is run again, for its logits.
    assert_eq!(hear_all(f.submit(draft(&first, 3))).done().usage.cached_tokens, 99);
    for differs_at in [1, 31, 32, 33, 64, 77, 99] {
        let mut other = first.clone();
        other[differs_at] = 350;
        let heard = hear_all(f.submit(draft(&other, 3)));
        assert_eq!(heard.done().usage.cached_tokens, differs_at);
    }
    // The answer is known too, all but its last token, which was never run.
    let answered = [first.clone(), answer(&first, 3), vec![320, 321]].concat();
    assert_eq!(hear_all(f.submit(draft(&answered, 3))).done().usage.cached_tokens, 102);
    assert_eq!(hear_all(f.submit(draft(&[340, 341], 3))).done().usage.cached_tokens, 0);
    let stats = f.engine.stats();
    assert_eq!(stats.cached_tokens, 99 + 1 + 31 + 32 + 33 + 64 + 77 + 99 + 102);
    assert_eq!(stats.kv_bytes_bound, 4 * 256 * KV_BYTES_PER_TOKEN);
}

#[test]
fn what_two_share_is_computed_once_while_both_run() {
    let gate = Gate::closed();
    let f = start(Script { gate: Some(Arc::clone(&gate)), ..Script::default() }, KEEPING);
    let shared: Vec<u32> = (0..80).map(|i| 3 + i).collect();
    let prompts: Vec<Vec<u32>> = (0..3).map(|i| [&shared[..], &[320 + i, 330]].concat()).collect();
    let first = f.submit(draft(&prompts[0], 4));
    gate.await_step();
    let others = [f.submit(draft(&prompts[1], 4)), f.submit(draft(&prompts[2], 4))];
    gate.open();
    for (generation, prompt) in [first].into_iter().chain(others).zip(&prompts) {
        let heard = hear_all(generation);
        assert_eq!(heard.token_ids, answer(prompt, 4));
        assert_eq!(heard.done().usage.cached_tokens, if *prompt == prompts[0] { 0 } else { 80 });
    }
    assert_eq!(f.engine.stats().prompt_tokens, 80 + 3 * 2);
    f.await_nothing_left();
}

#[test]
fn who_waits_for_one_that_is_gone_computes_alone() {
    let gate = Gate::closed();
    let f = start(Script { gate: Some(Arc::clone(&gate)), ..Script::default() }, KEEPING);
    let prompt: Vec<u32> = (0..80).map(|i| 3 + i).collect();
    let first = f.submit(draft(&prompt, 4));
    gate.await_step();
    let second = f.submit(draft(&prompt, 4));
    gate.allow(3);
    gate.await_step();
    drop(first);
    gate.open();
    let heard = hear_all(second);
    assert_eq!(heard.token_ids, answer(&prompt, 4));
    let known = heard.done().usage.cached_tokens;
    assert!((1..79).contains(&known), "some of it was known: {known}");
    f.await_nothing_left();
}

#[test]
fn memory_is_bounded_and_what_is_kept_gives_way_to_sequences() {
    let gate = Gate::closed();
    let f = start(Script { gate: Some(Arc::clone(&gate)), ..Script::default() }, KEEPING);
    let bound = 4 * 256 * KV_BYTES_PER_TOKEN;
    gate.open();
    let mut dice = Dice(5);
    for _ in 0..40 {
        hear_all(f.submit(draft(&dice.tokens(120), 40)));
        let stats = f.engine.stats();
        assert!(stats.prefix_bytes <= bound, "{stats:?}");
    }
    let full = f.engine.stats();
    assert!(full.prefix_bytes > bound / 2, "{full:?}");
    // Three sequences of whole contexts leave one context's worth.
    let three: Vec<_> = (0..3).map(|_| f.submit(draft(&dice.tokens(10), 250))).collect();
    for generation in three {
        hear_all(generation);
        let stats = f.engine.stats();
        assert!(stats.kv_bytes_in_use + stats.prefix_bytes <= bound, "{stats:?}");
    }
}

/// A cache that handed on what made logits unusable would make one fault a lasting one.
#[test]
fn what_led_to_unusable_logits_is_forgotten() {
    let f = start(Script { nan_after: Some(331), ..Script::default() }, KEEPING);
    let prompt: Vec<u32> = (0..40).map(|i| 3 + i).chain([331]).collect();
    assert!(hear_all(f.submit(draft(&prompt, 9))).failure.is_some());
    let stats = f.engine.stats();
    assert_eq!((stats.prefix_tokens, stats.prefix_bytes), (0, 0));
}
