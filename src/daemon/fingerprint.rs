//! Tells a model and the way that it is run from every other: keys and values of one are noise to the other.

use std::io::Read;
use std::sync::Arc;

use anyhow::Context;

use crate::model::{KvType, Model, ModelFile, RowTable};
use crate::storage::DataFile;

/// Rows of the per-layer embedding table that are looked at. All would take minutes from a card.
const N_ROWS: u32 = 64;

/// What a fingerprint is computed of.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    /// Of a split model the parts.
    parts: Vec<Arc<DataFile>>,
    /// Metadata, the vocabulary among them, and the directory of tensors: what stands before the first tensor.
    head_bytes: u64,
    table: Option<RowTable>,
    weights_digest: u64,
    kv_type: KvType,
}

impl Fingerprint {
    /// Takes note of what it will be computed of.
    pub(super) fn new(file: &ModelFile, model: &Model) -> Self {
        let of_first = file.gguf.tensors().iter().filter(|tensor| tensor.part == 0);
        let head_bytes = of_first.map(|tensor| tensor.offset).min().unwrap_or(file.parts[0].len());
        Self {
            parts: file.parts.clone(),
            head_bytes,
            table: model.row_table().cloned(),
            weights_digest: model.weights_digest(),
            kv_type: model.kv_type(),
        }
    }

    /// The fingerprint: of all that stands before the tensors, every weight in memory, some rows of the table, the
    /// type of keys and values, and this version of pled, since another may compute them otherwise.
    ///
    /// # Errors
    /// If the model file cannot be read.
    pub fn compute(&self) -> anyhow::Result<u64> {
        let first = &self.parts[0];
        let unreadable = || format!("{}: cannot be read again", first.path().display());
        let mut head = 0;
        let mut reader = first.reader(0).take(self.head_bytes);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = reader.read(&mut buffer).with_context(unreadable)?;
            if n == 0 {
                break;
            }
            head = crc32c::crc32c_append(head, &buffer[..n]);
        }
        let mut rest = Vec::new();
        rest.extend(self.weights_digest.to_le_bytes());
        rest.extend(format!("{} {}", self.kv_type, env!("CARGO_PKG_VERSION")).into_bytes());
        if let Some(table) = &self.table {
            let mut row = vec![0; table.row_bytes];
            let step = (table.n_rows / N_ROWS).max(1) as usize;
            for id in (0..table.n_rows).step_by(step) {
                let offset = table.offset + u64::from(id) * table.row_bytes as u64;
                self.parts[table.part].read_exact_at(&mut row, offset).with_context(unreadable)?;
                rest.extend(crc32c::crc32c(&row).to_le_bytes());
            }
        }
        // The digest of the weights stands as it is, so that no two models meet in 32 bits.
        let sums = u64::from(head) << 32 | u64::from(crc32c::crc32c(&rest));
        Ok(self.weights_digest.rotate_left(1) ^ sums)
    }
}
