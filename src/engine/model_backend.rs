//! The real backend: the forward pass of `model` joined to the row store of `ple`.
//!
//! The two rooms do not know each other; `rows.rs` stands between them.

use std::collections::VecDeque;
use std::ops::Range;
use std::thread::Thread;

use super::backend::{Backend, NotRun, SeqSpan, SpanFailure};
use super::event::Failure;
use super::info::BackendInfo;
use super::options::EngineOptions;
use super::rows::{SpanRows, TableRows, Ticket, Wait};
use super::stats::{RowCounters, RowStats};
use crate::model::{
    self, ForwardError, KvCache, KvRun, LayerKind, Model, NoRows, OutOfMemory, Probe, Scratch, Span, Want,
};
use crate::ple::{RowStore, Urgency};

/// Tokens of a step whose greatest logits are searched one after the other, at most: for more of them reading the whole head once is
/// cheaper.
const MAX_SEARCHED: usize = 4;
/// Greatest logits that are worth searching for, at most.
const MAX_GREATEST: usize = 256;

/// A loaded model with its row store.
#[derive(Debug)]
pub struct ModelBackend {
    model: Model,
    rows: Option<TableRows>,
    scratch: Scratch,
    max_chunk: usize,
}

/// What a sequence holds in memory.
#[derive(Debug)]
pub struct ModelSeq {
    kv: KvCache,
    /// One for each announced run of tokens, in order. Empty where the model needs no rows.
    tickets: VecDeque<Ticket>,
    counters: RowCounters,
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

    fn has_rows(&self, seq: &ModelSeq) -> bool {
        seq.tickets.front().is_none_or(Ticket::has_arrived)
    }

    fn hot_rows(&self) -> Option<Vec<u8>> {
        self.rows.as_ref()?.store.hot_rows()
    }

    fn warm(&mut self, hot_rows: &[u8]) -> Result<usize, String> {
        let Some(rows) = &mut self.rows else { return Ok(0) };
        rows.store.warm(hot_rows).map_err(|e| e.to_string())
    }

    fn warm_on(&mut self) {
        if let Some(rows) = &mut self.rows {
            rows.store.warm_on();
        }
    }

    fn wake(&mut self, engine: Thread) {
        if let Some(rows) = &self.rows {
            rows.store.wake(engine);
        }
    }

    fn forward(
        &mut self,
        spans: &mut [SeqSpan<'_, ModelSeq>],
        choose: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), NotRun> {
        let mut batch = Vec::with_capacity(spans.len());
        let mut wanting = Vec::with_capacity(spans.len());
        let mut waits = Vec::with_capacity(spans.len());
        let mut starts = Vec::with_capacity(spans.len());
        let mut n_tokens = 0;
        let is_searched = spans.iter().filter(|span| span.wants_logits).count() <= MAX_SEARCHED;
        for (i, span) in spans.iter_mut().enumerate() {
            let ModelSeq { kv, tickets, counters } = &mut *span.seq;
            let tokens = span.tokens;
            wanting.extend(span.wants_logits.then_some(i));
            let want = if span.wants_logits { Want::Last } else { Want::Nothing };
            let greatest = span.greatest.filter(|&n| is_searched && n <= MAX_GREATEST);
            batch.push(Span { tokens, kv, want, greatest });
            let wants_logits = span.wants_logits;
            waits.extend(tickets.front_mut().map(|ticket| Wait { tokens, wants_logits, ticket, counters }));
            starts.push(n_tokens);
            n_tokens += tokens.len();
        }
        let ran = match &mut self.rows {
            None => model::forward(&self.model, &mut batch, &mut NoRows, &mut self.scratch),
            Some(table) => {
                assert_eq!(waits.len(), batch.len(), "what is run was announced");
                let mut rows = SpanRows::new(table, waits, starts);
                let ran = model::forward(&self.model, &mut batch, &mut rows, &mut self.scratch);
                // What failed without naming a span would otherwise be tried again for ever.
                if matches!(ran, Err(ForwardError::Rows(_))) && rows.not_run != NotRun::default() {
                    return Err(rows.not_run);
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
                distinct: stats.distinct,
                cache_hits: stats.rows - (stats.distinct - stats.cache_hits),
                bytes_read: stats.bytes_read,
                wait: stats.waits.sum(),
            },
            failed_reads: stats.failed_reads,
            retries: stats.retries,
            waits: stats.waits.times(),
            reads: stats.read_latency.times(),
        })
    }
}

/// A step that cannot be computed whatever the sequence.
fn fail_all(n_spans: usize, e: &ForwardError) -> NotRun {
    let failure = Failure::Step(e.to_string());
    let failed = (0..n_spans).map(|span| SpanFailure { span, failure: failure.clone() }).collect();
    NotRun { failed, late: Vec::new() }
}
