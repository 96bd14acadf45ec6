//! Words to the service manager.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells the service manager what the daemon is about. Without a service manager (no `NOTIFY_SOCKET`)
/// every word is dropped; one that cannot be delivered is logged and never stops the daemon.
#[derive(Debug, Clone, Copy, Default)]
pub struct Notifier;

impl Notifier {
    /// A line for `systemctl status`.
    pub fn status(self, text: &str) {
        // The protocol is one assignment a line.
        self.send(&[NotifyState::Status(&one_line(text))]);
    }

    /// The daemon is about to be ready, and says so again `within` that time: its start may take longer than it may
    /// otherwise.
    pub fn starting(self, status: &str, within: Duration) {
        let within_us = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        self.send(&[NotifyState::Status(&one_line(status)), NotifyState::ExtendTimeoutUsec(within_us)]);
    }

    /// The daemon does its work from now on.
    pub fn ready(self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// The daemon finishes what it has begun and ends.
    pub fn stopping(self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// The daemon is alive.
    pub(super) fn alive(self) {
        self.send(&[NotifyState::Watchdog]);
    }

    fn send(self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            log::warn!(error:display; "cannot notify the service manager");
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
