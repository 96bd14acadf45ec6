//! Models that were damaged on purpose: each is refused with an error that says something, or it answers.
//! No panic, and no allocation that a file of a few hundred kilobytes cannot ask for.
//!
//! `PLED_MUTATIONS=10000` sets how many files (300 otherwise), `PLED_MUTATIONS_SEED` which ones.

#[path = "support/damage.rs"]
mod damage;
#[path = "support/forge.rs"]
mod forge;
#[path = "support/gauge.rs"]
mod gauge;

use std::collections::HashSet;
use std::panic::catch_unwind;
use std::path::Path;

use damage::{Random, Specimen, from_env, mutate, mutate_model};
use forge::Forge;
use gauge::{Gauges, MAX_ALLOCATION, alone};
use pled::config::{Field, Fragment, Origin, Settings};
use pled::daemon::LoadedModel;
use pled::engine::{Draft, EngineOptions, Event, Failure, Request, Stopping};
use pled::gguf::Value;
use pled::quant::BlockFormat;

/// How far a file got.
#[derive(Debug)]
enum Outcome {
    Refused(String),
    Failed(Failure),
    Answered(usize),
    Panicked,
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

/// [`run`], and the largest single allocation that it made.
fn run_gauged(gauges: &mut Gauges, path: &Path, ple_mode: &str) -> (Outcome, usize) {
    gauges.reset();
    let outcome = catch_unwind(|| run(path, ple_mode)).unwrap_or(Outcome::Panicked);
    (outcome, gauges.largest())
}

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
        let (outcome, single) = run_gauged(&mut gauges, &path, mode);
        assert!(single <= MAX_ALLOCATION, "an allocation of {single} bytes; {which}");
        largest = largest.max(single);
        match outcome {
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
            Outcome::Panicked => panic!("a panic; {which}"),
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

/// Shapes that nobody trains: every relation holds, and every number is as odd as it may be.
#[test]
fn models_of_odd_shapes_answer() {
    let mut gauges = alone();
    let n = from_env("PLED_MUTATIONS", 300);
    let seed = from_env("PLED_MUTATIONS_SEED", 1);
    let folder = tempfile::tempdir().unwrap();
    for i in 0..n {
        let mut random = Random(seed.wrapping_mul(0x2_0000_0001).wrapping_add(i));
        let mut forge = Forge::new(if random.below(2) == 0 { "gemma4" } else { "gemma3" });
        let n_layer = 1 + random.below(5);
        forge.sliding = (0..n_layer).map(|_| random.below(2) == 0).collect();
        forge.n_head_kv = *random.pick(&[1, 2, 3]);
        forge.n_head = forge.n_head_kv * random.pick(&[1, 2, 5]);
        forge.head_dim = [*random.pick(&[2, 6, 16, 34, 64]), *random.pick(&[2, 6, 16, 34, 64])];
        forge.n_embd = *random.pick(&[1, 2, 31, 32, 33, 64, 256]);
        forge.n_ff = *random.pick(&[1, 7, 32, 33, 96, 256, 512]);
        forge.window = *random.pick(&[1, 2, 3, 100, u32::MAX]);
        forge.n_ctx = *random.pick(&[1, 2, 5, 6, 7, 130, 1 << 24]);
        forge.format = *random.pick(&BlockFormat::ALL);
        if forge.architecture == "gemma4" {
            forge.n_embd_per_layer = *random.pick(&[0, 1, 3, 32, 64, 256]);
            // Every kind of layer has one that owns its keys and values.
            let last_owner = |kind| forge.sliding.iter().position(|s| *s == kind).unwrap_or(0);
            let n_owners = 1 + last_owner(true).max(last_owner(false));
            forge.n_shared = random.below(n_layer - n_owners + 1);
        }
        let path = folder.path().join("model.gguf");
        let bytes = forge.bytes();
        std::fs::write(&path, &bytes).unwrap();
        let (outcome, single) = run_gauged(&mut gauges, &path, "direct");
        let which = format!("PLED_MUTATIONS_SEED={seed}, shape {i}: {forge:?}");
        assert!(single <= MAX_ALLOCATION, "an allocation of {single} bytes; {which}");
        match outcome {
            Outcome::Answered(_) => {}
            other => panic!("{other:?}; {which}"),
        }
    }
}

/// A file that is right but for one thing that the formulas would pass over without a word.
#[test]
fn what_would_be_answered_wrongly_is_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let key = |name: &str, value| vec![(name.to_owned(), value)];
    let tensor = |name: &str, n| vec![(name.to_owned(), vec![n])];
    let (gemma3, gemma4) = (Forge::new("gemma3"), Forge::new("gemma4"));
    let cases = [
        (
            Forge { n_vocab: 385, ..gemma4.clone() },
            "tensor token_embd.weight has shape [32, 385], expected [32, 384] (innermost first)",
        ),
        (
            Forge { n_vocab: 383, ..gemma3.clone() },
            "tensor token_embd.weight has shape [32, 383], expected [32, 384] (innermost first)",
        ),
        (
            Forge { tensors: tensor("blk.0.attn_q.bias", 16), ..gemma3.clone() },
            "tensor blk.0.attn_q.bias is not supported: it is no part of the layers that the metadata describe",
        ),
        (
            Forge { tensors: tensor("blk.2.attn_norm.weight", 32), ..gemma4.clone() },
            "tensor blk.2.attn_norm.weight is not supported: it is no part of the layers that the metadata describe",
        ),
        (
            Forge { keys: key("gemma4.rope.dimension_count", Value::U32(4)), ..gemma4.clone() },
            "metadata key gemma4.rope.dimension_count is 4: must equal attention.key_length",
        ),
        (
            Forge { keys: key("gemma3.attention.value_length", Value::U32(16)), ..gemma3.clone() },
            "metadata key gemma3.attention.value_length is 16: must equal attention.key_length",
        ),
        (
            Forge { keys: key("gemma4.rope.scaling.type", Value::Str(b"linear".to_vec())), ..gemma4.clone() },
            "metadata key gemma4.rope.scaling.type is \"linear\": positions of gemma4 models are not scaled",
        ),
        (
            Forge { keys: key("gemma3.rope.scaling.type", Value::Str(b"ya\x1b\nrn".to_vec())), ..gemma3 },
            "metadata key gemma3.rope.scaling.type is \"ya\\u{1b}\\nrn\": must be \"none\" or \"linear\"",
        ),
    ];
    for (forge, message) in cases {
        std::fs::write(&path, forge.bytes()).unwrap();
        match run(&path, "direct") {
            Outcome::Refused(text) => {
                assert_eq!(text.strip_prefix(&format!("{}: ", path.display())), Some(message));
            }
            other => panic!("{other:?} for {message}"),
        }
    }
    // What writers keep of layers that share keys and values is no fault.
    std::fs::write(&path, Forge { n_shared: 1, sliding: vec![false, false], ..gemma4 }.bytes()).unwrap();
    assert!(matches!(run(&path, "direct"), Outcome::Answered(3)));
}

/// What a shape asks for beyond its own bytes is bounded.
#[test]
fn wide_models_are_refused_or_fit() {
    let mut gauges = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let narrow = Forge { n_embd: 1, format: BlockFormat::F16, sliding: vec![false], ..Forge::new("gemma4") };
    let wide = [
        Forge { n_ff: 1 << 20, ..narrow.clone() },
        Forge { n_ff: 1 << 17, ..narrow.clone() },
        Forge { n_head: 1 << 14, n_head_kv: 1 << 14, head_dim: [64, 2], ..narrow.clone() },
        Forge { n_head: 1 << 13, n_head_kv: 1 << 13, head_dim: [16, 2], n_ctx: 1 << 20, ..narrow.clone() },
        Forge { n_head: 1, head_dim: [1 << 14, 1 << 14], ..narrow.clone() },
        Forge { n_embd_per_layer: 1 << 14, sliding: vec![false; 9], format: BlockFormat::Q4_0, ..narrow },
    ];
    for forge in wide {
        std::fs::write(&path, forge.bytes()).unwrap();
        let (outcome, single) = run_gauged(&mut gauges, &path, "direct");
        eprintln!("{outcome:?}, at most {single} bytes at a time and {} together", gauges.peak());
        assert!(single <= 2 * MAX_ALLOCATION, "an allocation of {single} bytes; {forge:?}");
    }
}
