//! What the engine's thread and its handles both see.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::options::EngineOptions;
use super::request::Priority;
use super::sessions::Sessions;
use super::stats::{Outcome, Stats};

/// Weight of the newest request in the running mean of their ages.
const MEAN_WEIGHT: f64 = 0.2;
/// Bounds of what a refused caller is told to wait.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Shared {
    /// One for each request that is waiting or in a slot. Closed: no more are taken in.
    places: Arc<Semaphore>,
    /// Those of the background take one of these too, so that they leave a place for each slot that they leave.
    background_places: Arc<Semaphore>,
    n_places: usize,
    max_sessions: usize,
    n_reserved: usize,
    /// The most that keys and values of sequences and kept ones may take together.
    kv_bytes_bound: u64,
    /// The most that pinned keys and values may take: what sequences never need.
    pinned_bytes_bound: u64,
    pub(super) sessions: Sessions,
    /// When whatever is left ends.
    pub(super) drain: OnceLock<Instant>,
    /// Turns of the engine's loop.
    pub(super) beats: AtomicU64,
    /// The engine sleeps because there is nothing to do.
    pub(super) idle: AtomicBool,
    counters: Mutex<Counters>,
}

/// A request's place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _any: OwnedSemaphorePermit,
    _background: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Default)]
struct Counters {
    stats: Stats,
    /// Running mean of the time from acceptance to end. Unit: s.
    mean_age_s: f64,
}

impl Shared {
    pub(super) fn new(options: &EngineOptions, kv_bytes_bound: u64) -> Self {
        let n_places = options.max_sessions + options.queue_depth;
        let stats = Stats { kv_bytes_bound, ..Stats::default() };
        Self {
            places: Arc::new(Semaphore::new(n_places)),
            background_places: Arc::new(Semaphore::new(n_places - options.n_reserved())),
            n_places,
            max_sessions: options.max_sessions,
            n_reserved: options.n_reserved(),
            kv_bytes_bound,
            pinned_bytes_bound: kv_bytes_bound / options.n_contexts() as u64 * options.kept_contexts as u64,
            sessions: Sessions::default(),
            drain: OnceLock::new(),
            beats: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            counters: Mutex::new(Counters { stats, mean_age_s: 0.0 }),
        }
    }

    pub(super) fn kv_bytes_bound(&self) -> u64 {
        self.kv_bytes_bound
    }

    pub(super) fn pinned_bytes_bound(&self) -> u64 {
        self.pinned_bytes_bound
    }

    pub(super) fn n_places(&self) -> usize {
        self.n_places
    }

    pub(super) fn take_place(&self, priority: Priority) -> Result<Place, TryAcquireError> {
        let background = match priority {
            Priority::Interactive => None,
            Priority::Background => Some(Arc::clone(&self.background_places).try_acquire_owned()?),
        };
        Ok(Place { _any: Arc::clone(&self.places).try_acquire_owned()?, _background: background })
    }

    /// Takes no more requests in.
    pub(super) fn close(&self) {
        self.places.close();
        self.background_places.close();
    }

    /// Requests that wait or are in a slot.
    pub(super) fn in_flight(&self) -> usize {
        self.n_places - self.places.available_permits()
    }

    /// No request is left and none will come.
    pub(super) fn is_over(&self) -> bool {
        self.places.is_closed() && self.in_flight() == 0
    }

    pub(super) fn with_stats<T>(&self, f: impl FnOnce(&mut Stats) -> T) -> T {
        self.with_counters(|c| f(&mut c.stats))
    }

    /// Counts the end of a request that was accepted `age` ago.
    pub(super) fn count(&self, outcome: Outcome, age: Duration) {
        self.with_counters(|c| {
            c.stats.count(outcome);
            c.mean_age_s += MEAN_WEIGHT * (age.as_secs_f64() - c.mean_age_s);
        });
    }

    /// About when the next place becomes free.
    pub(super) fn retry_after(&self) -> Duration {
        let mean = self.with_counters(|c| c.mean_age_s);
        Duration::from_secs_f64(mean / self.n_places as f64).clamp(RETRY_MIN, RETRY_MAX)
    }

    /// Place in the queue of the request that was taken in last, if it has this priority.
    pub(super) fn queue_position(&self, priority: Priority) -> usize {
        let n_slots = self.max_sessions - self.n_reserved;
        match priority {
            Priority::Background => self.in_flight().saturating_sub(n_slots),
            Priority::Interactive => {
                let n_background =
                    self.n_places - self.n_reserved - self.background_places.available_permits();
                // Those that have no slot are passed by.
                let n_passed = n_background.saturating_sub(n_slots);
                self.in_flight().saturating_sub(n_passed + self.max_sessions)
            }
        }
    }

    fn with_counters<T>(&self, f: impl FnOnce(&mut Counters) -> T) -> T {
        // Counters stay meaningful whatever happened to a thread that held them.
        f(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
