//! The shape of formats with 256 elements a block: groups with small integer scales under one f16 scale.

/// A format of 256 elements a block. The value of element i, in group g = i / GROUP, is
/// `d * scale[g] * (code[i] - OFFSET)`, less `dmin * min[g]` if [`HAS_MIN`](Self::HAS_MIN).
pub trait Block256 {
    /// Bytes of a block.
    const BYTES: usize;
    /// Elements that share a scale: 16 or 32.
    const GROUP: usize;
    /// What is taken off every code. Zero where codes are signed already.
    const OFFSET: i32 = 0;
    /// Whether groups carry a minimum beside the scale.
    const HAS_MIN: bool = false;
    /// Largest code if codes are never negative, else 0 for signed codes.
    const MAX_CODE: i32;

    /// Unpacks the codes of `block` ([`BYTES`](Self::BYTES) long).
    fn codes(block: &[u8], codes: &mut [i8; 256]);

    /// The scale of each group; the first 256 / GROUP entries are written.
    fn scales(block: &[u8], scales: &mut [i8; 16]);

    /// The minimum of each group; nothing is written without [`HAS_MIN`](Self::HAS_MIN).
    #[inline(always)]
    fn mins(_block: &[u8], _mins: &mut [i8; 16]) {}

    /// The scale of the group scales.
    fn d(block: &[u8]) -> f32;

    /// The scale of the group minima, 0 without [`HAS_MIN`](Self::HAS_MIN).
    #[inline(always)]
    fn dmin(_block: &[u8]) -> f32 {
        0.0
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

/// Scale and minimum of group `g` (0..8), 6 bits each, from the 12 bytes that Q4_K and Q5_K share.
#[inline(always)]
pub(super) fn scale_min(s: &[u8], g: usize) -> (i8, i8) {
    let (scale, min) = if g < 4 {
        (s[g] & 63, s[g + 4] & 63)
    } else {
        ((s[g + 4] & 15) | (s[g - 4] >> 6) << 4, (s[g + 4] >> 4) | (s[g] >> 6) << 4)
    };
    (scale as i8, min as i8)
}
