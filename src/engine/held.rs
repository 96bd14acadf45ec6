//! The worker and sessions: what it holds for them from one request to the next.

use super::backend::Backend;
use super::prefix_cache::Pin;
use super::worker::Worker;

/// What is held for a session.
#[derive(Debug)]
pub(super) struct Held {
    /// Which session it is, of those that have had this id.
    serial: u64,
    pin: Pin,
}

impl<B: Backend> Worker<B> {
    /// Takes over what a sequence has computed for its session, if it names one that is there still.
    pub(super) fn hold_for_session(&mut self, i: usize) {
        let Some(sequence) = self.slots[i].as_ref().filter(|s| !s.session.is_empty() && s.n_done > 0) else {
            return;
        };
        let Some((serial, pinned)) = self.shared.sessions.serial(&sequence.session) else { return };
        self.shared.sessions.said(&sequence.session, sequence.tokens.len());
        if pinned && self.options.kept_contexts > 0 {
            let before = self.held.remove(&sequence.session);
            self.prefixes.unpin(before.map(|held| held.pin).unwrap_or_default());
            let pin =
                self.prefixes.pin(&sequence.tokens[..sequence.n_done], self.shared.pinned_bytes_bound());
            self.held.insert(sequence.session.clone(), Held { serial, pin });
        }
    }

    /// Lets go what is held for sessions that are gone.
    pub(super) fn let_go_of_sessions(&mut self) {
        let version = self.shared.sessions.version();
        if version == self.sessions_seen {
            return;
        }
        self.sessions_seen = version;
        for (id, held) in std::mem::take(&mut self.held) {
            match self.shared.sessions.serial(&id) {
                Some((serial, _)) if serial == held.serial => {
                    self.held.insert(id, held);
                }
                _ => self.prefixes.unpin(held.pin),
            }
        }
    }
}
