//! Storage that fails, and rows that are not what they were.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::*;
use crate::storage::{AlignedBytes, StorageError};

/// A source that asks what to do before each read: `Ok` lets it through.
struct Asking<F> {
    file: Box<dyn TableSource>,
    ask: F,
}

impl<F: Fn(u64) -> Result<(), i32> + Send + Sync> TableSource for Asking<F> {
    fn span(&self, offset: u64, len: usize) -> Result<Range<u64>, StorageError> {
        self.file.span(offset, len)
    }

    fn buffer(&self, len: usize) -> Result<AlignedBytes, StorageError> {
        self.file.buffer(len)
    }

    fn read<'a>(
        &'a self,
        offset: u64,
        len: usize,
        buffer: &'a mut AlignedBytes,
    ) -> Result<&'a [u8], StorageError> {
        (self.ask)(offset).map_err(|errno| StorageError::Read {
            path: "/card/model.gguf".into(),
            offset,
            len,
            source: std::io::Error::from_raw_os_error(errno),
        })?;
        self.file.read(offset, len, buffer)
    }
}

/// A store with one reader thread over such a source.
fn store_asking(table: &Table, ask: impl Fn(u64) -> Result<(), i32> + Send + Sync + 'static) -> RowStore {
    let file = Arc::new(DataFile::open(&table.path).unwrap());
    let options = Options { mode: Mode::Direct, cache_bytes: 0, read_threads: 1 };
    let over = |file| Box::new(Asking { file, ask }) as Box<dyn TableSource>;
    RowStore::open_over(file, table.layout, options, None, over).unwrap()
}

#[test]
fn a_read_that_fails_is_tried_again_but_not_for_ever() {
    let table = Table::new(5040, 300);
    // Errors for the next reads, last one first.
    let script = Arc::new(Mutex::new(vec![]));
    let asked = Arc::clone(&script);
    let mut store = store_asking(&table, move |_| asked.lock().unwrap().pop().map_or(Ok(()), Err));
    let counts = |store: &RowStore| {
        let stats = store.stats();
        (stats.reads, stats.failed_reads, stats.retries)
    };
    *script.lock().unwrap() = vec![5, 5];
    let pending = store.submit(&[7]).unwrap();
    table.check(&store.wait(pending).unwrap(), &[7]);
    assert_eq!(counts(&store), (3, 2, 2));

    *script.lock().unwrap() = vec![5, 5, 5];
    let pending = store.submit(&[7]).unwrap();
    let e = store.wait(pending).unwrap_err();
    assert!(e.to_string().starts_with("row 7: /card/model.gguf: reading 5040 bytes at offset"), "{e}");
    assert_eq!(counts(&store), (6, 5, 4));

    let pending = store.submit(&[7]).unwrap();
    table.check(&store.wait(pending).unwrap(), &[7]);
}

#[test]
fn urgent_rows_are_read_before_those_for_later() {
    let table = Table::new(5040, 3000);
    let (allow, allowed) = channel();
    let allowed: Mutex<Receiver<()>> = Mutex::new(allowed);
    let order = Arc::new(Mutex::new(vec![]));
    let (seen, offset) = (Arc::clone(&order), table.layout.offset);
    let mut store = store_asking(&table, move |at| {
        seen.lock().unwrap().push((at - offset) / 5040);
        allowed.lock().unwrap().recv().map_err(|_| 5)
    });
    // The thread begins with the first of them and stands there.
    let later = store.submit(&[100, 200, 300]).unwrap();
    while order.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    let request = RowRequest { id: 900, n_bytes: 5040 };
    let now = store.submit_parts(&[request], Urgency::Now).unwrap();
    (0..4).for_each(|_| allow.send(()).unwrap());
    table.check(&store.wait(now).unwrap(), &[900]);
    table.check(&store.wait(later).unwrap(), &[100, 200, 300]);
    assert_eq!(*order.lock().unwrap(), [100, 900, 200, 300]);
}

#[test]
fn who_waits_until_a_deadline_is_woken_when_late_rows_come() {
    let table = Table::new(5040, 3000);
    let (go_on, stopped) = channel();
    let stopped: Mutex<Receiver<()>> = Mutex::new(stopped);
    let mut store = store_asking(&table, move |_| {
        // Once nobody can let it go on it does so by itself.
        let _ = stopped.lock().unwrap().recv();
        Ok(())
    });
    store.wake(std::thread::current());
    let pending = store.submit(&[7, 1000]).unwrap();
    assert!(!pending.has_arrived());
    let now = Instant::now;
    let Awaited::Late(pending) = store.wait_until(pending, now()).unwrap() else { panic!("not late") };
    assert_eq!(pending.cost().misses, 2);
    // Waiting again is no new beginning.
    let Awaited::Late(pending) = store.wait_until(pending, now()).unwrap() else { panic!("not late") };
    assert_eq!(store.stats().waits.count(), 0, "what is late is counted when it comes");
    drop(go_on);
    while !pending.has_arrived() {
        std::thread::park();
    }
    let Awaited::Rows(rows) = store.wait_until(pending, now()).unwrap() else { panic!("late") };
    table.check(&rows, &[7, 1000]);
    assert!(store.waited() > Duration::ZERO);
    // There at once.
    let resident = table.store(Mode::Resident, 0).submit(&[7]).unwrap();
    assert!(resident.has_arrived());
}

