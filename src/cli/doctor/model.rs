//! What the model's file, its storage and this machine's memory make of each other.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::super::exit::one_line;
use super::super::inspect::{LEAST_CONTEXTS, SYSTEM_BYTES, size};
use super::super::machine::measure_read_gb_s;
use super::measure::{RowRate, row_rate};
use crate::board::{Device, DeviceKind, Finding, Memory, Root, Verdict, device_of, read_memory};
use crate::config::Settings;
use crate::daemon::{EMBEDDED_NAME, MemoryPlan, Place, open_model, place_of};
use crate::engine::EngineOptions;
use crate::model::{HParams, KvType, ModelFile, read_hparams};
use crate::ple::{FEW_ROWS_PER_S, TableLayout};

/// What the kernel's MemTotal has to hold beyond the model, bytes: firmware and kernel have taken their part already,
/// of which the estimate for a board's nominal memory counts 128 MiB. No board was asked.
const RESERVED_BYTES: u64 = SYSTEM_BYTES - (128 << 20);
/// Largest buffer that memory speed is measured with, bytes: no cache of a small board holds it.
const MAX_BUFFER_BYTES: u64 = 256 << 20;
/// What a card of the slowest class with a promise (A1: 1500 reads a second) surely gives.
const CARD_ROWS_PER_S: f64 = 1000.0;
/// Below this an answer comes slower than it is read aloud, tokens a second.
const SLOW_TOKENS_PER_S: f64 = 3.0;

/// Numbers behind the findings, for programs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Measured {
    rows: Option<RowRate>,
    read_bandwidth_gb_s: Option<f64>,
    /// Computed: what the memory's speed allows at most.
    max_decode_tok_s: Option<f64>,
}

/// Every finding on the model that the settings name, or on the one that is served where they name none.
pub(super) fn findings(root: &Root, settings: &Settings, measured: &mut Measured) -> Vec<Finding> {
    let given = settings.model.as_deref();
    let path = given.unwrap_or(Path::new(EMBEDDED_NAME));
    let opened = open_model(given).and_then(|file| Ok((read_hparams(&file)?, file)));
    let (hparams, file) = match opened {
        Ok(opened) => opened,
        Err(error) => return vec![unusable(path, &anyhow::Error::from(error))],
    };
    let n_ctx = match settings.n_ctx(hparams.n_ctx_train) {
        Ok(n_ctx) => n_ctx,
        Err(error) => return vec![unusable(path, &anyhow::Error::from(error))],
    };
    let mut plan = MemoryPlan::new(&file, &hparams);
    if settings.kv_type == KvType::Q8_0 {
        if let Err(error) = hparams.check_kv_type(KvType::Q8_0) {
            return vec![unusable(path, &anyhow::Error::from(error))];
        }
        plan = plan.with_kv_type(&hparams, KvType::Q8_0);
    }
    let memory = read_memory(root);
    let rows_in_memory = (settings.ple_cache_bytes as u64).min(plan.storage_bytes);
    let options = EngineOptions { max_sessions: settings.max_sessions, ..EngineOptions::default() };
    let needed = plan.needed_bytes(n_ctx, options.n_contexts(), rows_in_memory);
    let least = plan.needed_bytes(n_ctx, LEAST_CONTEXTS, 0);
    let mut found = vec![
        Finding::ok("model", format!("{}, {}", path.display(), hparams.architecture.name())),
        model_fit(memory, least, needed),
    ];
    if let Some(path) = given {
        let path = std::path::absolute(path).ok();
        found.push(storage(path.and_then(|path| device_of(root, &path))));
    }
    // The rows of the model that is part of the program are in memory.
    found.push(match given.and_then(|_| table(&file, &hparams)) {
        None => Finding::ok("storage_rows", "the model reads nothing while it runs"),
        Some((part, layout)) => match row_rate(Arc::clone(&file.parts[part]), layout) {
            Ok(rate) => {
                measured.rows = Some(rate);
                storage_rows(rate)
            }
            Err(error) => Finding::with_advice(
                "storage_rows",
                Verdict::Error,
                one_line(&error.into()),
                "the device gives wrong answers: look into dmesg, and copy the model to another one",
            ),
        },
    });
    let buffer_bytes =
        plan.token_bytes.min(MAX_BUFFER_BYTES).min(memory.map_or(u64::MAX, |m| m.available_bytes / 4));
    let gb_s = measure_read_gb_s(buffer_bytes as usize, settings.threads);
    measured.read_bandwidth_gb_s = Some(gb_s);
    measured.max_decode_tok_s = Some(most_tokens_per_s(gb_s, plan.token_bytes));
    found.push(token_rate(gb_s, plan.token_bytes));
    found
}

