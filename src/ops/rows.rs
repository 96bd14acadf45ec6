//! Arrays with a row for each token, whose rows threads share: the sums of a block, the input of the next, its codes and scales.

use super::Compute;

/// Arrays \[n, ..\] that are cut between the same rows.
pub(super) trait Rows: Sized {
    /// The first `at` rows of `n`, which are at least one, and the others.
    fn split(self, at: usize, n: usize) -> (Self, Self);
}

/// No array: what is not there has any number of rows.
impl Rows for () {
    fn split(self, _: usize, _: usize) -> (Self, Self) {
        ((), ())
    }
}

impl<T> Rows for &mut [T] {
    fn split(self, at: usize, n: usize) -> (Self, Self) {
        self.split_at_mut(self.len() / n * at)
    }
}

impl<A: Rows, B: Rows> Rows for (A, B) {
    fn split(self, at: usize, n: usize) -> (Self, Self) {
        let (first, second) = (self.0.split(at, n), self.1.split(at, n));
        ((first.0, second.0), (first.1, second.1))
    }
}

impl<A: Rows, B: Rows, C: Rows> Rows for (A, B, C) {
    fn split(self, at: usize, n: usize) -> (Self, Self) {
        let ((a, b), c) = ((self.0, self.1), self.2);
        let (((a, b), c), ((d, e), f)) = ((a, b), c).split(at, n);
        ((a, b, c), (d, e, f))
    }
}

/// Calls `f` with runs of `n` rows, on all threads: the number of the first, the rows, and how many they are.
pub(super) fn for_each_run<R: Rows + Send>(
    c: &Compute,
    n: usize,
    rows: R,
    f: impl Fn(usize, R, usize) + Sync,
) {
    let runs = runs(rows, n, c.pool.items_per_task(n));
    c.pool.for_each(runs, |(start, rows, n)| f(start, rows, n));
}

/// Calls `f` with each of `n` rows and its number.
pub(super) fn for_each_row<R: Rows>(n: usize, rows: R, mut f: impl FnMut(usize, R)) {
    runs(rows, n, 1).for_each(|(i, row, _)| f(i, row));
}

/// `n` rows in runs of `len`, the last one perhaps shorter.
fn runs<R: Rows>(rows: R, n: usize, len: usize) -> impl Iterator<Item = (usize, R, usize)> {
    let mut rest = Some(rows);
    (0..n).step_by(len).map(move |start| {
        let n_here = len.min(n - start);
        let (here, after) = rest.take().expect("left by the run before").split(n_here, n - start);
        rest = Some(after);
        (start, here, n_here)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Kernels, Pool};

    #[test]
    fn every_row_comes_once_with_all_its_parts() {
        for (n, n_threads) in [(0, 1), (1, 2), (7, 1), (7, 3), (40, 2)] {
            let c = Compute { pool: Pool::new(n_threads).unwrap(), kernels: Kernels::scalar() };
            let (mut wide, mut narrow, mut words) = (vec![0_u8; 6 * n], vec![0_u32; n], vec![0_usize; 2 * n]);
            let rows = ((), (&mut wide[..], &mut narrow[..], &mut words[..]));
            for_each_run(&c, n, rows, |start, rows, n| {
                for_each_row(n, rows, |at, ((), (wide, narrow, words))| {
                    let i = start + at;
                    assert_eq!((wide.len(), narrow.len(), words.len()), (6, 1, 2));
                    wide.iter_mut().for_each(|v| *v += i as u8);
                    narrow[0] += i as u32;
                    words.iter_mut().for_each(|v| *v += i);
                });
            });
            assert!(wide.chunks(6).enumerate().all(|(i, row)| row == [i as u8; 6]));
            assert!(narrow.iter().enumerate().all(|(i, v)| *v == i as u32));
            assert!(words.chunks(2).enumerate().all(|(i, row)| row == [i; 2]));
        }
    }
}
