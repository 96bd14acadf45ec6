//! The threads that compute. The calling thread works too; one thread means no pool at all.

use super::team::Team;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Tasks that work is split into for each thread.
const TASKS_PER_THREAD: usize = 4;
/// The same where each task is long: less is left to wait for at the end.
const LONG_TASKS_PER_THREAD: usize = 16;

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// A pool computes with at least the calling thread.
    #[error("the number of compute threads must be at least 1")]
    NoThreads,
    /// The system refused a thread.
    #[error("cannot start {n_threads} compute threads: {source}")]
    Spawn {
        /// Threads asked for.
        n_threads: usize,
        /// What the system said.
        source: rayon::ThreadPoolBuildError,
    },
}

/// Compute threads: the caller of an operation and `n_threads - 1` helpers.
///
/// One operation runs at a time. An operation that is called from another one, or by another thread
/// meanwhile, runs on its caller alone.
pub struct Pool {
    helpers: Option<Team>,
    n_threads: usize,
}

impl Pool {
    /// A pool of `n_threads` threads, the calling one counted.
    pub fn new(n_threads: usize) -> Result<Self, PoolError> {
        let helpers = match n_threads {
            0 => return Err(PoolError::NoThreads),
            1 => None,
            _ => Some(Team::new(n_threads - 1).map_err(|source| PoolError::Spawn { n_threads, source })?),
        };
        Ok(Self { helpers, n_threads })
    }

    /// Threads that work, the calling one counted.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Splits `data` \[n_rows, row_len\] into chunks of whole rows and calls `f(first_row, chunk)` on all
    /// threads; returns when all are done.
    pub fn for_each_rows_mut(&self, data: &mut [f32], row_len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        assert!(row_len > 0 && data.len().is_multiple_of(row_len), "rows of {row_len} in {}", data.len());
        let rows_per_task = self.items_per_task(data.len() / row_len);
        let chunks = data.chunks_mut(rows_per_task * row_len).enumerate();
        self.for_each(chunks, |(i, chunk)| f(i * rows_per_task, chunk));
    }

    /// Splits `data` into chunks of a multiple of `granule` elements, the last one shorter, and calls
    /// `f(start, chunk)` on all threads; returns when all are done.
    pub fn for_each_chunk_mut(&self, data: &mut [f32], granule: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        let len = self.items_per_task(data.len()).next_multiple_of(granule);
        let chunks = data.chunks_mut(len).enumerate();
        self.for_each(chunks, |(i, chunk)| f(i * len, chunk));
    }

    /// Calls `f` with every item, on all threads.
    pub fn for_each<T>(&self, items: impl Iterator<Item = T> + Send, f: impl Fn(T) + Sync) {
        // One item is nothing to share: waking the others would take longer than a small one.
        let is_shared = items.size_hint().1.is_none_or(|n_items| n_items > 1);
        let Some(helpers) = self.helpers.as_ref().filter(|_| is_shared) else {
            return items.for_each(f);
        };
        let items = Mutex::new(items);
        helpers.run(&|| {
            loop {
                let next = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(item) = next else { break };
                f(item);
            }
        });
    }

    /// A good number of items in each of the tasks that `n` items are split into: several tasks for each
    /// thread, so that one that comes late or is slow has less to do.
    pub fn items_per_task(&self, n: usize) -> usize {
        self.items(n, TASKS_PER_THREAD)
    }

    /// The same for items that take so long that the hand-over of a task is nothing beside it.
    pub fn items_per_long_task(&self, n: usize) -> usize {
        self.items(n, LONG_TASKS_PER_THREAD)
    }

    fn items(&self, n: usize, tasks_per_thread: usize) -> usize {
        n.div_ceil(if self.n_threads > 1 { tasks_per_thread * self.n_threads } else { 1 }).max(1)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.n_threads)
    }
}
