use super::Block32;

/// Q4_1: d f16, m f16, 16 bytes of nibbles; y = d * q + m.
pub struct Q4_1;

impl Block32 for Q4_1 {
    const BYTES: usize = 20;
    const HAS_MIN: bool = true;
    const MAX_CODE: i32 = 15;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 32]) {
        super::nibbles(&block[4..20], codes);
    }
}
