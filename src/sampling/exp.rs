//! The exponential of a number that is not positive, bit for bit the same on every platform.

/// e^x for x <= 0, within 2 units in the last place; 0 below -700 (where no sum notices) and for -inf.
///
/// Argument reduction x = k ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, Cody and Waite 1980), the
/// Taylor series of e^r to r^13 by Horner's rule, then a multiplication by 2^k. IEEE additions and
/// multiplications are exact to the bit everywhere, and Rust never fuses them by itself.
pub(super) fn exp(x: f64) -> f64 {
    // The upper part ends in 21 zero bits, so that k * LN2_HI is exact for |k| < 2^21.
    const LN2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN2_LO: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
    debug_assert!(x <= 0.0);
    if x <= -700.0 {
        return 0.0;
    }
    let k = (x * std::f64::consts::LOG2_E + 0.5).floor();
    let r = (x - k * LN2_HI) - k * LN2_LO;
    let mut sum = 1.0 / 6_227_020_800.0;
    for inverse_factorial in [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * r + inverse_factorial;
    }
    // -1010 <= k <= 0, so 2^k is a normal number.
    sum * f64::from_bits(((1023 + k as i64) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn agrees_with_the_system() {
        for i in 0..200_000 {
            let x = -f64::from(i) * 0.003_7;
            let (got, want) = (exp(x), x.exp());
            if x > -700.0 {
                assert!((got - want).abs() <= want * 5e-16, "{x}: {got} {want}");
            } else {
                assert_eq!(got, 0.0);
            }
        }
    }

    #[test]
    fn edges() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e300), 0.0);
        assert_eq!(exp(-700.0), 0.0);
        // A few exact results: another compiler, platform or flag that changes a bit fails here.
        assert_eq!(exp(-1.0).to_bits(), 0x3fd7_8b56_362c_ef38);
        assert_eq!(exp(-0.1).to_bits(), 0x3fec_f46d_99d5_2b3a);
        assert_eq!(exp(-30.3).to_bits(), 0x3d33_833f_323d_bf98);
    }
}
