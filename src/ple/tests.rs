use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::storage::DataFile;

mod faults;
mod warm;

const MODES: [Mode; 3] = [Mode::Direct, Mode::Mmap, Mode::Resident];

/// A table in a file, after a header of odd length and before some other bytes.
struct Table {
    _dir: tempfile::TempDir,
    path: PathBuf,
    layout: TableLayout,
    /// The table's bytes.
    bytes: Vec<u8>,
}

impl Table {
    fn new(row_bytes: usize, n_rows: u32) -> Self {
        Self::in_dir(&std::env::temp_dir(), row_bytes, n_rows)
    }

    fn in_dir(parent: &Path, row_bytes: usize, n_rows: u32) -> Self {
        let dir = tempfile::tempdir_in(parent).unwrap();
        let path = dir.path().join("table");
        let layout = TableLayout { offset: 1234 * 32, row_bytes, n_rows };
        let bytes: Vec<u8> = (0..row_bytes as u64 * u64::from(n_rows))
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8)
            .collect();
        let mut file = vec![0xee; layout.offset as usize];
        file.extend(&bytes);
        file.extend([0xdd; 77]);
        fs::write(&path, file).unwrap();
        Self { _dir: dir, path, layout, bytes }
    }

    fn open(&self, options: Options) -> Result<RowStore, PleError> {
        RowStore::open(Arc::new(DataFile::open(&self.path).unwrap()), self.layout, options)
    }

    fn store(&self, mode: Mode, cache_bytes: usize) -> RowStore {
        self.open(Options { mode, cache_bytes, read_threads: 3 }).unwrap()
    }

    fn row(&self, id: u32) -> &[u8] {
        &self.bytes[id as usize * self.layout.row_bytes..][..self.layout.row_bytes]
    }

    fn check(&self, rows: &Rows, ids: &[u32]) {
        assert_eq!(rows.len(), ids.len());
        for (i, &id) in ids.iter().enumerate() {
            // Not `assert_eq`: a row is thousands of numbers.
            assert!(rows.row(i) == self.row(id), "request {i}, row {id}");
        }
    }

    /// Storage that lost the end of the file, or has it again: nobody has written to the file.
    fn set_file_len(&self, len: u64) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_len(len).unwrap();
        let end = self.layout.offset + self.bytes.len() as u64;
        if len >= end {
            file.write_all_at(&self.bytes, self.layout.offset).unwrap();
        }
        file.set_modified(modified).unwrap();
    }
}

/// Rows of a table that is part of the program are those of the same table in a file, in every mode.
#[test]
fn rows_of_bytes_of_the_program() {
    let table = Table::new(700, 300);
    let bytes: &[u8] = fs::read(&table.path).unwrap().leak();
    let ids = random_ids(3, 90, 300);
    for mode in MODES {
        let file = Arc::new(DataFile::constant("built in", bytes));
        let options = Options { mode, cache_bytes: 50_000, read_threads: 3 };
        let mut store = RowStore::open(file, table.layout, options).unwrap();
        assert_eq!(store.mode(), mode);
        for _ in 0..2 {
            let pending = store.submit(&ids).unwrap();
            let rows = store.wait(pending).unwrap();
            table.check(&rows, &ids);
        }
        let stats = store.stats();
        assert_eq!((stats.failed_reads, stats.bytes_read > 0), (0, mode != Mode::Resident));
    }
}

/// Ids below `n`, the same ones each time.
fn random_ids(seed: u64, count: usize, n: u32) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as u32 % n
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn modes_have_names() {
    for (mode, name) in MODES.into_iter().chain([Mode::Auto]).zip(["direct", "mmap", "resident", "auto"]) {
        assert_eq!(mode.to_string(), name);
        assert_eq!(name.parse(), Ok(mode));
    }
    let message = "Direct".parse::<Mode>().unwrap_err().to_string();
    assert_eq!(message, "\"Direct\" is not one of auto, direct, mmap, resident");
}

#[test]
fn all_modes_give_the_same_rows() {
    // Rows smaller and larger than any unit of reading, and of the true size.
    for (row_bytes, n_rows) in [(36, 5000), (5040, 300), (70_001, 9)] {
        let table = Table::new(row_bytes, n_rows);
        let mut ids = random_ids(row_bytes as u64, 200, n_rows);
        ids.extend([0, n_rows - 1, 0, n_rows - 1]);
        for mode in MODES {
            for cache_bytes in [0, 20_000, 4 << 20] {
                let mut store = table.store(mode, cache_bytes);
                assert_eq!(store.mode(), mode);
                for _ in 0..2 {
                    let pending = store.submit(&ids).unwrap();
                    table.check(&store.wait(pending).unwrap(), &ids);
                }
            }
        }
    }
}

