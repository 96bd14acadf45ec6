use super::block256::scales_and_mins;
use super::{Block256, Codes, q4_k};

/// Q5_K: as Q4_K, with 32 bytes of fifth bits before the nibbles: bit g of byte i belongs to element i of group g.
pub struct Q5K;

impl Codes for Q5K {
    const MAX_CODE: Option<i32> = Some(31);
}

impl Block256 for Q5K {
    const BYTES: usize = 176;
    const GROUP: usize = 32;
    const HAS_MIN: bool = true;
    const D_AT: usize = 0;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 256]) {
        q4_k::nibbles(&block[48..176], codes);
        for (g, codes) in codes.chunks_exact_mut(32).enumerate() {
            for (q, &high) in codes.iter_mut().zip(&block[16..48]) {
                *q |= ((high >> g & 1) << 4) as i8;
            }
        }
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
