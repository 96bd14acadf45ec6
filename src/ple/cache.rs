//! Rows kept in memory, within a bound in bytes.

use crate::storage::{AlignedBytes, StorageError, page_size};

/// A cache of rows, or beginnings of rows, as they are stored (quantised).
///
/// Rows lie side by side in one mapping that becomes resident as it fills, and are found through one
/// number per row of the table (1 MB for a vocabulary of 262,144, no more than a hash table of the
/// rows that 64 MB hold): the bound is exact and nothing is allocated after the beginning.
///
/// A row is kept in the place of another only if it was wanted at least as often of late (TinyLFU). The
/// table is small enough to count each of its rows instead of estimating, in one byte; all counts are halved
/// from time to time, so that old fame fades. A long prompt of rows seen once takes turns in the
/// places of other rows seen once, and leaves alone those that come back.
pub(super) struct RowCache {
    row_bytes: usize,
    /// `[n_slots, row_bytes]`
    rows: AlignedBytes,
    /// One per row held; grows up to `n_slots`.
    slots: Vec<Slot>,
    n_slots: usize,
    /// Row id to slot + 1; 0: not here. Empty if there are no slots.
    index: Vec<u32>,
    /// How often each row of the table was wanted of late. Empty if there are no slots.
    counts: Vec<u8>,
    /// Look-ups until the counts are halved.
    until_halving: usize,
    /// The next candidate for eviction.
    hand: usize,
}

struct Slot {
    id: u32,
    /// How much of the row is here, from its beginning.
    n_bytes: u32,
}

/// Candidates for an eviction, of which the one wanted least goes. More find a better one and take longer.
const N_CANDIDATES: usize = 16;
/// Counts are halved after this many look-ups for each slot.
const LOOK_UPS_PER_SLOT: usize = 16;

impl RowCache {
    /// A cache for rows `0..n_rows` that takes `max_bytes` at most.
    pub(super) fn new(max_bytes: usize, row_bytes: usize, n_rows: u32) -> Result<Self, StorageError> {
        // The rows' mapping is rounded up to pages.
        let per_row = size_of::<u32>() + size_of::<u8>();
        let fixed_bytes = (n_rows as usize).saturating_mul(per_row).saturating_add(page_size());
        let slot_bytes = row_bytes.saturating_add(size_of::<Slot>());
        let n_slots = match u32::try_from(row_bytes) {
            Ok(_) => (max_bytes.saturating_sub(fixed_bytes) / slot_bytes).min(n_rows as usize),
            // No model has such rows, and a slot's number would not hold their length.
            Err(_) => 0,
        };
        let n_known = if n_slots > 0 { n_rows as usize } else { 0 };
        Ok(Self {
            row_bytes,
            rows: AlignedBytes::zeroed(n_slots * row_bytes)?,
            slots: Vec::with_capacity(n_slots),
            n_slots,
            index: vec![0; n_known],
            counts: vec![0; n_known],
            until_halving: n_slots * LOOK_UPS_PER_SLOT,
            hand: 0,
        })
    }

    /// The first `n_bytes` of the row, if as many are here; notes that they are wanted.
    pub(super) fn get(&mut self, id: u32, n_bytes: usize) -> Option<&[u8]> {
        self.count(id);
        let slot = self.slot_of(id)?;
        let is_here = n_bytes <= self.slots[slot].n_bytes as usize;
        is_here.then(|| &self.rows[slot * self.row_bytes..][..n_bytes])
    }

