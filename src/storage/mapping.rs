//! A read-only mapping of a part of a file.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, MmapOptions};

use super::error::StorageError;

/// Mapped bytes of a file.
///
/// Mapped files have no way to return an error: if the file is truncated or the device fails, touching
/// the bytes is a SIGBUS. [`populate`](Self::populate) asks the kernel to fault pages in first, which
/// fails like a read does; it is the way to touch a mapping here.
pub struct Mapping {
    map: Mmap,
    path: PathBuf,
    offset: u64,
}

impl Mapping {
    pub(super) fn new(file: &File, path: &Path, offset: u64, len: usize) -> Result<Self, StorageError> {
        // SAFETY: a mapping is unsound only if the bytes change under a `&[u8]`. Model files are
        // published by rename and never written in place by pled; the operator who overwrites one
        // under a running daemon gets wrong rows or SIGBUS, which the documentation of the mmap mode
        // says. The bytes are only ever decoded as numbers, all bit patterns of which are valid.
        let map = unsafe { MmapOptions::new().offset(offset).len(len).map(file) };
        let map = map.map_err(|source| StorageError::Map { path: path.to_owned(), offset, len, source })?;
        // Rows are far apart: read-ahead would fill memory with their neighbours.
        let _ = map.advise(Advice::Random);
        Ok(Self { map, path: path.to_owned(), offset })
    }

    /// Faults the pages of `range` (relative to the mapping) in, so that touching them right after
    /// does not fail. Kernels before 5.14 cannot; there it does nothing.
    ///
    /// # Panics
    /// If `range` is not inside the mapping.
    pub fn populate(&self, range: Range<usize>) -> Result<(), StorageError> {
        assert!(range.start <= range.end && range.end <= self.map.len(), "range inside the mapping");
        if range.is_empty() {
            return Ok(());
        }
        let Err(source) = self.map.advise_range(Advice::PopulateRead, range.start, range.len()) else {
            return Ok(());
        };
        let (path, offset, len) = (self.path.clone(), self.offset + range.start as u64, range.len());
        match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::INVAL) => Ok(()),
            // What would be a SIGBUS: the file ends before, or the device failed.
            _ if source.kind() == io::ErrorKind::Interrupted => self.populate(range),
            _ => Err(StorageError::Read { path, offset, len, source }),
        }
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({}, {} bytes at {})", self.path.display(), self.map.len(), self.offset)
    }
}
