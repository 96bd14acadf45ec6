//! Threads that read rows, and the batches they fill.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::storage::{AlignedBytes, DataFile, StorageError};

use super::checksums::Checksums;
use super::error::PleError;
use super::source::TableSource;
use super::stats::ReadCounters;
use super::{TableLayout, Urgency};

/// Most reads that may wait for a thread: a bound on memory, far above any prompt chunk.
pub(super) const MAX_WAITING: usize = 65_536;

/// Pauses before a read is tried again. What was disturbed for a moment is well by then; what is gone is told of
/// soon enough.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(20)];

/// Holds rows against their checksums.
pub(super) struct Verifier {
    pub(super) checksums: Checksums,
    pub(super) layout: TableLayout,
    pub(super) file: Arc<DataFile>,
}

impl Verifier {
    fn verify(&self, id: u32, row: &[u8]) -> Result<(), PleError> {
        self.checksums.verify(self.layout, &self.file, id, row)
    }
}

/// A row (or the beginning of one) on its way from a read into the batch's buffer.
#[derive(Clone, Copy)]
pub(super) struct RowCopy {
    pub(super) id: u32,
    pub(super) n_bytes: usize,
    /// Where it begins in its read.
    pub(super) from: usize,
    /// Where it goes in the batch's buffer.
    pub(super) to: usize,
}

/// Rows that were asked for together.
pub(super) struct Batch {
    /// The rows that are read, in order of their ids: each read brings a range of them.
    pub(super) copies: Vec<RowCopy>,
    state: Mutex<BatchState>,
    done: Condvar,
    bell: Arc<Bell>,
}

pub(super) struct BatchState {
    /// All rows of the batch; those from the cache are there from the beginning.
    pub(super) bytes: Vec<u8>,
    reads_left: usize,
    /// When none was left.
    pub(super) done_at: Option<Instant>,
    /// The first failure.
    pub(super) error: Option<PleError>,
    /// Whether the rows were put into the cache, or must not be.
    pub(super) cached: bool,
}

impl Batch {
    pub(super) fn new(bytes: Vec<u8>, copies: Vec<RowCopy>, n_reads: usize, bell: Arc<Bell>) -> Self {
        let state = BatchState { bytes, reads_left: n_reads, done_at: None, error: None, cached: false };
        Self { copies, state: Mutex::new(state), done: Condvar::new(), bell }
    }

    /// The state, once no read is left; `None` if that is not before the deadline.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Option<MutexGuard<'_, BatchState>> {
        let state = lock(&self.state);
        let is_reading = |s: &mut BatchState| s.reads_left > 0;
        let Some(deadline) = deadline else {
            return Some(self.done.wait_while(state, is_reading).unwrap_or_else(PoisonError::into_inner));
        };
        let limit = deadline.saturating_duration_since(Instant::now());
        let waited = self.done.wait_timeout_while(state, limit, is_reading);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (state.reads_left == 0).then_some(state)
    }

    /// The state, if no read is left. Does not wait for a reader that is at it, which rings the bell when it is through.
    pub(super) fn finished(&self) -> Option<MutexGuard<'_, BatchState>> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        (state.reads_left == 0).then_some(state)
    }

    /// One read less: its bytes go to the rows that it brought.
    fn complete(&self, rows: Range<usize>, outcome: Result<&[u8], PleError>) {
        let mut state = lock(&self.state);
        match outcome {
            Ok(bytes) => {
                for row in &self.copies[rows] {
                    state.bytes[row.to..][..row.n_bytes].copy_from_slice(&bytes[row.from..][..row.n_bytes]);
                }
            }
            Err(e) => {
                state.error.get_or_insert(e);
            }
        }
        state.reads_left -= 1;
        if state.reads_left > 0 {
            return;
        }
        state.done_at = Some(Instant::now());
        drop(state);
        self.done.notify_all();
        self.bell.ring();
    }
}

