//! The shape of formats with 32 elements a block: one scale, perhaps one offset.

use super::Codes;

/// A format of 32 elements a block. The value of element i is `d * (code[i] - OFFSET)`, plus `m` if
/// [`HAS_MIN`](Self::HAS_MIN).
pub trait Block32: Codes {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether blocks carry an offset `m` beside the scale.
    const HAS_MIN: bool = false;

    /// Unpacks the codes of `block` ([`BYTES`](Self::BYTES) long).
    fn codes(block: &[u8], codes: &mut [i8; 32]);

    /// The scale.
    #[inline(always)]
    fn d(block: &[u8]) -> f32 {
        super::half_at(block, 0)
    }

    /// The offset, 0 without [`HAS_MIN`](Self::HAS_MIN).
    #[inline(always)]
    fn m(block: &[u8]) -> f32 {
        if Self::HAS_MIN { super::half_at(block, 2) } else { 0.0 }
    }
}

pub(super) fn dequantize<B: Block32>(blocks: &[u8], out: &mut [f32]) {
    let mut codes = [0; 32];
    for (block, out) in blocks.chunks_exact(B::BYTES).zip(out.as_chunks_mut::<32>().0) {
        B::codes(block, &mut codes);
        let (d, m) = (B::d(block), B::m(block));
        for (y, &q) in out.iter_mut().zip(&codes) {
            let scaled = d * (i32::from(q) - B::OFFSET) as f32;
            // Adding a zero would turn -0 into +0.
            *y = if B::HAS_MIN { scaled + m } else { scaled };
        }
    }
}
