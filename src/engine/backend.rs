//! What the engine needs of a model: memory for sequences, and one step over several of them.
//!
//! The engine's tests stand a slow, scripted backend here; [`ModelBackend`](super::ModelBackend) is
//! the real one.

use std::ops::Range;
use std::thread::Thread;

use super::event::Failure;
use super::info::BackendInfo;
use super::stats::{RowCounters, RowStats};
use crate::model::{LayerKind, OutOfMemory};

/// A model and whatever it computes with. Lives in the engine's thread.
pub trait Backend: Send + 'static {
    /// What is kept for one sequence: keys, values, rows on their way. Dropped when the sequence ends.
    type Seq;

    /// Keys and values of some tokens, kept outside of any sequence.
    type Kept;

    /// How it computes.
    fn info(&self) -> BackendInfo;

    /// Tokens in the vocabulary.
    fn n_vocab(&self) -> usize;

    /// The memory of a sequence of at most `n_ctx` tokens.
    ///
    /// # Errors
    /// If the system does not give it.
    fn new_seq(&mut self, n_ctx: usize) -> Result<Self::Seq, OutOfMemory>;

    /// Bytes that the sequence's keys and values occupy.
    fn kv_bytes(&self, seq: &Self::Seq) -> u64;

    /// Positions before its own that a token sees in sliding layers.
    fn lookback(&self) -> usize;

    /// The first position whose keys and values sliding layers still hold.
    fn sliding_from(&self, seq: &Self::Seq) -> usize;

    /// A copy of the keys and values of `positions` in all layers of `kind`. `None` if the sequence does not
    /// hold all of them any more, or there is no memory for a copy.
    fn keep(&self, seq: &Self::Seq, positions: Range<usize>, kind: LayerKind) -> Option<Self::Kept>;

    /// Bytes of what was kept.
    fn kept_bytes(&self, kept: &Self::Kept) -> u64;

    /// What was kept, as bytes for another process of the same model that keeps keys and values alike.
    fn bytes_of_kept(&self, kept: &Self::Kept) -> Vec<u8>;

    /// The keys and values of `positions` in layers of `kind` that [`bytes_of_kept`](Self::bytes_of_kept) made these
    /// bytes of. `None` if they cannot be those, or there is no memory.
    fn kept_of_bytes(&self, positions: Range<usize>, kind: LayerKind, bytes: &[u8]) -> Option<Self::Kept>;

    /// Makes a new sequence one that has run `n_tokens` tokens, whose keys and values are among `kept`: of full
    /// layers those of all tokens, of sliding ones at least those that the next token sees; each ascending.
    fn resume(&mut self, seq: &mut Self::Seq, n_tokens: usize, kept: &[&Self::Kept]);

    /// Says which tokens the sequence will run after those already announced, and whether the logits of the
    /// last one will be wanted, so that storage can begin to read what they need of their rows. Each later
    /// call of [`forward`](Self::forward) runs exactly what one call of this announced, in the same order.
    fn announce(&mut self, seq: &mut Self::Seq, tokens: &[u32], wants_logits: bool);

    /// Whether [`forward`](Self::forward) of the next announced tokens would not wait for their rows.
    fn has_rows(&self, seq: &Self::Seq) -> bool;

    /// Unparks `engine` from now on whenever [`has_rows`](Self::has_rows) may have become true.
    fn wake(&mut self, engine: Thread);

    /// What is known of the rows that are wanted most, for [`warm`](Self::warm) in another process.
    fn hot_rows(&self) -> Option<Vec<u8>> {
        None
    }

    /// Takes note of rows that will be wanted. Returns how many there are to be read.
    ///
    /// # Errors
    /// If that is not what [`hot_rows`](Self::hot_rows) gave for such a model.
    fn warm(&mut self, _hot_rows: &[u8]) -> Result<usize, String> {
        Ok(0)
    }

    /// Goes on reading them in the background. Called between steps and when woken; returns at once.
    fn warm_on(&mut self) {}

    /// Runs the spans and calls `choose` with the index of each span that wants logits and the logits
    /// `[n_vocab]` of its last token, in the order of the spans. A call that ran nothing has advanced no sequence,
    /// has not called `choose`, and may be made again without the spans that it names, of which there is
    /// at least one. It waits for rows no longer than a moment.
    fn forward(
        &mut self,
        spans: &mut [SeqSpan<'_, Self::Seq>],
        choose: &mut dyn FnMut(usize, &mut [f32]),
    ) -> Result<(), NotRun>;

    /// Row reads of this sequence so far.
    fn row_counters(&self, seq: &Self::Seq) -> RowCounters;

    /// Row reads of all sequences; `None` where the model needs no rows.
    fn row_stats(&self) -> Option<RowStats>;
}

/// The next tokens of one sequence.
#[derive(Debug)]
pub struct SeqSpan<'a, S> {
    /// Not empty.
    pub tokens: &'a [u32],
    /// The sequence that they continue.
    pub seq: &'a mut S,
    /// Whether the logits of the last token are wanted.
    pub wants_logits: bool,
    /// If no more than so many of the greatest logits will be looked at: others may then be minus infinity.
    pub greatest: Option<usize>,
}

/// The spans for which a step was not run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotRun {
    /// Those that cannot be run.
    pub failed: Vec<SpanFailure>,
    /// Indices of those whose rows are still on their way: see [`Backend::has_rows`].
    pub late: Vec<usize>,
}

/// A span that cannot be run, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanFailure {
    /// Index of the span.
    pub span: usize,
    /// Why.
    pub failure: Failure,
}
