use super::{Block32, Codes};

/// Q4_0: d f16, 16 bytes of nibbles; y = d * (q - 8).
pub struct Q4_0;

impl Codes for Q4_0 {
    const MAX_CODE: Option<i32> = Some(15);
    const OFFSET: i32 = 8;
}

impl Block32 for Q4_0 {
    const BYTES: usize = 18;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 32]) {
        super::nibbles(&block[2..18], codes);
    }
}
