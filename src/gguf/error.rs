//! What can be wrong with a GGUF file.

use std::fmt;

/// Which entry of the file was being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Magic, version and the two counts.
    Header,
    /// The n-th key, from 0; the name is empty while it is being read itself.
    Key {
        /// Position in the file, from 0.
        index: u64,
        /// Name, empty if not yet known.
        name: String,
    },
    /// The n-th row of the tensor table, from 0; the name is empty while it is being read itself.
    Tensor {
        /// Position in the file, from 0.
        index: u64,
        /// Name, empty if not yet known.
        name: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header => f.write_str("header"),
            Place::Key { index, name } if name.is_empty() => write!(f, "key number {index}"),
            Place::Key { name, .. } => write!(f, "key `{name}`"),
            Place::Tensor { index, name } if name.is_empty() => write!(f, "tensor number {index}"),
            Place::Tensor { name, .. } => write!(f, "tensor `{name}`"),
        }
    }
}

/// A file that cannot be read as GGUF, or a key that is not what was asked for. The file's path is
/// not known here; offsets are absolute in the file (part) that was being read.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The input failed.
    #[error("{place}: reading at byte {offset} failed: {source}")]
    Io {
        /// Entry that was being read.
        place: Place,
        /// Absolute file offset.
        offset: u64,
        /// The system's error.
        source: std::io::Error,
    },
    /// Not a GGUF file at all.
    #[error("not a GGUF file: it begins with {}, not with \"GGUF\"", found.escape_ascii())]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// A version with another layout.
    #[error("GGUF version {found} is not supported (2 and 3 are)")]
    Version {
        /// The version field.
        found: u32,
    },
    /// The version field is byte-swapped.
    #[error("big-endian GGUF files are not supported")]
    BigEndian,
    /// An entry says it is longer than the rest of the file.
    #[error("{place}: {needed} bytes are needed at byte {offset}, but the file has {left} left")]
    Truncated {
        /// Entry that was being read.
        place: Place,
        /// Absolute file offset.
        offset: u64,
        /// Bytes that the entry still needs (saturated at `u64::MAX`).
        needed: u64,
        /// Bytes that the file has left.
        left: u64,
    },
    /// The directory is longer than this reader accepts.
    #[error("{place}: the directory is longer than {limit} bytes (at byte {offset})")]
    DirectoryTooLong {
        /// Entry that was being read.
        place: Place,
        /// Absolute file offset.
        offset: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A count or a length over its limit.
    #[error("{place}: {what} is {value} at byte {offset}, the limit is {limit}")]
    Limit {
        /// Entry that was being read.
        place: Place,
        /// Absolute offset of the count or length field.
        offset: u64,
        /// Which count or length.
        what: &'static str,
        /// What the file says.
        value: u64,
        /// What is accepted.
        limit: u64,
    },
    /// A key or tensor name that is empty or not printable ASCII.
    #[error("{place}: the name at byte {offset} is {found}, not printable ASCII of at least one character")]
    Name {
        /// Entry that was being read.
        place: Place,
        /// Absolute offset of the name's first byte.
        offset: u64,
        /// The name, quoted and shortened.
        found: String,
    },
    /// A value type that does not exist.
    #[error("{place}: value type {id} at byte {offset} does not exist")]
    ValueType {
        /// Entry that was being read.
        place: Place,
        /// Absolute offset of the type field.
        offset: u64,
        /// The type field.
        id: u32,
    },
    /// An array of arrays.
    #[error("{place}: arrays of arrays are not supported (at byte {offset})")]
    NestedArray {
        /// Entry that was being read.
        place: Place,
        /// Absolute offset of the element type field.
        offset: u64,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("{place}: the bool at byte {offset} is {value}, neither 0 nor 1")]
    Bool {
        /// Entry that was being read.
        place: Place,
        /// Absolute file offset.
        offset: u64,
        /// The byte.
        value: u8,
    },
    /// The same key twice.
    #[error("key `{key}` occurs twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// The same tensor name twice.
    #[error("tensor `{name}` occurs twice")]
    DuplicateTensor {
        /// The tensor's name.
        name: String,
    },
    /// `general.alignment` is unusable.
    #[error("key `general.alignment`: {value} is not a power of two that fits 32 bits")]
    Alignment {
        /// What the file says.
        value: u64,
    },
    /// A tensor without dimensions, or with more than four.
    #[error("tensor `{name}`: {n_dims} dimensions at byte {offset}, not 1 to 4")]
    DimCount {
        /// The tensor's name.
        name: String,
        /// Absolute offset of the field.
        offset: u64,
        /// The field.
        n_dims: u32,
    },
    /// A dimension of zero, a row that is not a whole number of blocks, or more bytes than 64 bits count.
    #[error("tensor `{name}`: shape {dims:?} of type {type_name} {problem}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// Dimensions, innermost first.
        dims: Vec<u64>,
        /// Name or number of the tensor type.
        type_name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A tensor that does not begin at a multiple of the alignment.
    #[error("tensor `{name}`: offset {offset} in the data section is not a multiple of {alignment}")]
    TensorAlignment {
        /// The tensor's name.
        name: String,
        /// Offset in the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// A tensor that does not lie inside the file.
    #[error(
        "tensor `{name}`: {n_bytes} bytes at offset {offset} of the data section end beyond its {section_len} bytes"
    )]
    TensorBounds {
        /// The tensor's name.
        name: String,
        /// Offset in the data section.
        offset: u64,
        /// The tensor's bytes (the least possible if its type is unknown).
        n_bytes: u64,
        /// Length of the data section in bytes.
        section_len: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensors `{first}` and `{second}` overlap at byte {offset}")]
    Overlap {
        /// The tensor that begins first.
        first: String,
        /// The other one.
        second: String,
        /// Absolute offset where the second begins.
        offset: u64,
    },
    /// A key that is needed is absent.
    #[error("key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A key has a value of another type.
    #[error("key `{key}` is {found}, expected {expected}")]
    KeyType {
        /// The key.
        key: String,
        /// Type in the file.
        found: &'static str,
        /// Type that was asked for.
        expected: &'static str,
    },
    /// A key has the right type, but a value that cannot be used.
    #[error("key `{key}` is {found}, expected {expected}")]
    KeyValue {
        /// The key.
        key: String,
        /// Value in the file.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The parts of a split model do not belong together.
    #[error("part {part}: key `{key}` is {found}, expected {expected}")]
    Split {
        /// Position of the part, from 0.
        part: usize,
        /// The key.
        key: &'static str,
        /// Value in the file.
        found: u64,
        /// What the other parts say.
        expected: u64,
    },
    /// The parts together have another number of tensors than the first part says.
    #[error("the parts hold {found} tensors, key `split.tensors.count` says {expected}")]
    SplitTensors {
        /// Sum over the parts.
        found: u64,
        /// What the first part says.
        expected: u64,
    },
}

/// Bytes of a file as part of a message: quoted, so that they can neither forge lines of a log nor steer a
/// terminal, and at most 60 characters.
pub fn quote(bytes: &[u8]) -> String {
    // Four bytes for each of the 60 characters and one more; a longer rest is never looked at.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(244)]);
    match text.char_indices().nth(60) {
        None => format!("{text:?}"),
        Some((at, _)) => format!("{:?}...", &text[..at]),
    }
}
