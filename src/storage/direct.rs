//! Reads that go past the page cache.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{Advice, AtFlags, OFlags, StatxFlags, fadvise, statx};

use super::bytes::AlignedBytes;
use super::constant::Constant;
use super::data_file::{Content, DataFile, Disk, advise};
use super::error::StorageError;
use super::{outward, page_size};

/// Alignment for direct reads where the kernel does not tell: a multiple of every block size in use.
const ASSUMED_ALIGNMENT: u32 = 4096;

/// A file read in aligned pieces without leaving them in the page cache.
///
/// Where the file system allows it the file is open with O_DIRECT: rows then cost no memory but the
/// caller's, and no second copy. Elsewhere (tmpfs, some overlays) reads are buffered, without
/// read-ahead, and their pages are dropped right after. Bytes of the program are had where they are.
#[derive(Debug)]
pub struct DirectFile {
    access: Access,
    path: PathBuf,
    /// Every read begins and ends at a multiple of this, a power of two.
    alignment: u32,
}

#[derive(Debug)]
enum Access {
    /// Reads go past the page cache.
    Direct(File),
    /// Reads go through the page cache and clean up.
    Buffered(File),
    Constant(Constant),
}

impl DirectFile {
    /// Opens the same file once more, direct if possible.
    pub fn open(file: &DataFile) -> Result<Self, StorageError> {
        let disk = match file.content() {
            Content::Disk(disk) => disk,
            Content::Constant(constant) => return Ok(Self::of_constant(*constant)),
        };
        match Self::open_direct(disk)? {
            Some(direct) => Ok(direct),
            None => Self::open_buffered(disk),
        }
    }

    fn of_constant(constant: Constant) -> Self {
        Self { path: constant.path().to_owned(), access: Access::Constant(constant), alignment: 1 }
    }

    /// `None` if the file system cannot do it.
    pub(super) fn open_direct(disk: &Disk) -> Result<Option<Self>, StorageError> {
        let file = match disk.reopen(OFlags::DIRECT) {
            Ok(file) => file,
            Err(StorageError::Open { source, .. }) if means_unsupported(&source) => return Ok(None),
            Err(e) => return Err(e),
        };
        let Some(alignment) = direct_alignment(&file) else { return Ok(None) };
        // Some file systems accept the flag and refuse the reads.
        let mut probe = AlignedBytes::zeroed(alignment as usize)?;
        match file.read_at(&mut probe, 0) {
            Err(e) if means_unsupported(&e) => Ok(None),
            // Any other failure is for the read that needs those bytes to tell.
            _ => Ok(Some(Self { access: Access::Direct(file), path: disk.path.clone(), alignment })),
        }
    }

    pub(super) fn open_buffered(disk: &Disk) -> Result<Self, StorageError> {
        let file = disk.reopen(OFlags::empty())?;
        let _ = fadvise(&file, 0, None, Advice::Random);
        let alignment = u32::try_from(page_size()).expect("pages are small");
        Ok(Self { access: Access::Buffered(file), path: disk.path.clone(), alignment })
    }

    /// Unit of reading in bytes, a power of two.
    pub fn alignment(&self) -> usize {
        self.alignment as usize
    }

    /// The aligned range of the file that is read to get `len` bytes at `offset`.
    pub fn span(&self, offset: u64, len: usize) -> Result<Range<u64>, StorageError> {
        outward(offset, len as u64, self.alignment.into()).ok_or_else(|| self.past_end(offset, len))
    }

    /// A buffer for [`read`](Self::read) of up to `len` bytes at any offset.
    pub fn buffer(&self, len: usize) -> Result<AlignedBytes, StorageError> {
        // Up to one unit less one byte before, and the same behind.
        AlignedBytes::zeroed(len.next_multiple_of(self.alignment()) + self.alignment())
    }

    /// Reads the aligned range around `len` bytes at `offset` into `buffer` and returns those bytes. Bytes of the
    /// program are returned from where they are.
    ///
    /// # Panics
    /// If `buffer` is shorter than what [`buffer`](Self::buffer) gives for `len`.
    pub fn read<'b>(
        &self,
        offset: u64,
        len: usize,
        buffer: &'b mut AlignedBytes,
    ) -> Result<&'b [u8], StorageError> {
        let (file, is_direct) = match &self.access {
            Access::Direct(file) => (file, true),
            Access::Buffered(file) => (file, false),
            Access::Constant(constant) => return constant.slice(offset, len),
        };
        let span = self.span(offset, len)?;
        let start = (offset - span.start) as usize;
        let (needed, span_len) = (start + len, (span.end - span.start) as usize);
        let out = &mut buffer[..span_len];
        let mut done = 0;
        while done < needed {
            match file.read_at(&mut out[done..], span.start + done as u64) {
                Ok(0) => return Err(self.past_end(offset, len)),
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(StorageError::Read { path: self.path.clone(), offset, len, source });
                }
            }
            // A direct read stops between two units only where the file does, and could not be
            // continued from there.
            if done < needed && is_direct && !done.is_multiple_of(self.alignment()) {
                return Err(self.past_end(offset, len));
            }
        }
        if !is_direct {
            advise(file, span.start, span_len as u64, Advice::DontNeed);
        }
        Ok(&buffer[start..needed])
    }

    fn past_end(&self, offset: u64, len: usize) -> StorageError {
        StorageError::PastEnd { path: self.path.clone(), offset, len }
    }
}

fn means_unsupported(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

/// Alignment that direct reads of this file need; `None` if it has none that page-aligned buffers meet,
/// or cannot be read directly at all.
fn direct_alignment(file: &File) -> Option<u32> {
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        .ok()
        .filter(|s| StatxFlags::from_bits_retain(s.stx_mask).contains(StatxFlags::DIOALIGN));
    let Some(s) = told else { return Some(ASSUMED_ALIGNMENT) };
    let (memory, offset) = (s.stx_dio_mem_align, s.stx_dio_offset_align);
    // Zero says that direct I/O is not possible on this file.
    let usable = memory != 0 && memory as usize <= page_size() && offset.is_power_of_two();
    usable.then_some(offset)
}
