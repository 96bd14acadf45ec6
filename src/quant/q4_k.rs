use super::block256::scales_and_mins;
use super::{Block256, Codes};

/// Q4_K: d f16, dmin f16, 12 bytes of scales and minima, 128 bytes of nibbles; y = d * scale * q - dmin * min.
pub struct Q4K;

impl Codes for Q4K {
    const MAX_CODE: Option<i32> = Some(15);
}

impl Block256 for Q4K {
    const BYTES: usize = 144;
    const GROUP: usize = 32;
    const HAS_MIN: bool = true;
    const D_AT: usize = 0;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 256]) {
        nibbles(&block[16..144], codes);
    }

    #[inline(always)]
    fn scales(block: &[u8], scales: &mut [i8; 16]) {
        scales[..8].copy_from_slice(&scales_and_mins(block).0.map(|s| s as i8));
    }

    #[inline(always)]
    fn mins(block: &[u8], mins: &mut [i8; 16]) {
        mins[..8].copy_from_slice(&scales_and_mins(block).1.map(|m| m as i8));
    }
}

/// 32 bytes hold two groups of 32: the even one in the low nibbles, the odd one in the high nibbles.
#[inline(always)]
pub(super) fn nibbles(qs: &[u8], codes: &mut [i8; 256]) {
    for (qs, codes) in qs.chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
        for (i, &b) in qs.iter().enumerate() {
            codes[i] = (b & 15) as i8;
            codes[i + 32] = (b >> 4) as i8;
        }
    }
}
