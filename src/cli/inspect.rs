//! `pled inspect`: what a model file holds and where it will lie, read from its directory alone; with `--checksums`
//! the row table is read as well.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use serde::Serialize;

use super::checksums;
use crate::config::DEFAULT_N_CTX;
use crate::daemon::{MemoryPlan, Place, open_model, place_of};
use crate::engine::EngineOptions;
use crate::gguf::{TensorInfo, quote};
use crate::model::{HParams, ModelFile, read_hparams};
use crate::ple;

/// Memory that the system and pled's own buffers take, bytes: an estimate for Raspberry Pi OS without a
/// desktop (256 MiB), and the vocabulary and the buffers of a step (128 MiB).
pub(super) const SYSTEM_BYTES: u64 = 384 << 20;
/// Memory for rows that were read, bytes: the default of `ple_cache_bytes`.
const ROW_CACHE_BYTES: u64 = ple::Options::DEFAULT.cache_bytes as u64;
/// Contexts of a daemon with `max_sessions = 1`: that of its sequence, and what is kept for prompts that are known.
pub(super) const LEAST_CONTEXTS: usize =
    EngineOptions { max_sessions: 1, ..EngineOptions::DEFAULT }.n_contexts();
/// Memory of the boards there are, GiB.
const BOARDS_GIB: [u64; 5] = [1, 2, 4, 8, 16];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Model file (GGUF); of a split model the first part [default: home-mini, which is built in]
    file: Option<PathBuf>,
    /// Read the per-layer embedding table and store a checksum of each row in FILE.crc32c, which later loads use
    #[arg(long, requires = "file")]
    checksums: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Everything that is told. The keys of the JSON object.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    n_parts: usize,
    file_bytes: u64,
    name: String,
    architecture: &'static str,
    n_layers: usize,
    /// Layers that a prompt token runs whose logits nobody wants.
    prompt_token_layers: usize,
    n_vocab: usize,
    n_embd: usize,
    n_ctx_train: usize,
    n_params: u64,
    tensors_by_type: Vec<Sum>,
    tensors_by_group: Vec<Sum>,
    resident_bytes: u64,
    storage_bytes: u64,
    unread_bytes: u64,
    rows: Option<Rows>,
    kv_type: String,
    kv_fixed_bytes: u64,
    kv_token_bytes: u64,
    boards: Vec<Board>,
}

/// Tensors that have something in common.
#[derive(Debug, Serialize)]
struct Sum {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'static str>,
    n_tensors: usize,
    bytes: u64,
}

/// The per-layer embedding table.
#[derive(Debug, Serialize)]
pub(super) struct Rows {
    format: &'static str,
    pub(super) n_rows: u64,
    pub(super) row_bytes: u64,
}

/// What a board of this memory can do with the model.
#[derive(Debug, Serialize)]
struct Board {
    memory_gib: u64,
    /// A daemon of one sequence of the default context fits.
    fits: bool,
    /// Longest context with which a daemon of one sequence fits, tokens.
    max_n_ctx: u64,
}

pub(super) fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let file = open_model(args.file.as_deref())?;
    let hparams = read_hparams(&file)?;
    if args.checksums && checksums::write(&file, &hparams)?.is_none() {
        bail!("{}: the model has no per-layer embedding table to make checksums of", file.path().display());
    }
    let report = report(&file, &hparams)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        print(&report, out)?;
    }
    Ok(())
}

fn report(file: &ModelFile, hparams: &HParams) -> anyhow::Result<Report> {
    let plan = MemoryPlan::new(file, hparams);
    let tensors = file.gguf.tensors();
    let rows = tensors.iter().find(|tensor| place_of(hparams, &tensor.name) == Place::Storage);
    Ok(Report {
        file: file.path().to_owned(),
        n_parts: file.parts.len(),
        file_bytes: file.parts.iter().map(|part| part.len()).sum(),
        name: file.gguf.metadata.opt_str("general.name")?.unwrap_or_default().to_owned(),
        architecture: hparams.architecture.name(),
        n_layers: hparams.n_layer(),
        prompt_token_layers: hparams.last_kv_layer() + 1,
        n_vocab: hparams.n_vocab,
        n_embd: hparams.n_embd,
        n_ctx_train: hparams.n_ctx_train,
        n_params: tensors.iter().map(TensorInfo::n_elements).sum(),
        tensors_by_type: sums(tensors, |tensor| (tensor.type_name(), None)),
        tensors_by_group: sums(tensors, |tensor| {
            (group_of(&tensor.name).to_owned(), Some(place_of(hparams, &tensor.name)))
        }),
        resident_bytes: plan.resident_bytes,
        storage_bytes: plan.storage_bytes,
        unread_bytes: plan.unread_bytes,
        rows: rows.and_then(row_table),
        kv_type: plan.kv_type.to_string(),
        kv_fixed_bytes: plan.kv_fixed_bytes,
        kv_token_bytes: plan.kv_token_bytes,
        boards: BOARDS_GIB.iter().map(|&gib| board(gib, &plan, hparams.n_ctx_train as u64)).collect(),
    })
}

