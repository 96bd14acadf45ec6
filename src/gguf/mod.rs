//! GGUF: bytes to a checked directory of metadata and tensors.
//!
//! The rule of this room: a file is hostile until every count, length, offset, alignment and type in
//! it was compared with the number of bytes that are left, *before* anything is allocated or skipped.
//! A file of n bytes makes the reader allocate a small multiple of n at most, and a directory larger
//! than [`MAX_DIRECTORY_BYTES`] is refused. What comes out needs no further checks: names are unique,
//! tensors lie inside the file, at their alignment, and do not overlap.
//!
//! Layout (versions 2 and 3, little endian): magic, version, number of tensors, number of keys, the
//! keys with their values, the tensor table, padding to the alignment, the data section.
//!
//! Deliberately absent: opening, mapping or reading of tensor data (room `storage`), any opinion on
//! which keys or tensors a model needs (room `model`), version 1 (32-bit lengths), big-endian files,
//! arrays of arrays, writing.

mod error;
mod metadata;
mod source;
mod split;
mod tensor;
mod value;

use std::io::Read;

pub use error::{GgufError, Place, quote};
pub use metadata::Metadata;
pub use split::{join, part_name};
pub use tensor::TensorInfo;
pub use value::{Array, StringArray, Strings, Value};

use source::Source;

/// Longest accepted directory (everything before the data section) in bytes. The vocabulary of
/// 262,144 tokens with its merges takes 15 MB.
pub const MAX_DIRECTORY_BYTES: u64 = 256 << 20;
/// Most keys and most tensors in one file. Files of the model family have 50 keys and 2100 tensors.
pub const MAX_ENTRIES: u64 = 65_536;
/// Longest metadata key in bytes.
pub const MAX_KEY_BYTES: u64 = 256;
/// Longest tensor name in bytes; the common reader keeps 64 with the terminator.
pub const MAX_TENSOR_NAME_BYTES: u64 = 63;
/// Longest string value or array element in bytes. Chat templates take about 20 kB.
pub const MAX_STRING_BYTES: u64 = 16 << 20;

const MAGIC: [u8; 4] = *b"GGUF";
/// Alignment of the data section and of every tensor when `general.alignment` is absent.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Key with its length (at least one byte), type and a one-byte value.
const MIN_KEY_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;

/// The directory of a model: metadata and where each tensor lies, of one file or of all parts of a
/// split one (see [`join`]).
#[derive(Debug)]
pub struct Gguf {
    /// Keys and values. Of a split model: those of the first part.
    pub metadata: Metadata,
    version: u32,
    alignment: u64,
    tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, sorted by tensor name.
    by_name: Vec<u32>,
}

impl Gguf {
    /// GGUF version of the (first) file: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment in bytes of the (first) file's tensors, a power of two.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// All tensors in file order, parts one after the other.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let found =
            self.by_name.binary_search_by(|&i| self.tensors[i as usize].name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[found] as usize])
    }

    /// Puts a directory together; refuses a tensor name that occurs twice.
    fn assemble(
        metadata: Metadata,
        version: u32,
        alignment: u64,
        tensors: Vec<TensorInfo>,
    ) -> Result<Self, GgufError> {
        let n = u32::try_from(tensors.len()).expect("each part has at most MAX_ENTRIES tensors");
        let mut by_name: Vec<u32> = (0..n).collect();
        by_name.sort_unstable_by(|&a, &b| tensors[a as usize].name.cmp(&tensors[b as usize].name));
        for pair in by_name.windows(2) {
            let name = &tensors[pair[0] as usize].name;
            if *name == tensors[pair[1] as usize].name {
                return Err(GgufError::DuplicateTensor { name: name.clone() });
            }
        }
        Ok(Self { metadata, version, alignment, tensors, by_name })
    }
}

/// Reads the directory of one file, or of one part of a split model, from its first byte on.
///
/// `file_len` is the length of the whole file in bytes: tensors must end before it. The input is
/// buffered here and may be read beyond the directory, but never for the sake of tensor data.
pub fn read(input: &mut impl Read, file_len: u64) -> Result<Gguf, GgufError> {
    let mut src = Source::new(input, file_len);

    let magic = src.array::<4>()?;
    if magic != MAGIC {
        return Err(GgufError::Magic { found: magic });
    }
    let version = src.u32()?;
    match version {
        2 | 3 => {}
        v if v.swap_bytes() < 0x1_0000 && v > 0xffff => return Err(GgufError::BigEndian),
        v => return Err(GgufError::Version { found: v }),
    }
    let n_tensors = src.count("tensors", MAX_ENTRIES, tensor::MIN_ENTRY_BYTES)?;
    let n_keys = src.count("keys", MAX_ENTRIES, MIN_KEY_ENTRY_BYTES)?;

    let metadata = metadata::read(&mut src, n_keys)?;
    let alignment = match metadata.opt_u64("general.alignment")? {
        None => DEFAULT_ALIGNMENT,
        Some(a) if a.is_power_of_two() && a <= u64::from(u32::MAX) => a,
        Some(a) => return Err(GgufError::Alignment { value: a }),
    };

    let tensors = tensor::read(&mut src, n_tensors, alignment, file_len)?;
    Gguf::assemble(metadata, version, alignment, tensors)
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
