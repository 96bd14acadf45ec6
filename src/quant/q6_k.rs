use super::{Block256, Codes};

/// Q6_K: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d f16;
/// y = d * scale * (q - 32).
pub struct Q6K;

impl Codes for Q6K {
    const MAX_CODE: Option<i32> = Some(63);
    const OFFSET: i32 = 32;
}

impl Block256 for Q6K {
    const BYTES: usize = 210;
    const GROUP: usize = 16;
    const D_AT: usize = 208;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 256]) {
        // Halves of 128; in each, four runs of 32: low nibbles of the first and second 32 bytes, then
        // their high nibbles. Run r takes its two high bits from bits 2r of the same 32 bytes of qh.
        for (half, codes) in codes.chunks_exact_mut(128).enumerate() {
            let ql = &block[64 * half..64 * half + 64];
            let qh = &block[128 + 32 * half..128 + 32 * half + 32];
            for l in 0..32 {
                let high = |run: u32| (qh[l] >> (2 * run) & 3) << 4;
                codes[l] = (ql[l] & 15 | high(0)) as i8;
                codes[l + 32] = (ql[l + 32] & 15 | high(1)) as i8;
                codes[l + 64] = (ql[l] >> 4 | high(2)) as i8;
                codes[l + 96] = (ql[l + 32] >> 4 | high(3)) as i8;
            }
        }
    }

    #[inline(always)]
    fn scales(block: &[u8], scales: &mut [i8; 16]) {
        for (scale, &b) in scales.iter_mut().zip(&block[192..208]) {
            *scale = b as i8;
        }
    }
}
