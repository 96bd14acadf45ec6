//! The engine over the tiny real models: the same tokens as the reference, however they are computed.

use std::sync::Arc;

use pled::engine::{Draft, Engine, EngineHandle, EngineOptions, ModelBackend, ModelInfo, Stopping};
use pled::model::{KvType, Model, ModelFile};
use pled::ops::{Compute, Kernels, Pool};
use pled::ple::{Mode, Options, RowStore, TableLayout};
use pled::prefix_store::PrefixStore;
use pled::sampling::SamplingParams;
use pled::storage::DataFile;
use pled::tokenizer::Tokenizer;

use super::load::sixty_four_clients;
use super::scripted::{OPTIONS, hear_all, model_file};
use super::support::{Run, fixture, runs};

pub(crate) fn engine_of(file: ModelFile, mode: Mode, options: EngineOptions) -> EngineHandle {
    engine_with(file, options, |part, layout| {
        // Small enough that rows are read again, except where the size is what is decided by.
        let cache_bytes = if mode == Mode::Auto { 1 << 20 } else { 4096 };
        RowStore::open(part, layout, Options { mode, cache_bytes, read_threads: 2 }).unwrap()
    })
}

/// An engine that keeps keys and values as `kv_type`.
pub(crate) fn engine_keeping(file: ModelFile, kv_type: KvType, options: EngineOptions) -> EngineHandle {
    engine_over_disk(file, Some(kv_type), options, None)
}

/// The same, and whose prefixes outlast it in `store`.
pub(crate) fn engine_over_disk(
    file: ModelFile,
    kv_type: Option<KvType>,
    options: EngineOptions,
    store: Option<PrefixStore>,
) -> EngineHandle {
    let mut model = load(&file);
    if let Some(kv_type) = kv_type {
        model.set_kv_type(kv_type).unwrap();
    }
    engine_over(file, model, options, store, |part, layout| {
        RowStore::open(part, layout, Options { mode: Mode::Auto, cache_bytes: 1 << 20, read_threads: 2 })
            .unwrap()
    })
}

/// An engine whose rows come from the store that `open` makes.
pub(crate) fn engine_with(
    file: ModelFile,
    options: EngineOptions,
    open: impl FnOnce(Arc<DataFile>, TableLayout) -> RowStore,
) -> EngineHandle {
    let model = load(&file);
    engine_over(file, model, options, None, open)
}

pub(crate) fn load(file: &ModelFile) -> Model {
    let compute = Arc::new(Compute { pool: Pool::new(2).unwrap(), kernels: Kernels::detect() });
    Model::load(file, compute).unwrap()
}

pub(crate) fn engine_over(
    mut file: ModelFile,
    model: Model,
    options: EngineOptions,
    prefixes: Option<PrefixStore>,
    open: impl FnOnce(Arc<DataFile>, TableLayout) -> RowStore,
) -> EngineHandle {
    let tokenizer = Arc::new(Tokenizer::from_metadata(&mut file.gguf.metadata).unwrap());
    let store = model.row_table().map(|t| {
        let layout = TableLayout { offset: t.offset, row_bytes: t.row_bytes, n_rows: t.n_rows };
        open(Arc::clone(&file.parts[t.part]), layout)
    });
    let info = ModelInfo::of(&file, &model);
    let backend = ModelBackend::new(model, store, &options).unwrap();
    Engine { backend, tokenizer, chat: None, model: info, options, store: prefixes }.start().unwrap()
}

fn greedy(run: &Run) -> Draft {
    Draft {
        prompt: run.prompt.clone(),
        sampling: SamplingParams::greedy(),
        stopping: Stopping { max_tokens: Some(run.greedy.len()), ignore_eos: true, ..Stopping::default() },
        ..Draft::default()
    }
}

