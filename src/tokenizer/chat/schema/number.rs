//! Numbers, compared and divided exactly: 0.3 is a multiple of 0.1, and 9007199254740993 is above 9007199254740992.

use std::cmp::Ordering;

use serde_json::Number;

/// Digits and the power of ten that they count. The texts of numbers are decimal, and readers take them as such.
fn decimal(n: &Number) -> Option<(i128, i32)> {
    let text = n.to_string();
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text.as_str(), 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let n_part = i32::try_from(part.len()).ok()?;
    let mut value: i128 = format!("{whole}{part}").parse().ok()?;
    let mut exponent = exponent - n_part;
    while value != 0 && value % 10 == 0 {
        (value, exponent) = (value / 10, exponent + 1);
    }
    Some(if value == 0 { (0, 0) } else { (value, exponent) })
}

/// Both as counts of one power of ten; `None` where they are too far from each other.
fn aligned(a: &Number, b: &Number) -> Option<(i128, i128)> {
    let ((a, a_exponent), (b, b_exponent)) = (decimal(a)?, decimal(b)?);
    if a == 0 || b == 0 {
        return Some((a, b));
    }
    let least = a_exponent.min(b_exponent);
    let scaled = |n: i128, exponent: i32| {
        let factor = 10_i128.checked_pow(u32::try_from(exponent.checked_sub(least)?).ok()?)?;
        n.checked_mul(factor)
    };
    Some((scaled(a, a_exponent)?, scaled(b, b_exponent)?))
}

/// Which one is larger.
pub(super) fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match aligned(a, b) {
        Some((a, b)) => Some(a.cmp(&b)),
        // So far from each other that rounding changes nothing.
        None => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// Whether `n` is a whole number of times `of`; `None` where this cannot be told.
pub(super) fn is_multiple(n: &Number, of: &Number) -> Option<bool> {
    let (n, of) = aligned(n, of)?;
    n.checked_rem(of).map(|rest| rest == 0)
}

/// Whether it is a whole number, however it is written.
pub(super) fn is_whole(n: &Number) -> bool {
    n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|n| n.fract() == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_are_compared_by_their_digits() {
        for (a, b, order) in [
            ("1", "1.0", Ordering::Equal),
            ("0", "-0.0", Ordering::Equal),
            ("9007199254740993", "9007199254740992.0", Ordering::Greater),
            ("18446744073709551615", "1e19", Ordering::Greater),
            ("-1e300", "1", Ordering::Less),
            ("1e-300", "1e300", Ordering::Less),
            ("0.30000000000000004", "0.3", Ordering::Greater),
            ("100", "1e2", Ordering::Equal),
        ] {
            assert_eq!(compare(&number(a), &number(b)), Some(order), "{a} {b}");
            assert_eq!(compare(&number(b), &number(a)), Some(order.reverse()), "{b} {a}");
        }
    }

    #[test]
    fn multiples_are_decimal() {
        for (n, of, is) in [
            ("0.3", "0.1", Some(true)),
            ("0.35", "0.1", Some(false)),
            ("0", "0.7", Some(true)),
            ("7", "2", Some(false)),
            ("-4", "2", Some(true)),
            ("1e20", "5", Some(true)),
            ("1e300", "3", None),
        ] {
            assert_eq!(is_multiple(&number(n), &number(of)), is, "{n} {of}");
        }
    }
}
