//! SHA-256 of files.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::error::FetchError;

/// A SHA-256 sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256Sum([u8; 32]);

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Sha256Sum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not a SHA-256 sum: give 64 hexadecimal digits".to_owned();
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut sum = [0; 32];
        for (i, byte) in sum.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(sum))
    }
}

/// The sum of a file's bytes. It takes a minute for some files, in which whoever waits may still be interrupted.
pub(super) async fn of_file(path: &Path) -> Result<Sha256Sum, FetchError> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || read_and_sum(&path)).await.expect("summing does not panic")
}

fn read_and_sum(path: &Path) -> Result<Sha256Sum, FetchError> {
    let failed = |source| FetchError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(Sha256Sum(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}
