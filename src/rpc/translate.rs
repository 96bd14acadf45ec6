//! What the engine says, as messages.

use std::time::Duration;

use super::pb::{self, generate_stream_response as stream};
use crate::engine::{
    Delta, Done, EngineHandle, FinishReason, ModelInfo, Quantization, RowStats, Stats, Timings, Usage,
};
use crate::prefix_store::StoreStats;
use crate::sampling::{Logprobs, SamplingParams, TokenLogprob};
use crate::tokenizer::Tokenizer;

/// Counts fit their fields; what does not is shown as the largest value rather than a wrapped one.
pub(super) fn count(n: impl TryInto<u32>) -> u32 {
    n.try_into().unwrap_or(u32::MAX)
}

impl From<FinishReason> for pb::FinishReason {
    fn from(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop => Self::Stop,
            FinishReason::MaxTokens => Self::MaxTokens,
            FinishReason::ContextFull => Self::ContextFull,
            FinishReason::TimeLimit => Self::TimeLimit,
            FinishReason::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Usage> for pb::Usage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: count(usage.prompt_tokens),
            completion_tokens: count(usage.completion_tokens),
            cached_tokens: count(usage.cached_tokens),
            ..Self::default()
        }
    }
}

impl From<Timings> for pb::Timings {
    fn from(t: Timings) -> Self {
        Self {
            queue_ms: t.queue_ms,
            prefill_ms: t.prefill_ms,
            decode_ms: t.decode_ms,
            ple_rows: t.ple_rows,
            ple_distinct_rows: t.ple_distinct_rows,
            ple_cache_hits: t.ple_cache_hits,
            ple_bytes_read: t.ple_bytes_read,
            ple_wait_ms: t.ple_wait_ms,
        }
    }
}

/// The event that opens a stream.
pub(super) fn started(request_id: String, queue_position: usize) -> stream::Event {
    stream::Event::Started(pb::GenerationStarted { request_id, queue_position: count(queue_position) })
}

pub(super) fn prefill(done: usize, total: usize) -> stream::Event {
    stream::Event::Prefill(pb::PrefillProgress { done_tokens: count(done), total_tokens: count(total) })
}

pub(super) fn delta(delta: Delta, tokenizer: &Tokenizer) -> stream::Event {
    stream::Event::Delta(pb::GenerationDelta {
        text: delta.text,
        token_ids: delta.token_ids,
        logprobs: delta.logprobs.iter().map(|l| logprobs(l, tokenizer)).collect(),
    })
}

pub(super) fn done(done: Done) -> stream::Event {
    stream::Event::Done(pb::GenerationDone {
        finish_reason: pb::FinishReason::from(done.finish_reason).into(),
        matched_stop: done.matched_stop,
        usage: Some(done.usage.into()),
        timings: Some(done.timings.into()),
    })
}

pub(super) fn logprobs(l: &Logprobs, tokenizer: &Tokenizer) -> pb::TokenLogprobs {
    pb::TokenLogprobs {
        chosen: Some(logprob(l.chosen, tokenizer)),
        top: l.top.iter().map(|&t| logprob(t, tokenizer)).collect(),
    }
}

fn logprob(t: TokenLogprob, tokenizer: &Tokenizer) -> pb::Logprob {
    pb::Logprob { token_id: t.id, piece: bytes(t.id, tokenizer), logprob: t.logprob }
}

/// What a token stands for.
pub(super) fn bytes(id: u32, tokenizer: &Tokenizer) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokenizer.token_bytes(id, &mut bytes);
    bytes
}

/// The loaded model.
pub(super) fn model(engine: &EngineHandle) -> pb::Model {
    let ModelInfo {
        id,
        name,
        architecture,
        n_params,
        n_params_per_layer_embedding,
        n_ctx_train,
        quantizations,
        resident_bytes,
        storage_bytes,
        default_sampling,
    } = engine.model().clone();
    let limits = engine.limits();
    pb::Model {
        id,
        name,
        architecture,
        n_params,
        n_params_per_layer_embedding,
        n_vocab: count(limits.n_vocab),
        n_ctx: count(limits.n_ctx),
        n_ctx_train: count(n_ctx_train),
        quantizations: quantizations.into_iter().map(quantization).collect(),
        resident_bytes,
        storage_bytes,
        default_sampling: Some(sampling(default_sampling)),
    }
}

