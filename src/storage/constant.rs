//! A file that is part of the program.

use std::fmt;
use std::path::Path;

use super::error::StorageError;

/// Bytes of the program under a name. They lie in its executable and are read from there by the system, page by
/// page, when they are touched: nothing can change them, and nothing has to be opened.
#[derive(Clone, Copy)]
pub(super) struct Constant {
    pub(super) name: &'static str,
    pub(super) bytes: &'static [u8],
}

impl Constant {
    /// What errors name.
    pub(super) fn path(&self) -> &'static Path {
        Path::new(self.name)
    }

    /// `len` bytes at `offset`.
    pub(super) fn slice(&self, offset: u64, len: usize) -> Result<&'static [u8], StorageError> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.bytes.get(at..));
        let past_end = || StorageError::PastEnd { path: self.path().to_owned(), offset, len };
        rest.and_then(|rest| rest.get(..len)).ok_or_else(past_end)
    }

    /// Copies what there is at `offset`; returns how much that was.
    pub(super) fn copy(&self, out: &mut [u8], offset: u64) -> usize {
        let rest = usize::try_from(offset).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        n
    }
}

impl fmt::Debug for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Constant({}, {} bytes)", self.name, self.bytes.len())
    }
}
