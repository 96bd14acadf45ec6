//! An allocator that is looked at: what a test program allocates at a time and at most.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(unreachable_pub, reason = "part of test programs")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// No single allocation may be larger, whatever a file says.
pub const MAX_ALLOCATION: usize = 64 << 20;

/// The system's allocator with two gauges.
struct Gauged;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

static MEASURING: Mutex<()> = Mutex::new(());

fn count(size: usize) {
    LARGEST.fetch_max(size, Relaxed);
    PEAK.fetch_max(LIVE.fetch_add(size, Relaxed) + size, Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of it.
unsafe impl GlobalAlloc for Gauged {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `System` by `alloc` or `realloc`, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new exist together for a moment.
        count(new_size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `System` with this layout; the caller's promise is passed on.
        unsafe { System.realloc(at, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Gauged = Gauged;

/// The gauges, for one test at a time: they see the whole process.
pub struct Gauges {
    before: usize,
    _alone: MutexGuard<'static, ()>,
}

/// Waits until no other test holds the gauges. To be held for the whole test, for its other allocations
/// would show in the gauges of the others.
pub fn alone() -> Gauges {
    let alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    Gauges { before: LIVE.load(Relaxed), _alone: alone }
}

impl Gauges {
    /// Begins anew.
    pub fn reset(&mut self) {
        self.before = LIVE.load(Relaxed);
        PEAK.store(self.before, Relaxed);
        LARGEST.store(0, Relaxed);
    }

    /// The largest single allocation, bytes.
    pub fn largest(&self) -> usize {
        LARGEST.load(Relaxed)
    }

    /// The most that was allocated at a time, bytes.
    pub fn peak(&self) -> usize {
        PEAK.load(Relaxed) - self.before
    }
}
