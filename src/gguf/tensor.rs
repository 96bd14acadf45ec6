//! The tensor table: names, shapes, types and checked byte ranges.

use std::io::Read;

use crate::quant::{self, BlockFormat};

use super::MAX_TENSOR_NAME_BYTES;
use super::error::{GgufError, Place};
use super::source::Source;

/// Name with its length (at least one byte), number of dimensions, one dimension, type, offset.
pub(super) const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;
const MAX_DIMS: usize = 4;

/// Where a tensor lies and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique in the model, printable ASCII of at most 63 bytes.
    pub name: String,
    dims: [u64; MAX_DIMS],
    n_dims: u8,
    /// Type number as the file has it; see [`format`](Self::format).
    pub type_id: u32,
    /// Which part of a split model holds it, from 0.
    pub part: usize,
    /// Absolute offset of its first byte in that part's file: a multiple of the file's alignment
    /// (which may be as small as 1), no more.
    pub offset: u64,
    /// Bytes it takes; `None` if the type is unknown here.
    pub n_bytes: Option<u64>,
}

impl TensorInfo {
    /// The block format, if the type is one that can be computed with.
    pub fn format(&self) -> Option<BlockFormat> {
        BlockFormat::from_ggml_id(self.type_id)
    }

    /// The name of its type, as messages have it.
    pub fn type_name(&self) -> String {
        quant::type_name(self.type_id)
    }

    /// One to four dimensions, innermost (row length) first, each at least 1.
    pub fn dims(&self) -> &[u64] {
        &self.dims[..usize::from(self.n_dims)]
    }

    /// Number of elements: the product of the dimensions.
    pub fn n_elements(&self) -> u64 {
        self.dims().iter().product()
    }
}

/// Reads the table and checks every tensor against the data section, which begins at the next
/// multiple of `alignment` and ends with the file.
pub(super) fn read(
    src: &mut Source<'_, impl Read>,
    n_tensors: u64,
    alignment: u64,
    file_len: u64,
) -> Result<Vec<TensorInfo>, GgufError> {
    let mut tensors = Vec::new();
    for index in 0..n_tensors {
        src.enter(Place::Tensor { index, name: String::new() });
        let name = src.name(MAX_TENSOR_NAME_BYTES)?;
        src.enter(Place::Tensor { index, name: name.clone() });
        tensors.push(read_entry(src, name)?);
    }
    // Trailing padding may be absent when there is no data: nothing to check then.
    if tensors.is_empty() {
        return Ok(tensors);
    }
    let data_start = src.pos().next_multiple_of(alignment);
    let section_len = file_len.saturating_sub(data_start);
    for t in &mut tensors {
        place_in_section(t, data_start, section_len, alignment)?;
    }
    refuse_overlaps(&tensors)?;
    tensors.shrink_to_fit();
    Ok(tensors)
}

/// One row of the table after its name; `offset` is still relative to the data section.
fn read_entry(src: &mut Source<'_, impl Read>, name: String) -> Result<TensorInfo, GgufError> {
    let offset = src.pos();
    let n_dims = src.u32()?;
    if n_dims == 0 || n_dims as usize > MAX_DIMS {
        return Err(GgufError::DimCount { name, offset, n_dims });
    }
    let mut dims = [1; MAX_DIMS];
    for d in &mut dims[..n_dims as usize] {
        *d = src.u64()?;
    }
    let type_id = src.u32()?;
    let offset = src.u64()?;
    let mut tensor = TensorInfo { name, dims, n_dims: n_dims as u8, type_id, part: 0, offset, n_bytes: None };
    tensor.n_bytes = byte_size(&tensor)?;
    Ok(tensor)
}

/// Bytes of the tensor, `None` for an unknown type; refuses shapes that its type cannot have.
fn byte_size(t: &TensorInfo) -> Result<Option<u64>, GgufError> {
    let wrong = |problem| {
        let (name, type_name) = (t.name.clone(), t.type_name());
        GgufError::Shape { name, dims: t.dims().to_vec(), type_name, problem }
    };
    if t.dims().contains(&0) {
        return Err(wrong("has a dimension of zero"));
    }
    let n_elements = t.dims().iter().try_fold(1u64, |product, &d| product.checked_mul(d));
    let n_elements = n_elements.ok_or_else(|| wrong("has more elements than 64 bits count"))?;
    let Some(format) = t.format() else { return Ok(None) };
    let (block_len, block_bytes) = (format.block_len() as u64, format.block_bytes() as u64);
    if !t.dims[0].is_multiple_of(block_len) {
        return Err(wrong("does not divide its rows into whole blocks"));
    }
    let n_bytes = (n_elements / block_len).checked_mul(block_bytes);
    Ok(Some(n_bytes.ok_or_else(|| wrong("has more bytes than 64 bits count"))?))
}

/// Bytes that the tensor takes at least: no type has less than a bit for an element.
fn least_bytes(t: &TensorInfo) -> u64 {
    t.n_bytes.unwrap_or(t.n_elements().div_ceil(8))
}

/// Checks the relative offset and makes it absolute.
fn place_in_section(
    t: &mut TensorInfo,
    data_start: u64,
    section_len: u64,
    alignment: u64,
) -> Result<(), GgufError> {
    let offset = t.offset;
    if !offset.is_multiple_of(alignment) {
        return Err(GgufError::TensorAlignment { name: t.name.clone(), offset, alignment });
    }
    let n_bytes = least_bytes(t);
    if offset.checked_add(n_bytes).is_none_or(|end| end > section_len) {
        return Err(GgufError::TensorBounds { name: t.name.clone(), offset, n_bytes, section_len });
    }
    t.offset = data_start + offset;
    Ok(())
}

/// Refuses two tensors that share a byte.
fn refuse_overlaps(tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_unstable_by_key(|t| t.offset);
    for pair in by_offset.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        if first.offset + least_bytes(first) > second.offset {
            return Err(GgufError::Overlap {
                first: first.name.clone(),
                second: second.name.clone(),
                offset: second.offset,
            });
        }
    }
    Ok(())
}
