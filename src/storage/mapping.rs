//! A read-only mapping of a part of a file.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, MmapOptions, UncheckedAdvice};
use rustix::fs::{Advice as FileAdvice, fadvise};

use super::constant::Constant;
use super::error::StorageError;

/// Mapped bytes of a file, or bytes of the program, which the system has mapped.
///
/// Mapped files have no way to return an error: if the file is truncated or the device fails, touching
/// the bytes is a SIGBUS. [`populate`](Self::populate) before touching them fails as a read does.
pub struct Mapping {
    bytes: Bytes,
    path: PathBuf,
    offset: u64,
}

enum Bytes {
    Mapped { map: Mmap, file: File },
    Constant(&'static [u8]),
}

impl Mapping {
    pub(super) fn new(file: &File, path: &Path, offset: u64, len: usize) -> Result<Self, StorageError> {
        let failed = |source| StorageError::Map { path: path.to_owned(), offset, len, source };
        // SAFETY: a mapping is unsound only if the bytes change under a `&[u8]`. Model files are
        // published by rename and never written in place by pled; the operator who overwrites one
        // under a running daemon gets wrong rows or SIGBUS, which the documentation of the mmap mode
        // says. The bytes are only ever decoded as numbers, all bit patterns of which are valid.
        let map = unsafe { MmapOptions::new().offset(offset).len(len).map(file) };
        let map = map.map_err(failed)?;
        // Rows are far apart: read-ahead would fill memory with their neighbours.
        let _ = map.advise(Advice::Random);
        let file = file.try_clone().map_err(failed)?;
        Ok(Self { bytes: Bytes::Mapped { map, file }, path: path.to_owned(), offset })
    }

    pub(super) fn of_constant(constant: &Constant, offset: u64, len: usize) -> Result<Self, StorageError> {
        let bytes = Bytes::Constant(constant.slice(offset, len)?);
        Ok(Self { bytes, path: constant.path().to_owned(), offset })
    }

    /// Makes sure that the pages of `range` (relative to the mapping) are there, so that touching them
    /// right after does not fail: looks at the file's length and faults them in.
    ///
    /// # Panics
    /// If `range` is not inside the mapping.
    pub fn populate(&self, range: Range<usize>) -> Result<(), StorageError> {
        assert!(range.start <= range.end && range.end <= self.len(), "range inside the mapping");
        let (map, file) = match &self.bytes {
            Bytes::Mapped { map, file } => (map, file),
            Bytes::Constant(_) => return Ok(()),
        };
        let (offset, len) = (self.offset + range.start as u64, range.len());
        let failed = |source| StorageError::Read { path: self.path.clone(), offset, len, source };
        if file.metadata().map_err(failed)?.len() < offset + len as u64 {
            return Err(StorageError::PastEnd { path: self.path.clone(), offset, len });
        }
        loop {
            match map.advise_range(Advice::PopulateRead, range.start, len) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Kernels before 5.14 cannot; there a failing device is still a signal.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Ok(()),
                Err(e) => return Err(failed(e)),
            }
        }
    }
}

impl Mapping {
    /// Lets go what memory the mapped bytes take, here and in the page cache; they are read again when they are touched.
    pub fn release(&self) {
        let Bytes::Mapped { map, file } = &self.bytes else { return };
        // SAFETY: the mapping is of a file, shared and read-only: a page that is dropped comes back with the file's
        // bytes, which are the same that it had. Nobody's reference to them becomes invalid.
        let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
        // What others map or have not written stays; it is not there because of us.
        let _ = fadvise(file, self.offset, NonZeroU64::new(self.len() as u64), FileAdvice::DontNeed);
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped { map, .. } => map,
            Bytes::Constant(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({}, {} bytes at {})", self.path.display(), self.len(), self.offset)
    }
}
