//! From settings to a model that can be run.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use rustix::mm::{MlockAllFlags, mlockall};

use super::embedded::{EMBEDDED_NAME, open_model};
use super::fingerprint::Fingerprint;
use super::memory_plan::MemoryPlan;
use super::row_mode::{self, Choice};
use crate::board::{Root, memory_left};
use crate::config::{ConfigError, Field, Settings};
use crate::engine::{Engine, EngineHandle, EngineOptions, Limits, ModelBackend, ModelInfo};
use crate::model::{HParams, KvType, Model, ModelError, ModelFile, Probe, read_hparams};
use crate::ops::{Compute, Kernels, Pool};
use crate::ple::{self, Checksums, PleError, RowStore, TableLayout};
use crate::prefix_store::PrefixStore;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::ChatFormat;

/// Output heads smaller than this are read in so little time that a coarse copy would save none. Unit: bytes.
const MIN_HEAD_BYTES: usize = 64 << 20;

/// A model in memory with its vocabulary and the rows that stayed on storage.
#[derive(Debug)]
pub struct LoadedModel {
    /// The dense weights.
    pub model: Model,
    /// Rows of the per-layer embedding table, for models that have one.
    pub rows: Option<RowStore>,
    /// The vocabulary.
    pub tokenizer: Tokenizer,
    /// How it wants conversations, if it was trained on any.
    pub chat: Option<ChatFormat>,
    /// The model's description.
    pub info: ModelInfo,
    /// Context length to run it with, tokens.
    pub n_ctx: usize,
    /// Tells its keys and values from another model's.
    pub fingerprint: Fingerprint,
    /// Memory that the settings leave for a coarse copy of the output head, bytes; `None` if they want none.
    coarse_head_room: Option<u64>,
}

impl LoadedModel {
    /// Opens and loads the model that the settings name, or the embedded one, to hold at most `n_contexts` contexts: of sequences, and
    /// those kept for later ones. Everything that can be refused is refused before the weights are read.
    pub fn load(settings: &Settings, n_contexts: usize) -> anyhow::Result<LoadedModel> {
        let begin = Instant::now();
        if settings.model.is_none() {
            log::info!("no model is given: {EMBEDDED_NAME} is used, which knows plain home commands only");
        }
        let mut file = open_model(settings.model.as_deref())?;
        let path = file.path().to_owned();
        let path = path.as_path();
        let hparams = read_hparams(&file).map_err(|error| in_file(path, error))?;
        let n_ctx = settings.n_ctx(hparams.n_ctx_train)?;
        let mut plan = MemoryPlan::new(&file, &hparams);
        if settings.kv_type == KvType::Q8_0 {
            hparams.check_kv_type(KvType::Q8_0).map_err(|error| in_file(path, error))?;
            plan = plan.with_kv_type(&hparams, KvType::Q8_0);
        }
        check_memory(settings, &plan, n_ctx, n_contexts)?;
        let tokenizer =
            Tokenizer::from_metadata(&mut file.gguf.metadata).with_context(|| path.display().to_string())?;
        check_vocabulary(&hparams, &tokenizer).map_err(|error| in_file(path, error))?;
        let chat = ChatFormat::from_metadata(&file.gguf.metadata, &tokenizer);
        match chat.as_ref().map(ChatFormat::built_in) {
            None => log::warn!("the vocabulary has no tokens for turns: no chat with this model"),
            Some(Some(why)) => log::info!("conversations use pled's own chat template: {why}"),
            Some(None) => {}
        }
        let pool = Pool::new(settings.threads).context("cannot start the compute threads")?;
        let compute = Compute { pool, kernels: Kernels::detect() };
        let mut model = Model::load(&file, Arc::new(compute)).map_err(|error| in_file(path, error))?;
        if plan.kv_type == KvType::Q8_0 {
            model.set_kv_type(KvType::Q8_0).map_err(|error| in_file(path, error))?;
        }
        if settings.mlock {
            lock_memory(settings)?;
        }
        let rows = open_rows(settings, &file, &model, &plan, (n_ctx, n_contexts))?;
        let fingerprint = Fingerprint::new(&file, &model);
        log::info!(
            path:% = path.display(), weights_bytes = model.weights_bytes(), n_ctx, isa = model.compute().kernels.name(),
            threads = settings.threads, ple_mode:% = rows.as_ref().map_or("none".to_owned(), |rows| rows.mode().to_string()),
            seconds = begin.elapsed().as_secs_f64();
            "model loaded"
        );
        let info = ModelInfo::of(&file, &model);
        let coarse_head_room = match (settings.memory_limit_bytes, rows.as_ref().map(RowStore::mode)) {
            (None, _) => u64::MAX,
            // What the limit leaves is page cache for rows.
            (Some(_), Some(ple::Mode::Mmap)) => 0,
            (Some(limit), mode) => {
                let row_bytes = mode.map_or(0, |mode| row_bytes(settings, &plan, mode));
                limit.saturating_sub(plan.needed_bytes(n_ctx, n_contexts, row_bytes))
            }
        };
        let coarse_head_room = settings.coarse_head.then_some(coarse_head_room);
        Ok(LoadedModel { model, rows, tokenizer, chat, info, n_ctx, fingerprint, coarse_head_room })
    }

