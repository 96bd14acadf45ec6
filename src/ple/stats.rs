//! Counters and read latencies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a store did since it was opened.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Rows asked for.
    pub rows: u64,
    /// Different rows, counted per batch.
    pub distinct: u64,
    /// Of these, how many came from memory: the row cache, or all in mode `resident`.
    pub cache_hits: u64,
    /// Reads done, successful or not, those tried again too. Neighbouring rows share one.
    pub reads: u64,
    /// Reads that failed, or brought bytes that do not match their checksum.
    pub failed_reads: u64,
    /// Of these, how many were tried again.
    pub retries: u64,
    /// Bytes read, rounded outwards to the unit of reading.
    pub bytes_read: u64,
    /// Time spent in [`wait`](super::RowStore::wait) in nanoseconds.
    pub wait_ns: u64,
    /// Latency of the single reads.
    pub read_latency: Histogram,
}

/// Distribution of durations, each known to an eighth of its value.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u64]>,
    sum_ns: u64,
}

impl Histogram {
    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The duration that a share `q` (0 to 1) of all does not exceed; zero if there is none.
    pub fn quantile(&self, q: f64) -> Duration {
        let count = self.count();
        if count == 0 {
            return Duration::ZERO;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|&n| {
            seen += n;
            seen >= rank
        });
        Duration::from_nanos(bucket_max(bucket.expect("ranks do not exceed the count")))
    }
}

/// Buckets per power of two, as a number of bits.
const SUB_BITS: u32 = 3;
const SUB: usize = 1 << SUB_BITS;
/// Values below `SUB` have a bucket each; each higher power of two has `SUB`.
const N_BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB;

fn bucket_of(ns: u64) -> usize {
    if ns < SUB as u64 {
        return ns as usize;
    }
    let exponent = ns.ilog2();
    let below = exponent - SUB_BITS;
    (below as usize + 1) * SUB + ((ns >> below) as usize & (SUB - 1))
}

/// Largest value of a bucket.
fn bucket_max(bucket: usize) -> u64 {
    let (group, sub) = (bucket / SUB, (bucket % SUB) as u64);
    if group == 0 {
        return sub;
    }
    let below = group as u32 - 1;
    ((SUB as u64 + sub) << below) + ((1 << below) - 1)
}

/// The counters that reader threads write.
pub(super) struct ReadCounters {
    pub(super) reads: AtomicU64,
    pub(super) failed_reads: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    latency: [AtomicU64; N_BUCKETS],
    latency_sum_ns: AtomicU64,
}

impl ReadCounters {
    pub(super) fn new() -> Self {
        Self {
            reads: AtomicU64::new(0),
            failed_reads: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            latency: [const { AtomicU64::new(0) }; N_BUCKETS],
            latency_sum_ns: AtomicU64::new(0),
        }
    }

    pub(super) fn record(&self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency[bucket_of(ns)].fetch_add(1, Ordering::Relaxed);
        self.latency_sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub(super) fn latency(&self) -> Histogram {
        let counts = self.latency.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        Histogram { counts, sum_ns: self.latency_sum_ns.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_exact_to_an_eighth() {
        let values =
            (0..64).flat_map(|shift| (0..9).map(move |k| (1u64 << shift).saturating_add(k << shift >> 3)));
        for v in values.chain(0..5000).chain([u64::MAX, u64::MAX - 1]) {
            let bucket = bucket_of(v);
            let max = bucket_max(bucket);
            assert!(max >= v && max - v <= v / 8, "{v} in bucket {bucket} up to {max}");
            assert!(bucket == 0 || bucket_max(bucket - 1) < v, "{v} in bucket {bucket}");
        }
        assert_eq!(bucket_of(u64::MAX), N_BUCKETS - 1);
    }

    #[test]
    fn quantiles() {
        let counters = ReadCounters::new();
        assert_eq!(counters.latency().quantile(0.5), Duration::ZERO);
        for us in 1..=1000 {
            counters.record(Duration::from_micros(us));
        }
        let histogram = counters.latency();
        assert_eq!((histogram.count(), histogram.sum()), (1000, Duration::from_micros(500_500)));
        for (q, us) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(q).as_secs_f64() * 1e6;
            assert!(found >= us && found <= us * 1.125, "quantile {q}: {found} us");
        }
    }
}
