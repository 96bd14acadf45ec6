//! What can go wrong with rows.

use std::path::PathBuf;

use crate::storage::StorageError;

use super::TableLayout;

/// A row store that cannot be opened, or rows that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PleError {
    /// The table does not lie inside the file, or is empty.
    #[error(
        "a table of {} rows of {} bytes at offset {} does not lie in a file of {file_len} bytes",
        layout.n_rows, layout.row_bytes, layout.offset
    )]
    Layout {
        /// The table.
        layout: TableLayout,
        /// Length of the file in bytes.
        file_len: u64,
    },
    /// The file cannot be opened, mapped or loaded, or memory is short.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A reader thread cannot be started.
    #[error("cannot start a thread for reading rows: {0}")]
    Thread(std::io::Error),
    /// A row number at or beyond the end of the table.
    #[error("row {id} does not exist, the table has {n_rows}")]
    NoSuchRow {
        /// The row asked for.
        id: u32,
        /// Number of rows.
        n_rows: u32,
    },
    /// A part of a row that is empty or longer than the row.
    #[error("{n_bytes} bytes of row {id} were asked for, a row has {row_bytes}")]
    NoSuchPart {
        /// The row asked for.
        id: u32,
        /// Bytes asked for.
        n_bytes: usize,
        /// Bytes of a row.
        row_bytes: usize,
    },
    /// Too many reads are waiting already.
    #[error("{waiting} reads of rows are waiting, {more} more would exceed {limit}")]
    Busy {
        /// Reads that wait for a thread.
        waiting: usize,
        /// Reads that this batch needs.
        more: usize,
        /// The limit.
        limit: usize,
    },
    /// A read failed. Other batches are not concerned, and the next attempt may succeed.
    #[error("row {id}: {source}")]
    Read {
        /// The (first) row of the read.
        id: u32,
        /// File, offset and reason.
        source: StorageError,
    },
    /// The row on storage is not the one that its checksum was made of. Other rows are not concerned.
    #[error("row {id}: {} is damaged at offset {offset}: the row does not match its checksum in {}",
        path.display(), checksums.display())]
    Rotten {
        /// The row.
        id: u32,
        /// The model file.
        path: PathBuf,
        /// Where the row begins. Unit: bytes.
        offset: u64,
        /// The file of checksums.
        checksums: PathBuf,
    },
    /// The file of checksums is not one for this table.
    #[error("{} {why}; make it anew with pled inspect --checksums, or remove it", path.display())]
    Checksums {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What is said to be a record of the rows wanted most is none of this table.
    #[error("the list of rows that were wanted most {0}")]
    HotRows(&'static str),
    /// The reader threads are gone.
    #[error("reading of rows has stopped")]
    Stopped,
}

/// A word that names no [`Mode`](super::Mode).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not one of auto, direct, mmap, resident")]
pub struct ParseModeError {
    /// The word.
    pub found: String,
}
