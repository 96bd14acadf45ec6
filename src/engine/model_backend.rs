//! The real backend: the forward pass of `model` joined to the row store of `ple`.
//!
//! The two rooms do not know each other. A sequence carries a ticket for each announced run of tokens;
//! [`SpanRows`] turns the tickets of one step into rows when the model comes to need them, which is after
//! the whole of layer 0.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::backend::{Backend, SeqSpan, SpanFailure};
use super::event::{Failure, RowFault};
use super::info::BackendInfo;
use super::options::EngineOptions;
use super::stats::{RowCounters, RowStats};
use crate::model::{
    self, ForwardError, KvCache, KvRun, LayerKind, Model, NoRows, OutOfMemory, Probe, RowError, RowSource,
    Scratch, Span, Want,
};
use crate::ple::{Pending, PleError, RowRequest, RowStore, Rows, Urgency};
use crate::storage::StorageError;

/// A loaded model with its row store.
#[derive(Debug)]
pub struct ModelBackend {
    model: Model,
    rows: Option<TableRows>,
    scratch: Scratch,
    max_chunk: usize,
}

/// The row store, and how much of a row a token needs.
#[derive(Debug)]
struct TableRows {
    store: RowStore,
    /// Of a token whose logits nobody wants: the slices of the layers that it runs.
    prefix_bytes: usize,
}

/// What a sequence holds in memory.
#[derive(Debug)]
pub struct ModelSeq {
    kv: KvCache,
    /// One for each announced run of tokens, in order. Empty where the model needs no rows.
    tickets: VecDeque<Ticket>,
    counters: RowCounters,
}

/// The rows of one run of tokens.
#[derive(Debug)]
enum Ticket {
    /// The store was too busy; asked for again when they are needed.
    Unsent,
    Pending(Pending),
    /// There already, as after a step that failed for another sequence's rows.
    Ready(Rows),
}

impl ModelBackend {
    /// `store`: the rows of [`Model::row_table`], for models that have one.
    ///
    /// # Errors
    /// If the system does not give the working memory of a step.
    pub fn new(model: Model, store: Option<RowStore>, options: &EngineOptions) -> Result<Self, OutOfMemory> {
        assert_eq!(model.row_table().is_some(), store.is_some(), "rows go with the model");
        let rows = model.row_table().zip(store);
        // Where prompt tokens stop in the first layer they need nothing, and an empty part cannot be asked for.
        let rows = rows.map(|(table, store)| TableRows { store, prefix_bytes: table.prefix_bytes.max(1) });
        let scratch = model.new_scratch(options.max_batch(), options.max_sessions)?;
        Ok(Self { model, rows, scratch, max_chunk: options.prefill_chunk })
    }

    /// Tells `probe` of every step of the forward pass from now on.
    pub fn set_probe(&mut self, probe: Probe) {
        self.scratch.set_probe(probe);
    }
}

impl Backend for ModelBackend {
    type Seq = ModelSeq;
    type Kept = KvRun;

    fn info(&self) -> BackendInfo {
        let (hparams, compute) = (self.model.hparams(), self.model.compute());
        BackendInfo {
            isa: compute.kernels.name().to_owned(),
            n_threads: compute.pool.n_threads(),
            ple_mode: self.rows.as_ref().map(|rows| rows.store.mode().to_string()),
            n_layers: hparams.n_layer(),
            prompt_token_layers: hparams.last_kv_layer() + 1,
        }
    }

    fn n_vocab(&self) -> usize {
        self.model.hparams().n_vocab
    }

    fn new_seq(&mut self, n_ctx: usize) -> Result<ModelSeq, OutOfMemory> {
        let kv = self.model.new_kv(n_ctx, self.max_chunk)?;
        Ok(ModelSeq { kv, tickets: VecDeque::new(), counters: RowCounters::default() })
    }

    fn kv_bytes(&self, seq: &ModelSeq) -> u64 {
        seq.kv.n_bytes() as u64
    }

    fn lookback(&self) -> usize {
        self.model.hparams().lookback()
    }

    fn sliding_from(&self, seq: &ModelSeq) -> usize {
        seq.kv.held_from(LayerKind::Sliding)
    }

    fn keep(&self, seq: &ModelSeq, positions: Range<usize>, kind: LayerKind) -> Option<KvRun> {
        seq.kv.copy_run(kind, positions).ok().flatten()
    }

