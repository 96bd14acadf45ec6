//! The worker and sessions: what it holds for them from one request to the next.

use std::time::Instant;

use super::backend::Backend;
use super::prefix_cache::Pin;
use super::worker::Worker;

/// What is held for a session.
#[derive(Debug)]
pub(super) struct Held {
    /// Which session it is, of those that have had this id.
    serial: u64,
    /// What its last request computed.
    pub(super) tokens: Vec<u32>,
    pin: Pin,
    /// Since when there is something that may be worth writing.
    pub(super) unwritten_since: Option<Instant>,
}

impl<B: Backend> Worker<B> {
    /// Takes over what a sequence has computed for its session, if it names one that is there still.
    pub(super) fn hold_for_session(&mut self, i: usize) {
        let Some(sequence) = self.slots[i].as_ref().filter(|s| s.n_done > 0) else { return };
        let Some(key) = sequence.session.clone() else { return };
        let Some((serial, pinned)) = self.shared.sessions.serial(&key) else { return };
        self.shared.sessions.said(&key, sequence.tokens.len());
        let tokens = sequence.tokens[..sequence.n_done].to_vec();
        let before = self.held.remove(&key);
        self.prefixes.unpin(before.map(|held| held.pin).unwrap_or_default());
        let pin = match pinned && self.options.kept_contexts > 0 {
            true => self.prefixes.pin(&tokens, self.shared.pinned_bytes_bound()),
            false => Pin::default(),
        };
        if sequence.prompt_only {
            // It was computed to be used.
            self.write_if_worth_it(&tokens);
        }
        let unwritten_since = Some(Instant::now());
        self.held.insert(key, Held { serial, tokens, pin, unwritten_since });
    }

    /// Lets go what is held for sessions that are gone.
    pub(super) fn let_go_of_sessions(&mut self) {
        let version = self.shared.sessions.version();
        if version == self.sessions_seen {
            return;
        }
        self.sessions_seen = version;
        for (key, held) in std::mem::take(&mut self.held) {
            match self.shared.sessions.serial(&key) {
                Some((serial, _)) if serial == held.serial => {
                    self.held.insert(key, held);
                }
                _ => {
                    self.prefixes.unpin(held.pin);
                    self.forget(&held.tokens);
                }
            }
        }
    }

    /// Forgets of a conversation what no other begins with, on the disk too.
    fn forget(&mut self, tokens: &[u32]) {
        let n_shared = self.prefixes.forget(tokens);
        if let Some(disk) = &mut self.disk {
            disk.forget(tokens, n_shared);
        }
    }
}
