//! The shape of formats with 256 elements a block: groups with small integer scales under one f16 scale.

use super::Codes;

/// A format of 256 elements a block. The value of element i, in group g = i / GROUP, is
/// `d * scale[g] * (code[i] - OFFSET)`, less `dmin * min[g]` if [`HAS_MIN`](Self::HAS_MIN).
pub trait Block256: Codes {
    /// Bytes of a block.
    const BYTES: usize;
    /// Elements that share a scale: 16 or 32.
    const GROUP: usize;
    /// Whether groups carry a minimum beside the scale.
    const HAS_MIN: bool = false;
    /// Where the f16 scale stands in a block; with minima, their scale follows it.
    const D_AT: usize;

    /// Unpacks the codes of `block` ([`BYTES`](Self::BYTES) long).
    fn codes(block: &[u8], codes: &mut [i8; 256]);

    /// The scale of each group; the first 256 / GROUP entries are written.
    fn scales(block: &[u8], scales: &mut [i8; 16]);

    /// The minimum of each group; nothing is written without [`HAS_MIN`](Self::HAS_MIN).
    #[inline(always)]
    fn mins(_block: &[u8], _mins: &mut [i8; 16]) {}

    /// The scale of the group scales.
    #[inline(always)]
    fn d(block: &[u8]) -> f32 {
        super::half_at(block, Self::D_AT)
    }

    /// The scale of the group minima, 0 without [`HAS_MIN`](Self::HAS_MIN).
    #[inline(always)]
    fn dmin(block: &[u8]) -> f32 {
        if Self::HAS_MIN { super::half_at(block, Self::D_AT + 2) } else { 0.0 }
    }
}

pub(super) fn dequantize<B: Block256>(blocks: &[u8], out: &mut [f32]) {
    let mut codes = [0; 256];
    let (mut scales, mut mins) = ([0; 16], [0; 16]);
    for (block, out) in blocks.chunks_exact(B::BYTES).zip(out.as_chunks_mut::<256>().0) {
        B::codes(block, &mut codes);
        B::scales(block, &mut scales);
        B::mins(block, &mut mins);
        let (d, dmin) = (B::d(block), B::dmin(block));
        let groups = out.chunks_exact_mut(B::GROUP).zip(codes.chunks_exact(B::GROUP));
        for ((out, codes), (&scale, &min)) in groups.zip(scales.iter().zip(&mins)) {
            let (d, min) = (d * f32::from(scale), dmin * f32::from(min));
            for (y, &q) in out.iter_mut().zip(codes) {
                // Without minima this subtracts +0, which changes no value, not even -0.
                *y = d * (i32::from(q) - B::OFFSET) as f32 - min;
            }
        }
    }
}

/// The eight scales and the eight minima, one a byte, that Q4_K and Q5_K pack in 12 bytes of 6 bits each.
#[inline(always)]
pub(crate) fn unpack_scales_and_mins(packed: [u8; 12]) -> ([u8; 8], [u8; 8]) {
    let word = |i: usize| u32::from_le_bytes([packed[i], packed[i + 1], packed[i + 2], packed[i + 3]]);
    let (a, b, c) = (word(0), word(4), word(8));
    // Groups 0..4 stand in the low 6 bits of the first and second word. Groups 4..8 have their low 4
    // bits in the nibbles of the third and their high 2 bits on top of the other two.
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let scales = join(a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | a >> 2 & 0x3030_3030);
    let mins = join(b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | b >> 2 & 0x3030_3030);
    (scales.to_le_bytes(), mins.to_le_bytes())
}

/// Scales and minima of a block that begins as Q4_K does.
#[inline(always)]
pub(super) fn scales_and_mins(block: &[u8]) -> ([u8; 8], [u8; 8]) {
    unpack_scales_and_mins(std::array::from_fn(|i| block[4 + i]))
}
