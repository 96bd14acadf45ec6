//! Text to values. Every error is the problem and the advice, to be joined with place and option.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::model::KvType;

/// What is wrong with a text, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) problem: String,
    pub(super) advice: String,
}

fn fault<T>(problem: impl Into<String>, advice: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { problem: problem.into(), advice: advice.into() })
}

/// A count within `range`.
pub(super) fn parse_count(text: &str, range: RangeInclusive<usize>) -> Result<usize, Fault> {
    let advice = format!("give a number from {} to {}", range.start(), range.end());
    match text.trim().parse::<usize>() {
        Ok(count) if range.contains(&count) => Ok(count),
        Ok(_) => fault("out of range", advice),
        Err(_) => fault("not a whole number", advice),
    }
}

/// `true` or `false`, also `1` and `0` as environments have it.
pub(super) fn parse_bool(text: &str) -> Result<bool, Fault> {
    match text.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => fault("neither true nor false", "give true or false"),
    }
}

/// An IP address with its port.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, Fault> {
    let advice = "give IP:PORT, as in 127.0.0.1:50051 or [::1]:50051";
    text.trim().parse().or_else(|_| fault("not an IP address with a port", advice))
}

/// One word of a fixed set.
pub(super) fn parse_word<T: FromStr>(text: &str, words: &str) -> Result<T, Fault> {
    text.trim().parse().or_else(|_| fault("not a known word", format!("give one of {words}")))
}

/// The element type of the KV cache.
pub(super) fn parse_kv_type(text: &str) -> Result<KvType, Fault> {
    match text.trim() {
        "f16" => Ok(KvType::F16),
        "q8_0" => Ok(KvType::Q8_0),
        _ => fault("not a known word", "give f16 or q8_0"),
    }
}

const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Fraction digits that are looked at: enough for every byte of the largest unit.
const MAX_FRACTION_DIGITS: usize = 12;

/// A number of bytes: `1073741824`, `512MiB`, `1.5 GB`. Units of 1000 and of 1024, case-insensitive;
/// a fraction of a byte is dropped. The error is one phrase.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let n_number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..n_number], text[n_number..].trim_start());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return Err("not a number of bytes".to_owned());
    }
    if matches!(unit, "K" | "k" | "M" | "m" | "G" | "g" | "T" | "t") {
        return Err(format!("{unit} alone could mean 1000 or 1024"));
    }
    let Some(&(_, scale)) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
        return Err(format!("unknown unit {unit}"));
    };
    let whole: u64 = whole.parse().map_err(|_| "more than 64 bits hold".to_owned())?;
    let fraction = &fraction[..fraction.len().min(MAX_FRACTION_DIGITS)];
    let part = if fraction.is_empty() {
        0
    } else {
        // At most 12 digits by at most 10^12: 24 digits, which u128 holds.
        let numerator: u128 = fraction.parse().map_err(|_| "not a number of bytes".to_owned())?;
        (numerator * u128::from(scale) / 10u128.pow(fraction.len() as u32)) as u64
    };
    let bytes = whole.checked_mul(scale).and_then(|bytes| bytes.checked_add(part));
    bytes.ok_or_else(|| "more than 64 bits hold".to_owned())
}

/// [`parse_bytes`] with a lower bound.
pub(super) fn parse_byte_count(text: &str, min: u64) -> Result<u64, Fault> {
    let advice = "give bytes, or a number with a unit as in 512MiB or 1.5GB";
    match parse_bytes(text) {
        Ok(bytes) if bytes >= min => Ok(bytes),
        Ok(bytes) => fault(format!("{bytes} bytes are too few"), format!("give at least {min} bytes")),
        Err(problem) => fault(problem, advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sizes_in_every_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1073741824", 1 << 30),
            ("7B", 7),
            ("512MiB", 512 << 20),
            ("512 mib", 512 << 20),
            ("1.5GB", 1_500_000_000),
            ("1.5GiB", 3 << 29),
            ("0.1KiB", 102),
            ("2kB", 2000),
            ("0.000000000001TB", 1),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_byte_size_is_refused() {
        for text in [
            "",
            "MiB",
            ".5GB",
            "1.",
            "1.2.3",
            "-1",
            "1e9",
            "1 XB",
            "5M",
            "18446744073709551616",
            "99999999TB",
            "１",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(parse_bytes("5M"), Err("M alone could mean 1000 or 1024".to_owned()));
    }

    #[test]
    fn counts_keep_to_their_range() {
        assert_eq!(parse_count("8", 1..=8), Ok(8));
        for text in ["0", "9"] {
            assert_eq!(parse_count(text, 1..=8).unwrap_err().problem, "out of range");
        }
        for text in ["-1", "x", "", "4.5"] {
            assert_eq!(parse_count(text, 1..=8).unwrap_err().problem, "not a whole number", "{text}");
        }
    }
}
