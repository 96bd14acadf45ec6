//! The largest entries of a row without sorting the row.

use std::cmp::Ordering;

/// A token that is still in the game.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) logit: f32,
    pub(super) id: u32,
}

/// Larger logit first, lower id first among equals. Callers have excluded NaN.
pub(super) fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// Leaves in `out` the `k` first entries of the row by [`by_rank`], in that order; fewer if fewer are
/// above minus infinity.
///
/// One pass with a rising threshold: entries above it are collected, and each time the buffer is
/// full the best `k` stay and the last of them becomes the threshold. For k = 64 of 262,144 entries
/// nearly all of the work is one comparison per entry. `out` keeps its memory from call to call.
pub(super) fn select_top(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    out.clear();
    if k == 0 {
        return;
    }
    let room = (4 * k).max(256).min(logits.len());
    out.reserve(room);
    let mut threshold = f32::NEG_INFINITY;
    for (id, &logit) in logits.iter().enumerate() {
        // An equal logit of a later id ranks below the one that set the threshold.
        if logit > threshold {
            if out.len() == room {
                out.select_nth_unstable_by(k - 1, by_rank);
                out.truncate(k);
                threshold = out[k - 1].logit;
                if logit <= threshold {
                    continue;
                }
            }
            out.push(Candidate { logit, id: id as u32 });
        }
    }
    if out.len() > k {
        out.select_nth_unstable_by(k - 1, by_rank);
        out.truncate(k);
    }
    out.sort_unstable_by(by_rank);
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The obvious way.
    fn naive(logits: &[f32], k: usize) -> Vec<Candidate> {
        let mut all: Vec<_> = logits
            .iter()
            .enumerate()
            .filter(|(_, l)| **l > f32::NEG_INFINITY)
            .map(|(id, &logit)| Candidate { logit, id: id as u32 })
            .collect();
        all.sort_by(by_rank);
        all.truncate(k);
        all
    }

    #[test]
    fn equals_a_full_sort_with_many_equal_logits() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut out = Vec::new();
        for round in 0..300 {
            let n = (rng.next_u32() % 3000) as usize + 1;
            let levels = [2, 5, 100, 1_000_000][round % 4];
            let logits: Vec<f32> = (0..n)
                .map(|_| match rng.next_u32() % levels {
                    0 => f32::NEG_INFINITY,
                    v => v as f32 - 3.0,
                })
                .collect();
            for k in [0, 1, 2, 64, 255, 256, 257, n - 1, n, n + 5] {
                select_top(&logits, k, &mut out);
                assert_eq!(out, naive(&logits, k), "n {n} k {k}");
            }
        }
    }

    #[test]
    fn rising_and_falling_rows() {
        let up: Vec<f32> = (0..5000).map(|i| i as f32).collect();
        let down: Vec<f32> = up.iter().rev().copied().collect();
        let mut out = Vec::new();
        for row in [&up, &down] {
            select_top(row, 64, &mut out);
            assert_eq!(out, naive(row, 64));
        }
    }
}
