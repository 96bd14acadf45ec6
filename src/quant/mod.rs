//! Block formats of GGUF tensors: sizes, layout, and the scalar dequantise that every kernel is tested against.
//!
//! One file per format. A format is described once, by how a block yields small integer codes and
//! their scales ([`Block32`], [`Block256`]); dequantising is written once for each of the two shapes.
//! Values come out bit for bit as the `gguf` reference package computes them, which fixes the order
//! of the f32 operations.
//!
//! Deliberately absent: quantising of weights (files arrive quantised) except to [`Coarse3`], which no file has; anything
//! that depends on the CPU, and threads.

mod block256;
mod block32;
mod coarse3;
mod float;
mod interleaved;
mod iq4_nl;
mod iq4_xs;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
#[cfg(test)]
pub(crate) mod tests;

pub use block32::Block32;
pub use block256::Block256;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use block256::unpack_scales_and_mins;
pub use coarse3::Coarse3;
pub use interleaved::{INTERLEAVED_ROWS, can_interleave, interleave, row_of};
pub use iq4_nl::{IQ4_VALUES, Iq4Nl};
pub use iq4_xs::Iq4Xs;
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q4_k::Q4K;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q5_k::Q5K;
pub use q6_k::Q6K;
pub use q8_0::Q8_0;

use half::f16;

/// How the elements of a tensor row are stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BlockFormat {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// Upper half of an F32.
    Bf16,
    /// 32 elements of 4 bits and a scale.
    Q4_0,
    /// 32 elements of 4 bits, a scale and an offset.
    Q4_1,
    /// 32 elements of 5 bits and a scale.
    Q5_0,
    /// 32 elements of 5 bits, a scale and an offset.
    Q5_1,
    /// 32 elements of 8 bits and a scale.
    Q8_0,
    /// 256 elements of 4 bits in groups of 32 with scale and minimum.
    Q4K,
    /// 256 elements of 5 bits in groups of 32 with scale and minimum.
    Q5K,
    /// 256 elements of 6 bits in groups of 16 with a scale.
    Q6K,
    /// 32 elements of 4 bits that index a table, and a scale.
    Iq4Nl,
    /// 256 elements of 4 bits that index a table, in groups of 32 with a scale.
    Iq4Xs,
    /// 32 elements of 3 bits and a scale: made in memory, in no file.
    Coarse3,
}

/// Runs `$body` with `$B` bound to the type that describes a 32-element format; `None` for all other formats.
macro_rules! with_block32 {
    ($format:expr, $B:ident => $body:expr) => {
        match $format {
            $crate::quant::BlockFormat::Q4_0 => Some({
                type $B = $crate::quant::Q4_0;
                $body
            }),
            $crate::quant::BlockFormat::Q4_1 => Some({
                type $B = $crate::quant::Q4_1;
                $body
            }),
            $crate::quant::BlockFormat::Q5_0 => Some({
                type $B = $crate::quant::Q5_0;
                $body
            }),
            $crate::quant::BlockFormat::Q5_1 => Some({
                type $B = $crate::quant::Q5_1;
                $body
            }),
            $crate::quant::BlockFormat::Q8_0 => Some({
                type $B = $crate::quant::Q8_0;
                $body
            }),
            $crate::quant::BlockFormat::Iq4Nl => Some({
                type $B = $crate::quant::Iq4Nl;
                $body
            }),
            $crate::quant::BlockFormat::Coarse3 => Some({
                type $B = $crate::quant::Coarse3;
                $body
            }),
            _ => None,
        }
    };
}

/// The same for the 256-element formats.
macro_rules! with_block256 {
    ($format:expr, $B:ident => $body:expr) => {
        match $format {
            $crate::quant::BlockFormat::Q4K => Some({
                type $B = $crate::quant::Q4K;
                $body
            }),
            $crate::quant::BlockFormat::Q5K => Some({
                type $B = $crate::quant::Q5K;
                $body
            }),
            $crate::quant::BlockFormat::Q6K => Some({
                type $B = $crate::quant::Q6K;
                $body
            }),
            $crate::quant::BlockFormat::Iq4Xs => Some({
                type $B = $crate::quant::Iq4Xs;
                $body
            }),
            _ => None,
        }
    };
}
pub(crate) use {with_block32, with_block256};

