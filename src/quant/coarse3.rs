use super::{Block32, Codes};
use half::f16;

/// Coarse3: d f16, 8 bytes with the two low bits of each code, 4 bytes with the high ones; y = d * (2 * q - 7).
///
/// No file has it. [`crate::ops::CoarseMatrix`] keeps weights so a second time, to find out which of the exact ones are worth
/// reading. Steps lie on both sides of zero alike, so that all eight are of use.
///
/// Byte j of the low bits holds elements j, j + 8, j + 16 and j + 24, lowest bits first. Bit i of byte j of the high ones belongs to
/// element 4 * i + j. So the bytes at one place are always four neighbours, which is what vectors of interleaved rows take.
pub struct Coarse3;

/// Codes are handed out doubled, as the offset is an odd number of half steps.
impl Codes for Coarse3 {
    const MAX_CODE: Option<i32> = Some(14);
    const OFFSET: i32 = 7;
}

impl Block32 for Coarse3 {
    const BYTES: usize = 14;

    #[inline(always)]
    fn codes(block: &[u8], codes: &mut [i8; 32]) {
        let (low, high) = (&block[2..10], &block[10..14]);
        for (n, q) in codes.iter_mut().enumerate() {
            let low = low[n % 8] >> (2 * (n / 8)) & 3;
            let high = high[n % 4] >> (n / 4) & 1;
            *q = (2 * low + 8 * high) as i8;
        }
    }
}

/// Half of the step with which eight levels lose least of values that are normally distributed, in standard deviations: the uniform
/// quantiser of Max (1960, "Quantizing for minimum distortion", table II).
const HALF_STEP: f32 = 0.293;

impl Coarse3 {
    /// Quantises 32 values to a block: with the step that fits their mean square, then with the one that fits those codes best.
    ///
    /// # Panics
    /// If the block is not [`BYTES`](Block32::BYTES) long.
    #[inline(always)]
    pub fn quantize(x: &[f32; 32], block: &mut [u8]) {
        assert_eq!(block.len(), Self::BYTES);
        let codes = codes(x, HALF_STEP * (dot(x, x) / 32.0).sqrt());
        let levels = codes.map(|q| (2 * q - 7) as f32);
        let d = f16::from_f32(dot(x, &levels) / dot(&levels, &levels));
        let (mut low, mut high) = (0_u64, 0_u32);
        for (n, q) in self::codes(x, d.to_f32()).into_iter().enumerate() {
            low |= (q as u64 & 3) << (8 * (n % 8) + 2 * (n / 8));
            high |= (q as u32 >> 2) << (8 * (n % 4) + n / 4);
        }
        block[..2].copy_from_slice(&d.to_le_bytes());
        block[2..10].copy_from_slice(&low.to_le_bytes());
        block[10..].copy_from_slice(&high.to_le_bytes());
    }
}

/// The sum of products, in eight partial sums, so that it fills a vector.
#[inline(always)]
fn dot(a: &[f32; 32], b: &[f32; 32]) -> f32 {
    let mut sums = [0.0; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}

/// The code of the nearest of -7, -5 .. 7 half steps for each value; any if steps are zero.
#[inline(always)]
fn codes(x: &[f32; 32], half_step: f32) -> [i32; 32] {
    let steps = if half_step == 0.0 { 0.0 } else { 0.5 / half_step };
    // Cutting off is rounding down where nothing is negative, and takes no call on processors without an instruction for it.
    x.map(|v| (v * steps + 4.0).clamp(0.0, 7.0) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::BlockFormat;

    #[test]
    fn values_become_the_nearest_levels() {
        let x: [f32; 32] = std::array::from_fn(|i| ((i * 37 % 64) as f32 - 31.5) / 16.0);
        let mut block = [0; Coarse3::BYTES];
        Coarse3::quantize(&x, &mut block);
        let mut back = [0.0; 32];
        BlockFormat::Coarse3.dequantize(&block, &mut back);
        let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
        assert!(d > 0.1 && d < 0.4, "{d}");
        for (x, back) in x.iter().zip(back) {
            let nearest = (-7..8)
                .step_by(2)
                .map(|l| d * l as f32)
                .min_by(|a, b| (a - x).abs().total_cmp(&(b - x).abs()));
            assert_eq!(Some(back), nearest, "{x}");
        }
    }

    #[test]
    fn blocks_without_a_spread_are_zero() {
        let mut block = [0xff; Coarse3::BYTES];
        Coarse3::quantize(&[0.0; 32], &mut block);
        let mut back = [1.0; 32];
        BlockFormat::Coarse3.dequantize(&block, &mut back);
        assert_eq!(back, [0.0; 32]);
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            let mut x = [0.5; 32];
            x[7] = bad;
            let mut block = [0; Coarse3::BYTES];
            Coarse3::quantize(&x, &mut block);
            let mut back = [0.0; 32];
            BlockFormat::Coarse3.dequantize(&block, &mut back);
            assert!(back.iter().all(|v| !v.is_finite()), "{bad}: {back:?}");
        }
    }
}
