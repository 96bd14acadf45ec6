//! Pins: what is not forgotten until it is let go.

use super::{Id, PrefixCache};

/// What is pinned for somebody: blocks, and whether their windows are. Ids are not given twice, so that a pin of what
/// is gone says nothing.
#[derive(Debug, Default)]
pub(in crate::engine) struct Pin {
    blocks: Vec<(Id, bool)>,
    n_tokens: usize,
}

impl Pin {
    /// Tokens of the prefix that was pinned.
    pub(in crate::engine) fn n_tokens(&self) -> usize {
        self.n_tokens
    }
}

impl<K> PrefixCache<K> {
    /// Bytes of everything that is pinned.
    pub(in crate::engine) fn pinned_bytes(&self) -> u64 {
        self.pinned_bytes
    }

    /// Whether what was pinned is there still.
    pub(in crate::engine) fn holds(&self, pin: &Pin) -> bool {
        pin.blocks.iter().all(|(id, _)| self.blocks.contains_key(id))
    }

    /// Pins the longest prefix of `tokens` that a sequence can resume behind. Nothing, if more than `bound` bytes
    /// would be pinned then.
    pub(in crate::engine) fn pin(&mut self, tokens: &[u32], bound: u64) -> Pin {
        let path = self.path(tokens);
        let n_known = self.usable(&path);
        let seen_from = n_known.saturating_sub(self.lookback);
        let before = self.pinned_bytes;
        let mut pin = Pin { blocks: Vec::new(), n_tokens: n_known };
        let mut start = 0;
        for (id, _) in path {
            if start >= n_known {
                break;
            }
            let block = self.blocks.get_mut(&id).expect("a path names blocks");
            start += block.tokens.len();
            let window = block.window.as_ref().filter(|_| start > seen_from);
            pin.blocks.push((id, window.is_some()));
            if block.n_pins == 0 {
                self.pinned_bytes += block.full.n_bytes;
            }
            block.n_pins += 1;
            if let Some(window) = window {
                if block.n_window_pins == 0 {
                    self.pinned_bytes += window.kept.n_bytes;
                }
                block.n_window_pins += 1;
            }
        }
        if self.pinned_bytes > bound && self.pinned_bytes > before {
            self.unpin(std::mem::take(&mut pin));
        }
        pin
    }

    /// Takes a pin back.
    pub(in crate::engine) fn unpin(&mut self, pin: Pin) {
        for (id, with_window) in pin.blocks {
            let Some(block) = self.blocks.get_mut(&id) else { continue };
            block.n_pins -= 1;
            if block.n_pins == 0 {
                self.pinned_bytes -= block.full.n_bytes;
            }
            if with_window {
                block.n_window_pins -= 1;
            }
            if with_window && block.n_window_pins == 0 {
                self.pinned_bytes -= block.window.as_ref().map_or(0, |window| window.kept.n_bytes);
            }
        }
    }
}