/// Wakes the thread that asks for rows, if it sleeps, whenever a batch is finished, well or not.
#[derive(Default)]
pub(super) struct Bell(OnceLock<Thread>);

impl Bell {
    fn ring(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// One read of a batch. If it is dropped undone, its batch fails instead of waiting for ever.
pub(super) struct Read {
    batch: Arc<Batch>,
    pub(super) offset: u64,
    pub(super) len: usize,
    /// Which of the batch's `copies` it brings.
    pub(super) rows: Range<usize>,
    finished: bool,
}

impl Read {
    pub(super) fn new(batch: Arc<Batch>, offset: u64, len: usize, rows: Range<usize>) -> Self {
        Self { batch, offset, len, rows, finished: false }
    }

    fn finish(mut self, outcome: Result<&[u8], PleError>) {
        self.finished = true;
        self.batch.complete(self.rows.clone(), outcome);
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        if !self.finished {
            self.batch.complete(self.rows.clone(), Err(PleError::Stopped));
        }
    }
}

/// What the store and its reader threads share.
pub(super) struct Shared {
    source: Box<dyn TableSource>,
    verifier: Option<Verifier>,
    queue: Mutex<Queue>,
    queued: Condvar,
    bell: Arc<Bell>,
    counters: Arc<ReadCounters>,
}

#[derive(Default)]
struct Queue {
    /// Taken first.
    urgent: VecDeque<Read>,
    ahead: VecDeque<Read>,
    /// Taken last, and one at a time.
    whenever: VecDeque<Read>,
    /// One of these is being read.
    is_whenever_read: bool,
    /// No more reads are taken: the store goes away, or a reader thread died of a broken invariant.
    closed: bool,
}

impl Queue {
    fn len(&self) -> usize {
        self.urgent.len() + self.ahead.len() + self.whenever.len()
    }

    fn has_next(&self) -> bool {
        let may_be_whenever = !self.is_whenever_read && !self.whenever.is_empty();
        !self.urgent.is_empty() || !self.ahead.is_empty() || may_be_whenever
    }

    fn take_next(&mut self) -> Option<(Read, Urgency)> {
        if let Some(read) = self.urgent.pop_front() {
            return Some((read, Urgency::Now));
        }
        if let Some(read) = self.ahead.pop_front() {
            return Some((read, Urgency::Ahead));
        }
        if self.is_whenever_read {
            return None;
        }
        let read = self.whenever.pop_front()?;
        self.is_whenever_read = true;
        Some((read, Urgency::Whenever))
    }
}

impl Shared {
    /// Queues the reads of a batch behind those that are as urgent.
    pub(super) fn push(&self, reads: Vec<Read>, urgency: Urgency) -> Result<(), PleError> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(PleError::Stopped);
        }
        let (waiting, more) = (queue.len(), reads.len());
        if waiting + more > MAX_WAITING {
            return Err(PleError::Busy { waiting, more, limit: MAX_WAITING });
        }
        match urgency {
            Urgency::Now => queue.urgent.extend(reads),
            Urgency::Ahead => queue.ahead.extend(reads),
            Urgency::Whenever => queue.whenever.extend(reads),
        }
        drop(queue);
        if more == 1 {
            self.queued.notify_one()
        } else {
            self.queued.notify_all()
        }
        Ok(())
    }

    /// Forgets the reads of a batch that no thread has begun.
    pub(super) fn cancel(&self, batch: &Arc<Batch>) {
        let mut queue = lock(&self.queue);
        queue.urgent.retain(|read| !Arc::ptr_eq(&read.batch, batch));
        queue.ahead.retain(|read| !Arc::ptr_eq(&read.batch, batch));
        queue.whenever.retain(|read| !Arc::ptr_eq(&read.batch, batch));
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// The bell rings for this thread, or for the one that was named before.
    pub(super) fn wake(&self, thread: Thread) {
        self.bell.0.get_or_init(|| thread);
    }

    pub(super) fn source(&self) -> &dyn TableSource {
        &*self.source
    }

    fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.urgent.clear();
        queue.ahead.clear();
        queue.whenever.clear();
        self.queued.notify_all();
    }

