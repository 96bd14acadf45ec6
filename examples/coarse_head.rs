//! How often finding the greatest logits by a coarse copy of the output head would choose another token, over a text.
//!
//! Computes every position of the text twice: with all logits, and with those that `pled::ops::matmul_greatest` finds. Where the
//! greatest of both are not the same tokens with the same bits, the position is counted.
//!
//! ```text
//! cat README.md docs/*.md > /tmp/text
//! cargo run --release --example coarse_head -- --model MODEL.gguf --file /tmp/text --tokens 100000
//! ```

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Parser;
use pled::config::{Field, Fragment, Origin, Settings};
use pled::daemon::LoadedModel;
use pled::model::{KvCache, Model, NoRows, Scratch, Span, Want, forward};
use pled::tokenizer::Specials;

/// Tokens that are computed at a time, and those of a window.
const CHUNK: usize = 32;
const WINDOW: usize = 256;

#[derive(Parser)]
struct Arguments {
    /// Model file; one without a per-layer embedding table
    #[arg(long, value_name = "FILE")]
    model: String,
    /// Text (UTF-8)
    #[arg(long, value_name = "TEXT")]
    file: PathBuf,
    /// Positions to look at
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    tokens: usize,
    /// How many of the greatest logits are to be found
    #[arg(long, value_name = "K", default_value_t = 1)]
    greatest: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut given = Fragment::default();
    given.set(Field::Model, Origin::Flag(Field::Model), vec![arguments.model.clone()]);
    let loaded = LoadedModel::load(&Settings::resolve(given)?, 1)?;
    ensure!(loaded.model.row_table().is_none(), "{} has a per-layer embedding table", arguments.model);
    let text = std::fs::read_to_string(&arguments.file)
        .with_context(|| format!("cannot read {}", arguments.file.display()))?;
    let mut ids = loaded.tokenizer.encode_prompt(&text, Specials::Plain);
    ensure!(ids.len() >= arguments.tokens, "the text has {} tokens only", ids.len());
    ids.truncate(arguments.tokens);

    let model = &loaded.model;
    let head = model.coarse_head();
    ensure!(head.build(loaded.tokenizer.suppressed())?, "the output head has no coarse copy");
    let mut scratch = model.new_scratch(CHUNK, CHUNK)?;
    let (mut other_tokens, mut other_sets) = (0, 0);
    for window in ids.chunks(WINDOW) {
        let (mut exact, mut searched) = (model.new_kv(WINDOW, CHUNK)?, model.new_kv(WINDOW, CHUNK)?);
        for tokens in window.chunks(CHUNK) {
            let n_vocab = model.hparams().n_vocab;
            let mut want = run(model, &mut exact, &mut scratch, tokens, None)?;
            let got = run(model, &mut searched, &mut scratch, tokens, Some(arguments.greatest))?;
            for (want, got) in want.chunks_exact_mut(n_vocab).zip(got.chunks_exact(n_vocab)) {
                for &id in loaded.tokenizer.suppressed() {
                    want[id as usize] = f32::NEG_INFINITY;
                }
                let got = greatest(got, arguments.greatest, f32::MIN);
                // What is greater than the last of these, or equal to it, should be one of them.
                let least = got.last().map_or(f32::MIN, |(_, logit)| *logit);
                let want = greatest(want, arguments.greatest, least);
                other_tokens += usize::from(want.first() != got.first());
                other_sets += usize::from(want != got);
            }
        }
    }
    let share = head.bytes_per_token().unwrap_or_default() as f64 / head.head_bytes() as f64;
    writeln!(
        stdout(),
        "{} greatest of {} positions: at {other_tokens} another first token, at {other_sets} another among them; \
         in the mean {:.1} % of the head's bytes were read",
        arguments.greatest,
        ids.len(),
        100.0 * share
    )?;
    Ok(())
}

/// Logits of all `tokens`.
fn run(
    model: &Model,
    kv: &mut KvCache,
    scratch: &mut Scratch,
    tokens: &[u32],
    greatest: Option<usize>,
) -> anyhow::Result<Vec<f32>> {
    let mut spans = [Span { tokens, kv, want: Want::All, greatest }];
    let logits = forward(model, &mut spans, &mut NoRows, scratch)?;
    Ok((0..logits.n_rows()).flat_map(|i| logits.row(i)).copied().collect())
}

/// The `n` greatest of those that are not below `least`, the greatest first and the first of equals.
fn greatest(logits: &[f32], n: usize, least: f32) -> Vec<(usize, f32)> {
    let mut all: Vec<(usize, f32)> =
        logits.iter().copied().enumerate().filter(|(_, logit)| *logit >= least).collect();
    all.sort_unstable_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
    all.truncate(n);
    all
}
