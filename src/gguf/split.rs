//! Models split over several files: `name-00001-of-00003.gguf` and so on.
//!
//! Every part is a whole GGUF file with its own tensor table and data section. The first carries the
//! metadata; of the others only `split.*` is looked at.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::error::GgufError;
use super::{Gguf, MAX_ENTRIES};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Joins the directories of all parts, given in order. One file that is not split passes unchanged.
///
/// Checks that every part says its own number and the same count, that all are there, that the number
/// of tensors is what the first part says, and that no tensor name occurs twice.
///
/// # Panics
/// If `parts` is empty.
pub fn join(mut parts: Vec<Gguf>) -> Result<Gguf, GgufError> {
    assert!(!parts.is_empty(), "a model has at least one file");
    let n_parts = parts.len() as u64;
    for (part, gguf) in parts.iter().enumerate() {
        check(part, COUNT, gguf.n_parts()?.into(), n_parts)?;
        check(part, NO, gguf.metadata.opt_u64(NO)?.unwrap_or(0), part as u64)?;
    }
    if n_parts == 1 {
        return Ok(parts.remove(0));
    }
    let found: u64 = parts.iter().map(|p| p.tensors.len() as u64).sum();
    let expected = parts[0].metadata.u64(TENSORS)?;
    if expected != found {
        return Err(GgufError::SplitTensors { found, expected });
    }

    let mut parts = parts.into_iter();
    let first = parts.next().expect("checked above");
    let mut tensors = first.tensors;
    for (part, gguf) in (1..).zip(parts) {
        tensors.extend(gguf.tensors.into_iter().map(|mut t| {
            t.part = part;
            t
        }));
    }
    Gguf::assemble(first.metadata, first.version, first.alignment, tensors)
}

fn check(part: usize, key: &'static str, found: u64, expected: u64) -> Result<(), GgufError> {
    if found == expected { Ok(()) } else { Err(GgufError::Split { part, key, found, expected }) }
}

impl Gguf {
    /// How many files the model has according to this one: `split.count`. Absent or 0 is one file; the
    /// common tool writes 0 when it merges parts.
    pub fn n_parts(&self) -> Result<u32, GgufError> {
        match self.metadata.opt_u32(COUNT)?.unwrap_or(0).max(1) {
            count if u64::from(count) <= MAX_ENTRIES => Ok(count),
            count => Err(GgufError::KeyValue {
                key: COUNT.to_owned(),
                found: count.to_string(),
                expected: "at most 65536 files",
            }),
        }
    }
}

/// Path of part `no` (from 0) beside the part `path`; `None` if `path` is not named as a part or `no`
/// is not below its count.
pub fn part_name(path: &Path, no: u32) -> Option<PathBuf> {
    let (stem, count) = parse(path.file_name()?)?;
    if no >= count {
        return None;
    }
    let mut name = stem.to_vec();
    name.extend_from_slice(format!("-{:05}-of-{count:05}.gguf", no + 1).as_bytes());
    Some(path.with_file_name(OsString::from_vec(name)))
}

/// Splits `x-00002-of-00003.gguf` into `x` and 3.
fn parse(name: &OsStr) -> Option<(&[u8], u32)> {
    let rest = name.as_bytes().strip_suffix(b".gguf")?;
    let (rest, count) = rest.split_last_chunk::<5>()?;
    let rest = rest.strip_suffix(b"-of-")?;
    let (rest, no) = rest.split_last_chunk::<5>()?;
    let stem = rest.strip_suffix(b"-")?;
    let (no, count) = (digits(no)?, digits(count)?);
    (1..=count).contains(&no).then_some((stem, count))
}

fn digits(text: &[u8; 5]) -> Option<u32> {
    text.iter().try_fold(0, |n, &c| c.is_ascii_digit().then(|| n * 10 + u32::from(c - b'0')))
}