fn unusable(path: &Path, error: &anyhow::Error) -> Finding {
    let name = path.display().to_string();
    let error = one_line(error);
    let found = if error.contains(&name) { error } else { format!("{name}: {error}") };
    let advice = if found.contains("Permission denied") {
        "run as root to look at files of the service; the service itself owns what lies in /var/lib/pled"
    } else {
        "give the path of a whole GGUF file of a model that the README lists"
    };
    Finding::with_advice("model", Verdict::Error, found, advice)
}

/// The per-layer embedding table: the part that it is in, and where.
fn table(file: &ModelFile, hparams: &HParams) -> Option<(usize, TableLayout)> {
    let tensor =
        file.gguf.tensors().iter().find(|tensor| place_of(hparams, &tensor.name) == Place::Storage)?;
    let [n_cols, n_rows] = tensor.dims() else { return None };
    let row_bytes = tensor.format()?.row_bytes(usize::try_from(*n_cols).ok()?)?;
    Some((
        tensor.part,
        TableLayout { offset: tensor.offset, row_bytes, n_rows: u32::try_from(*n_rows).ok()? },
    ))
}

/// `model_fit`: `least` bytes for one sequence, `needed` for all that the settings allow.
fn model_fit(memory: Option<Memory>, least: u64, needed: u64) -> Finding {
    let Some(memory) = memory else {
        return Finding::ok(
            "model_fit",
            format!("needs {}; this system does not tell what it has", size(needed)),
        );
    };
    let (total, available) = (memory.total_bytes, memory.available_bytes);
    let found = format!("needs {} of {} ({} available)", size(needed), size(total), size(available));
    let (verdict, advice) = match () {
        () if least + RESERVED_BYTES > total => (
            Verdict::Error,
            "too large for this board: lower n_ctx, or take a smaller model or a board with more memory",
        ),
        () if needed + RESERVED_BYTES > total => (
            Verdict::Warning,
            "with every sequence in use memory runs out: lower max_sessions, n_ctx or ple_cache_bytes",
        ),
        () if needed > available => (
            Verdict::Notice,
            "more than is free now, which is as it must be while pled serves this model: else stop other programs",
        ),
        () => return Finding::ok("model_fit", found),
    };
    Finding::with_advice("model_fit", verdict, found, advice)
}

/// `storage`: the kind of device that the model lies on.
fn storage(place: Option<Device>) -> Finding {
    let Some(device) = place else { return Finding::ok("storage", "not told by this system") };
    let found = format!("{} ({})", device.kind, device.name);
    match device.kind {
        DeviceKind::Network => Finding::with_advice(
            "storage",
            Verdict::Warning,
            found,
            "every answer waits for the network, and ends when it fails: copy the model to a local drive",
        ),
        DeviceKind::Memory => Finding::with_advice(
            "storage",
            Verdict::Notice,
            found,
            "the whole file takes memory, the table too: put it on a card or a drive",
        ),
        _ => Finding::ok("storage", found),
    }
}

/// `storage_rows`: whether rows come faster than they are needed.
fn storage_rows(rate: RowRate) -> Finding {
    let found = format!(
        "{:.0} rows/s of {} bytes; one takes {:.2} ms, 99 of 100 less than {:.2} ms; this allows prompts of {:.0} tokens/s, answers of {:.0}",
        rate.rows_per_s,
        rate.row_bytes,
        rate.read_p50_us / 1e3,
        rate.read_p99_us / 1e3,
        rate.rows_per_s,
        1e6 / rate.read_p50_us.max(1.0)
    );
    if rate.rows_per_s < FEW_ROWS_PER_S {
        let advice = "prompts wait for storage: take a card of class A2 or an NVMe drive, and look whether other \
                      programs use this one";
        return Finding::with_advice("storage_rows", Verdict::Warning, found, advice);
    }
    if rate.rows_per_s < CARD_ROWS_PER_S {
        let advice = "less than a card of class A1 gives: long prompts may wait for it; a larger ple_cache_bytes helps";
        return Finding::with_advice("storage_rows", Verdict::Notice, found, advice);
    }
    Finding::ok("storage_rows", found)
}

