//! `pled bench`: how fast prompts are computed and answers decoded, through the engine that serves them,
//! beside what the machine's memory and its integer units could give.

mod profile;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use log::LevelFilter;
use serde::Serialize;

use profile::{StepClock, StepReport};

use super::exit::UsageError;
use super::machine::{measure_products_g_s, measure_read_gb_s};
use super::settings::settle;
use crate::config::ModelFlags;
use crate::daemon::LoadedModel;
use crate::engine::{
    Draft, EngineHandle, EngineOptions, Event, Generation, Request, RowStats, Stopping, Timings,
};
use crate::sampling::SamplingParams;

/// Tokens of the run before the measured ones, which warms caches and page tables.
const WARM_UP_TOKENS: usize = 8;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Tokens of the prompts whose prefill is measured
    #[arg(short = 'p', long, value_name = "N", default_value_t = 128)]
    prefill_tokens: usize,
    /// Tokens that are decoded behind --depth tokens of context
    #[arg(short = 'n', long, value_name = "N", default_value_t = 32)]
    decode_tokens: usize,
    /// Tokens of context that decoding begins behind
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    depth: usize,
    /// Sequences at a time
    #[arg(short, long, value_name = "B", default_value_t = 1)]
    batch: usize,
    /// Measured repetitions
    #[arg(short, long, value_name = "REPS", default_value_t = 3)]
    reps: usize,
    /// Also show where the time of the forward passes goes
    #[arg(long)]
    profile: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print one line of names and one of values, separated by commas
    #[arg(long, conflicts_with = "profile")]
    csv: bool,
    #[command(flatten)]
    model: ModelFlags,
}

/// The keys of the JSON object.
#[derive(Debug, Serialize)]
struct Report {
    prefill_tok_s: Spread,
    decode_tok_s: Spread,
    load_s: f64,
    rss_mb: f64,
    /// With a coarse copy of the output head: what was read in the mean.
    weights_bytes_per_token: u64,
    read_bandwidth_gb_s: f64,
    ple: Option<PleReport>,
    isa: String,
    threads: usize,
    n_layers: usize,
    /// Layers that a prompt token runs whose logits nobody wants.
    prompt_token_layers: usize,
    prefill_tokens: usize,
    decode_tokens: usize,
    depth: usize,
    batch: usize,
    reps: usize,
    /// Bytes of weights that decoding reads, over what the memory gives.
    decode_share_of_bandwidth: f64,
    /// Products of bytes that all threads make in registers, 10^9 a second.
    peak_products_g_s: f64,
    /// Products with weights for each token of a prompt.
    prompt_token_products: u64,
    /// Products with weights that prompts take, over that peak; of little meaning where weights are floats.
    prefill_share_of_peak: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Vec<StepReport>>,
}

/// Row reads of the measured repetitions; percentiles of the whole run.
#[derive(Debug, Serialize)]
struct PleReport {
    mode: String,
    rows: u64,
    distinct_rows: u64,
    cache_hits: u64,
    reads: u64,
    bytes_read: u64,
    wait_ms: f64,
    wait_p50_us: f64,
    wait_p99_us: f64,
    read_p50_us: f64,
    read_p99_us: f64,
}

