use super::{Block32, Codes};

/// Q8_0: d f16, 32 signed bytes; y = d * q. Quantisers write -127..=127, a file may hold -128.
pub struct Q8_0;

impl Codes for Q8_0 {
    const MAX_CODE: Option<i32> = None;
}

impl Block32 for Q8_0 {
    const BYTES: usize = 34;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 32]) {
        for (q, &b) in codes.iter_mut().zip(&block[2..34]) {
            *q = b as i8;
        }
    }
}