#[test]
fn greedy_answers_equal_the_reference_in_every_mode_and_chunking_alone_and_together() {
    let options = EngineOptions { n_ctx: 128, ..OPTIONS };
    for (folder, modes) in [
        ("gemma4-ple", &[Mode::Direct, Mode::Mmap, Mode::Resident][..]),
        ("gemma4-keqv", &[Mode::Auto]),
        ("gemma3", &[Mode::Auto]),
    ] {
        let runs = runs(&fixture(folder), "f32");
        for &mode in modes {
            for prefill_chunk in [1, 7, 128] {
                let options = EngineOptions { prefill_chunk, ..options };
                let engine = engine_of(model_file(&format!("{folder}/model-f32.gguf")), mode, options);
                let request = |run| pled::engine::Request::new(greedy(run), engine.limits()).unwrap();
                for run in &runs {
                    let alone = hear_all(engine.submit(request(run)).unwrap());
                    assert_eq!(alone.token_ids, run.greedy, "{folder} {mode} chunks of {prefill_chunk}");
                }
                let together: Vec<_> = runs.iter().map(|r| engine.submit(request(r)).unwrap()).collect();
                for (generation, run) in together.into_iter().zip(&runs) {
                    assert_eq!(hear_all(generation).token_ids, run.greedy, "{folder} {mode} in turns");
                }
            }
        }
    }
}

#[test]
fn rows_are_counted_for_requests_and_for_the_whole() {
    let engine = engine_of(model_file("gemma4-ple/model-q4_0.gguf"), Mode::Direct, OPTIONS);
    let run = &runs(&fixture("gemma4-ple"), "q4_0")[1];
    let request = pled::engine::Request::new(greedy(run), engine.limits()).unwrap();
    let heard = hear_all(engine.submit(request).unwrap());
    let t = heard.done().timings;
    // Every token but the last one chosen is run.
    assert_eq!(t.ple_rows, (run.prompt.len() + run.greedy.len() - 1) as u64);
    assert!(t.ple_cache_hits < t.ple_rows && t.ple_bytes_read > 0, "{t:?}");
    // Of 7 layers of 32 values a prompt token needs the first three, but for the last one.
    let most = (run.prompt.len() - 1) * 3 * 18 + run.greedy.len() * 7 * 18;
    assert!(t.ple_bytes_read <= most as u64, "{t:?}");
    let stats = engine.stats();
    let rows = stats.rows.unwrap();
    assert_eq!(rows.counters.rows, t.ple_rows);
    assert_eq!(rows.counters.cache_hits, t.ple_cache_hits);
    assert_eq!(rows.counters.distinct, t.ple_distinct_rows);
    assert!(t.ple_distinct_rows <= t.ple_rows && t.ple_distinct_rows > 0, "{t:?}");
    assert!(rows.counters.bytes_read >= t.ple_bytes_read && rows.reads.p99 >= rows.reads.p50);
    // One wait for each chunk of the prompt, and for each token that was decoded.
    let n_steps = run.prompt.len().div_ceil(OPTIONS.prefill_chunk) + run.greedy.len() - 1;
    assert_eq!(rows.waits.count, n_steps as u64);
    assert_eq!(engine.backend().ple_mode.as_deref(), Some("direct"));
    // Layers 4 to 6 of 7 share the keys and values below them.
    assert_eq!((engine.backend().prompt_token_layers, engine.backend().n_layers), (4, 7));
}

#[test]
fn a_model_is_described() {
    let engine = engine_of(model_file("gemma4-ple/model-q4_0.gguf"), Mode::Auto, OPTIONS);
    let info = engine.model();
    assert_eq!((info.id.as_str(), info.architecture.as_str()), ("tiny-gemma4-ple", "gemma4"));
    assert_eq!(info.n_params_per_layer_embedding, 384 * 7 * 32);
    assert!(info.n_params > info.n_params_per_layer_embedding);
    assert_eq!(info.storage_bytes, 384 * 7 * 18);
    assert_eq!(info.quantizations[0].format, "Q4_0");
    assert_eq!(info.n_ctx_train, 256);
    assert_eq!(info.default_sampling, SamplingParams::default());
    assert_eq!(engine.backend().ple_mode.as_deref(), Some("resident"), "a table this small fits");
}

