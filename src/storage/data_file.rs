//! A file to be read.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Advice, OFlags, fadvise};

use super::constant::Constant;
use super::direct::DirectFile;
use super::error::StorageError;
use super::mapping::Mapping;
use super::{outward, page_size};

/// Step of bulk reads: big enough for full speed of any card or disk, small against the weights.
const BULK_STEP_BYTES: usize = 4 << 20;
/// Window of [`FileReader`].
const READER_BYTES: usize = 256 << 10;

/// A file to be read at any position, by any number of threads: a regular one, or bytes of the program.
#[derive(Debug)]
pub struct DataFile {
    content: Content,
    len: u64,
}

#[derive(Debug)]
pub(super) enum Content {
    Disk(Disk),
    Constant(Constant),
}

/// A regular file opened for reading.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// When it had been written to last, in seconds and nanoseconds.
    modified: (i64, i64),
    /// For bulk reads; opened when first needed.
    direct: OnceLock<DirectFile>,
}

impl DataFile {
    /// Opens a regular file.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |source| StorageError::Open { path: path.to_owned(), source };
        // Without O_NONBLOCK the opening of a pipe would wait for a writer. Files ignore it.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(StorageError::NotRegular { path: path.to_owned() });
        }
        // The kernel's own read-ahead would run past the end of what is asked for, where nobody would
        // drop its pages. All sequential reading here is in big steps, which makes up for it.
        let _ = fadvise(&file, 0, None, Advice::Random);
        let (len, modified) = (metadata.len(), modified(&metadata));
        let disk = Disk { file, path: path.to_owned(), modified, direct: OnceLock::new() };
        Ok(Self { content: Content::Disk(disk), len })
    }

    /// Takes bytes of the program for a file; errors call it `name`.
    pub fn constant(name: &'static str, bytes: &'static [u8]) -> Self {
        Self { content: Content::Constant(Constant { name, bytes }), len: bytes.len() as u64 }
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// The path it was opened with, or the name of bytes of the program.
    pub fn path(&self) -> &Path {
        match &self.content {
            Content::Disk(disk) => &disk.path,
            Content::Constant(constant) => constant.path(),
        }
    }

    /// Whether it is bytes of the program, beside which no other file lies.
    pub fn is_constant(&self) -> bool {
        matches!(self.content, Content::Constant(_))
    }

    /// Length in bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it was empty when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fails if somebody has written to the file since it was opened: what was read before and what comes
    /// now need not belong together. To be asked after a read, for the sake of that read.
    pub fn check_unchanged(&self) -> Result<(), StorageError> {
        let Content::Disk(disk) = &self.content else { return Ok(()) };
        let metadata = disk.file.metadata().map_err(|e| disk.read_error(e, 0, 0))?;
        match modified(&metadata) == disk.modified {
            true => Ok(()),
            false => Err(StorageError::Changed { path: disk.path.clone() }),
        }
    }

    /// Fills `out` with the bytes at `offset`. Pages may stay in the page cache: for small reads.
    pub fn read_exact_at(&self, out: &mut [u8], offset: u64) -> Result<(), StorageError> {
        let len = out.len();
        match &self.content {
            Content::Disk(disk) => {
                disk.file.read_exact_at(out, offset).map_err(|e| disk.read_error(e, offset, len))
            }
            Content::Constant(constant) => {
                out.copy_from_slice(constant.slice(offset, len)?);
                Ok(())
            }
        }
    }

    /// Fills `out` with the bytes at `offset` and leaves nothing of them in the page cache.
    ///
    /// For weights: what was copied once would only push other files out. Going past the cache is
    /// also faster (1.3 against 0.8 GB/s where this was measured), in spite of the copy from an aligned
    /// buffer that it needs, because tensors lie at any multiple of 32 bytes.
    pub fn read_bulk(&self, offset: u64, out: &mut [u8]) -> Result<(), StorageError> {
        let disk = match &self.content {
            Content::Disk(disk) => disk,
            Content::Constant(_) => return self.read_exact_at(out, offset),
        };
        let direct = match disk.direct.get() {
            Some(direct) => direct,
            None => {
                let direct = DirectFile::open(self)?;
                disk.direct.get_or_init(|| direct)
            }
        };
        let mut buffer = direct.buffer(out.len().min(BULK_STEP_BYTES))?;
        let mut at = offset;
        for step in out.chunks_mut(BULK_STEP_BYTES) {
            step.copy_from_slice(direct.read(at, step.len(), &mut buffer)?);
            at = at.saturating_add(step.len() as u64);
        }
        Ok(())
    }

    /// A sequential reader from `offset` on that leaves nothing in the page cache. It is buffered and
    /// takes up 256 KiB.
    pub fn reader(&self, offset: u64) -> FileReader<'_> {
        FileReader { file: self, next: offset, buffer: vec![0; READER_BYTES].into(), filled: 0..0 }
    }

    /// Maps `len` bytes at `offset`, which need not be aligned, with the advice that access is random.
    pub fn map(&self, offset: u64, len: usize) -> Result<Mapping, StorageError> {
        // A mapping beyond the end would be a SIGBUS later; say it now.
        if offset.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(StorageError::PastEnd { path: self.path().to_owned(), offset, len });
        }
        match &self.content {
            Content::Disk(disk) => Mapping::new(&disk.file, &disk.path, offset, len),
            Content::Constant(constant) => Mapping::of_constant(constant, offset, len),
        }
    }

    /// Reads what there is at `offset` and leaves nothing of it in the page cache; returns how much that was.
    fn read_some(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.content {
            Content::Disk(disk) => {
                let n = disk.file.read_at(out, offset)?;
                advise(&disk.file, offset, n as u64, Advice::DontNeed);
                Ok(n)
            }
            Content::Constant(constant) => Ok(constant.copy(out, offset)),
        }
    }
}

