//! What several test programs read: fixture models, their expected values, NumPy arrays.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

pub mod program;

use pled::model::{KvCache, Model, ModelFile, NoRows, RowError, RowSource, Scratch, Span, Want, forward};
use pled::ops::{Compute, Kernels, Pool};
use pled::storage::DataFile;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `tests/fixtures/NAME`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Reads a two-dimensional little-endian float32 `.npy` file: shape and values.
pub fn read_npy(path: &Path) -> ([usize; 2], Vec<f32>) {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + header_len]).unwrap();
    assert!(header.contains("'descr': '<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
    let dims: Vec<usize> =
        shape.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().unwrap()).collect();
    let values =
        bytes[10 + header_len..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (dims.try_into().expect("two dimensions"), values)
}

/// Rows read one by one from the model file, the slow and obvious way.
pub struct FileRows {
    file: Arc<DataFile>,
    offset: u64,
    row_bytes: usize,
    ids: Vec<u32>,
    rows: Vec<u8>,
}

impl RowSource for FileRows {
    fn fetch(&mut self) -> Result<(), RowError> {
        self.rows.resize(self.ids.len() * self.row_bytes, 0);
        for (id, row) in self.ids.iter().zip(self.rows.chunks_exact_mut(self.row_bytes)) {
            let offset = self.offset + u64::from(*id) * self.row_bytes as u64;
            self.file.read_exact_at(row, offset).map_err(|e| RowError(Box::new(e)))?;
        }
        Ok(())
    }

    fn row(&self, i: usize) -> &[u8] {
        &self.rows[i * self.row_bytes..(i + 1) * self.row_bytes]
    }
}

/// A loaded model and how to read its rows.
pub struct Loaded {
    pub model: Model,
    file: ModelFile,
}

/// Longest batch of the tests.
pub const MAX_TOKENS: usize = 128;

impl Loaded {
    pub fn open(path: &Path, kernels: Kernels, n_threads: usize) -> Self {
        Self::new(ModelFile::open(path).unwrap(), kernels, n_threads)
    }

    pub fn new(file: ModelFile, kernels: Kernels, n_threads: usize) -> Self {
        let compute = Compute { pool: Pool::new(n_threads).unwrap(), kernels };
        Self { model: Model::load(&file, Arc::new(compute)).unwrap(), file }
    }

    pub fn rows(&self, ids: &[u32]) -> Box<dyn RowSource> {
        match self.model.row_table() {
            None => Box::new(NoRows),
            Some(table) => Box::new(FileRows {
                file: self.file.parts[table.part].clone(),
                offset: table.offset,
                row_bytes: table.row_bytes,
                ids: ids.to_vec(),
                rows: Vec::new(),
            }),
        }
    }

    pub fn kv(&self) -> KvCache {
        self.model.new_kv(256, MAX_TOKENS).unwrap()
    }

    pub fn scratch(&self) -> Scratch {
        self.model.new_scratch(MAX_TOKENS, MAX_TOKENS).unwrap()
    }

    /// Appends `tokens` to `kv`; the wanted logits, flattened.
    pub fn run(&self, kv: &mut KvCache, scratch: &mut Scratch, tokens: &[u32], want: Want) -> Vec<f32> {
        let mut rows = self.rows(tokens);
        let mut spans = [Span { tokens, kv, want, greatest: None }];
        let logits = forward(&self.model, &mut spans, &mut *rows, scratch).unwrap();
        (0..logits.n_rows()).flat_map(|i| logits.row(i).to_vec()).collect()
    }

    /// Logits of every position of `tokens`, computed in chunks of `chunk`.
    pub fn logits(&self, tokens: &[u32], chunk: usize) -> Vec<f32> {
        let (mut kv, mut scratch) = (self.kv(), self.scratch());
        tokens.chunks(chunk).flat_map(|t| self.run(&mut kv, &mut scratch, t, Want::All)).collect()
    }
}

/// Index of the largest value, the lowest one at ties.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, v) in logits.iter().enumerate() {
        assert!(v.is_finite(), "logit {i} is {v}");
        if *v > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// One prompt of `expected.json`.
#[derive(serde::Deserialize)]
pub struct Run {
    pub prompt: Vec<u32>,
    pub greedy: Vec<u32>,
    pub top2_gap: Vec<f32>,
    pub logits: String,
}

/// Every run of `model-TAG.gguf` in a fixture folder.
pub fn runs(folder: &Path, tag: &str) -> Vec<Run> {
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(all["files"][format!("model-{tag}.gguf")]["runs"].clone()).unwrap()
}

/// A large file that the repository does not hold: `NAME` in the folder `$PLED_CACHE` (default
/// `~/.cache/pled-dev`), where `.ci/fetch-assets` puts it.
///
/// `None` if it is not there, said plainly; with `PLED_REQUIRE_ASSETS=1` that fails the test.
pub fn asset(name: &str) -> Option<PathBuf> {
    let cache = match std::env::var_os("PLED_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/pled-dev"),
    };
    let path = cache.join(name);
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var_os("PLED_REQUIRE_ASSETS").is_some_and(|v| v == "1");
    assert!(!required, "{} is missing; .ci/fetch-assets downloads it", path.display());
    say(&format!("skipped: {} is missing; .ci/fetch-assets downloads it", path.display()));
    None
}

/// Prints a line that the test harness does not capture.
pub fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
