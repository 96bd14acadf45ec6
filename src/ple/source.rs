//! Where rows are read from.

use std::ops::Range;

use crate::storage::{AlignedBytes, DirectFile, Mapping, StorageError, outward, page_size};

/// Gives the bytes of a table by their offset in the file, to several threads at a time.
///
/// The store has one for each mode. Tests put their own between the store and these, which fail as
/// storage does.
pub trait TableSource: Send + Sync {
    /// The range of the file that is really read for these bytes.
    fn span(&self, offset: u64, len: usize) -> Result<Range<u64>, StorageError>;

    /// A buffer for [`read`](Self::read) of up to `len` bytes at any offset.
    fn buffer(&self, len: usize) -> Result<AlignedBytes, StorageError>;

    /// `len` bytes at the offset, in `buffer` or elsewhere in memory: touching them waits for no storage.
    fn read<'a>(
        &'a self,
        offset: u64,
        len: usize,
        buffer: &'a mut AlignedBytes,
    ) -> Result<&'a [u8], StorageError>;
}

impl TableSource for DirectFile {
    fn span(&self, offset: u64, len: usize) -> Result<Range<u64>, StorageError> {
        self.span(offset, len)
    }

    fn buffer(&self, len: usize) -> Result<AlignedBytes, StorageError> {
        self.buffer(len)
    }

    fn read<'a>(
        &'a self,
        offset: u64,
        len: usize,
        buffer: &'a mut AlignedBytes,
    ) -> Result<&'a [u8], StorageError> {
        self.read(offset, len, buffer)
    }
}

/// A mapping of the table.
pub(super) struct Mapped {
    pub(super) map: Mapping,
    /// The file offset where it begins.
    pub(super) start: u64,
}

impl TableSource for Mapped {
    fn span(&self, offset: u64, len: usize) -> Result<Range<u64>, StorageError> {
        Ok(outward(offset, len as u64, page_size() as u64).expect("mapped bytes lie in a file"))
    }

    fn buffer(&self, len: usize) -> Result<AlignedBytes, StorageError> {
        AlignedBytes::zeroed(len)
    }

    fn read<'a>(
        &'a self,
        offset: u64,
        len: usize,
        buffer: &'a mut AlignedBytes,
    ) -> Result<&'a [u8], StorageError> {
        let at = (offset - self.start) as usize;
        self.map.populate(at..at + len)?;
        // The pages may go again at any time, and whoever touches them then waits for them.
        buffer[..len].copy_from_slice(&self.map[at..at + len]);
        Ok(&buffer[..len])
    }
}