    fn count(&mut self, id: u32) {
        let Some(count) = self.counts.get_mut(id as usize) else { return };
        *count = count.saturating_add(1);
        self.until_halving -= 1;
        if self.until_halving == 0 {
            self.until_halving = self.n_slots * LOOK_UPS_PER_SLOT;
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    fn slot_of(&self, id: u32) -> Option<usize> {
        (*self.index.get(id as usize)? as usize).checked_sub(1)
    }

    /// Offers a row or its beginning. Kept if there is room, if it completes what is here, or if no other
    /// row among some candidates is wanted more.
    pub(super) fn insert(&mut self, id: u32, part: &[u8]) {
        if self.n_slots == 0 {
            return;
        }
        let slot = match self.slot_of(id) {
            Some(slot) if self.slots[slot].n_bytes as usize >= part.len() => return,
            Some(slot) => slot,
            None if self.slots.len() < self.n_slots => {
                self.slots.push(Slot { id, n_bytes: 0 });
                self.slots.len() - 1
            }
            None => {
                let Some(slot) = self.victim(self.counts[id as usize]) else { return };
                self.index[self.slots[slot].id as usize] = 0;
                slot
            }
        };
        self.rows[slot * self.row_bytes..][..part.len()].copy_from_slice(part);
        // They fit: there are no more slots than rows, row ids are below `n_rows`, and no part is longer
        // than a row.
        self.slots[slot] = Slot { id, n_bytes: part.len() as u32 };
        self.index[id as usize] = slot as u32 + 1;
    }

    /// Whether a row could be kept without another's being let go.
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < self.n_slots
    }

    /// Whether as much of the row is here.
    pub(super) fn holds(&self, id: u32, n_bytes: usize) -> bool {
        self.slot_of(id).is_some_and(|slot| self.slots[slot].n_bytes as usize >= n_bytes)
    }

    /// Keeps a row that was wanted so often before the process began, if there is room.
    pub(super) fn warm(&mut self, id: u32, count: u8, row: &[u8]) {
        if self.has_room() || self.slot_of(id).is_some() {
            let known = &mut self.counts[id as usize];
            *known = count.max(*known);
            self.insert(id, row);
        }
    }

    /// The rows that are here, and how often they were wanted of late; those wanted most first.
    pub(super) fn rows_by_count(&self) -> Vec<(u32, u8)> {
        let mut rows: Vec<(u32, u8)> =
            self.slots.iter().map(|slot| (slot.id, self.counts[slot.id as usize])).collect();
        rows.sort_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
        rows
    }

    /// Of the next slots the one whose row is wanted least, if that is not more than `count`. Moves on.
    fn victim(&mut self, count: u8) -> Option<usize> {
        let n = self.slots.len();
        let candidates = (0..n.min(N_CANDIDATES)).map(|i| (self.hand + i) % n);
        let wanted = |slot: &usize| self.counts[self.slots[*slot].id as usize];
        let slot = candidates.min_by_key(wanted).filter(|slot| wanted(slot) <= count);
        self.hand = slot.map_or(self.hand + N_CANDIDATES, |slot| slot + 1) % n;
        slot
    }

    /// Bytes that the cache takes when full.
    #[cfg(test)]
    fn max_bytes(&self) -> usize {
        self.rows.len().next_multiple_of(page_size())
            + self.slots.capacity() * size_of::<Slot>()
            + self.index.capacity() * size_of::<u32>()
            + self.counts.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u32, row_bytes: usize) -> Vec<u8> {
        (0..row_bytes as u32).map(|i| (id * 31 + i) as u8).collect()
    }

    #[test]
    fn the_bound_holds() {
        for row_bytes in [1, 5, 33, 5040, 7350] {
            for max_bytes in [0, 1, 4096, 20_000, 30_000, 65_536, 100_000, 1_000_000] {
                let mut cache = RowCache::new(max_bytes, row_bytes, 5000).unwrap();
                assert!(
                    cache.n_slots == 0 || cache.max_bytes() <= max_bytes,
                    "{} slots of {row_bytes} take {}, not {max_bytes}",
                    cache.n_slots,
                    cache.max_bytes()
                );
                for id in 0..5000 {
                    cache.insert(id, &row(id, row_bytes));
                }
                assert!(cache.n_slots == 0 || cache.max_bytes() <= max_bytes);
                assert_eq!(cache.slots.len(), cache.n_slots);
                assert_eq!(cache.index.iter().filter(|&&slot| slot != 0).count(), cache.n_slots);
            }
        }
        // Most of the bound is rows.
        let cache = RowCache::new(64 << 20, 5040, 1 << 18).unwrap();
        assert!(cache.n_slots * 5040 > (64 << 20) * 97 / 100);
        assert_eq!(RowCache::new(1 << 20, 16, 10).unwrap().n_slots, 10);
    }

    #[test]
    fn rows_come_back_whole() {
        let (row_bytes, mut hits) = (64, 0);
        let mut cache = RowCache::new(30_000, row_bytes, 1000).unwrap();
        let mut id = 1u32;
        for _ in 0..20_000 {
            id = id.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let id = (id >> 16) % 400;
            match cache.get(id, row_bytes) {
                Some(found) => {
                    assert_eq!(found, row(id, row_bytes));
                    hits += 1;
                }
                None => cache.insert(id, &row(id, row_bytes)),
            }
        }
        assert!(hits > 20_000 * cache.n_slots / 400 * 8 / 10, "{hits} hits with {} slots", cache.n_slots);
    }

    #[test]
    fn rows_that_come_back_survive_those_seen_once() {
        let mut cache = RowCache::new(50_000, 64, 5000).unwrap();
        let wanted: Vec<u32> = (0..cache.n_slots as u32 / 4).collect();
        for &id in &wanted {
            cache.insert(id, &row(id, 64));
        }
        for once in 1000..5000 {
            for &id in &wanted {
                assert!(cache.get(id, 64).is_some(), "row {id} was evicted for {once}");
            }
            cache.get(once, 64);
            cache.insert(once, &row(once, 64));
        }
    }

    #[test]
    fn a_long_prompt_does_not_flush_what_is_wanted_often() {
        let mut cache = RowCache::new(60_000, 64, 5000).unwrap();
        let wanted: Vec<u32> = (0..cache.n_slots as u32 / 2).collect();
        for _ in 0..4 {
            for &id in &wanted {
                cache.get(id, 64);
                cache.insert(id, &row(id, 64));
            }
        }
        // More rows than there are slots, several times over, and none of the wanted ones meanwhile.
        for once in 1000..4000 {
            cache.get(once, 64);
            cache.insert(once, &row(once, 64));
        }
        let kept = wanted.iter().filter(|&&id| cache.get(id, 64).is_some()).count();
        assert_eq!(kept, wanted.len());
    }

    #[test]
    fn old_fame_fades() {
        let mut cache = RowCache::new(60_000, 64, 5000).unwrap();
        let n = cache.n_slots as u32;
        let mut want = |id| {
            let hit = cache.get(id, 64).is_some();
            cache.insert(id, &row(id, 64));
            hit
        };
        for _ in 0..300 {
            (0..n).for_each(|id| _ = want(id));
        }
        // Another subject: the rows of now push out those of then.
        for _ in 0..200 {
            (n..2 * n).for_each(|id| _ = want(id));
        }
        let hits = (n..2 * n).filter(|&id| want(id)).count();
        assert!(hits > n as usize * 9 / 10, "{hits} of {n}");
    }

    #[test]
    fn a_beginning_is_completed_and_never_shortened() {
        let mut cache = RowCache::new(60_000, 64, 100).unwrap();
        cache.insert(7, &row(7, 64)[..20]);
        assert_eq!(cache.get(7, 20), Some(&row(7, 64)[..20]));
        assert_eq!(cache.get(7, 21), None);
        cache.insert(7, &row(7, 64));
        cache.insert(7, &row(7, 64)[..5]);
        assert_eq!(cache.get(7, 64), Some(&row(7, 64)[..]));
        assert_eq!(cache.slots.len(), 1);
    }
}
