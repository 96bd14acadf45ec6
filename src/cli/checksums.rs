//! The checksums of a model's rows, stored beside it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::inspect::row_table;
use crate::daemon::{Place, place_of};
use crate::model::{HParams, ModelFile};
use crate::ple::{Checksums, TableLayout};
use crate::storage::DataFile;

/// The table of rows: the file that it lies in, and where in it. `None` for a model without one.
fn table<'a>(file: &'a ModelFile, hparams: &HParams) -> anyhow::Result<Option<(&'a DataFile, TableLayout)>> {
    let on_storage = |name: &str| place_of(hparams, name) == Place::Storage;
    let Some(tensor) = file.gguf.tensors().iter().find(|tensor| on_storage(&tensor.name)) else {
        return Ok(None);
    };
    let rows = row_table(tensor).with_context(|| format!("{} is no table of rows", tensor.name))?;
    let layout = TableLayout {
        offset: tensor.offset,
        row_bytes: usize::try_from(rows.row_bytes)?,
        n_rows: u32::try_from(rows.n_rows)?,
    };
    Ok(Some((&file.parts[tensor.part], layout)))
}

/// Computes the checksums of the rows as they are now, stores them in the place of those there may be, and says where.
/// `None` for a model without rows.
pub(super) fn write(file: &ModelFile, hparams: &HParams) -> anyhow::Result<Option<PathBuf>> {
    let Some((part, layout)) = table(file, hparams)? else { return Ok(None) };
    let bytes = Checksums::compute(part, layout)?.encode(layout, part.len());
    let path = Checksums::path_of(part.path());
    store(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(path))
}

/// Whether a load would take the checksums that are there, or needs none.
pub(super) fn are_there(file: &ModelFile, hparams: &HParams) -> anyhow::Result<bool> {
    Ok(match table(file, hparams)? {
        Some((part, layout)) => matches!(Checksums::beside(part, layout), Ok(Some(_))),
        None => true,
    })
}

/// Removes the checksums of a model file, if there are any.
pub(super) fn remove(model: &Path) -> io::Result<()> {
    remove_if_there(&Checksums::path_of(model))
}

/// Writes under another name first, so that nobody finds half a file.
fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("crc32c.partial");
    // Made anew: root writes into a folder of the service's user, whose link in this place would lead elsewhere.
    remove_if_there(&partial)?;
    let mut file = File::options().write(true).create_new(true).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("precious"), "as it was").unwrap();
        for name in ["m.gguf.crc32c", "m.gguf.crc32c.partial"] {
            std::os::unix::fs::symlink(at("precious"), at(name)).unwrap();
        }
        store(&at("m.gguf.crc32c"), b"sums").unwrap();
        assert_eq!(fs::read(at("precious")).unwrap(), b"as it was");
        assert_eq!(fs::read(at("m.gguf.crc32c")).unwrap(), b"sums");
        assert!(!at("m.gguf.crc32c.partial").exists());
    }
}
