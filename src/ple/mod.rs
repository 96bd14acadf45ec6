//! The row store: rows of the per-layer embedding table, asked for by token id.
//!
//! The table (1.9 GB of E2B as published) stays on storage; a token needs one row of it (7 kB). Rows are
//! asked for as soon as token ids are known ([`RowStore::submit_parts`], which returns at once) and waited
//! for as late as possible ([`RowStore::wait`]), so that reading and computing overlap; who has other things to do waits
//! until a deadline and is woken when they have come ([`RowStore::wait_until`], [`RowStore::wake`]). What somebody will
//! stand still for in a moment is read before what is asked for ahead, and of a prompt token only the part
//! that it needs. The rule of
//! this room: every mode gives the same bytes, and a failed read is an error of its own batch that
//! names file, offset and reason, after which the store works on. A read that may do better the next time is
//! tried again, twice at most; with checksums beside the model every row is held against its own. A file that somebody has written to
//! since it was opened gives no more rows: they would not belong to the weights in memory.
//!
//! Deliberately absent: knowledge of models and block formats (rows are bytes), dequantising, more than one owner (methods take `&mut self`; only reading has threads).

mod cache;
mod checksums;
mod error;
mod pending;
mod plan;
mod probe;
mod readers;
mod rows;
mod source;
mod stats;
mod store;
mod warm;

use std::fmt;
use std::str::FromStr;

pub use checksums::Checksums;
pub use error::{ParseModeError, PleError};
pub use pending::{Awaited, Cost, Pending};
pub use probe::{FEW_ROWS_PER_S, Probe, Rate};
pub use rows::Rows;
pub use source::TableSource;
pub use stats::{Histogram, Stats, Times};
pub use store::RowStore;

/// Where the table lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLayout {
    /// Absolute offset of row 0 in bytes; any alignment.
    pub offset: u64,
    /// Bytes of one row, at least 1.
    pub row_bytes: usize,
    /// Number of rows, at least 1.
    pub n_rows: u32,
}

impl TableLayout {
    /// Bytes of the whole table; `None` beyond 64 bits.
    pub fn n_bytes(&self) -> Option<u64> {
        (self.row_bytes as u64).checked_mul(self.n_rows.into())
    }

    /// Bytes of the whole table, if it is not empty and lies inside a file of `file_len` bytes.
    fn check(self, file_len: u64) -> Result<usize, PleError> {
        let end = |n: u64| self.offset.checked_add(n);
        let inside = self.n_bytes().filter(|&n| n > 0 && end(n).is_some_and(|end| end <= file_len));
        inside.and_then(|n| usize::try_from(n).ok()).ok_or(PleError::Layout { layout: self, file_len })
    }

    /// Absolute offset of a row of a table that lies inside its file.
    fn row_offset(&self, id: u32) -> u64 {
        self.offset + u64::from(id) * self.row_bytes as u64
    }
}

/// How rows get from the file to the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// `resident` if the whole table fits the cache bound, otherwise `direct`. The daemon, which knows more, decides better.
    #[default]
    Auto,
    /// Positioned reads past the page cache, with a row cache of bounded size.
    Direct,
    /// A mapping of the table; the page cache is the row cache.
    /// Whoever shortens the file under a running daemon risks a SIGBUS.
    Mmap,
    /// The whole table in owned memory.
    Resident,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::Auto => "auto",
            Mode::Direct => "direct",
            Mode::Mmap => "mmap",
            Mode::Resident => "resident",
        })
    }
}

impl FromStr for Mode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, ParseModeError> {
        match text {
            "auto" => Ok(Mode::Auto),
            "direct" => Ok(Mode::Direct),
            "mmap" => Ok(Mode::Mmap),
            "resident" => Ok(Mode::Resident),
            _ => Err(ParseModeError { found: text.to_owned() }),
        }
    }
}

/// Settings of a [`RowStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How rows are read.
    pub mode: Mode,
    /// Most bytes that rows take for later use: in mode `direct` the row cache, bookkeeping included; in mode `mmap` the page
    /// cache that reading causes. 0: nothing is kept.
    pub cache_bytes: usize,
    /// Reads in flight at a time, one thread each; 1 to 64, other values are taken as the nearest.
    /// An SD card gains up to about 4.
    pub read_threads: usize,
}

impl Options {
    /// What everybody gets who says nothing else; the configuration takes its defaults from here.
    pub const DEFAULT: Self = Self { mode: Mode::Auto, cache_bytes: 64 << 20, read_threads: 4 };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A row, or only its beginning: a prompt token that stops early needs only the first layers' part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRequest {
    /// Row number: the token id.
    pub id: u32,
    /// How many bytes from the row's beginning; 1 to the row's length.
    pub n_bytes: usize,
}

/// Which reads go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody will stand still for these rows in a moment: decoding, one row for each sequence.
    Now,
    /// Rows for later, such as the next chunk of a prompt.
    Ahead,
    /// Nobody has asked for these yet. They are read one at a time when nothing else is to be begun.
    Whenever,
}

#[cfg(test)]
mod tests;