fn quantization(q: Quantization) -> pb::Quantization {
    pb::Quantization { format: q.format, n_tensors: count(q.n_tensors), bytes: q.bytes }
}

fn sampling(s: SamplingParams) -> pb::SamplingParams {
    pb::SamplingParams {
        temperature: Some(s.temperature),
        top_k: Some(s.top_k),
        top_p: Some(s.top_p),
        min_p: Some(s.min_p),
        repetition_penalty: Some(s.repetition_penalty),
        presence_penalty: Some(s.presence_penalty),
        frequency_penalty: Some(s.frequency_penalty),
        seed: s.seed,
        logit_bias: s.logit_bias.into_iter().collect(),
    }
}

/// The server's description.
pub(super) fn server_info(engine: &EngineHandle, uptime: Duration) -> pb::GetServerInfoResponse {
    let (backend, options) = (engine.backend(), engine.options());
    pb::GetServerInfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        isa: backend.isa.clone(),
        threads: count(backend.n_threads),
        model: engine.model().id.clone(),
        ple_mode: backend.ple_mode.clone().unwrap_or_default(),
        n_ctx: count(options.n_ctx),
        max_sessions: count(options.max_sessions),
        queue_depth: count(options.queue_depth),
        uptime: prost_types::Duration::try_from(uptime).ok(),
    }
}

/// Counters of now.
pub(super) fn stats(engine: &EngineHandle) -> pb::GetStatsResponse {
    let s: Stats = engine.stats();
    let backend = engine.backend();
    pb::GetStatsResponse {
        requests: Some(pb::RequestStats {
            accepted: s.accepted,
            finished: s.finished,
            cancelled: s.cancelled,
            deadline_exceeded: s.deadline_exceeded,
            failed: s.failed,
            refused_queue_full: s.refused_queue_full,
            refused_draining: s.refused_draining,
        }),
        prompt_tokens: s.prompt_tokens,
        completion_tokens: s.completion_tokens,
        queue_length: count(s.queue_length),
        active_sequences: count(s.active_sequences),
        kv_bytes_in_use: s.kv_bytes_in_use,
        kv_bytes_bound: s.kv_bytes_bound,
        prompt_token_layers: count(backend.prompt_token_layers),
        n_layers: count(backend.n_layers),
        ple: s.rows.map(ple),
        prefix_cache: Some(pb::PrefixCacheStats {
            cached_tokens: s.cached_tokens,
            tokens: s.prefix_tokens as u64,
            bytes: s.prefix_bytes,
            store: s.store.map(store),
        }),
    }
}

fn store(s: StoreStats) -> pb::PrefixStoreStats {
    pb::PrefixStoreStats {
        pieces: s.pieces as u64,
        bytes: s.bytes,
        written_bytes: s.written_bytes,
        restored_tokens: s.restored_tokens,
        damaged: s.damaged,
        foreign: s.foreign,
        refused: s.refused,
        failed_writes: s.failed_writes,
    }
}

fn ple(rows: RowStats) -> pb::PleStats {
    let c = rows.counters;
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    pb::PleStats {
        rows: c.rows,
        cache_hits: c.cache_hits,
        bytes_read: c.bytes_read,
        wait_ms: c.wait.as_secs_f64() * 1e3,
        wait_p50_us: us(rows.waits.p50),
        wait_p99_us: us(rows.waits.p99),
        read_p50_us: us(rows.reads.p50),
        read_p99_us: us(rows.reads.p99),
        distinct_rows: c.distinct,
        reads: rows.reads.count,
        failed_reads: rows.failed_reads,
        retries: rows.retries,
    }
}
