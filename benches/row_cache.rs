//! Hit rates of the row cache on real text: `cargo bench --bench row_cache -- FILE...`.
//!
//! Each file holds the token ids of a text, as `pled tokenize --ids` prints them and `benches/handbook.py` writes them. The
//! store is the real one, over a table of E2B's shape and zeros (a file with a hole, which takes no room). Texts are taken as answers
//! are decoded, whole rows one by one, and as prompts are computed, in chunks that need the beginnings.

#![allow(clippy::print_stdout)]

use pled::ple::{Mode, Options, RowRequest, RowStore, TableLayout, Urgency};
use pled::storage::DataFile;
use std::path::Path;
use std::sync::Arc;

/// E2B's table in Q6_K, as its files are published: a row of 8960 values, and the 3584 that a prompt token needs of it.
const LAYOUT: TableLayout = TableLayout { offset: 0, row_bytes: 7350, n_rows: 262_144 };
const PREFIX_BYTES: usize = 2940;
/// Tokens of a prompt that are computed together.
const CHUNK: usize = 128;
/// Before this many tokens the cache is warming up; they are not counted.
const WARM_UP: usize = 5000;
const BOUNDS_MB: [usize; 5] = [4, 8, 16, 32, 64];

fn main() {
    let dir = tempfile::tempdir().expect("a folder for the table");
    let path = dir.path().join("table");
    let table = std::fs::File::create(&path).expect("a file for the table");
    table.set_len(LAYOUT.n_bytes().expect("a small table")).expect("a file with a hole");
    for text in std::env::args().skip(1).filter(|a| !a.starts_with("--")) {
        let ids = read_ids(Path::new(&text));
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        println!("{text}: {} tokens, {} different", ids.len(), distinct.len());
        for bound_mb in BOUNDS_MB {
            let decode = hit_rate(&path, bound_mb << 20, &ids, 1, LAYOUT.row_bytes);
            let prefill = hit_rate(&path, bound_mb << 20, &ids, CHUNK, PREFIX_BYTES);
            println!("  {bound_mb:2} MiB  decoded {decode:5.1} %  prompt {prefill:5.1} %");
        }
    }
}

fn read_ids(path: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(path).expect("a file of token ids");
    let ids = text.split([',', '\n']).filter(|word| !word.is_empty());
    ids.map(|word| word.parse().expect("token ids separated by commas")).collect()
}

/// Of the tokens after the warm-up, how many per cent needed no read.
fn hit_rate(table: &Path, cache_bytes: usize, ids: &[u32], chunk: usize, n_bytes: usize) -> f64 {
    let file = Arc::new(DataFile::open(table).expect("the table"));
    let options = Options { mode: Mode::Direct, cache_bytes, ..Options::DEFAULT };
    let mut store = RowStore::open(file, LAYOUT, options).expect("a store");
    let (mut tokens, mut misses, mut seen) = (0, 0, 0);
    for ids in ids.chunks(chunk) {
        let requests: Vec<RowRequest> = ids.iter().map(|&id| RowRequest { id, n_bytes }).collect();
        let pending = store.submit_parts(&requests, Urgency::Now).expect("ids of the vocabulary");
        if seen >= WARM_UP {
            tokens += ids.len() as u64;
            misses += pending.cost().misses;
        }
        seen += ids.len();
        store.wait(pending).expect("rows of zeros");
    }
    100.0 * (tokens - misses) as f64 / tokens.max(1) as f64
}
