//! The forward pass: token ids in, logits out.
//!
//! The batch is ragged: several sequences, each with a span of new tokens. A token whose logits
//! nobody wants stops at the keys and values of the last layer that writes any; what the others
//! compute is not changed by that, bit for bit, since tokens meet in the caches only.
//!
//! Deliberately absent: I/O, clocks, logs, channels, allocation.

use super::error::{ForwardError, RowError};
use super::kv_cache::KvCache;
use super::probe::Step;
use super::residual::{Reader, read};
use super::scratch::{Row, Scratch};
use super::{Model, attention, mlp, per_layer};
use crate::ops::{ReadBy, matmul, matmul_greatest, rms_norm_rows, scale, soft_cap};

/// Which of a span's tokens get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// None: a chunk of a prompt that is not its last.
    Nothing,
    /// The last one.
    Last,
    /// Every one.
    All,
}

/// New tokens of one sequence.
#[derive(Debug)]
pub struct Span<'a> {
    /// Their ids; the first one's position is `kv.n_tokens()`.
    pub tokens: &'a [u32],
    /// The sequence's cache; advances by the tokens when the pass succeeds.
    pub kv: &'a mut KvCache,
    /// Whose logits are wanted.
    pub want: Want,
    /// If no more than so many of the greatest logits of each token will be looked at: others may then be minus infinity. All are
    /// computed if another span wants all.
    pub greatest: Option<usize>,
}

/// Rows of the per-layer embedding table for the tokens of one batch.
pub trait RowSource {
    /// Waits until the rows of all tokens are there. Called at most once in a pass, at the end of
    /// layer 0; not called if no token is computed so far.
    ///
    /// # Errors
    /// If a row could not be read: the pass ends and no cache advances.
    fn fetch(&mut self) -> Result<(), RowError>;

    /// The stored bytes of the `i`-th token of the batch: the whole row for a token whose logits are
    /// wanted, at least [`super::RowTable::prefix_bytes`] for others.
    fn row(&self, i: usize) -> &[u8];
}

/// The row source of models without per-layer embeddings.
#[derive(Debug, Clone, Copy)]
pub struct NoRows;

impl RowSource for NoRows {
    fn fetch(&mut self) -> Result<(), RowError> {
        Err(RowError("the model has per-layer embeddings and no row source was given".into()))
    }

    fn row(&self, _: usize) -> &[u8] {
        &[]
    }
}

/// Logits of the wanted tokens: spans in order, tokens in order. Minus infinity where [`Span::greatest`] allows it.
#[derive(Debug)]
pub struct Logits<'s> {
    /// `[n_rows, n_vocab]`.
    data: &'s mut [f32],
    n_vocab: usize,
}

impl Logits<'_> {
    /// Number of wanted tokens.
    pub fn n_rows(&self) -> usize {
        self.data.len() / self.n_vocab
    }

    /// Logits of the `i`-th wanted token, `[n_vocab]`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.n_vocab..(i + 1) * self.n_vocab]
    }

    /// The same, for a sampler that works in place.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.n_vocab..(i + 1) * self.n_vocab]
    }
}

/// Computes a batch: appends its keys and values to the caches, returns the wanted logits.
///
/// # Errors
/// If the batch does not fit its buffers or contexts, names a token outside the vocabulary, or its
/// rows cannot be read. No cache advances then.
pub fn forward<'s>(
    model: &Model,
    spans: &mut [Span<'_>],
    rows: &mut dyn RowSource,
    s: &'s mut Scratch,
) -> Result<Logits<'s>, ForwardError> {
    s.begin(Step::Embed);
    plan(model, spans, s)?;
    embed(model, spans, s);
    per_layer::project_embeddings(model, s);
    let last_kv_layer = model.hparams.last_kv_layer();
    // The parts of a layer leave in `s.x` what the part behind them reads.
    s.begin(Step::Small);
    read(model, Reader::Attention(0), s);
    for i in 0..model.hparams.n_layer() {
        attention::append_kv(model, i, spans, s);
        if i == last_kv_layer && s.wanted.len() < s.rows.len() {
            s.keep_wanted(model.hparams.n_embd);
            if s.rows.is_empty() {
                break;
            }
            s.begin(Step::Small);
            read(model, Reader::Attention(i), s);
        }
        attention::attend_and_add(model, i, spans, s);
        mlp::add_mlp(model, i, s);
        if i == 0 {
            per_layer::add_rows(model, rows, s)?;
        }
        per_layer::add_input(model, i, s);
    }
    for span in spans {
        span.kv.commit(span.tokens.len());
    }
    head(model, s);
    s.begin(Step::End);
    let n_vocab = model.hparams.n_vocab;
    Ok(Logits { data: &mut s.logits[..s.wanted.len() * n_vocab], n_vocab })
}