#[test]
fn late_rows_that_cannot_be_read_wake_too() {
    let table = Table::new(5040, 300);
    let mut store = store_asking(&table, |_| Err(5));
    store.wake(std::thread::current());
    let pending = store.submit(&[7]).unwrap();
    while !pending.has_arrived() {
        std::thread::park();
    }
    store.wait_until(pending, Instant::now()).unwrap_err();
}

#[test]
fn no_more_reads_are_in_flight_than_there_are_threads() {
    let table = Table::new(5040, 3000);
    let counts = Arc::new((Mutex::new((0, 0)), std::sync::Condvar::new()));
    let (of_source, n_threads) = (Arc::clone(&counts), 3);
    let file = Arc::new(DataFile::open(&table.path).unwrap());
    let options = Options { mode: Mode::Direct, cache_bytes: 0, read_threads: n_threads };
    // Reads leave in company only, so that it is seen how many there can be.
    let ask = move |_| {
        let (counts, changed) = &*of_source;
        let mut state = counts.lock().unwrap();
        state.0 += 1;
        state.1 = state.1.max(state.0);
        changed.notify_all();
        let mut state = changed.wait_while(state, |(_, most)| *most < n_threads).unwrap();
        state.0 -= 1;
        Ok(())
    };
    let over = |file| Box::new(Asking { file, ask }) as Box<dyn TableSource>;
    let mut store = RowStore::open_over(file, table.layout, options, None, over).unwrap();
    let batches: Vec<Vec<u32>> = (0..20).map(|seed| random_ids(seed, 30, 3000)).collect();
    let pending: Vec<_> = batches.iter().map(|ids| store.submit(ids).unwrap()).collect();
    for (pending, ids) in pending.into_iter().zip(&batches) {
        table.check(&store.wait(pending).unwrap(), ids);
    }
    assert_eq!(*counts.0.lock().unwrap(), (0, n_threads));
}

impl Table {
    /// Stores the checksums of the table as it is.
    fn write_checksums(&self) -> PathBuf {
        let file = DataFile::open(&self.path).unwrap();
        let checksums = Checksums::compute(&file, self.layout).unwrap();
        let path = Checksums::path_of(&self.path);
        fs::write(&path, checksums.encode(self.layout, file.len())).unwrap();
        assert_eq!(Checksums::beside(&file, self.layout).unwrap(), Some(checksums));
        path
    }

    fn verified(&self, mode: Mode) -> Result<RowStore, PleError> {
        let file = Arc::new(DataFile::open(&self.path).unwrap());
        let checksums = Checksums::beside(&file, self.layout)?;
        assert!(checksums.is_some());
        let options = Options { mode, cache_bytes: 50_000, read_threads: 2 };
        RowStore::open_over(file, self.layout, options, checksums, |source| source)
    }