pub(super) fn row_table(tensor: &TensorInfo) -> Option<Rows> {
    let format = tensor.format()?;
    let [n_cols, n_rows] = tensor.dims() else { return None };
    let row_bytes = format.row_bytes(usize::try_from(*n_cols).ok()?)? as u64;
    Some(Rows { format: format.name(), n_rows: *n_rows, row_bytes })
}

fn board(memory_gib: u64, plan: &MemoryPlan, n_ctx_train: u64) -> Board {
    let for_model = (memory_gib << 30).saturating_sub(SYSTEM_BYTES + ROW_CACHE_BYTES);
    let n_contexts = LEAST_CONTEXTS as u64;
    let fixed_bytes = plan.kv_fixed_bytes * n_contexts;
    let for_tokens = for_model.checked_sub(plan.resident_bytes + fixed_bytes + plan.grammar_bytes);
    let max_n_ctx = match for_tokens {
        None => 0,
        Some(bytes) => {
            bytes.checked_div(plan.kv_token_bytes * n_contexts).unwrap_or(n_ctx_train).min(n_ctx_train)
        }
    };
    Board { memory_gib, fits: max_n_ctx >= n_ctx_train.min(DEFAULT_N_CTX as u64), max_n_ctx }
}

/// Adds up tensors by what `key` says, most bytes first.
fn sums(tensors: &[TensorInfo], key: impl Fn(&TensorInfo) -> (String, Option<Place>)) -> Vec<Sum> {
    let mut by_key: BTreeMap<(String, Option<Place>), (usize, u64)> = BTreeMap::new();
    for tensor in tensors {
        let sum = by_key.entry(key(tensor)).or_default();
        sum.0 += 1;
        sum.1 += tensor.n_bytes.unwrap_or(0);
    }
    let mut sums: Vec<Sum> = by_key
        .into_iter()
        .map(|((name, place), (n_tensors, bytes))| Sum {
            name,
            place: place.map(place_name),
            n_tensors,
            bytes,
        })
        .collect();
    sums.sort_by_key(|sum| std::cmp::Reverse(sum.bytes));
    sums
}

fn place_name(place: Place) -> &'static str {
    match place {
        Place::Memory => "memory",
        Place::Storage => "storage",
        Place::Unread => "unread",
    }
}

/// What a tensor belongs to, by its name.
fn group_of(name: &str) -> &'static str {
    let part = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map(|(_, part)| part);
    match part {
        Some(part) if part.starts_with("attn_") || part.starts_with("post_attention_norm") => "attention",
        Some(part) if part.starts_with("ffn_") || part.starts_with("post_ffw_norm") => "mlp",
        Some(part) if ["inp_gate.", "proj.", "post_norm."].iter().any(|name| part.starts_with(name)) => {
            "per-layer input"
        }
        Some(_) => "other",
        None if name.starts_with("per_layer_token_embd.") => "per-layer embedding",
        None if name.starts_with("per_layer_") => "per-layer input",
        None if name.starts_with("token_embd.") => "embedding",
        None if name.starts_with("output.") => "head",
        None => "other",
    }
}

