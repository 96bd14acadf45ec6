//! Logits of prompt positions, had by the forward pass alone: no engine, no sampling.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;

use super::npy::MatrixWriter;
use crate::daemon::LoadedModel;
use crate::model::{KvCache, NoRows, RowError, RowSource, Scratch, Span, Want, forward};
use crate::ple::{Pending, RowStore, Rows};

/// Tokens computed at a time. Their logits are in memory together: 32 MiB for 262,144 tokens.
const CHUNK: usize = 32;

/// Runs `prompt` and writes float32 `[prompt.len(), n_vocab]` in NumPy's format.
pub(super) fn write(loaded: &mut LoadedModel, prompt: &[u32], path: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write the logits to {}", path.display());
    let file = BufWriter::new(File::create(path).with_context(cannot)?);
    let n_vocab = loaded.model.hparams().n_vocab;
    let mut matrix = MatrixWriter::new(file, prompt.len(), n_vocab).with_context(cannot)?;
    let mut pass = Pass::new(loaded, prompt.len())?;
    pass.run(prompt, 0, |_, logits| matrix.row(logits).with_context(cannot))?;
    matrix.finish().with_context(cannot)
}

/// Runs one sequence after the other, each from its beginning.
pub(super) struct Pass<'a> {
    loaded: &'a mut LoadedModel,
    kv: KvCache,
    scratch: Scratch,
}

impl<'a> Pass<'a> {
    /// For sequences of at most `n_ctx` tokens.
    pub(super) fn new(loaded: &'a mut LoadedModel, n_ctx: usize) -> anyhow::Result<Self> {
        let kv = loaded.model.new_kv(n_ctx, CHUNK)?;
        let scratch = loaded.model.new_scratch(CHUNK, CHUNK)?;
        Ok(Self { loaded, kv, scratch })
    }

    /// Runs `tokens` as a new sequence. `take` gets each position from `first` on, with the logits of the
    /// token that follows it, `[n_vocab]`.
    pub(super) fn run(
        &mut self,
        tokens: &[u32],
        first: usize,
        mut take: impl FnMut(usize, &[f32]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.kv.clear();
        let (unwanted, wanted) = tokens.split_at(first);
        for chunk in unwanted.chunks(CHUNK) {
            self.step(chunk, Want::Nothing, &mut take)?;
        }
        for chunk in wanted.chunks(CHUNK) {
            self.step(chunk, Want::All, &mut take)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        tokens: &[u32],
        want: Want,
        take: &mut impl FnMut(usize, &[f32]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let LoadedModel { model, rows, .. } = &mut *self.loaded;
        let begin = self.kv.n_tokens();
        let mut spans = [Span { tokens, kv: &mut self.kv, want, greatest: None }];
        let logits = match rows {
            None => forward(model, &mut spans, &mut NoRows, &mut self.scratch)?,
            Some(store) => {
                let pending = Some(store.submit(tokens)?);
                let mut rows = ChunkRows { store, pending, rows: None };
                forward(model, &mut spans, &mut rows, &mut self.scratch)?
            }
        };
        (0..logits.n_rows()).try_for_each(|i| take(begin + i, logits.row(i)))
    }
}

/// The rows of one chunk, which are on their way while layer 0 computes.
struct ChunkRows<'a> {
    store: &'a mut RowStore,
    pending: Option<Pending>,
    rows: Option<Rows>,
}

impl RowSource for ChunkRows<'_> {
    fn fetch(&mut self) -> Result<(), RowError> {
        let pending = self.pending.take().expect("rows are fetched once in a pass");
        self.rows = Some(self.store.wait(pending).map_err(|error| RowError(Box::new(error)))?);
        Ok(())
    }

    fn row(&self, i: usize) -> &[u8] {
        self.rows.as_ref().expect("rows are read after they were fetched").row(i)
    }
}
