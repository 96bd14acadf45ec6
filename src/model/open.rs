//! Opening a model file: one GGUF file, or the parts of a split one.

use super::error::ModelError;
use crate::gguf::{self, Gguf};
use crate::storage::DataFile;
use std::path::Path;
use std::sync::Arc;

/// A checked directory of tensors and the files that hold them.
#[derive(Debug)]
pub struct ModelFile {
    /// Metadata and tensors of all parts.
    pub gguf: Gguf,
    /// The files; `TensorInfo::part` is an index here.
    pub parts: Vec<Arc<DataFile>>,
}

impl ModelFile {
    /// Opens `path`, and its sibling parts if it is the first of a split file.
    ///
    /// # Errors
    /// If a part cannot be read, is malformed, or does not belong to the others.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let (first, file) = read_part(DataFile::open(path)?)?;
        let n_parts = first.n_parts().map_err(|e| in_file(path, e))?;
        let mut ggufs = vec![first];
        let mut parts = vec![Arc::new(file)];
        for no in 1..n_parts {
            let part = gguf::part_name(path, no)
                .ok_or_else(|| ModelError::NotTheFirstPart { path: path.to_owned(), n_parts })?;
            let (gguf, file) = read_part(DataFile::open(&part)?)?;
            ggufs.push(gguf);
            parts.push(Arc::new(file));
        }
        let gguf = gguf::join(ggufs).map_err(|e| in_file(path, e))?;
        Ok(Self { gguf, parts })
    }

    /// Takes bytes of the program for a model file; errors call it `name`.
    ///
    /// # Errors
    /// If the bytes are malformed, or only a part of a model.
    pub fn of_constant(name: &'static str, bytes: &'static [u8]) -> Result<Self, ModelError> {
        let (gguf, file) = read_part(DataFile::constant(name, bytes))?;
        let gguf = gguf::join(vec![gguf]).map_err(|e| in_file(file.path(), e))?;
        Ok(Self { gguf, parts: vec![Arc::new(file)] })
    }

    /// The path that the model was opened by: its first part.
    pub fn path(&self) -> &Path {
        self.parts[0].path()
    }
}

fn read_part(file: DataFile) -> Result<(Gguf, DataFile), ModelError> {
    let gguf = gguf::read(&mut file.reader(0), file.len()).map_err(|e| in_file(file.path(), e))?;
    Ok((gguf, file))
}

fn in_file(path: &Path, source: gguf::GgufError) -> ModelError {
    ModelError::Gguf { path: path.to_owned(), source }
}
