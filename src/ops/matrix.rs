//! Weights [n_rows, n_cols] in a block format, row-major as in the file or with rows interleaved.

use super::Compute;
use super::kernels::with_isa;
use crate::quant::{BlockFormat, INTERLEAVED_ROWS, can_interleave, interleave, row_of};
use crate::simd::Isa;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A range of bytes that somebody keeps alive: matrices share one large buffer.
#[derive(Clone)]
pub struct WeightBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl WeightBytes {
    /// `range` of the bytes of `owner`; `None` if it does not lie inside.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Option<Self> {
        (*owner).as_ref().get(range.clone())?;
        Some(Self { owner, range })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl From<Vec<u8>> for WeightBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { owner: Arc::new(bytes), range }
    }
}

/// Why bytes are not a matrix.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A row does not end at the end of a block.
    #[error("{n_cols} columns are not whole blocks of {} elements ({})", format.block_len(), format.name())]
    PartialBlock {
        /// The format.
        format: BlockFormat,
        /// Columns asked for.
        n_cols: usize,
    },
    /// The bytes are not those of the shape.
    #[error("{n_bytes} bytes for a matrix of {n_rows} rows and {n_cols} columns in {}", format.name())]
    WrongLength {
        /// The format.
        format: BlockFormat,
        /// Rows asked for.
        n_rows: usize,
        /// Columns asked for.
        n_cols: usize,
        /// Bytes given.
        n_bytes: usize,
    },
}

/// How the rows of a matrix stand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One after the other, as in a file.
    Rows,
    /// As [`interleave`] leaves each [`INTERLEAVED_ROWS`] of them.
    Interleaved,
}

impl Layout {
    /// The layout that a matrix of this shape is multiplied with fastest.
    pub fn best(c: &Compute, format: BlockFormat, n_rows: usize) -> Self {
        fn reads<I: Isa>(_: I, format: BlockFormat) -> bool {
            I::reads_interleaved(format)
        }
        let is_read = with_isa!(c.kernels, isa => reads(isa, format));
        match is_read && can_interleave(format) && n_rows > 0 && n_rows.is_multiple_of(INTERLEAVED_ROWS) {
            true => Self::Interleaved,
            false => Self::Rows,
        }
    }

    /// Brings the rows of a matrix, which stand one after the other in `bytes`, into this layout.
    pub fn arrange(self, c: &Compute, format: BlockFormat, n_rows: usize, bytes: &mut [u8]) {
        if self == Self::Interleaved && !bytes.is_empty() {
            let panels = bytes.chunks_exact_mut(bytes.len() / n_rows * INTERLEAVED_ROWS);
            c.pool.for_each(panels, |panel| interleave(format, panel, &mut Vec::new()));
        }
    }
}

/// Weights \[n_rows, n_cols\] in a block format.
#[derive(Clone)]
pub struct Matrix {
    format: BlockFormat,
    layout: Layout,
    n_rows: usize,
    n_cols: usize,
    row_bytes: usize,
    bytes: WeightBytes,
}

impl Matrix {
    /// Checks that `bytes` is exactly a matrix of that shape, whose rows stand one after the other.
    pub fn new(
        format: BlockFormat,
        n_rows: usize,
        n_cols: usize,
        bytes: WeightBytes,
    ) -> Result<Self, ShapeError> {
        Self::with_layout(format, Layout::Rows, n_rows, n_cols, bytes)
    }

    /// The same for rows that were [arranged](Layout::arrange).
    pub fn with_layout(
        format: BlockFormat,
        layout: Layout,
        n_rows: usize,
        n_cols: usize,
        bytes: WeightBytes,
    ) -> Result<Self, ShapeError> {
        let row_bytes = format.row_bytes(n_cols).ok_or(ShapeError::PartialBlock { format, n_cols })?;
        let n_bytes = bytes.as_slice().len();
        if row_bytes.checked_mul(n_rows) != Some(n_bytes) {
            return Err(ShapeError::WrongLength { format, n_rows, n_cols, n_bytes });
        }
        Ok(Self { format, layout, n_rows, n_cols, row_bytes, bytes })
    }

    /// The format of the weights.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// How the rows stand in memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Rows, that is outputs.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Columns, that is inputs.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Bytes of all weights.
    pub fn n_bytes(&self) -> usize {
        self.row_bytes * self.n_rows
    }

    /// The blocks of row `r`.
    ///
    /// # Panics
    /// If there is no such row, or rows are interleaved.
    pub fn row(&self, r: usize) -> &[u8] {
        assert!(
            r < self.n_rows && self.layout == Layout::Rows,
            "row {r} of {} in {:?}",
            self.n_rows,
            self.layout
        );
        &self.bytes.as_slice()[r * self.row_bytes..][..self.row_bytes]
    }

    /// Interleaved rows `INTERLEAVED_ROWS * p` and those after it.
    ///
    /// # Panics
    /// If there are no such rows, or rows are not interleaved.
    pub fn panel(&self, p: usize) -> &[u8] {
        assert_eq!(self.layout, Layout::Interleaved);
        let n_bytes = INTERLEAVED_ROWS * self.row_bytes;
        &self.bytes.as_slice()[p * n_bytes..][..n_bytes]
    }

    /// Writes the values of row `r` to `out` \[n_cols\].
    ///
    /// # Panics
    /// If there is no such row or `out` has another length.
    pub fn dequantize_row(&self, r: usize, out: &mut [f32]) {
        match self.layout {
            Layout::Rows => self.format.dequantize(self.row(r), out),
            Layout::Interleaved => {
                let row = row_of(self.format, self.panel(r / INTERLEAVED_ROWS), r % INTERLEAVED_ROWS);
                self.format.dequantize(&row, out);
            }
        }
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix({} [{}, {}])", self.format.name(), self.n_rows, self.n_cols)
    }
}
