//! `pled inspect --checksums`: the checksums of a model's rows, stored beside it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};

use super::row_table;
use crate::daemon::{Place, place_of};
use crate::model::{HParams, ModelFile};
use crate::ple::{Checksums, TableLayout};

/// Computes the checksums of the rows as they are now and stores them in the place of those there may be.
pub(super) fn write(file: &ModelFile, hparams: &HParams) -> anyhow::Result<()> {
    let on_storage = |name: &str| place_of(hparams, name) == Place::Storage;
    let Some(tensor) = file.gguf.tensors().iter().find(|tensor| on_storage(&tensor.name)) else {
        bail!("{}: the model has no per-layer embedding table to make checksums of", file.path().display());
    };
    let rows = row_table(tensor).with_context(|| format!("{} is no table of rows", tensor.name))?;
    let part = &file.parts[tensor.part];
    let layout = TableLayout {
        offset: tensor.offset,
        row_bytes: usize::try_from(rows.row_bytes)?,
        n_rows: u32::try_from(rows.n_rows)?,
    };
    let bytes = Checksums::compute(part, layout)?.encode(layout, part.len());
    let path = Checksums::path_of(part.path());
    store(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes under another name first, so that nobody finds half a file.
fn store(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let partial = path.with_extension("crc32c.partial");
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}
