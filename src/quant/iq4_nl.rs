use super::{Block32, Codes};

/// What the 16 codes of IQ4_NL and IQ4_XS stand for.
pub const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// IQ4_NL: d f16, 16 bytes of nibbles; y = d * IQ4_VALUES\[nibble\].
pub struct Iq4Nl;

impl Codes for Iq4Nl {
    const MAX_CODE: Option<i32> = None;
}

impl Block32 for Iq4Nl {
    const BYTES: usize = 18;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 32]) {
        super::nibbles(&block[2..18], codes);
        look_up(codes);
    }
}

/// Replaces nibbles by what they stand for.
#[inline(always)]
pub(super) fn look_up(codes: &mut [i8]) {
    for q in codes {
        *q = IQ4_VALUES[(*q & 15) as usize];
    }
}
