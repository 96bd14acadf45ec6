//! Where rows are read from.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::storage::{AlignedBytes, DirectFile, Mapping, StorageError, outward, page_size};

/// Gives the bytes of a table by their offset in the file, to several threads at a time.
///
/// The store has one for each mode but `resident`. Tests put their own between the store and these, which fail as
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

/// A mapping of the table. The page cache that reading it causes stays within a bound: before it would not, all of it
/// is let go, and rows come from storage again.
pub(super) struct Mapped {
    map: Mapping,
    /// The file offset where it begins.
    start: u64,
    /// Unless the whole table may stay.
    bound: Option<Mutex<Touched>>,
}

impl Mapped {
    /// `max_bytes`: the most page cache. What a few readers are at counts as nothing.
    pub(super) fn new(map: Mapping, start: u64, max_bytes: usize) -> Self {
        let bound = (map.len() > max_bytes).then(|| Mutex::new(Touched::new(map.len(), max_bytes)));
        Self { map, start, bound }
    }
}

/// Pages of a mapping that were touched since they were let go.
struct Touched {
    /// One for each page.
    bits: Vec<bool>,
    n: usize,
    max: usize,
}

impl Touched {
    fn new(len: usize, max_bytes: usize) -> Self {
        // A mapping need not begin with a page: one more.
        Self { bits: vec![false; len / page_size() + 2], n: 0, max: max_bytes / page_size() }
    }

    /// Notes pages. True if they do not fit beside those that were noted before, which then do not count any more.
    fn touch(&mut self, pages: Range<usize>) -> bool {
        let n_new = self.bits[pages.clone()].iter().filter(|bit| !**bit).count();
        let is_full = self.n + n_new > self.max;
        if is_full {
            self.bits.fill(false);
            self.n = 0;
        }
        self.n += if is_full { pages.len() } else { n_new };
        self.bits[pages].fill(true);
        is_full
    }
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
        if let Some(bound) = &self.bound {
            let first = self.start / page_size() as u64;
            let span = self.span(offset, len)?;
            let page = |at: u64| (at / page_size() as u64 - first) as usize;
            let is_full =
                bound.lock().unwrap_or_else(PoisonError::into_inner).touch(page(span.start)..page(span.end));
            if is_full {
                self.map.release();
            }
        }
        self.map.populate(at..at + len)?;
        // The pages may go again at any time, and whoever touches them then waits for them.
        buffer[..len].copy_from_slice(&self.map[at..at + len]);
        Ok(&buffer[..len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_once_and_never_above_the_bound() {
        let page = page_size();
        let mut touched = Touched::new(100 * page, 10 * page + 1);
        assert!(!touched.touch(0..4) && !touched.touch(2..6) && !touched.touch(0..6));
        assert_eq!(touched.n, 6);
        assert!(!touched.touch(90..94));
        assert_eq!(touched.n, 10);
        // All are let go, and these begin anew.
        assert!(touched.touch(93..95));
        assert_eq!((touched.n, touched.bits.iter().filter(|bit| **bit).count()), (2, 2));
        assert!(touched.touch(0..11), "more than the bound at once");
        assert!(touched.touch(50..51));
    }
}
