//! What sequences have computed, kept for those that begin with the same tokens.
//!
//! A tree of blocks: each holds the keys and values of up to [`BLOCK_TOKENS`] tokens that follow those of the
//! blocks above it, so what prompts share is kept once. A prefix is found to the exact token, since the first
//! tokens of a block are valid whatever follows them.
//!
//! A block's *window*, the keys and values of sliding layers, is only of use to a sequence that resumes within
//! the lookback behind it; it is kept and forgotten apart from the rest. What was least recently used goes
//! first: windows far from where anybody resumes, then the ends of forgotten conversations. So the places that
//! matter, as the end of the instructions that every conversation begins with, keep their windows by being used.
//!
//! What is pinned is not forgotten while it is; a pin holds the tokens of a prefix, and the windows that resuming
//! at its end needs.
//!
//! Deliberately absent: what keys and values are (`K`), clocks. Time is counted in uses.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::model::LayerKind;
use crate::prefix_store::agreement;

mod pins;

pub(super) use pins::Pin;

/// The most tokens of a block. A fork costs at most as many tokens kept twice.
pub const BLOCK_TOKENS: usize = 32;

/// Names a block.
type Id = u64;

/// Something kept, and what it weighs.
#[derive(Debug)]
pub(super) struct Kept<K> {
    pub(super) what: K,
    pub(super) n_bytes: u64,
}

#[derive(Debug)]
struct Block<K> {
    parent: Option<Id>,
    /// Only a block of [`BLOCK_TOKENS`] tokens has any.
    children: Vec<Id>,
    tokens: Vec<u32>,
    /// Keys and values of full layers.
    full: Kept<K>,
    window: Option<Window<K>>,
    used: u64,
    window_used: u64,
    n_pins: usize,
    n_window_pins: usize,
}

/// Keys and values of sliding layers of a block's tokens but the first ones, which the sequence that computed
/// them may have lost already.
#[derive(Debug)]
struct Window<K> {
    n_lost: usize,
    kept: Kept<K>,
}

/// The tree.
#[derive(Debug)]
pub(super) struct PrefixCache<K> {
    blocks: BTreeMap<Id, Block<K>>,
    roots: Vec<Id>,
    /// Positions before its own that a token sees in sliding layers.
    lookback: usize,
    next_id: Id,
    clock: u64,
    n_bytes: u64,
    /// Of these what is pinned.
    pinned_bytes: u64,
}

/// A way down the tree: blocks, and how many of their tokens agree. All but the last agree whole.
type Path = Vec<(Id, usize)>;

impl<K> PrefixCache<K> {
    pub(super) fn new(lookback: usize) -> Self {
        Self {
            blocks: BTreeMap::new(),
            roots: Vec::new(),
            lookback,
            next_id: 0,
            clock: 0,
            n_bytes: 0,
            pinned_bytes: 0,
        }
    }

    /// Bytes of everything that is kept.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Tokens that are kept.
    pub(super) fn n_tokens(&self) -> usize {
        self.blocks.values().map(|block| block.tokens.len()).sum()
    }

    /// How many first tokens of `tokens` need not be computed.
    pub(super) fn n_known(&self, tokens: &[u32]) -> usize {
        self.usable(&self.path(tokens))
    }

    /// Whether something else than `tokens` follows their first `n`, of which all are known.
    pub(super) fn forks_at(&self, tokens: &[u32], n: usize) -> bool {
        let path = self.path(&tokens[..n]);
        path.last().is_some_and(|(id, agreed)| {
            let block = &self.blocks[id];
            *agreed < block.tokens.len() || !block.children.is_empty()
        })
    }

    /// The tokens of the blocks along `tokens` as far as a sequence can resume, of the last one perhaps others behind
    /// that; and how far it can.
    pub(super) fn along(&self, tokens: &[u32]) -> (Vec<u32>, usize) {
        let path = self.path(tokens);
        let n_known = self.usable(&path);
        let mut along = Vec::new();
        for (id, _) in path {
            if along.len() >= n_known {
                break;
            }
            along.extend_from_slice(&self.blocks[&id].tokens);
        }
        (along, n_known)
    }