fn print(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    let parts = if report.n_parts == 1 { String::new() } else { format!(" in {} parts", report.n_parts) };
    writeln!(out, "file        {}, {}{parts}", report.file.display(), size(report.file_bytes))?;
    // Escaped and shortened: the name comes from the file and goes to a terminal.
    let name = match report.name.as_str() {
        "" => String::new(),
        name => format!(" {}", quote(name.as_bytes())),
    };
    writeln!(
        out,
        "model       {}{name}, {:.1} million parameters",
        report.architecture,
        report.n_params as f64 / 1e6
    )?;
    writeln!(
        out,
        "shape       {} layers, width {}, vocabulary {}, trained for {} tokens",
        report.n_layers, report.n_embd, report.n_vocab, report.n_ctx_train
    )?;
    writeln!(
        out,
        "prompt      a token whose logits nobody wants runs {} of {} layers",
        report.prompt_token_layers, report.n_layers
    )?;
    writeln!(out, "\ntensors by type")?;
    for sum in &report.tensors_by_type {
        writeln!(out, "  {:<20} {:>5}  {:>9}", sum.name, sum.n_tensors, size(sum.bytes))?;
    }
    writeln!(out, "\ntensors by group")?;
    for sum in &report.tensors_by_group {
        let place = sum.place.unwrap_or_default();
        writeln!(out, "  {:<20} {:>5}  {:>9}  {place}", sum.name, sum.n_tensors, size(sum.bytes))?;
    }
    writeln!(out, "\nin memory   {} of weights", size(report.resident_bytes))?;
    writeln!(
        out,
        "            {} of keys and values a sequence, and {} for each token ({})",
        size(report.kv_fixed_bytes),
        size(report.kv_token_bytes),
        report.kv_type
    )?;
    match &report.rows {
        Some(rows) => writeln!(
            out,
            "on storage  {}: {} rows of {} bytes ({}), one read for each token",
            size(report.storage_bytes),
            rows.n_rows,
            rows.row_bytes,
            rows.format
        )?,
        None => writeln!(out, "on storage  nothing: the model has no per-layer embeddings")?,
    }
    if report.unread_bytes > 0 {
        writeln!(out, "not read    {}", size(report.unread_bytes))?;
    }
    writeln!(
        out,
        "\nboards (computed for max_sessions = 1, with {} kept for the system and buffers)",
        size(SYSTEM_BYTES + ROW_CACHE_BYTES)
    )?;
    for board in &report.boards {
        let verdict = match board.max_n_ctx {
            0 => "no".to_owned(),
            n if board.fits => format!("yes, up to {n} tokens in one sequence"),
            n => format!("barely: {n} tokens in one sequence"),
        };
        writeln!(out, "  {:>2} GB       {verdict}", board.memory_gib)?;
    }
    Ok(())
}

/// Bytes for people, in units of 1000.
pub(super) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        b if b >= 1e9 => format!("{:.2} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.1} MB", b / 1e6),
        b if b >= 1e3 => format!("{:.1} kB", b / 1e3),
        b => format!("{b} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KvType;

    #[test]
    fn groups_by_name() {
        for (name, group) in [
            ("blk.3.attn_q.weight", "attention"),
            ("blk.3.post_attention_norm.weight", "attention"),
            ("blk.3.ffn_up.weight", "mlp"),
            ("blk.3.post_ffw_norm.weight", "mlp"),
            ("blk.3.proj.weight", "per-layer input"),
            ("blk.3.layer_output_scale.weight", "other"),
            ("per_layer_token_embd.weight", "per-layer embedding"),
            ("per_layer_model_proj.weight", "per-layer input"),
            ("token_embd.weight", "embedding"),
            ("output.weight", "head"),
            ("output_norm.weight", "other"),
        ] {
            assert_eq!(group_of(name), group, "{name}");
        }
    }

    #[test]
    fn a_board_holds_what_its_memory_leaves() {
        let mut plan = MemoryPlan {
            resident_bytes: 1 << 30,
            storage_bytes: 0,
            unread_bytes: 0,
            token_bytes: 0,
            kv_type: KvType::F16,
            kv_fixed_bytes: 0,
            kv_token_bytes: 1 << 20,
            ring_tokens: 1,
            grammar_bytes: 0,
        };
        assert_eq!(board(1, &plan, 8192).max_n_ctx, 0);
        let two = board(2, &plan, 8192);
        assert_eq!((two.fits, two.max_n_ctx), (false, (1024 - 448) / 2));
        let sixteen = board(16, &plan, 8192);
        assert_eq!((sixteen.fits, sixteen.max_n_ctx), (true, (15 * 1024 - 448) / 2));
        assert_eq!(board(16, &plan, 4096).max_n_ctx, 4096);
        // Sliding layers only: a longer context costs nothing more.
        plan.kv_token_bytes = 0;
        assert_eq!(board(2, &plan, 8192).max_n_ctx, 8192);
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!([0, 999, 1500, 3_350_000_000].map(size), ["0 B", "999 B", "1.5 kB", "3.35 GB"]);
    }
}
