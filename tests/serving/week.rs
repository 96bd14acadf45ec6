//! A household's week, the same in every run: what of it goes to the disk each day, and that no day gets more than its
//! bytes. How much goes there differs a little, since what waits to be written is bounded and the disk has its own pace.
//!
//! Nobody waits here. The engine is ended each night, which writes of a talk what a minute of silence after it would have
//! written; the memory has room for a day. A day begins when the note of what the day before has written is taken away.

use std::fs;
use std::path::Path;

use pled::engine::{BLOCK_TOKENS, Draft, Engine, EngineHandle, EngineOptions, SessionKey, Stopping};
use pled::prefix_store::{Options, PrefixStore};
use pled::sampling::SamplingParams;

use super::persist::{end, pieces};
use super::reuse::{Dice, hear, submit};
use super::scripted::*;
use super::support::say;

/// Bytes are those of Gemma 4 E2B with `kv_type = "f16"` by this, so that a week is written in a moment.
const SCALE: usize = 16;
const E2B: KeptBytes = KeptBytes { full: 6 * 1024 / SCALE, sliding: 12 * 1024 / SCALE, lookback: 512 };
const DAYS: usize = 7;

struct Conversation {
    /// Of its user, if he has a name.
    session: Option<String>,
    begins_with: Vec<u32>,
    /// What is said, and how long the answers are.
    turns: Vec<(Vec<u32>, usize)>,
}

/// Who asks what in a week: spoken commands, talks of two people who have names, reports that a program asks for.
struct Household {
    dice: Dice,
    instructions: Vec<u32>,
    program: Vec<u32>,
}

impl Household {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let (instructions, program) = (dice.tokens(2200), dice.tokens(150));
        Self { dice, instructions, program }
    }

    fn day(&mut self, day: usize) -> Vec<Conversation> {
        let weekend = day % 7 >= 5;
        let mut all = Vec::new();
        // What the house is like stands behind the instructions and changes over the day.
        for part_of_day in ["morning", "noon", "evening", "night"] {
            let state = self.dice.tokens(300);
            let begins_with = [&self.instructions[..], &state].concat();
            let n_spoken = self.dice.between(3, 8) + if weekend { 3 } else { 0 };
            for _ in 0..n_spoken {
                let n_turns = 1 + usize::from(self.dice.below(4) == 0);
                all.push(self.conversation(None, &begins_with, n_turns, (8, 24), (15, 40)));
            }
            for user in ["anna", "ben"] {
                if self.dice.below(3) == 0 {
                    let (id, n_turns) = (format!("{user}-{day}-{part_of_day}"), self.dice.between(2, 5));
                    all.push(self.conversation(Some(id), &begins_with, n_turns, (20, 60), (80, 200)));
                }
            }
            let program = self.program.clone();
            all.push(self.conversation(None, &program, 1, (250, 700), (60, 120)));
        }
        all
    }

    fn conversation(
        &mut self,
        session: Option<String>,
        begins_with: &[u32],
        n_turns: usize,
        said: (usize, usize),
        answered: (usize, usize),
    ) -> Conversation {
        let dice = &mut self.dice;
        let mut turn = || {
            let n = dice.between(said.0, said.1);
            (dice.tokens(n), dice.between(answered.0, answered.1))
        };
        let turns = (0..n_turns).map(|_| turn()).collect();
        Conversation { session, begins_with: begins_with.to_vec(), turns }
    }
}

fn engine(folder: &Path, daily_bytes: u64) -> EngineHandle {
    let options = Options { disk_bytes: 1 << 30, daily_bytes, block_tokens: BLOCK_TOKENS, fingerprint: 1 };
    let store = Some(PrefixStore::open(folder, options).unwrap());
    let options = EngineOptions { n_ctx: 4096, prefill_chunk: 128, kept_contexts: 8, ..OPTIONS };
    let backend = Scripted::new(Script { kept_bytes: Some(E2B), ..Script::default() });
    let (tokenizer, chat, model) = (tokenizer(), None, model_info());
    Engine { backend, tokenizer, chat, model, options, store }.start().unwrap()
}

/// Tokens of prompts, those that were known, and the bytes that each day has written.
struct Week {
    n_prompt: usize,
    n_known: usize,
    written: Vec<u64>,
}

fn live(daily_bytes: u64) -> Week {
    let folder = tempfile::tempdir().unwrap();
    let n_bytes = || pieces(folder.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
    let mut household = Household::new(41);
    let mut week = Week { n_prompt: 0, n_known: 0, written: Vec::new() };
    for day in 0..DAYS {
        if week.written.last().is_some_and(|&n_written| n_written > 0) {
            fs::remove_file(folder.path().join("budget.record")).unwrap();
        }
        let before = n_bytes();
        let engine = engine(folder.path(), daily_bytes);
        for Conversation { session, begins_with, turns } in household.day(day) {
            let session = session.unwrap_or_default();
            if !session.is_empty() {
                engine.open_session(&SessionKey::unowned(&session)).unwrap();
            }
            let mut history = begins_with;
            for (said, n_answer) in turns {
                history.extend(said);
                let stopping = Stopping { max_tokens: Some(n_answer), ..Stopping::default() };
                let sampling = SamplingParams::greedy();
                let (prompt, session) = (history.clone(), session.clone());
                let draft = Draft { prompt, sampling, stopping, session, ..Draft::default() };
                let (heard, known) = hear(submit(&engine, &draft));
                assert_eq!(heard.tokens, answer(&history, n_answer));
                week.n_prompt += history.len();
                week.n_known += known;
                history.extend(heard.tokens);
            }
        }
        end(engine);
        week.written.push(n_bytes() - before);
    }
    week
}

fn mb(n_bytes: u64) -> f64 {
    (n_bytes * SCALE as u64) as f64 / 1e6
}

#[test]
fn no_day_of_a_week_writes_more_than_its_bytes() {
    let daily_bytes = (1 << 30) / SCALE as u64;
    let plenty = live(daily_bytes);
    let known = plenty.n_known as f64 / plenty.n_prompt as f64;
    let days: Vec<String> = plenty.written.iter().map(|&n| format!("{:.0}", mb(n))).collect();
    say(&format!(
        "{} MB of E2B's were written on the days of a week; {:.0} % of prompts known",
        days.join(", "),
        100.0 * known
    ));
    assert!(plenty.written.iter().all(|&n| 0 < n && n <= daily_bytes), "{:?}", plenty.written);
    assert!(known > 0.7, "{known}");

    // Not enough for the instructions, which are computed anew for days. The answers are the same.
    let scarce_bytes = plenty.written.iter().min().unwrap() / 8;
    let scarce = live(scarce_bytes);
    assert!(scarce.written.iter().all(|&n| n <= scarce_bytes), "{:?} of {scarce_bytes}", scarce.written);
    assert!(scarce.written.iter().sum::<u64>() > 0);
    assert!(scarce.n_known < plenty.n_known, "{} of {}", scarce.n_known, plenty.n_known);
}