#[test]
fn rows_on_a_file_system_in_memory() {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let table = Table::in_dir(&parent, 5040, 100);
    let ids = random_ids(1, 50, 100);
    for mode in MODES {
        let mut store = table.store(mode, 50_000);
        let pending = store.submit(&ids).unwrap();
        table.check(&store.wait(pending).unwrap(), &ids);
    }
}

#[test]
fn auto_holds_a_table_that_fits_the_bound() {
    let table = Table::new(100, 1000);
    assert_eq!(table.store(Mode::Auto, 100_000).mode(), Mode::Resident);
    assert_eq!(table.store(Mode::Auto, 99_999).mode(), Mode::Direct);
}

#[test]
fn rows_are_read_once() {
    let table = Table::new(5040, 300);
    let mut store = table.store(Mode::Direct, 4 << 20);
    let ids = [7, 9, 7, 200, 7, 9];
    let pending = store.submit(&ids).unwrap();
    table.check(&store.wait(pending).unwrap(), &ids);
    let stats = store.stats();
    assert_eq!((stats.rows, stats.distinct, stats.cache_hits), (6, 3, 0));
    // Rows 7 and 9 lie within 10 kB, but with a row between them that may be a unit of its own.
    assert!((2..=3).contains(&stats.reads), "{} reads", stats.reads);
    assert_eq!(stats.read_latency.count(), stats.reads);
    assert!(
        stats.bytes_read >= 3 * 5040 && stats.bytes_read <= 3 * (5040 + 2 * 16_384),
        "{}",
        stats.bytes_read
    );
    assert!(stats.read_latency.quantile(0.99) >= stats.read_latency.quantile(0.5));

    let again = store.submit(&[200, 9, 8]).unwrap();
    table.check(&store.wait(again).unwrap(), &[200, 9, 8]);
    let now = store.stats();
    assert_eq!((now.rows, now.distinct, now.cache_hits), (9, 6, 2));
    assert_eq!(now.reads, stats.reads + 1);
}

#[test]
fn neighbours_share_a_read() {
    let table = Table::new(36, 5000);
    let mut store = table.store(Mode::Direct, 0);
    // 100 rows in 3600 bytes: their units of reading, small or large, touch one another.
    let ids: Vec<u32> = (1000..1100).rev().collect();
    let pending = store.submit(&ids).unwrap();
    table.check(&store.wait(pending).unwrap(), &ids);
    assert_eq!(store.stats().reads, 1);
    // Far apart: one each.
    let pending = store.submit(&[0, 2500, 4999]).unwrap();
    table.check(&store.wait(pending).unwrap(), &[0, 2500, 4999]);
    assert_eq!(store.stats().reads, 4);
    // A read has a limit.
    let all: Vec<u32> = (0..5000).collect();
    let pending = store.submit(&all).unwrap();
    table.check(&store.wait(pending).unwrap(), &all);
    assert_eq!(store.stats().reads, 4 + (36 * 5000usize).div_ceil(64 << 10) as u64);
}

#[test]
fn nothing_asked_for() {
    let table = Table::new(100, 10);
    for mode in MODES {
        let mut store = table.store(mode, 0);
        let pending = store.submit(&[]).unwrap();
        assert!(store.wait(pending).unwrap().is_empty());
        assert_eq!(store.stats().read_latency.quantile(0.5), std::time::Duration::ZERO);
    }
}

#[test]
fn beginnings_of_rows() {
    let table = Table::new(5040, 300);
    let part = |id, n_bytes| RowRequest { id, n_bytes };
    for mode in MODES {
        let mut store = table.store(mode, 1 << 20);
        let requests = [part(5, 100), part(9, 5040), part(5, 2000), part(250, 1)];
        let pending = store.submit_parts(&requests, Urgency::Ahead).unwrap();
        let rows = store.wait(pending).unwrap();
        for (i, r) in requests.iter().enumerate() {
            assert_eq!(rows.row(i), &table.row(r.id)[..r.n_bytes]);
        }
        // What was read serves as much again or less, and not a byte more.
        let hits = store.stats().cache_hits;
        let pending = store.submit_parts(&[part(9, 10), part(5, 2000), part(250, 2)], Urgency::Now).unwrap();
        let rows = store.wait(pending).unwrap();
        assert_eq!((rows.row(0), rows.row(1)), (&table.row(9)[..10], &table.row(5)[..2000]));
        assert_eq!(rows.row(2), &table.row(250)[..2]);
        let more = match mode {
            Mode::Direct => 2,
            Mode::Mmap => 0,
            _ => 3,
        };
        assert_eq!(store.stats().cache_hits - hits, more, "{mode}");
    }
}

