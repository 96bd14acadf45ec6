//! Rows that a process wanted most, read again by the next.

use super::*;

/// Calls until nothing is left to be read, and sleeps in between.
fn warm_up(store: &mut RowStore) {
    store.wake(std::thread::current());
    while store.warm_on() > 0 {
        std::thread::park();
    }
}

fn want(store: &mut RowStore, table: &Table, ids: &[u32]) -> u64 {
    let pending = store.submit(ids).unwrap();
    let misses = pending.cost().misses;
    table.check(&store.wait(pending).unwrap(), ids);
    misses
}

#[test]
fn what_was_wanted_is_there_again() {
    let table = Table::new(5040, 3000);
    let ids = random_ids(5, 150, 3000);
    let mut before = table.store(Mode::Direct, 4 << 20);
    assert_eq!(before.hot_rows(), None);
    want(&mut before, &table, &ids);
    let hot_rows = before.hot_rows().unwrap();

    let mut after = table.store(Mode::Direct, 4 << 20);
    let n_rows = after.warm(&hot_rows).unwrap();
    assert!(n_rows > 100 && n_rows <= ids.len());
    warm_up(&mut after);
    let stats = after.stats();
    assert!(stats.reads > 0 && stats.rows == 0, "nobody has asked for a row: {stats:?}");
    assert_eq!(want(&mut after, &table, &ids), 0);
    assert_eq!(after.stats().reads, stats.reads);
    // What is there is not read again.
    after.warm(&hot_rows).unwrap();
    warm_up(&mut after);
    assert_eq!(after.stats().reads, stats.reads);
}

#[test]
fn the_hottest_come_first_and_in_the_place_of_nothing() {
    let table = Table::new(5040, 3000);
    let (often, once): (Vec<u32>, Vec<u32>) = ((0..20).collect(), (1000..1200).collect());
    let mut before = table.store(Mode::Direct, 4 << 20);
    want(&mut before, &table, &once);
    for _ in 0..3 {
        want(&mut before, &table, &often);
    }
    let hot_rows = before.hot_rows().unwrap();
    // Room for a few dozen rows, of which some are taken by what is wanted now.
    let mut after = table.store(Mode::Direct, 300_000);
    let now: Vec<u32> = (2000..2010).collect();
    want(&mut after, &table, &now);
    after.warm(&hot_rows).unwrap();
    warm_up(&mut after);
    assert_eq!(want(&mut after, &table, &often), 0);
    assert_eq!(want(&mut after, &table, &now), 0);
    // They are worth as much as before: who comes once does not take their places.
    for id in 100..600 {
        want(&mut after, &table, &[id]);
    }
    assert_eq!(want(&mut after, &table, &often), 0);
}

#[test]
fn a_list_that_is_none_is_refused() {
    let table = Table::new(5040, 300);
    let mut store = table.store(Mode::Direct, 1 << 20);
    want(&mut store, &table, &[1, 299]);
    let good = store.hot_rows().unwrap();
    let change = |at: usize, by: u8| {
        let mut bytes = good.clone();
        bytes[at] = bytes[at].wrapping_add(by);
        bytes
    };
    let refused = |bytes: &[u8]| {
        let mut store = table.store(Mode::Direct, 1 << 20);
        let e = store.warm(bytes).unwrap_err().to_string();
        assert_eq!((store.warm_on(), store.stats().reads), (0, 0));
        e
    };
    for n in 0..good.len() {
        refused(&good[..n]);
    }
    refused(&[&good[..], &[0]].concat());
    assert!(refused(&change(0, 1)).ends_with("another version"));
    assert!(refused(&change(4, 1)).ends_with("another vocabulary"));
    assert!(refused(&change(8, 1)).ends_with("as it says"));
    assert!(refused(&change(11, 255)).ends_with("as it says"), "billions of rows");
    // The last byte of a number: a row far behind the end.
    assert!(refused(&change(15, 1)).ends_with("that the table has not"));
    assert_eq!(table.store(Mode::Resident, 0).warm(&good).unwrap(), 0);
    assert_eq!(table.store(Mode::Direct, 0).warm(&good).unwrap(), 0, "no cache");
}
