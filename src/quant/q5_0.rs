use super::{Block32, Codes};

/// Q5_0: d f16, 32 fifth bits (bit n belongs to element n), 16 bytes of nibbles; y = d * (q - 16).
pub struct Q5_0;

impl Codes for Q5_0 {
    const MAX_CODE: Option<i32> = Some(31);
    const OFFSET: i32 = 16;
}

impl Block32 for Q5_0 {
    const BYTES: usize = 22;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 32]) {
        super::nibbles(&block[6..22], codes);
        add_fifth_bits(&block[2..6], codes);
    }
}

/// Adds 16 to code n where bit n of the little-endian word `qh` is set.
#[inline(always)]
pub(super) fn add_fifth_bits(qh: &[u8], codes: &mut [i8; 32]) {
    let qh = u32::from_le_bytes([qh[0], qh[1], qh[2], qh[3]]);
    for (n, q) in codes.iter_mut().enumerate() {
        *q |= ((qh >> n & 1) << 4) as i8;
    }
}