impl PleReport {
    fn new(mode: String, after: &RowStats, before: &RowStats) -> PleReport {
        let (now, then) = (after.counters, before.counters);
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        PleReport {
            mode,
            rows: now.rows - then.rows,
            distinct_rows: now.distinct - then.distinct,
            cache_hits: now.cache_hits - then.cache_hits,
            reads: after.reads.count - before.reads.count,
            bytes_read: now.bytes_read - then.bytes_read,
            wait_ms: us(now.wait - then.wait) / 1e3,
            wait_p50_us: us(after.waits.p50),
            wait_p99_us: us(after.waits.p99),
            read_p50_us: us(after.reads.p50),
            read_p99_us: us(after.reads.p99),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let median = (values[(n - 1) / 2] + values[n / 2]) / 2.0;
        Spread { min: values[0], median, max: values[n - 1] }
    }
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    check(args)?;
    let settings = settle(args.model.fragment(), None, LevelFilter::Warn)?;
    let begin = Instant::now();
    let loaded = LoadedModel::load(&settings, args.batch)?;
    let (weights_bytes, all_bytes_per_token) =
        (loaded.model.weights_bytes(), loaded.model.weights_bytes_per_token());
    let (kernels, prompt_token_products) =
        (loaded.model.compute().kernels, loaded.model.prompt_token_products());
    // What is measured is computing, so nothing is kept.
    let options = EngineOptions {
        max_sessions: args.batch,
        kept_contexts: 0,
        queue_depth: 0,
        ..EngineOptions::default()
    };
    check_room(args, loaded.n_ctx)?;
    let (coarse_head, build) = (Arc::clone(loaded.model.coarse_head()), loaded.coarse_head());
    let clock = args.profile.then(StepClock::default);
    let engine = loaded.start_with(options, clock.as_ref().map(|clock| clock.probe(args.batch)), None)?;
    let load_s = begin.elapsed().as_secs_f64();
    // A daemon makes it while it answers already.
    if let Some(build) = build {
        build();
    }

    let mut ids = PromptIds { n_vocab: engine.limits().n_vocab as u64, drawn: 0 };
    prefill_rate(&engine, args.batch, WARM_UP_TOKENS.min(args.prefill_tokens), &mut ids)?;
    if let Some(clock) = &clock {
        clock.clear();
    }
    let rows_before = engine.stats().rows.unwrap_or_default();
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    for _ in 0..args.reps {
        prefill.push(prefill_rate(&engine, args.batch, args.prefill_tokens, &mut ids)?);
        decode.push(decode_rate(&engine, args, &mut ids)?);
    }
    let rows = engine.stats().rows;
    let rss_mb = resident_bytes().context("cannot read this process's memory from /proc")? as f64 / 1e6;
    let backend = engine.backend().clone();
    drop(engine);
    let decode_tok_s = Spread::of(decode);
    let read_bandwidth_gb_s = measure_read_gb_s(usize::try_from(weights_bytes)?, backend.n_threads);
    let whole_head = coarse_head.head_bytes() as u64;
    let weights_bytes_per_token =
        all_bytes_per_token - whole_head + coarse_head.bytes_per_token().unwrap_or(whole_head);
    // Sequences of a batch share the weights that a step reads.
    let read_gb_s = decode_tok_s.median / args.batch as f64 * weights_bytes_per_token as f64 / 1e9;
    let prefill_tok_s = Spread::of(prefill);
    let peak_products_g_s = measure_products_g_s(kernels, backend.n_threads);
    let products_g_s = prefill_tok_s.median * prompt_token_products as f64 / 1e9;
    let report = Report {
        prefill_tok_s,
        decode_tok_s,
        load_s,
        rss_mb,
        weights_bytes_per_token,
        read_bandwidth_gb_s,
        ple: rows
            .map(|rows| PleReport::new(backend.ple_mode.clone().unwrap_or_default(), &rows, &rows_before)),
        isa: backend.isa,
        threads: backend.n_threads,
        n_layers: backend.n_layers,
        prompt_token_layers: backend.prompt_token_layers,
        prefill_tokens: args.prefill_tokens,
        decode_tokens: args.decode_tokens,
        depth: args.depth,
        batch: args.batch,
        reps: args.reps,
        decode_share_of_bandwidth: read_gb_s / read_bandwidth_gb_s,
        peak_products_g_s,
        prompt_token_products,
        prefill_share_of_peak: products_g_s / peak_products_g_s,
        profile: clock.map(|clock| clock.report()),
    };
    if args.json {
        serde_json::to_writer(&mut *out, &report)?;
        writeln!(out)?;
    } else if args.csv {
        print_csv(&report, out)?;
    } else {
        print(&report, out)?;
    }
    Ok(())
}

fn check(args: &Args) -> Result<(), UsageError> {
    for (flag, value, min) in [
        ("-p", args.prefill_tokens, 1),
        ("-n", args.decode_tokens, 1),
        ("--depth", args.depth, 1),
        ("--batch", args.batch, 1),
        ("--reps", args.reps, 1),
    ] {
        if value < min {
            return Err(UsageError(format!("{flag} is {value}; give at least {min}")));
        }
    }
    if args.depth > 1 && args.batch > 1 {
        // Sequences would decode while others still compute their prompts.
        return Err(UsageError("--depth measures one sequence; leave out --batch".to_owned()));
    }
    if args.batch > 64 {
        return Err(UsageError(format!("--batch is {}; give at most 64", args.batch)));
    }
    Ok(())
}

fn check_room(args: &Args, n_ctx: usize) -> Result<(), UsageError> {
    // The last token chosen is not run and takes no place.
    let needed = args.prefill_tokens.max(args.decode_tokens.saturating_add(args.depth));
    if needed > n_ctx {
        return Err(UsageError(format!(
            "-p, and --depth with -n, need a context of {needed} tokens, it has {n_ctx}; give less, or more with --n-ctx"
        )));
    }
    Ok(())
}

/// Tokens of prompts computed in a second, by `batch` requests together.
fn prefill_rate(engine: &EngineHandle, batch: usize, n: usize, ids: &mut PromptIds) -> anyhow::Result<f64> {
    let timings = run_together(engine, batch, n, 1, ids)?;
    let last = timings.iter().map(|t| t.queue_ms + t.prefill_ms).fold(0.0, f64::max);
    Ok(per_second(batch * n, last))
}

/// Tokens decoded in a second, by `batch` requests together. The first token of each belongs to its prompt.
/// Several have prompts of one token, so that decoding is nearly all there is.
fn decode_rate(engine: &EngineHandle, args: &Args, ids: &mut PromptIds) -> anyhow::Result<f64> {
    let (batch, n) = (args.batch, args.decode_tokens);
    let timings = run_together(engine, batch, args.depth, n + 1, ids)?;
    let begin = timings.iter().map(|t| t.queue_ms + t.prefill_ms).fold(f64::INFINITY, f64::min);
    let end = timings.iter().map(|t| t.queue_ms + t.prefill_ms + t.decode_ms).fold(0.0, f64::max);
    Ok(per_second(batch * n, end - begin))
}

fn per_second(n_tokens: usize, ms: f64) -> f64 {
    // A clock that has not moved cannot make a rate infinite, which JSON does not know.
    n_tokens as f64 * 1e3 / ms.max(1e-6)
}

/// Submits `batch` requests at once and waits for all; the engine's own clock tells how long they took.
fn run_together(
    engine: &EngineHandle,
    batch: usize,
    n_prompt: usize,
    n_answer: usize,
    ids: &mut PromptIds,
) -> anyhow::Result<Vec<Timings>> {
    let mut generations = Vec::with_capacity(batch);
    for _ in 0..batch {
        let stopping = Stopping { max_tokens: Some(n_answer), ignore_eos: true, ..Stopping::default() };
        let sampling = SamplingParams::greedy();
        let draft = Draft { prompt: ids.draw(n_prompt), stopping, sampling, ..Draft::default() };
        generations.push(engine.submit(Request::new(draft, engine.limits())?)?);
    }
    // Every sequence has a reader, or one that nobody reads would be parked.
    std::thread::scope(|scope| {
        let readers: Vec<_> = generations.into_iter().map(|g| scope.spawn(|| timings_of(g))).collect();
        readers.into_iter().map(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?).collect()
    })
}

fn timings_of(mut generation: Generation) -> anyhow::Result<Timings> {
    while let Some(event) = generation.blocking_next() {
        match event {
            Event::Prefill { .. } | Event::Delta(_) => {}
            Event::Done(done) => return Ok(done.timings),
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
    Err(anyhow!("the engine ended without an answer"))
}

/// Token ids spread over the vocabulary, other ones each time, so that rows are not found in the cache
/// only because the same prompt ran before; the same in every run of the program.
struct PromptIds {
    n_vocab: u64,
    drawn: u64,
}

impl PromptIds {
    fn draw(&mut self, n: usize) -> Vec<u32> {
        // Multiples of a prime near 2^32 over the golden ratio (Knuth's multiplicative hashing).
        let next = |i: u64| (i.wrapping_mul(2_654_435_761) % self.n_vocab) as u32;
        let ids = (self.drawn..self.drawn + n as u64).map(next).collect();
        self.drawn += n as u64;
        ids
    }
}

/// Memory of this process that is in RAM now, bytes.
fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

fn print(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    let Report { prefill_tok_s, decode_tok_s, .. } = report;
    let row = |spread: &Spread| format!("{:9.2} {:9.2} {:9.2}", spread.min, spread.median, spread.max);
    writeln!(out, "{} threads, {}, {} at a time", report.threads, report.isa, report.batch)?;
    writeln!(out, "tokens/s          min    median       max")?;
    writeln!(out, "prefill {:>5} {}", report.prefill_tokens, row(prefill_tok_s))?;
    writeln!(out, "decode  {:>5} {}", report.decode_tokens, row(decode_tok_s))?;
    if report.depth > 1 {
        writeln!(out, "decoded behind {} tokens", report.depth)?;
    }
    writeln!(
        out,
        "a prompt token runs {} of {} layers where nobody wants its logits",
        report.prompt_token_layers, report.n_layers
    )?;
    let bound = report.read_bandwidth_gb_s * 1e9 / report.weights_bytes_per_token as f64;
    writeln!(
        out,
        "memory gives {:.1} GB/s; a token reads {:.3} GB, which bounds one sequence at {bound:.1} tokens/s; decoding reached {:.0} %",
        report.read_bandwidth_gb_s,
        report.weights_bytes_per_token as f64 / 1e9,
        100.0 * report.decode_share_of_bandwidth
    )?;
    writeln!(
        out,
        "the integer units make {:.0} billion products/s; a prompt token takes {:.3}, which bounds prompts at {:.0} tokens/s; prefill reached {:.0} %",
        report.peak_products_g_s,
        report.prompt_token_products as f64 / 1e9,
        report.peak_products_g_s * 1e9 / report.prompt_token_products.max(1) as f64,
        100.0 * report.prefill_share_of_peak
    )?;
    writeln!(out, "loaded in {:.2} s, {:.0} MB resident", report.load_s, report.rss_mb)?;
    if let Some(ple) = &report.ple {
        writeln!(
            out,
            "rows ({}): {}, {} from memory, {} bytes read, waited {:.1} ms (p99 {:.0} us), a read takes {:.0} us (p99 {:.0})",
            ple.mode,
            ple.rows,
            ple.cache_hits,
            ple.bytes_read,
            ple.wait_ms,
            ple.wait_p99_us,
            ple.read_p50_us,
            ple.read_p99_us
        )?;
    }
    if let Some(steps) = &report.profile {
        profile::print(steps, out)?;
    }
    Ok(())
}

/// Nested keys are joined by dots. No value needs quotes: they are numbers, and names without commas.
fn print_csv(report: &Report, out: &mut impl Write) -> anyhow::Result<()> {
    let (mut names, mut values) = (Vec::new(), Vec::new());
    flatten("", &serde_json::to_value(report)?, &mut names, &mut values);
    writeln!(out, "{}\n{}", names.join(","), values.join(","))?;
    Ok(())
}

fn flatten(name: &str, value: &serde_json::Value, names: &mut Vec<String>, values: &mut Vec<String>) {
    if let Some(object) = value.as_object() {
        let dot = if name.is_empty() { "" } else { "." };
        object.iter().for_each(|(key, value)| flatten(&format!("{name}{dot}{key}"), value, names, values));
    } else {
        names.push(name.to_owned());
        values.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_keys_become_columns() {
        let value = serde_json::json!({"a": {"b": 1.5, "c": null}, "d": "avx2"});
        let (mut names, mut values) = (Vec::new(), Vec::new());
        flatten("", &value, &mut names, &mut values);
        assert_eq!((names.join(","), values.join(",")), ("a.b,a.c,d".to_owned(), "1.5,null,avx2".to_owned()));
    }

    #[test]
    fn spreads() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0]).median, 2.5);
        assert_eq!(Spread::of(vec![7.0]), Spread { min: 7.0, median: 7.0, max: 7.0 });
    }

    #[test]
    fn drawn_ids_are_in_the_vocabulary_and_differ_from_draw_to_draw() {
        let mut ids = PromptIds { n_vocab: 384, drawn: 0 };
        let (first, second) = (ids.draw(64), ids.draw(64));
        assert!(first.iter().chain(&second).all(|&id| id < 384));
        assert_ne!(first, second);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes().unwrap() > 100_000);
    }
}
