//! The store: batches of rows from memory or storage.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::storage::{AlignedBytes, DataFile, DirectFile};

use super::cache::RowCache;
use super::checksums::Checksums;
use super::error::PleError;
use super::pending::{Awaited, Cost, Outstanding, Pending, State};
use super::plan::{MAX_JOINED_BYTES, begin_reading, distinct, look_up};
use super::readers::{Batch, Readers, RowCopy, Verifier};
use super::rows::{RowBytes, Rows};
use super::source::{Mapped, TableSource};
use super::stats::{Durations, ReadCounters, Stats};
use super::warm::{self, Warming};
use super::{Mode, Options, RowRequest, TableLayout, Urgency};

/// Rows of one table by number.
pub struct RowStore {
    file: Arc<DataFile>,
    layout: TableLayout,
    mode: Mode,
    backing: Backing,
    /// Rows are read as wholes, because their checksums are.
    verifies: bool,
    counters: Arc<ReadCounters>,
    rows: u64,
    distinct: u64,
    cache_hits: u64,
    waits: Durations,
}

enum Backing {
    Resident(Arc<AlignedBytes>),
    Storage {
        readers: Readers,
        cache: Box<RowCache>,
        /// Batches whose rows are not in the cache yet.
        uncached: Vec<Weak<Batch>>,
        warming: Warming,
    },
}

impl RowStore {
    /// Opens the table. Mode `resident` reads it as a whole, and takes as long.
    pub fn open(file: Arc<DataFile>, layout: TableLayout, options: Options) -> Result<Self, PleError> {
        Self::open_over(file, layout, options, None, |source| source)
    }

    /// Opens a table whose rows are held against checksums, reading from what `over` makes of the source of
    /// the mode. Mode `resident` reads and verifies here and has no source.
    pub fn open_over(
        file: Arc<DataFile>,
        layout: TableLayout,
        options: Options,
        checksums: Option<Checksums>,
        over: impl FnOnce(Box<dyn TableSource>) -> Box<dyn TableSource>,
    ) -> Result<Self, PleError> {
        let n_bytes = layout.check(file.len())?;
        let counters = Arc::new(ReadCounters::new());
        let mode = match options.mode {
            Mode::Auto if n_bytes <= options.cache_bytes => Mode::Resident,
            Mode::Auto => Mode::Direct,
            mode => mode,
        };
        let (source, cache_bytes): (Box<dyn TableSource>, usize) = match mode {
            Mode::Resident => {
                let mut table = AlignedBytes::zeroed(n_bytes)?;
                file.read_bulk(layout.offset, &mut table)?;
                file.check_unchanged()?;
                if let Some(checksums) = checksums {
                    for (id, row) in (0..).zip(table.chunks_exact(layout.row_bytes)) {
                        checksums.verify(layout, &file, id, row)?;
                    }
                }
                let backing = Backing::Resident(Arc::new(table));
                return Ok(Self::new(file, layout, mode, backing, false, counters));
            }
            // The page cache holds the rows; a second copy would gain nothing.
            Mode::Mmap => {
                let map = file.map(layout.offset, n_bytes)?;
                (Box::new(Mapped::new(map, layout.offset, options.cache_bytes)), 0)
            }
            Mode::Direct | Mode::Auto => (Box::new(DirectFile::open(&file)?), options.cache_bytes),
        };
        let n_threads = options.read_threads.clamp(1, 64);
        let max_read_bytes = MAX_JOINED_BYTES.max(layout.row_bytes);
        let verifies = checksums.is_some();
        let verifier = checksums.map(|checksums| Verifier { checksums, layout, file: Arc::clone(&file) });
        let readers =
            Readers::start(over(source), verifier, n_threads, max_read_bytes, Arc::clone(&counters))?;
        let cache = Box::new(RowCache::new(cache_bytes, layout.row_bytes, layout.n_rows)?);
        let backing = Backing::Storage { readers, cache, uncached: Vec::new(), warming: Warming::default() };
        Ok(Self::new(file, layout, mode, backing, verifies, counters))
    }

    fn new(
        file: Arc<DataFile>,
        layout: TableLayout,
        mode: Mode,
        backing: Backing,
        verifies: bool,
        counters: Arc<ReadCounters>,
    ) -> Self {
        Self {
            file,
            layout,
            mode,
            backing,
            verifies,
            counters,
            rows: 0,
            distinct: 0,
            cache_hits: 0,
            waits: Durations::new(),
        }
    }

    /// The mode in use: never [`Mode::Auto`].
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The table.
    pub fn layout(&self) -> TableLayout {
        self.layout
    }

    /// Asks for whole rows without hurry, as [`submit_parts`](Self::submit_parts) does.
    pub fn submit(&mut self, ids: &[u32]) -> Result<Pending, PleError> {
        let n_bytes = self.layout.row_bytes;
        self.submit_each(ids.len(), |i| RowRequest { id: ids[i], n_bytes }, Urgency::Ahead)
    }

