//! What can go wrong with a file.

use std::io;
use std::path::PathBuf;

/// A failed operation on a file, with all that is needed to find the place.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file cannot be opened.
    #[error("{}: cannot open: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory, device, pipe or socket.
    #[error("{}: not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// The path leads to another file than it did when it was opened first.
    #[error("{}: was replaced by another file while in use", path.display())]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// Somebody wrote to the file while it was in use.
    #[error("{}: was written to while in use", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A read failed.
    #[error("{}: reading {len} bytes at offset {offset} failed: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where the bytes asked for begin.
        offset: u64,
        /// Number of bytes asked for.
        len: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// The file ends before the last byte asked for.
    #[error("{}: reading {len} bytes at offset {offset}: the file ends before", path.display())]
    PastEnd {
        /// The file.
        path: PathBuf,
        /// Where the bytes asked for begin.
        offset: u64,
        /// Number of bytes asked for.
        len: usize,
    },
    /// A mapping could not be made.
    #[error("{}: mapping {len} bytes at offset {offset} failed: {source}", path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// Where the mapping begins.
        offset: u64,
        /// Its length in bytes.
        len: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// The system has not enough memory.
    #[error("cannot allocate {len} bytes: {source}")]
    Allocate {
        /// Number of bytes asked for.
        len: usize,
        /// The system's reason.
        source: io::Error,
    },
}

impl StorageError {
    /// The system's error number, if a system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            StorageError::Open { source, .. }
            | StorageError::Read { source, .. }
            | StorageError::Map { source, .. }
            | StorageError::Allocate { source, .. } => source.raw_os_error(),
            StorageError::NotRegular { .. }
            | StorageError::Replaced { .. }
            | StorageError::Changed { .. }
            | StorageError::PastEnd { .. } => None,
        }
    }

    /// The file, if the error is about one.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            StorageError::Open { path, .. }
            | StorageError::NotRegular { path }
            | StorageError::Replaced { path }
            | StorageError::Changed { path }
            | StorageError::Read { path, .. }
            | StorageError::PastEnd { path, .. }
            | StorageError::Map { path, .. } => Some(path),
            StorageError::Allocate { .. } => None,
        }
    }

    /// Offset in the file, if the error is about one.
    pub fn offset(&self) -> Option<u64> {
        match self {
            StorageError::Read { offset, .. }
            | StorageError::PastEnd { offset, .. }
            | StorageError::Map { offset, .. } => Some(*offset),
            StorageError::Open { .. }
            | StorageError::NotRegular { .. }
            | StorageError::Replaced { .. }
            | StorageError::Changed { .. }
            | StorageError::Allocate { .. } => None,
        }
    }
}