    /// What is kept of the block that `path` ends with, if it is kept whole.
    pub(super) fn get(&self, path: &[u32], kind: LayerKind) -> Option<&K> {
        let way = self.path(path);
        let n_agreeing: usize = way.iter().map(|(_, n)| n).sum();
        let block = &self.blocks[&way.last()?.0];
        let n_before = path.len().checked_sub(block.tokens.len())?;
        if n_agreeing != path.len() || !n_before.is_multiple_of(BLOCK_TOKENS) {
            return None;
        }
        match kind {
            LayerKind::Full => Some(&block.full.what),
            LayerKind::Sliding => {
                block.window.as_ref().filter(|window| window.n_lost == 0).map(|window| &window.kept.what)
            }
        }
    }

    /// The longest prefix of `tokens` that a sequence can resume behind, and what it needs for that.
    pub(super) fn find(&mut self, tokens: &[u32]) -> (usize, Vec<&K>) {
        let path = self.path(tokens);
        let n_known = self.usable(&path);
        let seen_from = n_known.saturating_sub(self.lookback);
        self.clock += 1;
        let mut needed = Vec::new();
        let mut start = 0;
        for (id, _) in path {
            if start >= n_known {
                break;
            }
            let block = self.blocks.get_mut(&id).expect("a path names blocks");
            block.used = self.clock;
            start += block.tokens.len();
            let is_seen = start > seen_from;
            if is_seen {
                block.window_used = self.clock;
            }
            needed.push((id, is_seen));
        }
        let mut kept = Vec::new();
        for (id, is_seen) in needed {
            let block = &self.blocks[&id];
            kept.push(&block.full.what);
            kept.extend(block.window.as_ref().filter(|_| is_seen).map(|window| &window.kept.what));
        }
        (n_known, kept)
    }

    /// Keeps what a sequence has computed of `tokens`, of which it has kept the first `n_kept` before. `keep`
    /// gives keys and values of a range of positions; in sliding layers the sequence holds those from
    /// `sliding_from`. What does not fit in `bound` bytes beside what was used just now is not kept.
    pub(super) fn store(
        &mut self,
        tokens: &[u32],
        n_kept: usize,
        sliding_from: usize,
        bound: u64,
        mut keep: impl FnMut(Range<usize>, LayerKind) -> Option<Kept<K>>,
    ) {
        self.clock += 1;
        let mut parent = None;
        let mut start = 0;
        for piece in tokens.chunks(BLOCK_TOKENS) {
            let place = start..start + piece.len();
            let known = self.child(parent, piece);
            let id = match known {
                Some(id) => id,
                None => {
                    let Some(full) = keep(place.clone(), LayerKind::Full) else { return };
                    self.hang_in(parent, piece, full)
                }
            };
            let block = self.blocks.get_mut(&id).expect("it is there or was made");
            block.used = self.clock;
            // The block may say more than this sequence does.
            let is_whole = block.tokens.len() == piece.len();
            if is_whole && block.window.is_none() && place.end > n_kept {
                let held = place.start.max(sliding_from).min(place.end)..place.end;
                let n_lost = held.start - place.start;
                let kept = keep(held, LayerKind::Sliding);
                block.window = kept.map(|kept| Window { n_lost, kept });
                block.window_used = self.clock;
                self.n_bytes += block.window.as_ref().map_or(0, |window| window.kept.n_bytes);
            }
            if !self.evict(bound) {
                // Everything else was used just now, so what is new gives way.
                match known {
                    Some(_) if self.blocks[&id].n_window_pins > 0 => {}
                    Some(_) => self.remove_window(id),
                    None => self.remove_leaf(id),
                }
                return;
            }
            parent = Some(id);
            start = place.end;
        }
    }

    /// Forgets what was least recently used until no more than `bound` bytes are kept, or what is pinned.
    pub(super) fn shrink_to(&mut self, bound: u64) {
        // So that nothing counts as used just now.
        self.clock += 1;
        self.evict(bound);
    }

    /// The same, but leaves what was used just now. False if that and what is pinned need more.
    fn evict(&mut self, bound: u64) -> bool {
        while self.n_bytes > bound {
            let unpinned = |block: &Block<K>| block.n_pins == 0;
            let leaves = self.blocks.iter().filter(|(_, block)| block.children.is_empty() && unpinned(block));
            let leaves = leaves.map(|(&id, block)| (block.used, true, id));
            let windows =
                self.blocks.iter().filter(|(_, block)| block.window.is_some() && block.n_window_pins == 0);
            let windows = windows.map(|(&id, block)| (block.window_used, false, id));
            match leaves.chain(windows).min() {
                Some((used, is_leaf, id)) if used < self.clock => match is_leaf {
                    true => self.remove_leaf(id),
                    false => self.remove_window(id),
                },
                _ => return false,
            }
        }
        true
    }