    fn kept_bytes(&self, kept: &KvRun) -> u64 {
        kept.n_bytes() as u64
    }

    fn bytes_of_kept(&self, kept: &KvRun) -> Vec<u8> {
        kept.to_bytes()
    }

    fn kept_of_bytes(&self, positions: Range<usize>, kind: LayerKind, bytes: &[u8]) -> Option<KvRun> {
        self.model.kv_run(kind, positions, bytes).ok().flatten()
    }

    fn resume(&mut self, seq: &mut ModelSeq, n_tokens: usize, kept: &[&KvRun]) {
        assert!(seq.tickets.is_empty(), "nothing is announced for a new sequence");
        seq.kv.resume(n_tokens, kept.iter().copied());
    }

    fn announce(&mut self, seq: &mut ModelSeq, tokens: &[u32], wants_logits: bool) {
        let Some(rows) = &mut self.rows else { return };
        // A run of one token is what decoding is made of, and other sequences decode with it.
        let urgency = if tokens.len() == 1 { Urgency::Now } else { Urgency::Ahead };
        let pending = rows.submit(tokens, wants_logits, urgency, &mut seq.counters);
        seq.tickets.push_back(pending.map_or(Ticket::Unsent, Ticket::Pending));
    }

    fn forward(
        &mut self,
        spans: &mut [SeqSpan<'_, ModelSeq>],
        choose: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), Vec<SpanFailure>> {
        let mut batch = Vec::with_capacity(spans.len());
        let mut wanting = Vec::with_capacity(spans.len());
        let mut waits = Vec::with_capacity(spans.len());
        let mut starts = Vec::with_capacity(spans.len());
        let mut n_tokens = 0;
        for (i, span) in spans.iter_mut().enumerate() {
            let ModelSeq { kv, tickets, counters } = &mut *span.seq;
            let tokens = span.tokens;
            wanting.extend(span.wants_logits.then_some(i));
            let want = if span.wants_logits { Want::Last } else { Want::Nothing };
            batch.push(Span { tokens, kv, want });
            let wants_logits = span.wants_logits;
            waits.extend(tickets.front_mut().map(|ticket| Wait { tokens, wants_logits, ticket, counters }));
            starts.push(n_tokens);
            n_tokens += tokens.len();
        }
        let ran = match &mut self.rows {
            None => model::forward(&self.model, &mut batch, &mut NoRows, &mut self.scratch),
            Some(table) => {
                assert_eq!(waits.len(), batch.len(), "what is run was announced");
                let mut rows = SpanRows { table, waits, starts, failures: Vec::new() };
                let ran = model::forward(&self.model, &mut batch, &mut rows, &mut self.scratch);
                // What failed without naming a span would otherwise be tried again for ever.
                if matches!(ran, Err(ForwardError::Rows(_))) && !rows.failures.is_empty() {
                    return Err(rows.failures);
                }
                ran
            }
        };
        let mut logits = ran.map_err(|e| fail_all(spans.len(), &e))?;
        for (row, &span) in wanting.iter().enumerate() {
            choose(span, logits.row_mut(row));
        }
        for span in spans {
            span.seq.tickets.pop_front();
        }
        Ok(())
    }

    fn row_counters(&self, seq: &ModelSeq) -> RowCounters {
        seq.counters
    }

    fn row_stats(&self) -> Option<RowStats> {
        let stats = self.rows.as_ref()?.store.stats();
        Some(RowStats {
            counters: RowCounters {
                rows: stats.rows,
                cache_hits: stats.rows - (stats.distinct - stats.cache_hits),
                bytes_read: stats.bytes_read,
                wait: Duration::from_nanos(stats.wait_ns),
            },
            distinct: stats.distinct,
            reads: stats.reads,
            failed_reads: stats.failed_reads,
            retries: stats.retries,
            read_time: stats.read_latency.sum(),
            read_p50: stats.read_latency.quantile(0.5),
            read_p99: stats.read_latency.quantile(0.99),
        })
    }
}

/// A step that cannot be computed whatever the sequence.
fn fail_all(n_spans: usize, e: &ForwardError) -> Vec<SpanFailure> {
    let failure = Failure::Step(e.to_string());
    (0..n_spans).map(|span| SpanFailure { span, failure: failure.clone() }).collect()
}

impl TableRows {
    /// Asks the store for what `tokens` need of their rows, and counts for the sequence what that costs.
    fn submit(
        &mut self,
        tokens: &[u32],
        wants_logits: bool,
        urgency: Urgency,
        counters: &mut RowCounters,
    ) -> Result<Pending, PleError> {
        let row_bytes = self.store.layout().row_bytes;
        // Of a run only the last token may go through all layers.
        let n_prefixes = tokens.len() - usize::from(wants_logits);
        let part =
            |(i, &id)| RowRequest { id, n_bytes: if i < n_prefixes { self.prefix_bytes } else { row_bytes } };
        let requests: Vec<RowRequest> = tokens.iter().enumerate().map(part).collect();
        let pending = self.store.submit_parts(&requests, urgency)?;
        // Reads go on in the background and may serve several sequences: what is counted here are the rows
        // that this one made necessary.
        let cost = pending.cost();
        counters.rows += tokens.len() as u64;
        counters.cache_hits += tokens.len() as u64 - cost.misses;
        counters.bytes_read += cost.bytes;
        Ok(pending)
    }
}

/// The rows of one step.
struct SpanRows<'a> {
    table: &'a mut TableRows,
    waits: Vec<Wait<'a>>,
    /// Index of each span's first token in the batch.
    starts: Vec<usize>,
    failures: Vec<SpanFailure>,
}