    /// What makes a coarse copy of the output head, on the thread that calls it; `None` if the settings or the memory do not allow
    /// one, or the head is too small for it to matter.
    pub fn coarse_head(&self) -> Option<impl FnOnce() + Send + 'static> {
        let room = self.coarse_head_room?;
        let head = Arc::clone(self.model.coarse_head());
        let n_bytes = head.n_bytes().filter(|_| head.head_bytes() >= MIN_HEAD_BYTES)? as u64;
        let left = memory_left(&Root::system()).unwrap_or(u64::MAX);
        if n_bytes > room.min(left / 2) {
            log::info!(bytes = n_bytes; "no coarse copy of the output head: there is no memory for it");
            return None;
        }
        let suppressed = self.tokenizer.suppressed().to_vec();
        Some(move || {
            let begin = Instant::now();
            match head.build(&suppressed) {
                Ok(true) => log::info!(
                    bytes = n_bytes, seconds = begin.elapsed().as_secs_f64();
                    "the output head has a coarse copy"
                ),
                Ok(false) => {
                    log::info!("the output head has no coarse copy: its weights are not all numbers")
                }
                Err(error) => log::warn!("the output head has no coarse copy: {error}"),
            }
        })
    }

    /// What requests are measured against.
    pub fn limits(&self) -> Limits {
        Limits { n_ctx: self.n_ctx, n_vocab: self.model.hparams().n_vocab }
    }

    /// Starts the engine that runs the model; the context length of `options` is the model's.
    pub fn start(self, options: EngineOptions) -> anyhow::Result<EngineHandle> {
        self.start_with(options, None, None)
    }

    /// The same; `probe` hears of every step of the forward pass, and prefixes outlast the process in `store`.
    pub fn start_with(
        self,
        options: EngineOptions,
        probe: Option<Probe>,
        store: Option<PrefixStore>,
    ) -> anyhow::Result<EngineHandle> {
        let options = EngineOptions { n_ctx: self.n_ctx, ..options };
        let mut backend = ModelBackend::new(self.model, self.rows, &options)
            .context("no room for the buffers of a step")?;
        if let Some(probe) = probe {
            backend.set_probe(probe);
        }
        let (tokenizer, chat) = (Arc::new(self.tokenizer), self.chat.map(Arc::new));
        let engine = Engine { backend, tokenizer, chat, model: self.info, options, store };
        Ok(engine.start()?)
    }
}

/// Errors of the model room name tensors and keys; which file they are in is known here.
fn in_file(path: &Path, error: ModelError) -> anyhow::Error {
    anyhow::Error::from(error).context(path.display().to_string())
}

/// Every row of the embedding needs a text and every text a row: else a token could be chosen that says
/// nothing, or a prompt be refused for what the file got wrong.
fn check_vocabulary(hparams: &HParams, tokenizer: &Tokenizer) -> Result<(), ModelError> {
    let shape = |n_vocab| vec![hparams.n_embd as u64, n_vocab as u64];
    if tokenizer.n_vocab() == hparams.n_vocab {
        return Ok(());
    }
    Err(ModelError::TensorShape {
        name: "token_embd.weight".to_owned(),
        found: shape(hparams.n_vocab),
        expected: shape(tokenizer.n_vocab()),
    })
}