    /// Forgets of `tokens` what nothing else begins with and nobody has pinned; says how many tokens are left.
    pub(super) fn forget(&mut self, tokens: &[u32]) -> usize {
        let mut path = self.path(tokens);
        while let Some((id, n)) = path.last()
            && *n == self.blocks[id].tokens.len()
            && self.blocks[id].children.is_empty()
            && self.blocks[id].n_pins == 0
        {
            self.remove_leaf(*id);
            path.pop();
        }
        path.iter().map(|(_, n)| n).sum()
    }

    /// Forgets everything, whatever is pinned.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.roots.clear();
        self.n_bytes = 0;
        self.pinned_bytes = 0;
    }

    fn children(&self, parent: Option<Id>) -> &[Id] {
        parent.map_or(&self.roots, |id| &self.blocks[&id].children)
    }

    fn children_mut(&mut self, parent: Option<Id>) -> &mut Vec<Id> {
        match parent.and_then(|id| self.blocks.get_mut(&id)) {
            Some(block) => &mut block.children,
            None => &mut self.roots,
        }
    }

    /// The child of `parent` that begins with `piece`.
    fn child(&self, parent: Option<Id>, piece: &[u32]) -> Option<Id> {
        self.children(parent).iter().copied().find(|id| self.blocks[id].tokens.starts_with(piece))
    }

    fn path(&self, tokens: &[u32]) -> Path {
        let mut path = Path::new();
        let mut rest = tokens;
        let mut parent = None;
        loop {
            let agreeing = |&id: &Id| {
                let block = &self.blocks[&id];
                (agreement(&block.tokens, rest), block.window.is_some(), id)
            };
            let Some((n, _, id)) = self.children(parent).iter().map(agreeing).max() else { return path };
            if n == 0 {
                return path;
            }
            path.push((id, n));
            if n < BLOCK_TOKENS {
                return path;
            }
            rest = &rest[n..];
            parent = Some(id);
        }
    }

    /// How many tokens of a path a sequence can resume behind: as many as possible of which the last ones
    /// have their windows, as far as the next token looks back.
    fn usable(&self, path: &Path) -> usize {
        let (mut at, mut n_seen, mut best) = (0, 0, 0);
        for (id, n) in path {
            at += n;
            n_seen = match &self.blocks[id].window {
                Some(Window { n_lost: 0, .. }) => n_seen + n,
                Some(Window { n_lost, .. }) => n.saturating_sub(*n_lost),
                None => 0,
            };
            if n_seen >= at.min(self.lookback) {
                best = at;
            }
        }
        best
    }

    /// A new block under `parent`, in the place of one that says the beginning of the same.
    fn hang_in(&mut self, parent: Option<Id>, piece: &[u32], full: Kept<K>) -> Id {
        let outgrown = |id: &Id| self.blocks[id].n_pins == 0 && piece.starts_with(&self.blocks[id].tokens);
        if let Some(id) = self.children(parent).iter().copied().find(outgrown) {
            self.remove_leaf(id);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.n_bytes += full.n_bytes;
        self.children_mut(parent).push(id);
        let block = Block {
            parent,
            children: Vec::new(),
            tokens: piece.to_vec(),
            full,
            window: None,
            used: self.clock,
            window_used: self.clock,
            n_pins: 0,
            n_window_pins: 0,
        };
        self.blocks.insert(id, block);
        id
    }

    fn remove_window(&mut self, id: Id) {
        let window = self.blocks.get_mut(&id).and_then(|block| block.window.take());
        self.n_bytes -= window.map_or(0, |window| window.kept.n_bytes);
    }

    fn remove_leaf(&mut self, id: Id) {
        self.remove_window(id);
        if let Some(block) = self.blocks.remove(&id) {
            debug_assert!(block.children.is_empty(), "what hangs below a block goes before it");
            self.n_bytes -= block.full.n_bytes;
            self.children_mut(block.parent).retain(|&child| child != id);
        }
    }
}

#[cfg(test)]
mod tests;
