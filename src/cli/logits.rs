//! Logits of every prompt position, chunk by chunk, to a file.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;

use super::npy::MatrixWriter;
use crate::daemon::LoadedModel;
use crate::model::{NoRows, RowError, RowSource, Span, Want, forward};
use crate::ple::{Pending, RowStore, Rows};

/// Tokens computed at a time. Their logits are in memory together: 32 MiB for 262,144 tokens.
const CHUNK: usize = 32;

/// Runs `prompt` and writes float32 `[prompt.len(), n_vocab]` in NumPy's format.
pub(super) fn write(loaded: &mut LoadedModel, prompt: &[u32], path: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot write the logits to {}", path.display());
    let file = BufWriter::new(File::create(path).with_context(cannot)?);
    let model = &loaded.model;
    let mut matrix = MatrixWriter::new(file, prompt.len(), model.hparams().n_vocab).with_context(cannot)?;
    let mut kv = model.new_kv(prompt.len(), CHUNK)?;
    let mut scratch = model.new_scratch(CHUNK, CHUNK)?;
    for tokens in prompt.chunks(CHUNK) {
        let mut spans = [Span { tokens, kv: &mut kv, want: Want::All }];
        let logits = match &mut loaded.rows {
            None => forward(model, &mut spans, &mut NoRows, &mut scratch)?,
            Some(store) => {
                let pending = Some(store.submit(tokens)?);
                let mut rows = ChunkRows { store, pending, rows: None };
                forward(model, &mut spans, &mut rows, &mut scratch)?
            }
        };
        for i in 0..logits.n_rows() {
            matrix.row(logits.row(i)).with_context(cannot)?;
        }
    }
    matrix.finish().with_context(cannot)
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