/// Parts and wholes of few rows in a cache of fewer: what comes is always the row's own beginning.
#[test]
fn a_part_is_never_taken_for_the_whole() {
    let table = Table::new(700, 60);
    for cache_bytes in [10_000, 20_000, 60_000] {
        let mut store = table.store(Mode::Direct, cache_bytes);
        for round in 0..300 {
            let requests: Vec<RowRequest> = random_ids(round, 12, 60 * 700)
                .into_iter()
                .map(|v| RowRequest {
                    id: v % 60,
                    n_bytes: if v % 3 == 0 { 700 } else { 1 + v as usize / 60 },
                })
                .collect();
            let urgency = if round % 2 == 0 { Urgency::Now } else { Urgency::Ahead };
            let pending = store.submit_parts(&requests, urgency).unwrap();
            let rows = store.wait(pending).unwrap();
            for (i, r) in requests.iter().enumerate() {
                assert!(rows.row(i) == &table.row(r.id)[..r.n_bytes], "round {round}: {r:?}");
            }
        }
        let stats = store.stats();
        assert!(stats.cache_hits > 0 && stats.cache_hits < stats.distinct, "{stats:?}");
    }
}

#[test]
fn what_a_batch_costs() {
    let table = Table::new(5040, 300);
    let part = |id, n_bytes| RowRequest { id, n_bytes };
    let mut store = table.store(Mode::Direct, 1 << 20);
    let pending = store.submit_parts(&[part(1, 2016), part(1, 5040), part(2, 2016)], Urgency::Now).unwrap();
    assert_eq!(pending.cost(), Cost { distinct: 2, misses: 2, bytes: 5040 + 2016 });
    store.wait(pending).unwrap();
    let pending = store.submit(&[1, 2]).unwrap();
    assert_eq!(pending.cost(), Cost { distinct: 2, misses: 1, bytes: 5040 });
    table.check(&store.wait(pending).unwrap(), &[1, 2]);
    let pending = table.store(Mode::Resident, 0).submit(&[1, 2]).unwrap();
    assert_eq!(pending.cost(), Cost { distinct: 2, ..Cost::default() });
}

#[test]
fn requests_that_make_no_sense() {
    let table = Table::new(100, 10);
    for mode in MODES {
        let mut store = table.store(mode, 0);
        let e = store.submit(&[0, 10]).unwrap_err();
        assert_eq!(e.to_string(), "row 10 does not exist, the table has 10");
        for n_bytes in [0, 101] {
            let e = store.submit_parts(&[RowRequest { id: 3, n_bytes }], Urgency::Ahead).unwrap_err();
            assert_eq!(e.to_string(), format!("{n_bytes} bytes of row 3 were asked for, a row has 100"));
        }
        assert_eq!(store.stats().rows, 0);
        let pending = store.submit(&[9]).unwrap();
        table.check(&store.wait(pending).unwrap(), &[9]);
    }
}

#[test]
fn tables_that_do_not_fit_their_file() {
    let table = Table::new(100, 10);
    let file_len = fs::metadata(&table.path).unwrap().len();
    let layout = table.layout;
    for wrong in [
        TableLayout { n_rows: 11, ..layout },
        TableLayout { n_rows: 0, ..layout },
        TableLayout { row_bytes: 0, ..layout },
        TableLayout { row_bytes: usize::MAX, ..layout },
        TableLayout { offset: file_len - 999, ..layout },
        TableLayout { offset: u64::MAX, ..layout },
    ] {
        for mode in MODES {
            let file = Arc::new(DataFile::open(&table.path).unwrap());
            let options = Options { mode, ..Options::default() };
            let e = RowStore::open(file, wrong, options).unwrap_err();
            assert!(e.to_string().ends_with(&format!("does not lie in a file of {file_len} bytes")), "{e}");
        }
    }
}

