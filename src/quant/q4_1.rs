use super::{Block32, Codes};

/// Q4_1: d f16, m f16, 16 bytes of nibbles; y = d * q + m.
pub struct Q4_1;

impl Codes for Q4_1 {
    const MAX_CODE: Option<i32> = Some(15);
}

impl Block32 for Q4_1 {
    const BYTES: usize = 20;
    const HAS_MIN: bool = true;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 32]) {
        super::nibbles(&block[4..20], codes);
    }
}
