//! Checksums of rows, kept beside the model file.
//!
//! The file `MODEL.crc32c` holds, little-endian: eight bytes of magic; length of the model file, offset of the
//! table and bytes of a row, 64 bits each; the CRC32C of every row, 32 bits each; and the CRC32C of all that
//! is before it. It belongs to one table at one place in a file of one length; any other is refused.
//!
//! Deliberately absent: writing files (whoever computes checksums stores them).

use std::fmt;
use std::path::{Path, PathBuf};

use crate::storage::{DataFile, StorageError};

use super::TableLayout;
use super::error::PleError;

const MAGIC: [u8; 8] = *b"pledcrc1";
const HEADER_BYTES: usize = 32;
const SUM_BYTES: usize = 4;
/// Step of reading the table: whole rows up to about so much.
const STEP_BYTES: usize = 4 << 20;

/// The CRC32C of each row of a table.
#[derive(Clone, PartialEq, Eq)]
pub struct Checksums {
    /// The file that they came from or are for.
    path: PathBuf,
    sums: Box<[u32]>,
}

impl Checksums {
    /// Where the checksums of a model file are kept.
    pub fn path_of(model: &Path) -> PathBuf {
        let mut name = model.as_os_str().to_owned();
        name.push(".crc32c");
        name.into()
    }

    /// Reads the table and computes the checksums that [`encode`](Self::encode) makes a file of.
    ///
    /// # Errors
    /// If the table does not lie in the file, or cannot be read.
    pub fn compute(file: &DataFile, layout: TableLayout) -> Result<Self, PleError> {
        layout.check(file.len())?;
        let rows_per_step = (STEP_BYTES / layout.row_bytes).clamp(1, layout.n_rows as usize);
        let mut rows = vec![0; rows_per_step * layout.row_bytes];
        let mut sums = Vec::with_capacity(layout.n_rows as usize);
        while sums.len() < layout.n_rows as usize {
            let n = rows_per_step.min(layout.n_rows as usize - sums.len());
            let step = &mut rows[..n * layout.row_bytes];
            file.read_bulk(layout.row_offset(sums.len() as u32), step)?;
            sums.extend(step.chunks_exact(layout.row_bytes).map(crc32c::crc32c));
        }
        file.check_unchanged()?;
        Ok(Self { path: Self::path_of(file.path()), sums: sums.into() })
    }

    /// The file's contents, for a table at `layout` of a model file of `file_len` bytes.
    pub fn encode(&self, layout: TableLayout, file_len: u64) -> Vec<u8> {
        let mut bytes = header(layout, file_len).to_vec();
        bytes.extend(self.sums.iter().flat_map(|sum| sum.to_le_bytes()));
        let sum = crc32c::crc32c(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    /// Reads the checksums beside `file`; `None` if there are none.
    ///
    /// # Errors
    /// If there is a file that cannot be read, is damaged, or was made for another table.
    pub fn beside(file: &DataFile, layout: TableLayout) -> Result<Option<Self>, PleError> {
        if file.is_constant() {
            return Ok(None);
        }
        let path = Self::path_of(file.path());
        let sidecar = match DataFile::open(&path) {
            Ok(sidecar) => sidecar,
            Err(StorageError::Open { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let refuse = |why| PleError::Checksums { path: path.clone(), why };
        let n_sums = layout.n_rows as usize;
        let len = HEADER_BYTES + (n_sums + 1) * SUM_BYTES;
        if sidecar.len() != len as u64 {
            return Err(refuse("was made for another table"));
        }
        let mut bytes = vec![0; len];
        sidecar.read_exact_at(&mut bytes, 0)?;
        let (body, sum) = bytes.split_at(len - SUM_BYTES);
        if crc32c::crc32c(body).to_le_bytes() != sum {
            return Err(refuse("is damaged"));
        }
        if body[..HEADER_BYTES] != header(layout, file.len()) {
            return Err(refuse("was made for another table"));
        }
        let sums = body[HEADER_BYTES..].chunks_exact(SUM_BYTES);
        let sums = sums.map(|sum| u32::from_le_bytes(sum.try_into().expect("chunks of four"))).collect();
        Ok(Some(Self { path, sums }))
    }

    /// Fails if these are not the bytes of the row.
    pub(super) fn verify(
        &self,
        layout: TableLayout,
        file: &DataFile,
        id: u32,
        row: &[u8],
    ) -> Result<(), PleError> {
        if crc32c::crc32c(row) == self.sums[id as usize] {
            return Ok(());
        }
        let (path, offset) = (file.path().to_owned(), layout.row_offset(id));
        Err(PleError::Rotten { id, path, offset, checksums: self.path.clone() })
    }
}

impl fmt::Debug for Checksums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksums({}, {} rows)", self.path.display(), self.sums.len())
    }
}

fn header(layout: TableLayout, file_len: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&file_len.to_le_bytes());
    header[16..24].copy_from_slice(&layout.offset.to_le_bytes());
    header[24..].copy_from_slice(&(layout.row_bytes as u64).to_le_bytes());
    header
}