    /// Asks for rows or their beginnings, in any order and as often as wanted. Returns at once; reading goes
    /// on in the background. An unknown row is an error here, and nothing is read then.
    pub fn submit_parts(&mut self, requests: &[RowRequest], urgency: Urgency) -> Result<Pending, PleError> {
        self.submit_each(requests.len(), |i| requests[i], urgency)
    }

    fn submit_each(
        &mut self,
        n: usize,
        request: impl Fn(usize) -> RowRequest,
        urgency: Urgency,
    ) -> Result<Pending, PleError> {
        let TableLayout { row_bytes, n_rows, .. } = self.layout;
        for RowRequest { id, n_bytes } in (0..n).map(&request) {
            if id >= n_rows {
                return Err(PleError::NoSuchRow { id, n_rows });
            }
            if n_bytes == 0 || n_bytes > row_bytes {
                return Err(PleError::NoSuchPart { id, n_bytes, row_bytes });
            }
        }
        let (wanted, mut ranges) = distinct(n, &request, self.verifies.then_some(row_bytes));
        let mut cost = Cost { distinct: wanted.len() as u64, ..Cost::default() };
        let state = match &mut self.backing {
            Backing::Resident(table) => {
                for (i, range) in ranges.iter_mut().enumerate() {
                    let RowRequest { id, n_bytes } = request(i);
                    let start = id as usize * row_bytes;
                    *range = start..start + n_bytes;
                }
                let bytes = RowBytes::Table(Arc::clone(table));
                State::Ready(Rows { ranges, bytes })
            }
            Backing::Storage { readers, cache, uncached, .. } => {
                harvest(cache, uncached, &self.file);
                let (bytes, misses) = look_up(cache, &wanted);
                cost.misses = misses.len() as u64;
                cost.bytes = misses.iter().map(|row| row.n_bytes as u64).sum();
                if misses.is_empty() {
                    State::Ready(Rows { ranges, bytes: RowBytes::Batch(bytes) })
                } else {
                    let shared = Arc::clone(readers.shared());
                    let batch = begin_reading(&shared, &self.layout, bytes, misses, urgency)?;
                    uncached.push(Arc::downgrade(&batch));
                    State::Reading(Outstanding { batch, shared, ranges, late_since: None })
                }
            }
        };
        self.rows += n as u64;
        self.distinct += cost.distinct;
        self.cache_hits += cost.distinct - cost.misses;
        Ok(Pending { state, cost })
    }

    /// Waits until the rows of a batch are there. If one cannot be read, the batch fails as a whole.
    ///
    /// # Panics
    /// If the batch was submitted to another store.
    pub fn wait(&mut self, pending: Pending) -> Result<Rows, PleError> {
        match self.take(pending, None)? {
            Awaited::Rows(rows) => Ok(rows),
            Awaited::Late(_) => unreachable!("without a deadline nothing is late"),
        }
    }

    /// The same, but not beyond the deadline: what is late may be asked for again.
    ///
    /// # Panics
    /// If the batch was submitted to another store.
    pub fn wait_until(&mut self, pending: Pending, deadline: Instant) -> Result<Awaited, PleError> {
        self.take(pending, Some(deadline))
    }

    fn take(&mut self, pending: Pending, deadline: Option<Instant>) -> Result<Awaited, PleError> {
        let mut outstanding = match pending.state {
            State::Ready(rows) => {
                self.waits.record(Duration::ZERO);
                return Ok(Awaited::Rows(rows));
            }
            State::Reading(outstanding) => outstanding,
        };
        let Backing::Storage { readers, cache, .. } = &mut self.backing else {
            panic!("the rows were submitted to another store");
        };
        assert!(
            Arc::ptr_eq(readers.shared(), &outstanding.shared),
            "the rows were submitted to another store"
        );
        let begin = Instant::now();
        let batch = Arc::clone(&outstanding.batch);
        let Some(mut state) = batch.wait(deadline) else {
            outstanding.late_since.get_or_insert(begin);
            return Ok(Awaited::Late(Pending { state: State::Reading(outstanding), cost: pending.cost }));
        };
        // What was late may have come long before it is taken.
        let waited = match outstanding.late_since.zip(state.done_at) {
            Some((since, done_at)) => done_at.saturating_duration_since(since),
            None => begin.elapsed(),
        };
        self.waits.record(waited);
        // Either way nobody else looks into this batch again: a reader may hold it for a moment more.
        let cached = std::mem::replace(&mut state.cached, true);
        if let Some(e) = state.error.take() {
            return Err(e);
        }
        let first = batch.copies[0].id;
        self.file.check_unchanged().map_err(|source| PleError::Read { id: first, source })?;
        let bytes = std::mem::take(&mut state.bytes);
        drop(state);
        if !cached {
            keep(cache, &batch.copies, &bytes);
        }
        let ranges = std::mem::take(&mut outstanding.ranges);
        Ok(Awaited::Rows(Rows { ranges, bytes: RowBytes::Batch(bytes) }))
    }