impl Disk {
    /// Opens the same file once more with other flags.
    pub(super) fn reopen(&self, flags: OFlags) -> Result<File, StorageError> {
        let failed = |source| StorageError::Open { path: self.path.clone(), source };
        let flags = (flags | OFlags::NONBLOCK).bits() as i32;
        let other = OpenOptions::new().read(true).custom_flags(flags).open(&self.path).map_err(failed)?;
        let identity = |m: Metadata| (m.dev(), m.ino());
        let ours = self.file.metadata().map(identity).map_err(failed)?;
        if other.metadata().map(identity).map_err(failed)? != ours {
            return Err(StorageError::Replaced { path: self.path.clone() });
        }
        Ok(other)
    }

    fn read_error(&self, source: io::Error, offset: u64, len: usize) -> StorageError {
        let path = self.path.clone();
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return StorageError::PastEnd { path, offset, len };
        }
        StorageError::Read { path, offset, len, source }
    }
}

fn modified(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// Gives advice for all pages that hold a byte of the range: DONTNEED leaves a page alone of which it
/// covers only a part. Advice that is not taken changes no result, so failures are not looked at.
pub(super) fn advise(file: &File, offset: u64, len: u64, advice: Advice) {
    if let Some(pages) = outward(offset, len, page_size() as u64)
        && let Some(len) = NonZeroU64::new(pages.end - pages.start)
    {
        let _ = fadvise(file, pages.start, Some(len), advice);
    }
}

/// Sequential, buffered reading; see [`DataFile::reader`].
#[derive(Debug)]
pub struct FileReader<'a> {
    file: &'a DataFile,
    /// File offset of the byte after the buffered ones.
    next: u64,
    buffer: Box<[u8]>,
    /// The part of `buffer` that was read and not yet given out.
    filled: std::ops::Range<usize>,
}

impl Read for FileReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.filled.is_empty() {
            let n = self.file.read_some(&mut self.buffer, self.next)?;
            self.next += n as u64;
            self.filled = 0..n;
        }
        let n = out.len().min(self.filled.len());
        out[..n].copy_from_slice(&self.buffer[self.filled.start..][..n]);
        self.filled.start += n;
        Ok(n)
    }
}
