//! Models that were damaged on purpose: each is refused with an error that says something, or it answers.
//! No panic, and no allocation that a file of a few hundred kilobytes cannot ask for.
//!
//! `PLED_MUTATIONS=10000` sets how many files (300 otherwise), `PLED_MUTATIONS_SEED` which ones.

#[path = "support/damage.rs"]
mod damage;
#[path = "support/gauge.rs"]
mod gauge;

use std::collections::HashSet;
use std::panic::catch_unwind;
use std::path::Path;

use damage::{Random, Specimen, from_env, mutate, mutate_model};
use gauge::{MAX_ALLOCATION, alone};
use pled::config::{Field, Fragment, Origin, Settings};
use pled::daemon::LoadedModel;
use pled::engine::{Draft, EngineOptions, Event, Failure, Request, Stopping};

/// How far a file got.
#[derive(Debug)]
enum Outcome {
    Refused(String),
    Failed(Failure),
    Answered(usize),
}

/// Loads the model and asks it for a few tokens, as the daemon would.
fn run(path: &Path, ple_mode: &str) -> Outcome {
    let mut said = Fragment::default();
    let texts = [
        (Field::Model, path.to_str().unwrap()),
        (Field::Threads, "1"),
        (Field::PleMode, ple_mode),
        (Field::MemoryLimitBytes, "1GiB"),
    ];
    for (field, text) in texts {
        said.set(field, Origin::Default, vec![text.to_owned()]);
    }
    let loaded = match LoadedModel::load(&Settings::resolve(said).unwrap(), 1) {
        Ok(loaded) => loaded,
        Err(e) => return Outcome::Refused(said_once(&e)),
    };
    let n_vocab = loaded.limits().n_vocab as u32;
    let mut prompt = vec![loaded.tokenizer.bos().unwrap(), 0, n_vocab / 2, n_vocab - 1];
    prompt.truncate(loaded.n_ctx);
    assert_eq!(loaded.tokenizer.n_vocab(), loaded.limits().n_vocab, "texts and rows of the embedding");
    let _ = loaded.tokenizer.decode(&loaded.tokenizer.encode("Hello, wörld\n\n\n <bos>", SPECIALS));
    let stopping = Stopping { max_tokens: Some(3), ignore_eos: true, ..Stopping::default() };
    let sampling = loaded.info.default_sampling.clone();
    let draft = Draft { prompt, stopping, sampling, top_logprobs: Some(2), ..Draft::default() };
    let request = Request::new(draft, loaded.limits()).unwrap();
    let options = EngineOptions { max_sessions: 1, queue_depth: 0, ..EngineOptions::default() };
    let engine = match loaded.start(options) {
        Ok(engine) => engine,
        Err(e) => return Outcome::Refused(said_once(&e)),
    };
    let mut generation = engine.submit(request).unwrap();
    loop {
        match generation.blocking_next().expect("the last event is an end") {
            Event::Done(done) => return Outcome::Answered(done.usage.completion_tokens),
            Event::Failed(Failure::EngineEnded) => panic!("the engine died: {:?}", engine.how_ended()),
            Event::Failed(failure) => return Outcome::Failed(failure),
            Event::Prefill { .. } | Event::Delta(_) => {}
        }
    }
}

/// The error and its causes, without what a cause only says again.
fn said_once(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

const SPECIALS: pled::tokenizer::Specials = pled::tokenizer::Specials::Parse;

#[test]
fn damaged_models_are_refused_or_answer() {
    let mut gauges = alone();
    let n = from_env("PLED_MUTATIONS", 300);
    let seed = from_env("PLED_MUTATIONS_SEED", 1);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let specimens = ["gemma4-ple", "gemma4-keqv", "gemma3"]
        .map(|name| Specimen::new(std::fs::read(fixtures.join(name).join("model-q4_0.gguf")).unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");

    let (mut answered, mut failed, mut largest) = (0, 0, 0);
    let mut refusals = HashSet::new();
    let mut n_refused = 0;
    for i in 0..n {
        // Each file has its own generator, so one of them can be made again alone.
        let mut random = Random(seed.wrapping_mul(0x1_0000_0001).wrapping_add(i));
        let specimen = random.pick(&specimens);
        let (bytes, how) = match random.below(8) {
            0 => {
                let (bytes, _, how) = mutate(&mut random, specimen);
                (bytes, how)
            }
            _ => mutate_model(&mut random, specimen),
        };
        std::fs::write(&path, &bytes).unwrap();
        let mode = *random.pick(&["direct", "mmap", "resident"]);
        let which = format!("PLED_MUTATIONS_SEED={seed}, file {i}, {mode}: {how}");
        gauges.reset();
        let outcome = catch_unwind(|| run(&path, mode));
        let single = gauges.largest();
        assert!(single <= MAX_ALLOCATION, "an allocation of {single} bytes; {which}");
        largest = largest.max(single);
        match outcome.unwrap_or_else(|_| panic!("a panic; {which}")) {
            Outcome::Refused(text) => {
                n_refused += 1;
                let plain = !text.contains(char::is_control);
                assert!(plain && (20..600).contains(&text.len()), "{text:?}; {which}");
                refusals.insert(text);
            }
            Outcome::Failed(failure) => {
                failed += 1;
                assert!(matches!(failure, Failure::Logits(_)), "{failure}; {which}");
            }
            Outcome::Answered(n_tokens) => {
                answered += 1;
                assert!((1..=3).contains(&n_tokens), "{n_tokens} tokens; {which}");
            }
        }
    }
    eprintln!(
        "seed {seed}: {n} files, {n_refused} refused with {} different messages, {failed} gave unusable \
         logits, {answered} answered; largest allocation {largest} bytes",
        refusals.len()
    );
    // The damage must reach every stage.
    assert!(n_refused * 5 > n && answered * 10 > n && failed * 50 > n, "damage of one kind only");
}
