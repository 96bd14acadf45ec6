//! What this machine gives at most, measured in the same run: how fast it reads memory, which bounds decoding, and how
//! many products of bytes it makes, which bounds prompts.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::ops::Kernels;

/// How long to measure.
const DURATION: Duration = Duration::from_millis(500);
/// Sums kept side by side, so that loads need not wait for additions.
const LANES: usize = 8;

/// Reads a buffer of `n_bytes` over and over with `n_threads`, each its part; returns GB/s (10^9 bytes)
/// of all together.
pub(super) fn measure_read_gb_s(n_bytes: usize, n_threads: usize) -> f64 {
    let n_words = (n_bytes / size_of::<u64>()).max(n_threads * LANES);
    // Written, not just zeroed: untouched pages are all the same one.
    let buffer: Vec<u64> = (0..n_words as u64).collect();
    let parts: Vec<&[u64]> = buffer.chunks(n_words.div_ceil(n_threads)).collect();
    giga_per_second(&parts, |part| {
        black_box(sum(black_box(part)));
        size_of_val(*part) as u64
    })
}

/// Products of bytes that `n_threads` make and add up with all operands in registers, 10^9 a second.
pub(super) fn measure_products_g_s(kernels: Kernels, n_threads: usize) -> f64 {
    // Tens of microseconds to some milliseconds: the clock is seldom asked.
    const ROUNDS: usize = 1 << 14;
    giga_per_second(&vec![(); n_threads], |()| kernels.make_products(ROUNDS))
}

/// What `work`, called over and over by a thread for each of `parts`, says that it has done, 10^9 a second.
fn giga_per_second<P: Sync>(parts: &[P], work: impl Fn(&P) -> u64 + Sync) -> f64 {
    let start = Barrier::new(parts.len());
    let rate_of = |part| {
        start.wait();
        let begin = Instant::now();
        let mut done = 0;
        while begin.elapsed() < DURATION {
            done += work(part);
        }
        done as f64 / begin.elapsed().as_secs_f64()
    };
    let rate_of = &rate_of;
    let rates = std::thread::scope(|scope| {
        let threads: Vec<_> = parts.iter().map(|part| scope.spawn(move || rate_of(part))).collect();
        let rate =
            |thread: std::thread::ScopedJoinHandle<'_, f64>| thread.join().expect("adding does not panic");
        threads.into_iter().map(rate).sum::<f64>()
    });
    rates / 1e9
}

fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; LANES];
    let chunks = words.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    rest.iter().chain(&sums).fold(0, |sum, word| sum.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_is_made() {
        for kernels in Kernels::available() {
            let of_one = kernels.make_products(1);
            assert!(of_one > 0, "{}", kernels.name());
            for n_rounds in [0, 3, 1000, 1 << 16] {
                assert_eq!(kernels.make_products(n_rounds), of_one * n_rounds as u64, "{}", kernels.name());
            }
        }
    }

    #[test]
    fn every_word_is_read_once() {
        for n_words in [0, 1, 7, 8, 1000] {
            let words: Vec<u64> = (1..=n_words).collect();
            assert_eq!(sum(&words), n_words * (n_words + 1) / 2);
        }
    }
}
