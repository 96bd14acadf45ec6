//! What the worker holds from one request to the next: for sessions, and as long as it lives.

use std::time::Instant;

use super::backend::Backend;
use super::event::Failure;
use super::prefix_cache::Pin;
use super::request::Purpose;
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

/// A prompt that stays in memory.
#[derive(Debug)]
pub(super) struct Pinned {
    tokens: Vec<u32>,
    pin: Pin,
}

impl<B: Backend> Worker<B> {
    /// Pins the prompt that a sequence has computed, if that is what it is for.
    pub(super) fn pin_if_asked(&mut self, i: usize) -> Result<(), Failure> {
        let Some(sequence) = self.slots[i].as_ref().filter(|s| s.purpose == Purpose::Pin) else {
            return Ok(());
        };
        let tokens = sequence.tokens[..sequence.n_prompt].to_vec();
        // A context that is as long as the prompt holds at least what is kept of it.
        let n_bytes = self.prefixes.pinned_bytes() + self.backend.kv_bytes(&sequence.state);
        let bound = self.shared.pinned_bytes_bound();
        let pin = self.prefixes.pin(&tokens, bound);
        if pin.n_tokens() < tokens.len() {
            self.prefixes.unpin(pin);
            return Err(Failure::Unpinnable { n_bytes, bound });
        }
        self.write_if_worth_it(&tokens);
        self.pinned.push(Pinned { tokens, pin });
        Ok(())
    }

    /// A fault may have cost all that was kept. What is to stay is pinned again once a request has computed it.
    pub(super) fn pin_again(&mut self) {
        let bound = self.shared.pinned_bytes_bound();
        for Pinned { tokens, pin } in &mut self.pinned {
            if pin.n_tokens() < tokens.len() || !self.prefixes.holds(pin) {
                self.prefixes.unpin(std::mem::take(pin));
                *pin = self.prefixes.pin(tokens, bound);
            }
        }
    }

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
        if sequence.purpose != Purpose::Answer {
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
                    // One that made room has lost its name, and not what was said.
                    match self.shared.sessions.gave_way(held.serial) {
                        true if held.unwritten_since.is_some() => self.write_if_worth_it(&held.tokens),
                        true => {}
                        false => self.forget(&held.tokens),
                    }
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