#[test]
fn a_batch_larger_than_the_cache() {
    let table = Table::new(1000, 3000);
    let mut store = table.store(Mode::Direct, 50_000);
    let ids = random_ids(3, 6000, 3000);
    for _ in 0..3 {
        let pending = store.submit(&ids).unwrap();
        table.check(&store.wait(pending).unwrap(), &ids);
    }
    let stats = store.stats();
    assert!(stats.cache_hits > 0 && stats.cache_hits <= 2 * 50, "{}", stats.cache_hits);
}

#[test]
fn rows_outlive_their_eviction() {
    let table = Table::new(1000, 3000);
    let mut store = table.store(Mode::Direct, 50_000);
    let first = store.submit(&[1, 2, 3]).unwrap();
    let first = store.wait(first).unwrap();
    let hits = store.submit(&[3, 2]).unwrap();
    let many: Vec<u32> = (10..2000).collect();
    let pending = store.submit(&many).unwrap();
    table.check(&store.wait(pending).unwrap(), &many);
    table.check(&store.wait(hits).unwrap(), &[3, 2]);
    drop(store);
    table.check(&first, &[1, 2, 3]);
}

#[test]
fn finished_batches_serve_the_next_one_before_they_are_taken() {
    let table = Table::new(5040, 300);
    let mut store =
        table.open(Options { mode: Mode::Direct, cache_bytes: 1 << 20, read_threads: 1 }).unwrap();
    let first = store.submit(&[1, 2, 3]).unwrap();
    // One thread reads in order: when this is there, so is the first.
    let other = store.submit(&[200]).unwrap();
    table.check(&store.wait(other).unwrap(), &[200]);
    let reads = store.stats().reads;
    let second = store.submit(&[3, 2, 1]).unwrap();
    table.check(&store.wait(second).unwrap(), &[3, 2, 1]);
    table.check(&store.wait(first).unwrap(), &[1, 2, 3]);
    assert_eq!((store.stats().cache_hits, store.stats().reads), (3, reads));
}

#[test]
fn several_batches_at_a_time_in_any_order() {
    let table = Table::new(777, 2000);
    for mode in MODES {
        let mut store = table.store(mode, 200_000);
        for round in 0..20 {
            let batches: Vec<Vec<u32>> =
                (0..8).map(|b| random_ids(round * 8 + b, 1 + 40 * b as usize, 2000)).collect();
            let mut pending: Vec<_> = batches.iter().map(|ids| Some(store.submit(ids).unwrap())).collect();
            for b in random_ids(round, 30, 8) {
                if let Some(p) = pending[b as usize].take() {
                    table.check(&store.wait(p).unwrap(), &batches[b as usize]);
                }
            }
            // The others are dropped without being waited for: cancelled sequences.
        }
    }
}

#[test]
fn dropped_batches_make_room() {
    let table = Table::new(5000, 20_000);
    let mut store = table.open(Options { mode: Mode::Direct, cache_bytes: 0, read_threads: 1 }).unwrap();
    // 100 kB apart: no two share a read.
    let far: Vec<u32> = (0..20_000).step_by(20).collect();
    for _ in 0..200 {
        // 200 times 1000 reads: more than may wait, unless dropped ones are forgotten.
        drop(store.submit(&far).unwrap());
    }
    assert!(store.stats().reads < 100_000, "{} reads", store.stats().reads);
    let pending = store.submit(&[5]).unwrap();
    table.check(&store.wait(pending).unwrap(), &[5]);
}

#[test]
fn too_many_reads_are_refused_and_the_rest_goes_on() {
    let table = Table::new(5000, 20_000);
    let mut store = table.open(Options { mode: Mode::Direct, cache_bytes: 0, read_threads: 1 }).unwrap();
    let far: Vec<u32> = (0..20_000).step_by(20).collect();
    let mut pending = Vec::new();
    let e = loop {
        match store.submit(&far) {
            Ok(p) => pending.push(p),
            Err(e) => break e,
        }
        assert!(pending.len() < 10_000, "submitting is much faster than reading");
    };
    assert!(matches!(e, PleError::Busy { more: 1000, .. }), "{e}");
    let first = pending.remove(0);
    table.check(&store.wait(first).unwrap(), &far);
    drop(pending);
    let next = store.submit(&far).unwrap();
    table.check(&store.wait(next).unwrap(), &far);
}

#[test]
#[should_panic(expected = "another store")]
fn batches_belong_to_their_store() {
    let table = Table::new(100, 1000);
    let (mut one, mut other) = (table.store(Mode::Direct, 0), table.store(Mode::Direct, 0));
    let pending = one.submit(&[1]).unwrap();
    let _ = other.wait(pending);
}
