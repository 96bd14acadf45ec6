use super::Block256;
use super::block256::scale_min;

/// Q4_K: d f16, dmin f16, 12 bytes of scales and minima, 128 bytes of nibbles; y = d * scale * q - dmin * min.
pub struct Q4K;

impl Block256 for Q4K {
    const BYTES: usize = 144;
    const GROUP: usize = 32;
    const HAS_MIN: bool = true;
    const MAX_CODE: i32 = 15;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 256]) {
        nibbles(&block[16..144], codes);
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