impl BlockFormat {
    /// Every format that files have, in the order of the enum.
    pub const ALL: [BlockFormat; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
    ];

    /// The format of a GGUF tensor type id, `None` for ids that are not supported.
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.ggml_id() == Some(id))
    }

    /// The GGUF tensor type id, if files have the format.
    pub const fn ggml_id(self) -> Option<u32> {
        let id = match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 30,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Iq4Nl => 20,
            Self::Iq4Xs => 23,
            Self::Coarse3 => return None,
        };
        Some(id)
    }

    /// The name that GGUF tools print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
            Self::Coarse3 => "Coarse3",
        }
    }

    /// The names of all formats that files have, as part of a message: `F32, F16, ... or IQ4_XS`.
    pub fn names() -> String {
        let names = Self::ALL.map(Self::name);
        let (last, others) = names.split_last().expect("there are formats");
        format!("{} or {last}", others.join(", "))
    }

    /// Elements in one block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl | Self::Coarse3 => {
                32
            }
            Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => Q4_0::BYTES,
            Self::Q4_1 => Q4_1::BYTES,
            Self::Q5_0 => Q5_0::BYTES,
            Self::Q5_1 => Q5_1::BYTES,
            Self::Q8_0 => Q8_0::BYTES,
            Self::Q4K => Q4K::BYTES,
            Self::Q5K => Q5K::BYTES,
            Self::Q6K => Q6K::BYTES,
            Self::Iq4Nl => Iq4Nl::BYTES,
            Self::Iq4Xs => Iq4Xs::BYTES,
            Self::Coarse3 => Coarse3::BYTES,
        }
    }

    /// Bytes of a row of `n_cols` elements; `None` unless `n_cols` is a multiple of
    /// [`block_len`](Self::block_len) and the product fits.
    pub fn row_bytes(self, n_cols: usize) -> Option<usize> {
        if n_cols.is_multiple_of(self.block_len()) {
            (n_cols / self.block_len()).checked_mul(self.block_bytes())
        } else {
            None
        }
    }

    /// Writes the values of `blocks` to `out`.
    ///
    /// # Panics
    /// If `blocks` is not exactly the bytes of `out.len()` elements.
    pub fn dequantize(self, blocks: &[u8], out: &mut [f32]) {
        assert_eq!(
            self.row_bytes(out.len()),
            Some(blocks.len()),
            "{} bytes for {} elements of {}",
            blocks.len(),
            out.len(),
            self.name()
        );
        match self {
            Self::F32 => float::dequantize_f32(blocks, out),
            Self::F16 => float::dequantize_f16(blocks, out),
            Self::Bf16 => float::dequantize_bf16(blocks, out),
            _ => {
                let done = with_block32!(self, B => block32::dequantize::<B>(blocks, out))
                    .or_else(|| with_block256!(self, B => block256::dequantize::<B>(blocks, out)));
                assert!(done.is_some(), "{} has no block description", self.name());
            }
        }
    }
}

/// What GGUF tools call a tensor type: a name, for types too that nothing here computes with, or the number of
/// one that is not known at all.
pub fn type_name(ggml_id: u32) -> String {
    let known = BlockFormat::from_ggml_id(ggml_id).map(BlockFormat::name);
    let other = || OTHER_TYPES.iter().find(|(id, _)| *id == ggml_id).map(|(_, name)| *name);
    known.or_else(other).map_or_else(|| ggml_id.to_string(), str::to_owned)
}

/// Tensor types of the format that have no kernels here.
const OTHER_TYPES: [(u32, &str); 19] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

/// The small integers that a quantised format stores.
pub trait Codes {
    /// Largest code, `None` if codes are signed.
    const MAX_CODE: Option<i32>;
    /// What is taken off every code to get the integer that the scale multiplies.
    const OFFSET: i32 = 0;
}

/// The f16 at byte `at` of a block, widened exactly.
#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Codes of 16 bytes of nibbles: byte j holds element j low and element j+16 high.
#[inline(always)]
fn nibbles(qs: &[u8], codes: &mut [i8]) {
    for (j, &b) in qs[..16].iter().enumerate() {
        codes[j] = (b & 15) as i8;
        codes[j + 16] = (b >> 4) as i8;
    }
}