    /// Which rows the cache holds, or will when it is warm, and how much each is wanted, as bytes for another process: see
    /// [`warm`](Self::warm). `None` if there is no cache, or nothing in it.
    pub fn hot_rows(&self) -> Option<Vec<u8>> {
        let Backing::Storage { cache, warming, .. } = &self.backing else { return None };
        warm::record(cache, warming, self.layout)
    }

    /// Will fill what is free of the cache with these rows, which [`hot_rows`](Self::hot_rows) gave, hottest first, while
    /// [`warm_on`](Self::warm_on) is called. Returns how many.
    ///
    /// # Errors
    /// If the bytes are no such list, or one of another table.
    pub fn warm(&mut self, hot_rows: &[u8]) -> Result<usize, PleError> {
        let wanted = Warming::new(hot_rows, self.layout)?;
        let Backing::Storage { warming, cache, .. } = &mut self.backing else { return Ok(0) };
        if cache.has_room() {
            *warming = wanted;
        }
        Ok(warming.n_left())
    }

    /// Goes on with that: to be called now and then, and whenever [`wake`](Self::wake) wakes. Returns at once, with how
    /// many rows are left.
    pub fn warm_on(&mut self) -> usize {
        let Backing::Storage { readers, cache, warming, .. } = &mut self.backing else { return 0 };
        // What does not come is not needed: whoever wants it asks for it.
        if warming.n_left() > 0 && warming.go_on(cache, readers.shared(), self.layout, &self.file).is_err() {
            *warming = Warming::default();
        }
        warming.n_left()
    }

    /// Unparks `thread` from now on whenever rows have arrived, or turned out not to be had, that were not in memory when
    /// they were asked for. Only the first call counts.
    pub fn wake(&self, thread: Thread) {
        if let Backing::Storage { readers, .. } = &self.backing {
            readers.shared().wake(thread);
        }
    }

    /// Time that somebody stood still for rows so far: in [`wait`](Self::wait), and from there on for those that were late.
    pub fn waited(&self) -> Duration {
        self.waits.sum()
    }

    /// Counters since the store was opened.
    pub fn stats(&self) -> Stats {
        let counters = &*self.counters;
        Stats {
            rows: self.rows,
            distinct: self.distinct,
            cache_hits: self.cache_hits,
            reads: counters.reads.load(Ordering::Relaxed),
            failed_reads: counters.failed_reads.load(Ordering::Relaxed),
            retries: counters.retries.load(Ordering::Relaxed),
            bytes_read: counters.bytes_read.load(Ordering::Relaxed),
            waits: self.waits.histogram(),
            read_latency: counters.latency.histogram(),
        }
    }
}

impl fmt::Debug for RowStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStore")
            .field("layout", &self.layout)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// Puts the rows of finished batches into the cache before anybody waits for them: the next chunk of
/// a prompt is submitted before the rows of this one are taken, and often repeats them.
fn harvest(cache: &mut RowCache, uncached: &mut Vec<Weak<Batch>>, file: &DataFile) {
    uncached.retain(|weak| {
        let Some(batch) = weak.upgrade() else { return false };
        let Some(mut state) = batch.finished() else { return true };
        let is_good = state.error.is_none() && file.check_unchanged().is_ok();
        if is_good && !std::mem::replace(&mut state.cached, true) {
            keep(cache, &batch.copies, &state.bytes);
        }
        false
    });
}

/// Offers what was read to the cache.
fn keep(cache: &mut RowCache, copies: &[RowCopy], bytes: &[u8]) {
    for row in copies {
        cache.insert(row.id, &bytes[row.to..][..row.n_bytes]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_batch_leaves_nothing_in_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        std::fs::write(&path, [7; 100_000]).unwrap();
        let layout = TableLayout { offset: 0, row_bytes: 100, n_rows: 1000 };
        let options = Options { mode: Mode::Direct, cache_bytes: 50_000, read_threads: 1 };
        let mut store = RowStore::open(Arc::new(DataFile::open(&path).unwrap()), layout, options).unwrap();

        // Storage that loses the file's bytes; nobody has written to it.
        let set_len = |len| {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.set_len(len).unwrap();
            file.set_modified(modified).unwrap();
        };
        set_len(0);
        let pending = store.submit(&[999]).unwrap();
        // A reader thread may hold a batch a moment longer than the one who waits for it.
        let Backing::Storage { uncached, .. } = &store.backing else { unreachable!() };
        let _held = uncached[0].upgrade().unwrap();
        store.wait(pending).unwrap_err();

        set_len(100_000);
        let pending = store.submit(&[999]).unwrap();
        assert!(store.wait(pending).unwrap().row(0) == [0; 100]);
        assert_eq!(store.stats().cache_hits, 0);
    }
}
