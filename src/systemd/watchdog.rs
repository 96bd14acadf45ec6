//! The watchdog is fed by progress, not by a timer: a daemon whose engine hangs is restarted although
//! its other threads still run.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::notify::Notifier;

/// A sign of life of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// Grows with every step of work done.
    pub steps: u64,
    /// There is no work: standing still is right.
    pub idle: bool,
}

/// Decides whether a pulse deserves food.
#[derive(Debug)]
struct Feeder {
    last_steps: Option<u64>,
}

impl Feeder {
    fn deserves(&mut self, pulse: Pulse) -> bool {
        let moved = self.last_steps != Some(pulse.steps);
        self.last_steps = Some(pulse.steps);
        moved || pulse.idle
    }
}

/// Feeds systemd's watchdog from a thread of its own until dropped.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts feeding if the service manager asks for it (`WATCHDOG_USEC`). `pulse` is looked at four
    /// times a period, so that a step of less than three quarters of it is never taken for a hang.
    pub fn start(
        notifier: Notifier,
        pulse: impl Fn() -> Pulse + Send + 'static,
    ) -> std::io::Result<Option<Watchdog>> {
        let Some(period) = sd_notify::watchdog_enabled() else { return Ok(None) };
        Watchdog::every(period / 4, pulse, move || notifier.alive()).map(Some)
    }

    fn every(
        interval: Duration,
        pulse: impl Fn() -> Pulse + Send + 'static,
        feed: impl Fn() + Send + 'static,
    ) -> std::io::Result<Watchdog> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || run(interval, pulse, feed, &stopped))?;
        Ok(Watchdog { stop: Some(stop), thread: Some(thread) })
    }
}

fn run(interval: Duration, pulse: impl Fn() -> Pulse, feed: impl Fn(), stopped: &Receiver<()>) {
    let mut feeder = Feeder { last_steps: None };
    let mut starving = false;
    loop {
        let pulse = pulse();
        let deserved = feeder.deserves(pulse);
        if deserved {
            feed();
        } else if !starving {
            log::warn!(steps = pulse.steps; "no progress of the engine: the watchdog is not fed");
        }
        starving = !deserved;
        match stopped.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed by the panic hook; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn only_progress_or_idleness_is_fed() {
        let mut feeder = Feeder { last_steps: None };
        let mut fed = |steps, idle| feeder.deserves(Pulse { steps, idle });
        assert!(fed(0, false), "the first look has nothing to compare with");
        assert!(!fed(0, false), "a stuck engine");
        assert!(!fed(0, false));
        assert!(fed(1, false), "progress");
        assert!(fed(1, true), "no work");
        assert!(!fed(1, false), "work has come and nothing moves");
    }

    #[test]
    fn a_stuck_engine_starves_the_thread_and_drop_ends_it() {
        let feedings = Arc::new(AtomicU64::new(0));
        let looks = Arc::new(AtomicU64::new(0));
        let (counted, looked) = (Arc::clone(&feedings), Arc::clone(&looks));
        let (enough_looks, wait) = channel();
        let pulse = move || {
            if looked.fetch_add(1, Ordering::SeqCst) == 5 {
                enough_looks.send(()).unwrap();
            }
            Pulse { steps: 7, idle: false }
        };
        let feed = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let watchdog = Watchdog::every(Duration::from_millis(1), pulse, feed).unwrap();
        wait.recv().unwrap();
        drop(watchdog);
        assert_eq!(feedings.load(Ordering::SeqCst), 1);
        let after_drop = looks.load(Ordering::SeqCst);
        std::thread::yield_now();
        assert_eq!(looks.load(Ordering::SeqCst), after_drop);
    }
}
