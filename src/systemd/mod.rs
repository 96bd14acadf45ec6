//! What the service manager gives and wants: sockets, the journal, readiness, the watchdog.
//!
//! Outside of systemd all of it is quiet: logs go to stderr and nobody is notified.
//!
//! Deliberately absent: what a state means. This room does not know the engine; it is told the state
//! and shown a sign of life.

mod logging;
mod notify;
mod sockets;
mod watchdog;

pub use logging::{LoggingError, set_log_level, start_logging};
pub use notify::Notifier;
pub use sockets::passed_listeners;
pub use watchdog::{Pulse, Watchdog};