    fn next(&self) -> Option<(Read, Urgency)> {
        let queue = lock(&self.queue);
        let has_none = |q: &mut Queue| !q.closed && !q.has_next();
        let mut queue = self.queued.wait_while(queue, has_none).unwrap_or_else(PoisonError::into_inner);
        queue.take_next()
    }

    fn serve(&self, mut buffer: AlignedBytes) {
        while let Some((read, urgency)) = self.next() {
            let mut pauses = RETRY_PAUSES.iter();
            let outcome = loop {
                match self.attempt(&read, &mut buffer) {
                    Err(e) => {
                        self.counters.failed_reads.fetch_add(1, Ordering::Relaxed);
                        let Some(pause) = pauses.next().filter(|_| may_pass(&e)) else { break Err(e) };
                        self.counters.retries.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(*pause);
                    }
                    bytes => break bytes,
                }
            };
            read.finish(outcome);
            if urgency == Urgency::Whenever {
                lock(&self.queue).is_whenever_read = false;
                self.queued.notify_one();
            }
        }
    }

    /// Reads once and looks whether the rows are what they should be.
    fn attempt<'a>(&'a self, read: &Read, buffer: &'a mut AlignedBytes) -> Result<&'a [u8], PleError> {
        let rows = &read.batch.copies[read.rows.clone()];
        let begin = Instant::now();
        let outcome = self.source.read(read.offset, read.len, buffer);
        self.counters.latency.record(begin.elapsed());
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        let bytes = outcome.map_err(|source| PleError::Read { id: rows[0].id, source })?;
        let span = self.source.span(read.offset, read.len).map_or(0, |s| s.end - s.start);
        self.counters.bytes_read.fetch_add(span, Ordering::Relaxed);
        if let Some(verifier) = &self.verifier {
            rows.iter().try_for_each(|row| verifier.verify(row.id, &bytes[row.from..][..row.n_bytes]))?;
        }
        Ok(bytes)
    }
}

/// Whether the same read may do better the next time: an error of the device, or bytes that changed on their way.
fn may_pass(e: &PleError) -> bool {
    matches!(e, PleError::Read { source: StorageError::Read { .. }, .. } | PleError::Rotten { .. })
}

/// The reader threads. Dropping them fails what still waits and joins them.
pub(super) struct Readers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts `n_threads` for reads of up to `max_read_bytes`.
    pub(super) fn start(
        source: Box<dyn TableSource>,
        verifier: Option<Verifier>,
        n_threads: usize,
        max_read_bytes: usize,
        counters: Arc<ReadCounters>,
    ) -> Result<Self, PleError> {
        /// Closes the queue when its thread ends, so that a panic does not leave anyone waiting.
        struct CloseOnExit(Arc<Shared>);
        impl Drop for CloseOnExit {
            fn drop(&mut self) {
                self.0.close();
            }
        }

        let queue = Mutex::new(Queue::default());
        let shared = Arc::new(Shared {
            source,
            verifier,
            queue,
            queued: Condvar::new(),
            bell: Arc::default(),
            counters,
        });
        let mut readers = Self { shared, threads: Vec::new() };
        for i in 0..n_threads {
            let buffer = readers.shared.source.buffer(max_read_bytes)?;
            let shared = CloseOnExit(Arc::clone(&readers.shared));
            let thread = thread::Builder::new().name(format!("pled-rows-{i}"));
            let thread = thread.spawn(move || shared.0.serve(buffer)).map_err(PleError::Thread)?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.close();
        for thread in self.threads.drain(..) {
            // A panic was reported when it happened, and every batch concerned has failed.
            let _ = thread.join();
        }
    }
}

/// State behind these locks is consistent at every step, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