/// Tokens a second that memory allows when every one reads `token_bytes`.
fn most_tokens_per_s(gb_s: f64, token_bytes: u64) -> f64 {
    gb_s * 1e9 / token_bytes.max(1) as f64
}

/// `token_rate`: the roofline of decoding. Computing may be slower than this, never faster.
fn token_rate(gb_s: f64, token_bytes: u64) -> Finding {
    let rate = most_tokens_per_s(gb_s, token_bytes);
    let found = format!(
        "at most {rate:.1} tokens/s for one sequence: each reads {} of memory that gives {gb_s:.1} GB/s",
        size(token_bytes)
    );
    if rate < SLOW_TOKENS_PER_S {
        let advice = "slower than speech: take a model with fewer bytes for each token (4-bit weights, E2B)";
        return Finding::with_advice("token_rate", Verdict::Notice, found, advice);
    }
    Finding::ok("token_rate", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_fits_or_not() {
        let board =
            |gib: u64, free: u64| Some(Memory { total_bytes: gib << 30, available_bytes: free << 20 });
        for (memory, least, needed, verdict) in [
            (None, 1 << 40, 1 << 40, Verdict::Ok),
            (board(4, 3500), 2 << 30, 3 << 30, Verdict::Ok),
            (board(4, 2000), 2 << 30, 3 << 30, Verdict::Notice),
            (board(4, 3500), 2 << 30, 4 << 30, Verdict::Warning),
            (board(2, 1800), 2 << 30, 3 << 30, Verdict::Error),
        ] {
            let found = model_fit(memory, least, needed);
            assert_eq!((found.id, found.verdict), ("model_fit", verdict), "{found:?}");
            assert_eq!(found.advice.is_some(), verdict != Verdict::Ok);
        }
        // E2B where of 2 GiB 1.94 GB are left to the kernel (an assumption): one sequence fits, four do not.
        let small = Some(Memory { total_bytes: 1_938_000_000, available_bytes: 1_780_000_000 });
        assert_eq!(model_fit(small, 1_540_000_000, 1_557_000_000).verdict, Verdict::Ok);
        assert_eq!(model_fit(small, 1_540_000_000, 1_705_000_000).verdict, Verdict::Warning);
    }

    #[test]
    fn storage_is_judged_by_its_kind_and_its_rate() {
        let on = |kind| storage(Some(Device { name: "x".to_owned(), kind })).verdict;
        assert_eq!(on(DeviceKind::Card), Verdict::Ok);
        assert_eq!(on(DeviceKind::Network), Verdict::Warning);
        assert_eq!(on(DeviceKind::Memory), Verdict::Notice);
        assert_eq!(storage(None).verdict, Verdict::Ok);
        for (rows_per_s, verdict) in
            [(20_000.0, Verdict::Ok), (500.0, Verdict::Notice), (100.0, Verdict::Warning)]
        {
            let rate = RowRate { rows_per_s, read_p50_us: 1.0, read_p99_us: 2.0, row_bytes: 5040 };
            assert_eq!(storage_rows(rate).verdict, verdict, "{rows_per_s}");
        }
    }

    #[test]
    fn the_roofline_is_bandwidth_over_bytes() {
        assert_eq!(most_tokens_per_s(11.28, 1_410_000_000), 8.0);
        assert_eq!(token_rate(11.28, 1_410_000_000).verdict, Verdict::Ok);
        assert_eq!(token_rate(4.0, 4_000_000_000).verdict, Verdict::Notice);
    }

    #[test]
    fn rows_of_a_real_file_are_measured() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gemma4-ple/model-q4_0.gguf");
        let file = ModelFile::open(&path).unwrap();
        let (part, layout) = table(&file, &read_hparams(&file).unwrap()).unwrap();
        let rate = row_rate(Arc::clone(&file.parts[part]), layout).unwrap();
        assert!(rate.rows_per_s > 0.0 && rate.read_p50_us <= rate.read_p99_us, "{rate:?}");
        // A table that lies beyond the file is an error and no rate.
        let beyond = TableLayout { offset: file.parts[part].len(), ..layout };
        row_rate(Arc::clone(&file.parts[part]), beyond).unwrap_err();
    }
}