/// Changes the file as failing storage does: its time of modification stays.
fn unnoticed(path: &std::path::Path, change: impl FnOnce(&std::fs::File)) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    change(&file);
    file.set_modified(modified).unwrap();
}

#[test]
fn a_vanished_file_fails_what_needs_it_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::copy(fixture("gemma4-ple/model-f32.gguf"), &path).unwrap();
    let options = EngineOptions { n_ctx: 128, ..OPTIONS };
    let engine = engine_of(ModelFile::open(&path).unwrap(), Mode::Direct, options);
    let run = &runs(&fixture("gemma4-ple"), "f32")[0];
    let ask = || {
        let request = pled::engine::Request::new(greedy(run), engine.limits()).unwrap();
        hear_all(engine.submit(request).unwrap())
    };
    assert_eq!(ask().token_ids, run.greedy);
    // The table's end is cut off: rows behind it are gone, with an error that names the place.
    let full = std::fs::read(&path).unwrap();
    unnoticed(&path, |file| file.set_len(4096).unwrap());
    let failed = ask();
    let Some(pled::engine::Failure::Rows(fault)) = failed.failure else { panic!("{failed:?}") };
    assert_eq!(fault.path, path);
    assert!(fault.offset > 0 && !fault.device_gone, "{fault:?}");
    unnoticed(&path, |mut file| std::io::Write::write_all(&mut file, &full).unwrap());
    assert_eq!(ask().token_ids, run.greedy, "the engine went on");
    assert_eq!(engine.stats().failed, 1);
    // Somebody copies a model over the one in use: its rows do not belong to the weights in memory.
    std::fs::copy(fixture("gemma4-ple-seed7/model-f32.gguf"), &path).unwrap();
    let failed = ask();
    let Some(pled::engine::Failure::Rows(fault)) = failed.failure else { panic!("{failed:?}") };
    assert!(fault.device_gone && fault.message.contains("was written to while in use"), "{fault:?}");
    assert!(failed.token_ids.is_empty());
}

/// Two sequences decode in one step, and the row of one of them lies behind the end of the file.
#[test]
fn a_lost_row_ends_one_of_two_sequences_of_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::copy(fixture("gemma4-ple/model-f32.gguf"), &path).unwrap();
    let file = ModelFile::open(&path).unwrap();
    let table = file.gguf.tensor("per_layer_token_embd.weight").unwrap();
    let row_200 = table.offset + 200 * 7 * 32 * 4;
    let engine = engine_of(file, Mode::Direct, OPTIONS);
    unnoticed(&path, |file| file.set_len(row_200).unwrap());
    let always = |id| {
        let sampling = SamplingParams { logit_bias: vec![(id, 1000.0)], ..SamplingParams::greedy() };
        let stopping = Stopping { max_tokens: Some(10), ..Stopping::default() };
        let draft = Draft { prompt: vec![2, 30, 40], sampling, stopping, ..Draft::default() };
        engine.submit(pled::engine::Request::new(draft, engine.limits()).unwrap()).unwrap()
    };
    let [near, far] = [always(50), always(383)].map(hear_all);
    assert_eq!(near.token_ids, [50; 10]);
    assert_eq!(far.token_ids, [383]);
    let Some(pled::engine::Failure::Rows(fault)) = far.failure else { panic!("{far:?}") };
    assert!(fault.offset > row_200, "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_clients_of_a_real_model_the_queue_takes_what_it_can() {
    let options = EngineOptions { n_ctx: 4096, max_sessions: 4, queue_depth: 8, ..OPTIONS };
    let file = model_file("gemma4-ple/model-q4_0.gguf");
    let engine = engine_of(file, Mode::Direct, options);
    sixty_four_clients(engine, 24).await;
}
