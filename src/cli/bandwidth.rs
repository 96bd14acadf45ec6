//! How fast this machine reads memory: the bound of decoding, measured in the same run.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How long to read.
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
    let start = Barrier::new(parts.len());
    let rates = std::thread::scope(|scope| {
        let readers: Vec<_> = parts.iter().map(|part| scope.spawn(|| read(part, &start))).collect();
        let rate =
            |reader: std::thread::ScopedJoinHandle<'_, f64>| reader.join().expect("adding does not panic");
        readers.into_iter().map(rate).sum::<f64>()
    });
    rates / 1e9
}

/// Bytes a second of whole passes over `part`.
fn read(part: &[u64], start: &Barrier) -> f64 {
    start.wait();
    let begin = Instant::now();
    let mut n_bytes = 0;
    while begin.elapsed() < DURATION {
        black_box(sum(black_box(part)));
        n_bytes += size_of_val(part);
    }
    n_bytes as f64 / begin.elapsed().as_secs_f64()
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
    fn every_word_is_read_once() {
        for n_words in [0, 1, 7, 8, 1000] {
            let words: Vec<u64> = (1..=n_words).collect();
            assert_eq!(sum(&words), n_words * (n_words + 1) / 2);
        }
    }
}
