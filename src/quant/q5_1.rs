use super::q5_0::add_fifth_bits;
use super::{Block32, Codes};

/// Q5_1: d f16, m f16, 32 fifth bits, 16 bytes of nibbles; y = d * q + m.
pub struct Q5_1;

impl Codes for Q5_1 {
    const MAX_CODE: Option<i32> = Some(31);
}

impl Block32 for Q5_1 {
    const BYTES: usize = 24;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 32]) {
        super::nibbles(&block[8..24], codes);
        add_fifth_bits(&block[4..8], codes);
    }
}
