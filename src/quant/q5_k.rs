use super::block256::scale_min;
use super::{Block256, q4_k};

/// Q5_K: as Q4_K, with 32 bytes of fifth bits before the nibbles: bit g of byte i belongs to element i of group g.
pub struct Q5K;

impl Block256 for Q5K {
    const BYTES: usize = 176;
    const GROUP: usize = 32;
    const HAS_MIN: bool = true;
    const MAX_CODE: i32 = 31;

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
        for (g, scale) in scales[..8].iter_mut().enumerate() {
            *scale = scale_min(&block[4..16], g).0;
        }
    }

    #[inline(always)]
    fn mins(block: &[u8], mins: &mut [i8; 16]) {
        for (g, min) in mins[..8].iter_mut().enumerate() {
            *min = scale_min(&block[4..16], g).1;
        }
    }

    #[inline(always)]
    fn d(block: &[u8]) -> f32 {
        super::half_at(block, 0)
    }

    #[inline(always)]
    fn dmin(block: &[u8]) -> f32 {
        super::half_at(block, 2)
    }
}
