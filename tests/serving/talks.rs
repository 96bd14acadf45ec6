//! Two hundred conversations whose histories go on, fork and are edited: every answer has the tokens and the
//! probabilities that it has where nothing is kept, with what is kept in memory, and with what was restored from disk.
//!
//! The real Gemma 3 270M holds eight of them, behind histories longer than its window; all two hundred with
//! `PLED_TALKS=200 cargo test --release --test serving -- talks::`.

use std::path::Path;

use pled::daemon;
use pled::engine::{Draft, EngineOptions, SessionKey, Stopping};
use pled::model::ModelFile;
use pled::sampling::SamplingParams;

use super::persist::{WRITING, end, stats, store};
use super::real::engine_over_disk;
use super::reuse::{Dice, hear, submit};
use super::scripted::*;
use super::support::asset;

/// The engine is ended and started so often.
const N_LIVES: usize = 4;
/// Conversations that are held at a time.
const AT_A_TIME: usize = 4;

/// How many conversations there are, and how long they are. Unit of lengths: tokens.
struct Size {
    n_conversations: usize,
    instructions: [usize; 2],
    /// A history that is longer begins with its instructions again.
    max_history: usize,
    n_ctx: usize,
}

/// Conversations, of which new ones begin as old ones did.
struct Talks {
    dice: Dice,
    max_history: usize,
    instructions: Vec<Vec<u32>>,
    past: Vec<Vec<u32>>,
}

impl Talks {
    fn new(seed: u64, size: &Size) -> Self {
        let mut dice = Dice(seed);
        let instructions = size.instructions.map(|n| [vec![BOS], dice.tokens(n)].concat()).to_vec();
        Self { dice, max_history: size.max_history, instructions, past: Vec::new() }
    }

    /// What a conversation begins with: instructions, or a history up to any place, with or without a changed token.
    fn begin(&mut self) -> Vec<u32> {
        let (known, max) = (self.dice.below(self.past.len().max(1)), self.max_history);
        let mut history = match (self.dice.below(3), self.past.get(known)) {
            (0, Some(past)) if past.len() < max => past[..1 + self.dice.below(past.len())].to_vec(),
            (1, Some(past)) if past.len() < max => past.clone(),
            _ => self.instructions[self.dice.below(2)].clone(),
        };
        if self.dice.below(4) == 0 {
            let place = self.dice.below(history.len());
            history[place] = self.dice.tokens(1)[0];
        }
        history
    }

    fn turn(&mut self, history: &mut Vec<u32>) -> Draft {
        let n = 1 + self.dice.below(10);
        history.extend(self.dice.tokens(n));
        let sampling = match self.dice.below(2) {
            0 => SamplingParams::greedy(),
            _ => SamplingParams { temperature: 1.5, seed: Some(n as u64), ..SamplingParams::default() },
        };
        let n = 1 + self.dice.below(6);
        let stopping = Stopping { max_tokens: Some(n), ignore_eos: true, ..Stopping::default() };
        Draft { prompt: history.clone(), sampling, stopping, top_logprobs: Some(5), ..Draft::default() }
    }
}

/// Holds them all with a model that is opened anew in each life.
fn hold(open: impl Fn() -> ModelFile, size: &Size) {
    let folder = tempfile::tempdir().unwrap();
    let start = |options, folder: Option<&Path>| {
        let options = EngineOptions { n_ctx: size.n_ctx, ..options };
        engine_over_disk(open(), None, options, folder.map(store))
    };
    let oracle = start(EngineOptions { kept_contexts: 0, ..WRITING }, None);
    let mut talks = Talks::new(23, size);
    let (mut n_turns, mut n_known, mut n_restored) = (0, 0, 0);
    for life in 0..N_LIVES {
        let engine = start(WRITING, Some(folder.path()));
        let of_this_life = size.n_conversations / N_LIVES;
        for batch in 0..of_this_life.div_ceil(AT_A_TIME) {
            let left = of_this_life - batch * AT_A_TIME;
            let mut held: Vec<Vec<u32>> = (0..left.min(AT_A_TIME)).map(|_| talks.begin()).collect();
            for turn in 0..2 + batch % 2 {
                let mut drafts: Vec<Draft> = held.iter_mut().map(|history| talks.turn(history)).collect();
                let expected: Vec<_> = drafts.iter().map(|draft| submit(&oracle, draft)).collect();
                // Some conversations have a name.
                if batch % 3 == 0 {
                    let id = format!("talk-{life}-{batch}");
                    engine.open_session(&SessionKey::unowned(&id)).unwrap();
                    drafts[0].session = id;
                }
                let answers: Vec<_> = drafts.iter().map(|draft| submit(&engine, draft)).collect();
                let pairs = answers.into_iter().map(hear).zip(expected.into_iter().map(hear));
                for (i, ((answer, known), (expected, none))) in pairs.enumerate() {
                    assert_eq!(none, 0);
                    assert!(answer == expected, "life {life}, batch {batch}, turn {turn}, conversation {i}");
                    held[i].extend(answer.tokens);
                    n_turns += 1;
                    n_known += known;
                }
            }
            talks.past.extend(held);
        }
        let seen = stats(&engine);
        assert_eq!((seen.damaged, seen.foreign, seen.failed_writes), (0, 0, 0), "{seen:?}");
        n_restored += seen.restored_tokens;
        end(engine);
    }
    assert_eq!(talks.past.len(), size.n_conversations);
    assert!(
        n_known > 20 * n_turns && n_restored > 100,
        "{n_turns} turns, {n_known} known, {n_restored} restored"
    );
}

#[test]
fn two_hundred_conversations_are_answered_as_if_nothing_were_kept() {
    let size = Size { n_conversations: 200, instructions: [40, 70], max_history: 120, n_ctx: 256 };
    hold(|| daemon::open_model(None).unwrap(), &size);
}

#[test]
fn the_real_gemma_3_answers_as_if_nothing_were_kept() {
    let Some(path) = asset("gemma3-270m.gguf") else { return };
    let n_conversations = std::env::var("PLED_TALKS").map_or(8, |n| n.parse().unwrap());
    assert_eq!(n_conversations % N_LIVES, 0, "PLED_TALKS: each of {N_LIVES} lives holds as many");
    let size = Size { n_conversations, instructions: [300, 560], max_history: 700, n_ctx: 1024 };
    hold(|| daemon::open_model(Some(&path)).unwrap(), &size);
}