    /// Flips a bit of a row as a card does that forgets: the time of modification stays.
    fn flip(&self, id: u32, at: u64) {
        let file = OpenOptions::new().read(true).write(true).open(&self.path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        let at = self.layout.offset + u64::from(id) * self.layout.row_bytes as u64 + at;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
        file.set_modified(modified).unwrap();
    }
}

#[test]
fn a_rotten_row_is_named_and_never_given() {
    let table = Table::new(5040, 300);
    table.write_checksums();
    for mode in [Mode::Direct, Mode::Mmap] {
        let mut store = table.verified(mode).unwrap();
        // The last byte, though only a beginning is asked for.
        table.flip(30, 5039);
        let part = RowRequest { id: 30, n_bytes: 16 };
        let pending = store.submit_parts(&[part], Urgency::Now).unwrap();
        let e = store.wait(pending).unwrap_err();
        let PleError::Rotten { id: 30, path, offset, .. } = &e else { panic!("{e}") };
        assert_eq!((path, *offset), (&table.path, table.layout.offset + 30 * 5040));
        assert_eq!((store.stats().failed_reads, store.stats().retries), (3, 2));
        let pending = store.submit(&[29, 31]).unwrap();
        table.check(&store.wait(pending).unwrap(), &[29, 31]);

        table.flip(30, 5039);
        let pending = store.submit(&[30]).unwrap();
        assert_eq!(pending.cost().misses, 1, "{mode}: it was not kept");
        table.check(&store.wait(pending).unwrap(), &[30]);
    }
    table.flip(299, 0);
    let e = table.verified(Mode::Resident).unwrap_err();
    assert!(matches!(e, PleError::Rotten { id: 299, .. }), "{e}");
}

#[test]
fn checksums_of_something_else_are_refused() {
    let table = Table::new(100, 50);
    let file = DataFile::open(&table.path).unwrap();
    assert_eq!(Checksums::beside(&file, table.layout).unwrap(), None);
    let path = table.write_checksums();
    let good = fs::read(&path).unwrap();
    let refused = |layout| Checksums::beside(&file, layout).unwrap_err().to_string();
    for layout in [
        TableLayout { offset: table.layout.offset + 100, n_rows: 49, ..table.layout },
        TableLayout { offset: table.layout.offset - 32, ..table.layout },
        TableLayout { row_bytes: 99, ..table.layout },
    ] {
        assert!(refused(layout).contains("was made for another table"), "{layout:?}");
    }
    for at in [0, 9, 40, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        assert!(refused(table.layout).contains("is damaged; make it anew"), "byte {at}");
    }
    for len in [0, 31, good.len() - 1] {
        fs::write(&path, &good[..len]).unwrap();
        assert!(refused(table.layout).contains("was made for another table"), "{len} bytes");
    }
}

#[test]
fn a_file_that_is_cut_off_fails_those_rows_only() {
    let table = Table::new(5040, 300);
    let whole = fs::metadata(&table.path).unwrap().len();
    for mode in [Mode::Direct, Mode::Mmap] {
        let mut store = table.store(mode, 1 << 20);
        // In the middle of row 200, at a page of any size for the mapping's sake.
        let cut = (table.layout.offset + 200 * 5040 + 2000).next_multiple_of(1 << 16);
        let first_lost = ((cut - table.layout.offset) / 5040) as u32;
        table.set_file_len(cut);
        let pending = store.submit(&[1, first_lost, 299, 2]).unwrap();
        let good = store.submit(&[3, 4]).unwrap();
        let e = store.wait(pending).unwrap_err();
        let PleError::Read { id, source } = &e else { panic!("{e}") };
        assert!(*id == first_lost || *id == 299, "{e}");
        assert_eq!(source.path(), Some(&*table.path));
        assert!(
            source.offset().is_some_and(|o| o >= table.layout.offset + u64::from(first_lost) * 5040),
            "{e}"
        );
        assert!(store.stats().failed_reads > 0);
        // Nothing is poisoned.
        table.check(&store.wait(good).unwrap(), &[3, 4]);
        let pending = store.submit(&[1, 2, 3]).unwrap();
        table.check(&store.wait(pending).unwrap(), &[1, 2, 3]);

        // The file is made whole again, with the bytes it had.
        table.set_file_len(whole);
        let pending = store.submit(&[299, 1]).unwrap();
        table.check(&store.wait(pending).unwrap(), &[299, 1]);
    }
}

#[test]
fn a_file_that_is_written_to_gives_no_more_rows() {
    let table = Table::new(5040, 300);
    for mode in [Mode::Direct, Mode::Mmap] {
        let mut store = table.store(mode, 4 << 20);
        let pending = store.submit(&[1, 2]).unwrap();
        table.check(&store.wait(pending).unwrap(), &[1, 2]);
        // Another model of the same size, say.
        let other = fs::read(&table.path).unwrap().iter().map(|b| !b).collect::<Vec<u8>>();
        let modified = fs::metadata(&table.path).unwrap().modified().unwrap();
        fs::write(&table.path, &other).unwrap();
        let file = OpenOptions::new().write(true).open(&table.path).unwrap();
        file.set_modified(modified + Duration::from_nanos(1)).unwrap();

        let pending = store.submit(&[3, 1]).unwrap();
        let e = store.wait(pending).unwrap_err();
        assert!(e.to_string().ends_with("was written to while in use"), "{e}");
        // Not by way of the cache either.
        let n_reads = store.stats().reads;
        let early = store.submit(&[4, 5]).unwrap();
        while store.stats().reads == n_reads {
            std::thread::yield_now();
        }
        let late = store.submit(&[4, 5]).unwrap();
        store.wait(late).unwrap_err();
        store.wait(early).unwrap_err();

        table.set_file_len(other.len() as u64);
        file.set_modified(modified).unwrap();
    }
}