/// The rows of one span.
struct Wait<'a> {
    tokens: &'a [u32],
    wants_logits: bool,
    ticket: &'a mut Ticket,
    counters: &'a mut RowCounters,
}

impl RowSource for SpanRows<'_> {
    /// Waits for every span, also after one has failed: those that have their rows keep them for the next
    /// attempt, which is made without the failed ones.
    fn fetch(&mut self) -> Result<(), RowError> {
        for (span, wait) in self.waits.iter_mut().enumerate() {
            if let Err(e) = wait.get(self.table) {
                self.failures.push(SpanFailure { span, failure: failure(&e) });
            }
        }
        match self.failures.first() {
            None => Ok(()),
            Some(first) => Err(RowError(first.failure.to_string().into())),
        }
    }

    fn row(&self, i: usize) -> &[u8] {
        let span = self.starts.partition_point(|&start| start <= i) - 1;
        match &*self.waits[span].ticket {
            Ticket::Ready(rows) => rows.row(i - self.starts[span]),
            _ => unreachable!("rows are read after fetch has succeeded"),
        }
    }
}

impl Wait<'_> {
    fn get(&mut self, table: &mut TableRows) -> Result<(), PleError> {
        let pending = match std::mem::replace(self.ticket, Ticket::Unsent) {
            Ticket::Unsent => table.submit(self.tokens, self.wants_logits, Urgency::Now, self.counters)?,
            Ticket::Pending(pending) => pending,
            ready @ Ticket::Ready(_) => {
                *self.ticket = ready;
                return Ok(());
            }
        };
        let before = table.store.waited();
        let rows = table.store.wait(pending);
        self.counters.wait += table.store.waited() - before;
        *self.ticket = Ticket::Ready(rows?);
        Ok(())
    }
}

/// Error numbers that Linux gives when a device has gone away: ENXIO, ENODEV, ESTALE, ENOMEDIUM.
const GONE: [i32; 4] = [6, 19, 116, 123];

fn failure(e: &PleError) -> Failure {
    let source = match e {
        PleError::Read { source, .. } => source,
        PleError::Rotten { path, offset, .. } => {
            let (path, offset) = (path.clone(), *offset);
            let message = e.to_string();
            return Failure::Rows(RowFault { message, path, offset, errno: None, device_gone: false });
        }
        other => return Failure::Step(other.to_string()),
    };
    let errno = source.errno();
    Failure::Rows(RowFault {
        message: e.to_string(),
        path: source.path().map(Into::into).unwrap_or_default(),
        offset: source.offset().unwrap_or_default(),
        errno,
        device_gone: errno.is_some_and(|e| GONE.contains(&e))
            || matches!(
                source,
                StorageError::Open { .. } | StorageError::Replaced { .. } | StorageError::Changed { .. }
            ),
    })
}
