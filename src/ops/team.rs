//! Threads that help the caller with one piece of work at a time, within a fraction of a microsecond.
//!
//! Decoding a token is some hundred products of 10 to 500 microseconds each, one after the other. A
//! general pool needs about 10 to hand out each of them and to hear that all are done. Helpers here look
//! for work without sleeping for a while, and the caller waits only for helpers that have begun: one that
//! the system has put aside holds nobody up. Rayon starts the threads and ends them; each runs one job for
//! as long as the team lives.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long a helper without work looks for some before it sleeps: longer than what lies between two
/// products of a token, shorter than anybody would notice on the power meter.
const LOOK: Duration = Duration::from_micros(300);
/// How long of that it does not even let others run.
const STARE: Duration = Duration::from_micros(50);

/// State: helpers at work in the low half, bit 63 while more may join, and the number of the round between.
const ROUND: u64 = 1 << 32;
const HELPERS: u64 = ROUND - 1;
const OPEN: u64 = 1 << 63;

/// The helpers. The caller of [`run`](Self::run) is not one of them.
pub(super) struct Team {
    shared: Arc<Shared>,
    /// Kept for its end: dropping it lets the threads go once their job has returned.
    _threads: rayon::ThreadPool,
    /// Held during a round.
    round: Mutex<()>,
}

type Work = *const (dyn Fn() + Sync);

struct Shared {
    state: AtomicU64,
    /// What the open round does.
    work: UnsafeCell<Option<Work>>,
    /// The first panic of a helper in this round.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    quit: AtomicBool,
    n_asleep: AtomicUsize,
    asleep: Mutex<()>,
    wake: Condvar,
}

// SAFETY: all fields but `work` may be shared and sent as they are. `work` points to something `Sync`; it is
// written only by the holder of `Team::round` while the state is not open and counts no helper, and read only
// by helpers that are counted (see `join`).
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Team {
    /// Starts `n` helpers.
    pub(super) fn new(n: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .thread_name(|i| format!("compute-{}", i + 1))
            .build()?;
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            panic: Mutex::new(None),
            quit: AtomicBool::new(false),
            n_asleep: AtomicUsize::new(0),
            asleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let of_threads = shared.clone();
        threads.spawn_broadcast(move |_| of_threads.help());
        Ok(Self { shared, _threads: threads, round: Mutex::new(()) })
    }

    /// Calls `work` on this thread and on every helper that is free in time; returns when all these calls
    /// have. `work` must be written so that any number of calls, from one on, do all there is to do.
    ///
    /// Called while a round is going on, by a helper or another thread, it calls `work` here alone.
    ///
    /// # Panics
    /// If one of the calls panics.
    pub(super) fn run(&self, work: &(dyn Fn() + Sync)) {
        let _round = match self.round.try_lock() {
            Ok(guard) => guard,
            // A panic in an earlier round left nothing undone: `Round` ended it.
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return work(),
        };
        let round = Round::begin(&self.shared, work);
        work();
        drop(round);
        let panic = lock(&self.shared.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        self.shared.wake_all();
    }
}

/// An open round; dropping it closes it and waits for the helpers in it.
struct Round<'a>(&'a Shared);

impl<'a> Round<'a> {
    fn begin(shared: &'a Shared, work: &'a (dyn Fn() + Sync)) -> Self {
        // One that nobody heard of, because this thread panicked as well.
        *lock(&shared.panic) = None;
        // SAFETY: only the lifetime changes. Helpers call it only while they are counted in the state, and
        // this `Round`, which must be dropped before 'a ends, waits until none is.
        let work = unsafe { std::mem::transmute::<&'a (dyn Fn() + Sync), Work>(work) };
        // SAFETY: the caller holds `Team::round` and the last round has ended: the state is not open and
        // counts no helper, so none reads this.
        unsafe { *shared.work.get() = Some(work) };
        let round = (shared.state.load(Ordering::Relaxed) & !OPEN).wrapping_add(ROUND) & !OPEN;
        // Sequentially consistent, as are the operations on `n_asleep` and the loads in `sleep`: either a
        // helper that goes to sleep sees this round, or this thread sees the helper.
        shared.state.store(round | OPEN, Ordering::SeqCst);
        if shared.n_asleep.load(Ordering::SeqCst) > 0 {
            shared.wake_all();
        }
        Self(shared)
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut waited = 0;
        while state & HELPERS != 0 {
            // Helpers finish within a task; if the system has put one aside, let it run.
            waited += 1;
            if waited % 1024 == 0 {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
            state = self.0.state.load(Ordering::Acquire);
        }
    }
}

impl Shared {
    /// The life of a helper.
    fn help(&self) {
        let mut last = 0;
        while let Some(state) = self.next_round(last) {
            let Some(work) = self.join(state) else { continue };
            last = state & !OPEN & !HELPERS;
            // SAFETY: `join` counted this helper, so the round and what it borrows live until the
            // subtraction below.
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*work)() }));
            if let Err(panic) = result {
                lock(&self.panic).get_or_insert(panic);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// Counts this helper in the round of `state`; `None` if the state has changed.
    fn join(&self, state: u64) -> Option<Work> {
        self.state.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed).ok()?;
        // SAFETY: the exchange saw the round open, so `work` was written before and stays as it is until the
        // round ends, which waits for this helper.
        unsafe { *self.work.get() }
    }

    /// Waits for an open round other than `last`; `None` when the team ends.
    fn next_round(&self, last: u64) -> Option<u64> {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                if let Some(state) = self.open_round(last) {
                    return Some(state);
                }
                std::hint::spin_loop();
            }
            if self.quit.load(Ordering::Relaxed) {
                return None;
            }
            let waited = start.elapsed();
            if waited > LOOK {
                return self.sleep(last);
            }
            if waited > STARE {
                std::thread::yield_now();
            }
        }
    }

    /// Sleeps until there is an open round other than `last`; `None` when the team ends.
    fn sleep(&self, last: u64) -> Option<u64> {
        let mut guard = lock(&self.asleep);
        self.n_asleep.fetch_add(1, Ordering::SeqCst);
        let round = loop {
            if self.quit.load(Ordering::SeqCst) {
                break None;
            }
            if let Some(state) = self.open_round(last) {
                break Some(state);
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.n_asleep.fetch_sub(1, Ordering::SeqCst);
        round
    }

    fn open_round(&self, last: u64) -> Option<u64> {
        let state = self.state.load(Ordering::SeqCst);
        (state & OPEN != 0 && state & !OPEN & !HELPERS != last).then_some(state)
    }

    fn wake_all(&self) {
        // With the lock: a helper is either before its look at the state or in `wait`.
        let _guard = lock(&self.asleep);
        self.wake.notify_all();
    }
}

/// Nothing under these locks is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