/// Bytes for rows of the table that the settings ask for, in this mode.
fn row_bytes(settings: &Settings, plan: &MemoryPlan, mode: ple::Mode) -> u64 {
    match mode {
        ple::Mode::Resident => plan.storage_bytes,
        // Mmap takes what the limit leaves, for page cache, and is not to have less than the others. Auto keeps the table
        // where it is smaller than the cache may be, or where it fits the limit.
        ple::Mode::Mmap | ple::Mode::Direct | ple::Mode::Auto => {
            (settings.ple_cache_bytes as u64).min(plan.storage_bytes)
        }
    }
}

fn check_memory(
    settings: &Settings,
    plan: &MemoryPlan,
    n_ctx: usize,
    n_contexts: usize,
) -> Result<(), ConfigError> {
    let Some(limit) = settings.memory_limit_bytes else { return Ok(()) };
    let row_bytes = row_bytes(settings, plan, settings.ple_mode);
    let needed = plan.needed_bytes(n_ctx, n_contexts, row_bytes);
    if needed <= limit {
        return Ok(());
    }
    Err(settings.reject(
        Field::MemoryLimitBytes,
        format!(
            "{needed} bytes are needed: {} of weights, {} for each of {n_contexts} contexts of {n_ctx} tokens, \
             {row_bytes} for rows, {} for grammars",
            plan.resident_bytes,
            plan.kv_bytes(n_ctx),
            plan.grammar_bytes
        ),
        "lower n_ctx, max_sessions or ple_cache_bytes, or raise the limit",
    ))
}

/// Locks what is mapped by now, which is the weights: rows, caches and buffers come later.
fn lock_memory(settings: &Settings) -> Result<(), ConfigError> {
    mlockall(MlockAllFlags::CURRENT).map_err(|errno| {
        settings.reject(
            Field::Mlock,
            format!("the system does not lock that much memory ({errno})"),
            "raise LimitMEMLOCK= of the unit (ulimit -l in a shell), or leave mlock out",
        )
    })
}

fn open_rows(
    settings: &Settings,
    file: &ModelFile,
    model: &Model,
    plan: &MemoryPlan,
    contexts: (usize, usize),
) -> anyhow::Result<Option<RowStore>> {
    let Some(table) = model.row_table() else { return Ok(None) };
    let layout = TableLayout { offset: table.offset, row_bytes: table.row_bytes, n_rows: table.n_rows };
    let part = &file.parts[table.part];
    let mode = match settings.ple_mode {
        ple::Mode::Auto => {
            let Choice { mode, why, is_slow } = row_mode::choose(settings, plan, contexts, part, layout);
            let level = if is_slow { log::Level::Warn } else { log::Level::Info };
            log::log!(level, ple_mode:% = mode; "ple_mode is auto, which is {mode} here: {why}");
            mode
        }
        mode => mode,
    };
    let cache_bytes = match (mode, settings.memory_limit_bytes) {
        (ple::Mode::Mmap, None) => usize::MAX,
        (ple::Mode::Mmap, Some(limit)) => {
            let left = limit.saturating_sub(plan.needed_bytes(contexts.0, contexts.1, 0));
            usize::try_from(left).unwrap_or(usize::MAX)
        }
        _ => settings.ple_cache_bytes,
    };
    let options = ple::Options { mode, cache_bytes, ..ple::Options::default() };
    let opened = Checksums::beside(part, layout).and_then(|checksums| {
        if let Some(checksums) = &checksums {
            log::info!(checksums:?; "every row is held against its checksum");
        }
        RowStore::open_over(Arc::clone(part), layout, options, checksums, |source| source)
    });
    match opened {
        Ok(rows) => Ok(Some(rows)),
        // As it is: the exit code tells a file that cannot be read from other faults.
        Err(PleError::Storage(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}
