//! Counters, and how long reads and waits take.

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
    /// For each batch that was taken, how long somebody stood still for it; 0 where it was there.
    pub waits: Histogram,
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

    /// The same in a few figures.
    pub fn times(&self) -> Times {
        let below = |bits: u32| self.counts[..bucket_of(1 << bits)].iter().sum();
        Times {
            count: self.count(),
            sum: self.sum(),
            p50: self.quantile(0.5),
            p99: self.quantile(0.99),
            below: std::array::from_fn(|i| below(FIRST_BOUND_BITS + i as u32)),
        }
    }
}

/// Bounds of [`Times`] are powers of two, from 2^13 ns (8 us) to 2^33 ns (9 s), since buckets end there.
const FIRST_BOUND_BITS: u32 = 13;
const N_BOUNDS: usize = 21;

/// A distribution of durations in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// Number of durations.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
    /// The median.
    pub p50: Duration,
    /// What 99 of 100 do not exceed.
    pub p99: Duration,
    /// How many are below each bound of [`cumulative`](Self::cumulative).
    pub below: [u64; N_BOUNDS],
}

impl Times {
    /// Bounds in s, ascending, each with the number of durations below it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bound_s = |i: usize| (1u64 << (FIRST_BOUND_BITS + i as u32)) as f64 / 1e9;
        self.below.iter().enumerate().map(move |(i, &n)| (bound_s(i), n))
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
    pub(super) latency: Durations,
}

impl ReadCounters {
    pub(super) fn new() -> Self {
        Self {
            reads: AtomicU64::new(0),
            failed_reads: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            latency: Durations::new(),
        }
    }
}

/// Durations as they come, from any thread.
pub(super) struct Durations {
    counts: [AtomicU64; N_BUCKETS],
    sum_ns: AtomicU64,
}

impl Durations {
    pub(super) fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; N_BUCKETS], sum_ns: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket_of(ns)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed))
    }

    pub(super) fn histogram(&self) -> Histogram {
        let counts = self.counts.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        Histogram { counts, sum_ns: self.sum_ns.load(Ordering::Relaxed) }
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
        let durations = Durations::new();
        assert_eq!(durations.histogram().quantile(0.5), Duration::ZERO);
        for us in 1..=1000 {
            durations.record(Duration::from_micros(us));
        }
        let histogram = durations.histogram();
        assert_eq!((histogram.count(), histogram.sum()), (1000, Duration::from_micros(500_500)));
        for (q, us) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(q).as_secs_f64() * 1e6;
            assert!(found >= us && found <= us * 1.125, "quantile {q}: {found} us");
        }
    }

    #[test]
    fn figures_count_what_is_below_each_bound() {
        let durations = Durations::new();
        for ns in [0, 8191, 8192, 8193, 1 << 20, (1 << 33) - 1, 1 << 33, u64::MAX / 4] {
            durations.record(Duration::from_nanos(ns));
        }
        let times = durations.histogram().times();
        let below = |bound: f64| times.cumulative().find(|(b, _)| *b == bound).unwrap().1;
        assert_eq!((below(0.000_008_192), below(0.000_016_384), below(0.001_048_576)), (2, 4, 4));
        assert_eq!((below(0.002_097_152), below(8.589_934_592), times.count), (5, 6, 8));
        assert!(times.cumulative().is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
        assert!(times.p50 >= Duration::from_nanos(8193) && times.p99 > Duration::from_secs(8));
    }
}
