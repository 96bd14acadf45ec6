//! The system's files, below `/` or below a folder that stands for it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest text that is taken from a file, bytes. /proc/mounts of a machine with many containers is the longest.
const MAX_BYTES: u64 = 256 << 10;

/// Where `/proc`, `/sys`, `/run` and `/etc` are found.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// The system that runs this process.
    pub fn system() -> Root {
        Root(PathBuf::from("/"))
    }

    /// A folder that stands for it.
    pub fn folder(path: &Path) -> Root {
        Root(path.to_owned())
    }

    /// The real path of `path`, which begins with a slash.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// The text of a file without blanks around it; `None` if it cannot be read.
    pub fn read(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.path(path)).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        // The device tree's texts end with NUL.
        Some(
            String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned(),
        )
    }

    /// The number that a file holds and nothing else.
    pub fn read_number(&self, path: &str) -> Option<i64> {
        self.read(path)?.parse().ok()
    }

    /// Names in a folder that `wanted` likes, sorted.
    pub fn names(&self, folder: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| wanted(name))
            .collect();
        names.sort();
        names
    }
}
