//! `pled perplexity`: how well a model foretells a text.
//!
//! Computed as llama.cpp's tool of this name does, so that numbers can be compared: the text's tokens are
//! cut into windows, the first token of each window gives way to the beginning-of-sequence token, and
//! only the second half of a window is scored, where every token has half a window before it. What is
//! left over behind the last whole window is not looked at.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use log::LevelFilter;
use serde::Serialize;

use super::exit::UsageError;
use super::logits::Pass;
use super::settings::settle;
use crate::config::ModelFlags;
use crate::daemon::LoadedModel;
use crate::sampling::logprobs;
use crate::tokenizer::Specials;

/// The shortest window, tokens: three of them are scored.
const MIN_WINDOW: usize = 8;
/// The longest text, bytes: its tokens are in memory together.
const MAX_TEXT_BYTES: u64 = 256 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Text file (UTF-8)
    #[arg(long, value_name = "TEXT")]
    file: PathBuf,
    /// Tokens of a window; its second half is scored
    #[arg(long, value_name = "N", default_value_t = 512)]
    ctx: usize,
    /// Texts of special tokens become these tokens, as in generate; without it they are text
    #[arg(long)]
    parse_special: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelFlags,
}

/// The keys of the JSON object.
#[derive(Debug, Serialize)]
struct Report {
    perplexity: f64,
    /// Standard error of the perplexity.
    stderr: f64,
    /// Tokens that were scored.
    tokens: u64,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    if args.ctx < MIN_WINDOW {
        return Err(UsageError(format!("--ctx is {}; give at least {MIN_WINDOW}", args.ctx)).into());
    }
    let settings = settle(args.model.fragment(), None, LevelFilter::Warn)?;
    let text = read_text(&args.file)?;
    let mut loaded = LoadedModel::load(&settings, 1)?;
    if args.ctx > loaded.n_ctx {
        return Err(UsageError(format!(
            "--ctx is {}, the context has {} tokens; give less, or more with --n-ctx",
            args.ctx, loaded.n_ctx
        ))
        .into());
    }
    let specials = if args.parse_special { Specials::Parse } else { Specials::Plain };
    let ids = loaded.tokenizer.encode_prompt(&text, specials);
    drop(text);
    if ids.len() < args.ctx {
        return Err(UsageError(format!(
            "{}: {} tokens, a window has {}; give a longer text, or a smaller --ctx",
            args.file.display(),
            ids.len(),
            args.ctx
        ))
        .into());
    }
    let score = score(&mut loaded, &ids, args.ctx)?;
    let report = score.report();
    if args.json {
        serde_json::to_writer(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        let Report { perplexity, stderr, tokens } = report;
        writeln!(
            out,
            "perplexity {perplexity:.4} +/- {stderr:.4} ({tokens} tokens scored in {} windows of {})",
            ids.len() / args.ctx,
            args.ctx
        )?;
    }
    Ok(())
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read the text {}", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(cannot)?;
    let n_bytes = file.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text).with_context(cannot)?;
    if n_bytes as u64 > MAX_TEXT_BYTES {
        let path = path.display();
        let refused = format!("{path}: longer than {MAX_TEXT_BYTES} bytes; give a part of it");
        return Err(UsageError(refused).into());
    }
    Ok(text)
}

/// Scores the second half of every whole window of `ids`.
fn score(loaded: &mut LoadedModel, ids: &[u32], n_window: usize) -> anyhow::Result<Score> {
    let bos = loaded.tokenizer.bos().filter(|_| loaded.tokenizer.add_bos());
    let n_windows = ids.len() / n_window;
    let mut pass = Pass::new(loaded, n_window)?;
    let mut score = Score::default();
    for (i, window) in ids.chunks_exact(n_window).enumerate() {
        let mut window = window.to_vec();
        window[0] = bos.unwrap_or(window[0]);
        // Behind the last token nothing is known that could be compared with what it foretells.
        pass.run(&window[..n_window - 1], n_window / 2, |position, logits| {
            let next = logprobs(logits, window[position + 1], 0)?.chosen;
            score.add(-f64::from(next.logprob));
            Ok(())
        })?;
        log::info!(window = i + 1, of = n_windows, perplexity = score.report().perplexity; "scored");
    }
    Ok(score)
}

/// Negative log-likelihoods, added up.
#[derive(Debug, Default)]
struct Score {
    n: u64,
    sum: f64,
    sum_of_squares: f64,
}

impl Score {
    fn add(&mut self, nll: f64) {
        self.n += 1;
        self.sum += nll;
        self.sum_of_squares += nll * nll;
    }

    /// Of at least two values.
    fn report(&self) -> Report {
        let n = self.n as f64;
        let mean = self.sum / n;
        let perplexity = mean.exp();
        // Equal values may give a variance just below zero.
        let variance = (self.sum_of_squares / n - mean * mean).max(0.0);
        Report { perplexity, stderr: perplexity * (variance / (n - 1.0)).sqrt(), tokens: self.n }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_that_of_the_mean_carried_through_the_exponential() {
        let mut score = Score::default();
        [1.0, 2.0, 6.0].into_iter().for_each(|nll| score.add(nll));
        let report = score.report();
        assert!((report.perplexity - 3f64.exp()).abs() < 1e-12);
        // Variance 14/3 of three values: the mean's is 14/3 / 2.
        assert!((report.stderr - 3f64.exp() * (7f64 / 3.0).sqrt()).abs() < 1e-9);
        assert_eq!(report.tokens, 3);

        let mut equal = Score::default();
        (0..10).for_each(|_| equal.add(0.1));
        assert!(equal.report().stderr < 1e-6);
    }
}
