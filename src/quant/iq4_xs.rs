use super::iq4_nl::look_up;
use super::{Block256, Codes};

/// IQ4_XS: d f16, high scale bits u16, 4 bytes of low scale bits, 128 bytes of nibbles; 8 groups of
/// 32, each laid out as in IQ4_NL; y = d * (scale - 32) * IQ4_VALUES\[nibble\].
pub struct Iq4Xs;

impl Codes for Iq4Xs {
    const MAX_CODE: Option<i32> = None;
}

impl Block256 for Iq4Xs {
    const BYTES: usize = 136;
    const GROUP: usize = 32;
    const D_AT: usize = 0;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 256]) {
        for (qs, codes) in block[8..136].chunks_exact(16).zip(codes.chunks_exact_mut(32)) {
            super::nibbles(qs, codes);
            look_up(codes);
        }
    }

    #[inline(always)]
    fn scales(block: &[u8], scales: &mut [i8; 16]) {
        let high = u16::from_le_bytes([block[2], block[3]]);
        for (g, scale) in scales[..8].iter_mut().enumerate() {
            let low = block[4 + g / 2] >> (4 * (g % 2)) & 15;
            *scale = (low | ((high >> (2 * g) & 3) << 4) as u8) as i8 - 32;
        }
    }
}
