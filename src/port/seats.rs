//! The bounded number of connections, and who has to go when one more comes.
//!
//! A connection without a call under way is idle: its peer loses little when it is closed, and connects again when
//! it has something to say. So when all seats are taken, the connection that has been idle longest goes, and
//! a thousand silent peers keep nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// All seats.
#[derive(Debug)]
pub(super) struct Seats {
    max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Grows with every connection.
    next: u64,
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    n_calls: usize,
    idle_since: Instant,
    leave: Arc<Notify>,
}

/// The seat of a connection. Dropped with it.
#[derive(Clone, Debug)]
pub(super) struct Seat(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    seats: Arc<Seats>,
    number: u64,
    leave: Arc<Notify>,
}

/// A call under way, which keeps its connection from being idle.
#[derive(Debug)]
pub(super) struct Call(Seat);

impl Seats {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, table: Mutex::default() })
    }

    /// A seat: a free one, or that of the connection which has been idle longest, which is told to leave. `None` if
    /// all have calls under way.
    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        self.with(|table| {
            if table.taken.len() >= self.max {
                let idle = table.taken.iter().filter(|(_, taken)| taken.n_calls == 0);
                let longest = idle.min_by_key(|(_, taken)| taken.idle_since).map(|(number, _)| *number)?;
                let gone = table.taken.remove(&longest)?;
                gone.leave.notify_one();
            }
            let (number, leave) = (table.next, Arc::new(Notify::new()));
            table.next += 1;
            let taken = Taken { n_calls: 0, idle_since: Instant::now(), leave: Arc::clone(&leave) };
            table.taken.insert(number, taken);
            Some(Seat(Arc::new(Inner { seats: Arc::clone(self), number, leave })))
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Table) -> T) -> T {
        // Every change of the table is whole, whatever happened to a thread that made one.
        f(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seat {
    /// Waits until the connection has to make room.
    pub(super) async fn lost(&self) {
        self.0.leave.notified().await;
    }

    /// Begins a call.
    pub(super) fn call(&self) -> Call {
        self.change(|taken| taken.n_calls += 1);
        Call(self.clone())
    }

    fn change(&self, f: impl FnOnce(&mut Taken)) {
        let Inner { seats, number, .. } = &*self.0;
        // A seat that is lost is counted no more.
        seats.with(|table| table.taken.get_mut(number).map(f));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.change(|taken| {
            taken.n_calls -= 1;
            taken.idle_since = Instant::now();
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.seats.with(|table| table.taken.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_lost(seat: &Seat) -> bool {
        pin!(seat.lost()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_longest_idle_makes_room_and_calls_do_not() {
        let seats = Seats::new(3);
        let [first, second, third] = [(); 3].map(|()| seats.take().unwrap());
        let busy = first.call();
        // The second has been idle for a shorter time now.
        drop(second.call());
        let fourth = seats.take().unwrap();
        assert!(is_lost(&third) && !is_lost(&first) && !is_lost(&second) && !is_lost(&fourth));
        let _fifth = seats.take().unwrap();
        assert!(is_lost(&second));
        // A call that ends on a lost seat changes nothing for others.
        drop(second.call());
        drop(busy);
        let _sixth = seats.take().unwrap();
        assert!(is_lost(&fourth) && !is_lost(&first));
    }

    #[test]
    fn without_an_idle_one_there_is_no_room_until_one_is_gone() {
        let seats = Seats::new(2);
        let [first, second] = [(); 2].map(|()| seats.take().unwrap());
        let calls = [first.call(), first.call(), second.call()];
        assert!(seats.take().is_none());
        drop(first.call());
        assert!(seats.take().is_none(), "another call is under way there");
        let [one, other, of_second] = calls;
        drop((one, other));
        assert!(seats.take().is_some());
        assert!(is_lost(&first));
        drop((of_second, second, first));
        assert_eq!(seats.with(|table| table.taken.len()), 0);
    }
}
