//! Reading model files: positioned, bulk, mapped and direct.
//!
//! The rule of this room: the page cache of a small board belongs to nobody by accident. Weights are
//! read once into owned memory and their pages are given back ([`DataFile::read_bulk`]); rows are read
//! past the cache ([`DirectFile`]); a mapping is made only where one is asked for. Page size and
//! alignment are asked of the system, never assumed.
//!
//! A file may also be bytes of the program itself ([`DataFile::constant`]). All ways of reading work on those
//! too, by slices of them, so that no room above asks what kind of file it has. (An anonymous file of the
//! kernel's would need no second kind here, but it would copy the bytes and could fail: where /proc is not
//! mounted, or memory files are forbidden.)
//!
//! Every error names the file, the offset and the system's reason. Deliberately absent: writing,
//! formats (room `gguf`), caching of what was read (room `ple`), threads.

mod bytes;
mod constant;
mod data_file;
mod direct;
mod error;
mod mapping;

pub use bytes::AlignedBytes;
pub use data_file::{DataFile, FileReader};
pub use direct::DirectFile;
pub use error::StorageError;
pub use mapping::Mapping;

/// The system's page size in bytes: 4096 on most boards, 16384 on a Pi 5.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// The smallest range of whole units of `align` bytes (a power of two) that holds `len` bytes at
/// `offset`; `None` if its end is beyond 64 bits.
pub fn outward(offset: u64, len: u64, align: u64) -> Option<std::ops::Range<u64>> {
    let end = offset.checked_add(len)?.checked_next_multiple_of(align)?;
    Some(offset - offset % align..end)
}

#[cfg(test)]
mod tests;
