//! Counters since the start and gauges of now.

use std::time::Duration;

use super::histogram::Histogram;
use crate::ple::Times;
use crate::prefix_store::StoreStats;

/// A copy of the counters at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Requests taken in.
    pub accepted: u64,
    /// Requests ended by the model, a stop, or a limit of their own.
    pub finished: u64,
    /// Requests ended because nobody read the answer any more, or by the engine's own end.
    pub cancelled: u64,
    /// Requests ended by their caller's deadline.
    pub deadline_exceeded: u64,
    /// Requests ended by an error of storage or computation.
    pub failed: u64,
    /// Requests refused because the queue was full.
    pub refused_queue_full: u64,
    /// Requests refused because the engine was draining.
    pub refused_draining: u64,
    /// Tokens of prompts that were computed.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were known from earlier requests and not computed.
    pub cached_tokens: u64,
    /// Tokens that were chosen.
    pub completion_tokens: u64,
    /// From acceptance to a slot, of those that got one.
    pub queue_wait: Histogram,
    /// From acceptance to the first token of an answer.
    pub first_token: Histogram,
    /// From each token of an answer to its next, while its reader was not behind.
    pub next_token: Histogram,
    /// Requests that wait now.
    pub queue_length: usize,
    /// Sequences in computation now.
    pub active_sequences: usize,
    /// Keys and values held by sequences now. Unit: bytes.
    pub kv_bytes_in_use: u64,
    /// Tokens whose keys and values are kept for later requests.
    pub prefix_tokens: usize,
    /// Bytes of those keys and values.
    pub prefix_bytes: u64,
    /// The most that `kv_bytes_in_use` and `prefix_bytes` can be together. Unit: bytes.
    pub kv_bytes_bound: u64,
    /// Prefixes on disk, where they are kept there.
    pub store: Option<StoreStats>,
    /// The per-layer embedding table, where the model has one.
    pub rows: Option<RowStats>,
}

/// Reads of the per-layer embedding table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStats {
    /// Totals since the start.
    pub counters: RowCounters,
    /// Reads that failed.
    pub failed_reads: u64,
    /// Of these, how many were tried again.
    pub retries: u64,
    /// For each run of tokens, how long it stood still for rows at their first use.
    pub waits: Times,
    /// How long reads of storage took, each of which neighbouring rows share.
    pub reads: Times,
}

/// Row reads of one request, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounters {
    /// Rows asked for.
    pub rows: u64,
    /// Different ones of each run of tokens.
    pub distinct: u64,
    /// Rows answered from memory.
    pub cache_hits: u64,
    /// Read from storage. Unit: bytes.
    pub bytes_read: u64,
    /// Time that computing stood still for rows.
    pub wait: Duration,
}

/// When a token came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// So long after its request was accepted.
    First(Duration),
    /// So long after the token before it.
    Next(Duration),
    /// After its reader was behind.
    Late,
}

/// How a request ended, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Finished,
    Cancelled,
    DeadlineExceeded,
    Failed,
}

impl Stats {
    /// Counts `n` tokens that came together: more than one where a grammar left one way only.
    pub(super) fn tokens(&mut self, n: usize, arrival: Arrival) {
        self.completion_tokens += n as u64;
        match arrival {
            Arrival::First(time) => self.first_token.observe(time),
            Arrival::Next(time) => {
                for _ in 0..n {
                    self.next_token.observe(time / n as u32);
                }
            }
            Arrival::Late => {}
        }
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Finished => &mut self.finished,
            Outcome::Cancelled => &mut self.cancelled,
            Outcome::DeadlineExceeded => &mut self.deadline_exceeded,
            Outcome::Failed => &mut self.failed,
        };
        *counter += 1;
    }
}
