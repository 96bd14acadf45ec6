//! Rows kept in memory, within a bound in bytes.

use crate::storage::{AlignedBytes, StorageError, page_size};

/// A cache of whole rows as they are stored (quantised).
///
/// Rows lie side by side in one mapping that becomes resident as it fills, and are found through one
/// number per row of the table (1 MB for a vocabulary of 262,144, no more than a hash table of the
/// rows that 64 MB hold): the bound is exact and nothing is allocated after the beginning.
///
/// Eviction is CLOCK. A row begins unmarked, so the rows of a long prompt that are seen once do not
/// push out those that come back.
pub(super) struct RowCache {
    row_bytes: usize,
    /// `[n_slots, row_bytes]`
    rows: AlignedBytes,
    /// One per row held; grows up to `n_slots`.
    slots: Vec<Slot>,
    n_slots: usize,
    /// Row id to slot + 1; 0: not here. Empty if there are no slots.
    index: Vec<u32>,
    /// The next candidate for eviction.
    hand: usize,
}

struct Slot {
    id: u32,
    /// Asked for since the hand passed.
    marked: bool,
}

impl RowCache {
    /// A cache for rows `0..n_rows` that takes `max_bytes` at most.
    pub(super) fn new(max_bytes: usize, row_bytes: usize, n_rows: u32) -> Result<Self, StorageError> {
        // The rows' mapping is rounded up to pages.
        let fixed_bytes = (n_rows as usize).saturating_mul(size_of::<u32>()).saturating_add(page_size());
        let slot_bytes = row_bytes.saturating_add(size_of::<Slot>());
        let n_slots = (max_bytes.saturating_sub(fixed_bytes) / slot_bytes).min(n_rows as usize);
        Ok(Self {
            row_bytes,
            rows: AlignedBytes::zeroed(n_slots * row_bytes)?,
            slots: Vec::with_capacity(n_slots),
            n_slots,
            index: if n_slots > 0 { vec![0; n_rows as usize] } else { Vec::new() },
            hand: 0,
        })
    }

    /// Bytes of one row.
    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The row, if it is here; marks it as wanted.
    pub(super) fn get(&mut self, id: u32) -> Option<&[u8]> {
        let slot = self.slot_of(id)?;
        self.slots[slot].marked = true;
        Some(&self.rows[slot * self.row_bytes..][..self.row_bytes])
    }

    fn slot_of(&self, id: u32) -> Option<usize> {
        (*self.index.get(id as usize)? as usize).checked_sub(1)
    }

    /// Keeps a copy of a row, in the place of another if full.
    pub(super) fn insert(&mut self, id: u32, row: &[u8]) {
        if self.n_slots == 0 || self.slot_of(id).is_some() {
            return;
        }
        let slot = if self.slots.len() < self.n_slots {
            self.slots.push(Slot { id, marked: false });
            self.slots.len() - 1
        } else {
            let slot = self.victim();
            self.index[self.slots[slot].id as usize] = 0;
            self.slots[slot] = Slot { id, marked: false };
            slot
        };
        self.rows[slot * self.row_bytes..][..self.row_bytes].copy_from_slice(row);
        // It fits: there are no more slots than rows, and row ids are below `n_rows`.
        self.index[id as usize] = slot as u32 + 1;
    }

    /// Moves the hand to the next unmarked slot, unmarking those that it passes.
    fn victim(&mut self) -> usize {
        loop {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            if !std::mem::take(&mut self.slots[slot].marked) {
                return slot;
            }
        }
    }

    /// Bytes that the cache takes when full.
    #[cfg(test)]
    fn max_bytes(&self) -> usize {
        self.rows.len().next_multiple_of(page_size())
            + self.slots.capacity() * size_of::<Slot>()
            + self.index.capacity() * size_of::<u32>()
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
        assert!(cache.n_slots * 5040 > (64 << 20) * 98 / 100);
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
            match cache.get(id) {
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
                assert!(cache.get(id).is_some(), "row {id} was evicted for {once}");
            }
            cache.insert(once, &row(once, 64));
        }
    }
}
