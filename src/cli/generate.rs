//! `pled generate`: one raw completion in this process.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::anyhow;
use log::LevelFilter;
use serde::Serialize;

use super::exit::UsageError;
use super::logits;
use super::prompt::Prompt;
use super::settings::settle;
use super::terminal::tame;
use crate::config::ModelFlags;
use crate::daemon::LoadedModel;
use crate::engine::{
    Delta, Done, Draft, EngineHandle, EngineOptions, Event, FinishReason, Request, Stopping, Timings,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    prompt: Prompt,
    #[command(flatten)]
    model: ModelFlags,
    /// Most tokens of the answer [default: until the model ends it or the context is full]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// 0 takes the most likely token each time [default: as the model file recommends]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// The same seed, settings and prompt give the same text [default: a new one each time]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Go on after the model has ended its answer
    #[arg(long)]
    ignore_eos: bool,
    /// Print one JSON object in the end and nothing before
    #[arg(long)]
    json: bool,
    /// Write the logits of every prompt position, float32 [n_tokens, n_vocab]
    #[arg(long, value_name = "FILE.npy")]
    logits: Option<PathBuf>,
}

/// The keys of the JSON object.
#[derive(Debug, Serialize)]
struct Answer {
    text: String,
    token_ids: Vec<u32>,
    prompt_tokens: usize,
    completion_tokens: usize,
    finish_reason: &'static str,
    timings: AnswerTimings,
}

#[derive(Debug, Serialize)]
struct AnswerTimings {
    queue_ms: f64,
    prefill_ms: f64,
    decode_ms: f64,
    ple_rows: u64,
    ple_distinct_rows: u64,
    ple_cache_hits: u64,
    ple_bytes_read: u64,
    ple_wait_ms: f64,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let settings = settle(args.model.fragment(), None, LevelFilter::Warn)?;
    let mut loaded = LoadedModel::load(&settings, 1)?;
    let request = request(args, &loaded)?;
    if let Some(path) = &args.logits {
        logits::write(&mut loaded, request.prompt(), path)?;
    }
    let options =
        EngineOptions { max_sessions: 1, kept_contexts: 0, queue_depth: 0, ..EngineOptions::default() };
    let engine = loaded.start(options)?;
    // A file or a program behind a pipe gets what the model wrote; a person sees it.
    let is_terminal = std::io::stdout().is_terminal();
    // What is not printed as it comes is kept for the object in the end.
    let mut whole = Delta::default();
    let done = complete(&engine, request, |delta| {
        if args.json {
            whole.text.push_str(&delta.text);
            whole.token_ids.extend(&delta.token_ids);
            return Ok(());
        }
        let text = if is_terminal { tame(&delta.text) } else { delta.text.into() };
        out.write_all(text.as_bytes())?;
        out.flush()
    })?;
    if args.json {
        serde_json::to_writer(&mut *out, &answer(whole, &done))?;
        writeln!(out)?;
    } else if is_terminal {
        writeln!(out)?;
    }
    Ok(())
}

fn request(args: &Args, loaded: &LoadedModel) -> anyhow::Result<Request> {
    let mut sampling = loaded.info.default_sampling.clone();
    sampling.temperature = args.temperature.unwrap_or(sampling.temperature);
    sampling.seed = args.seed;
    let stopping =
        Stopping { max_tokens: args.max_tokens, ignore_eos: args.ignore_eos, ..Stopping::default() };
    let prompt = args.prompt.ids(&loaded.tokenizer)?;
    let draft = Draft { prompt, sampling, stopping, ..Draft::default() };
    // Fields are named as on the wire: --max-tokens is stopping.max_tokens.
    Ok(Request::new(draft, loaded.limits()).map_err(|error| UsageError(error.to_string()))?)
}

/// Runs one request to its end.
fn complete(
    engine: &EngineHandle,
    request: Request,
    mut take: impl FnMut(Delta) -> std::io::Result<()>,
) -> anyhow::Result<Done> {
    let mut generation = engine.submit(request)?;
    while let Some(event) = generation.blocking_next() {
        match event {
            Event::Prefill { .. } => {}
            Event::Delta(delta) => take(delta)?,
            Event::Done(done) => return Ok(done),
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
    Err(anyhow!("the engine ended without an answer"))
}

fn answer(whole: Delta, done: &Done) -> Answer {
    let Timings {
        queue_ms,
        prefill_ms,
        decode_ms,
        ple_rows,
        ple_distinct_rows,
        ple_cache_hits,
        ple_bytes_read,
        ple_wait_ms,
    } = done.timings;
    Answer {
        text: whole.text,
        token_ids: whole.token_ids,
        prompt_tokens: done.usage.prompt_tokens,
        completion_tokens: done.usage.completion_tokens,
        finish_reason: match done.finish_reason {
            FinishReason::Stop => "stop",
            FinishReason::MaxTokens => "max_tokens",
            FinishReason::ContextFull => "context_full",
            FinishReason::TimeLimit => "time_limit",
            FinishReason::Cancelled => "cancelled",
        },
        timings: AnswerTimings {
            queue_ms,
            prefill_ms,
            decode_ms,
            ple_rows,
            ple_distinct_rows,
            ple_cache_hits,
            ple_bytes_read,
            ple_wait_ms,
        },
    }
}