/// Checks the batch and lists its tokens, the wanted ones and their rotation angles.
fn plan(model: &Model, spans: &[Span<'_>], s: &mut Scratch) -> Result<(), ForwardError> {
    let hp = &model.hparams;
    s.rows.clear();
    s.wanted.clear();
    s.greatest = greatest(spans);
    s.n_batch = spans.iter().map(|span| span.tokens.len()).sum();
    let n_wanted = spans
        .iter()
        .map(|span| match span.want {
            Want::Nothing => 0,
            Want::Last => span.tokens.len().min(1),
            Want::All => span.tokens.len(),
        })
        .sum();
    for (what, found, limit) in
        [("tokens", s.n_batch, s.max_tokens), ("tokens with logits", n_wanted, s.max_logits)]
    {
        if found > limit {
            return Err(ForwardError::TooLarge { what, found, limit });
        }
    }
    for (span, Span { tokens, kv, want, .. }) in spans.iter().enumerate() {
        let n_tokens = kv.n_tokens() + tokens.len();
        if n_tokens > kv.n_ctx() {
            return Err(ForwardError::ContextFull { span, n_tokens, n_ctx: kv.n_ctx() });
        }
        if tokens.len() > kv.max_chunk() {
            let (found, limit) = (tokens.len(), kv.max_chunk());
            return Err(ForwardError::TooLarge { what: "tokens of one sequence", found, limit });
        }
        if let Some(&id) = tokens.iter().find(|id| **id as usize >= hp.n_vocab) {
            return Err(ForwardError::TokenOutOfRange { span, id, n_vocab: hp.n_vocab });
        }
        for at in 0..tokens.len() {
            let row = Row { span, position: kv.n_tokens() + at, index: s.rows.len() };
            let wanted = match want {
                Want::Nothing => false,
                Want::Last => at + 1 == tokens.len(),
                Want::All => true,
            };
            if wanted {
                s.wanted.push(row.index);
            }
            s.rows.push(row);
        }
    }
    s.rope_sliding.fill(&model.compute.pool, &hp.rope_sliding, &s.rows);
    s.rope_full.fill(&model.compute.pool, &hp.rope_full, &s.rows);
    Ok(())
}

/// The greatest logits that are enough for every span that wants any; `None` if one needs all.
fn greatest(spans: &[Span<'_>]) -> Option<usize> {
    let wanting = spans.iter().filter(|span| span.want != Want::Nothing);
    wanting.map(|span| span.greatest).reduce(|a, b| Some(a?.max(b?))).flatten()
}

/// `h = embedding(token) * sqrt(n_embd)`.
fn embed(model: &Model, spans: &[Span<'_>], s: &mut Scratch) {
    let n_embd = model.hparams.n_embd;
    let rows = &s.rows;
    model.compute.pool.for_each_rows_mut(&mut s.h[..s.n_batch * n_embd], n_embd, |first, h| {
        for (row, h) in rows[first..].iter().zip(h.chunks_exact_mut(n_embd)) {
            let span = &spans[row.span];
            let id = span.tokens[row.position - span.kv.n_tokens()];
            model.weights.token_embd.dequantize_row(id as usize, h);
            scale(h, (n_embd as f32).sqrt());
        }
    });
}

/// Final norm, output head and soft-cap of the tokens that came through.
fn head(model: &Model, s: &mut Scratch) {
    let hp = &model.hparams;
    let n_rows = s.wanted.len();
    let head = model.weights.head();
    let search = s.greatest.filter(|_| n_rows > 0).zip(model.coarse_head.get());
    // Panels of exact weights come on top of a coarse copy; how many is not known yet.
    let first = search.map_or(head, |(_, coarse)| coarse.matrix());
    s.begin_products(Step::Head, (n_rows > 0).then_some(first));
    let h = &s.h[..n_rows * hp.n_embd];
    let norm = &model.weights.output_norm;
    let read_by = ReadBy::matrices([first]).with_values();
    rms_norm_rows(&model.compute, h, norm, hp.rms_eps, read_by, &mut s.x);
    let logits = &mut s.logits[..n_rows * hp.n_vocab];
    match search {
        None => matmul(&model.compute, head, 0..hp.n_vocab, &mut s.x, logits),
        Some((n, coarse)) => {
            // The cap makes equal what differs by little, and everything that is far beyond it.
            let equals = |least: f32| match hp.logit_softcap {
                None => least,
                Some(cap) if least > 4.0 * cap => f32::NEG_INFINITY,
                Some(_) => least - 0.01,
            };
            let weights = (head, coarse);
            let n_panels =
                matmul_greatest(&model.compute, weights, &mut s.x, n, equals, &mut s.search, logits);
            model.coarse_head.count(n_rows, n_panels);
        }
    }
    if let Some(cap) = hp.logit_softcap {
        let kernels = model.compute.kernels;
        model.compute.pool.for_each_chunk_mut(logits, 4096, |_, logits| soft_cap(kernels, logits, cap));
    }
}
