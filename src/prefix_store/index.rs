//! Which pieces there are, and what of a prompt they know. Pure: no file is touched.

use std::sync::Arc;

use super::piece::Header;

/// Layers whose keys and values a part has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartKind {
    /// Those that every later token sees.
    Full,
    /// Those that only tokens within the lookback see.
    Sliding,
}

impl PartKind {
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Full => 0,
            Self::Sliding => 1,
        }
    }

    pub(super) fn of_code(code: u32) -> Option<Self> {
        [Self::Full, Self::Sliding].into_iter().find(|kind| kind.code() == code)
    }
}

/// A piece that is on the disk.
#[derive(Debug)]
pub(super) struct Piece {
    /// Name of its file.
    pub(super) name: String,
    pub(super) header: Header,
}

#[derive(Debug)]
struct Known {
    piece: Arc<Piece>,
    used: u64,
}

/// All pieces.
#[derive(Debug)]
pub(super) struct Index {
    block_tokens: usize,
    known: Vec<Known>,
    clock: u64,
    n_bytes: u64,
}

/// A part, and the piece that has it.
pub(super) type Found = (Arc<Piece>, usize);

/// What is known of a prompt.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// First tokens of the prompt that a sequence can resume behind.
    pub(super) n_tokens: usize,
    /// The tokens of the blocks; of the last one perhaps others than the prompt's behind `n_tokens`.
    pub(super) tokens: Vec<u32>,
    /// What resuming needs, block by block.
    pub(super) parts: Vec<Found>,
}

impl Index {
    pub(super) fn new(block_tokens: usize) -> Self {
        Self { block_tokens, known: Vec::new(), clock: 0, n_bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Bytes of all files.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    pub(super) fn insert(&mut self, piece: Piece) {
        self.clock += 1;
        self.n_bytes += piece.header.n_bytes;
        self.known.push(Known { piece: Arc::new(piece), used: self.clock });
    }

    /// Takes a piece out. False if it was not there any more.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let Some(i) = self.known.iter().position(|known| known.piece.name == name) else { return false };
        self.n_bytes -= self.known.swap_remove(i).piece.header.n_bytes;
        true
    }

    /// Takes note that pieces were used.
    pub(super) fn used(&mut self, names: &[&str]) {
        self.clock += 1;
        for known in self.known.iter_mut().filter(|known| names.contains(&known.piece.name.as_str())) {
            known.used = self.clock;
        }
    }

    /// What was not used for longest; of what was used together the end of the prompt.
    pub(super) fn oldest(&self) -> Option<Arc<Piece>> {
        let key = |known: &&Known| (known.used, std::cmp::Reverse(known.piece.header.tokens.len()));
        self.known.iter().min_by_key(key).map(|known| Arc::clone(&known.piece))
    }

    /// The pieces that have a block of `tokens` that ends behind the first `n`.
    pub(super) fn beyond(&self, tokens: &[u32], n: usize) -> Vec<Arc<Piece>> {
        let has_beyond = |(piece, n_agreeing): &(&Arc<Piece>, usize)| {
            piece.header.parts.iter().any(|part| {
                let end = piece.header.tokens.len().min((part.block + 1) * self.block_tokens);
                n < end && end <= *n_agreeing
            })
        };
        self.on_the_way(tokens).into_iter().filter(has_beyond).map(|(piece, _)| Arc::clone(piece)).collect()
    }

    /// Of the blocks of `tokens`, of which the last may be short, those of `wanted` that no piece has.
    pub(super) fn lacking(&self, tokens: &[u32], wanted: &[(usize, PartKind)]) -> Vec<(usize, PartKind)> {
        let on_the_way = self.on_the_way(tokens);
        let end = |block: usize, all: &[u32]| all.len().min((block + 1) * self.block_tokens);
        let has = |&(block, kind): &(usize, PartKind)| {
            on_the_way.iter().any(|(piece, n)| {
                let all = &piece.header.tokens;
                let agrees = *n >= end(block, tokens) && end(block, all) == end(block, tokens);
                agrees && find(piece, block, kind).is_some()
            })
        };
        wanted.iter().copied().filter(|wanted| !has(wanted)).collect()
    }

    /// The longest prefix of `tokens` that a sequence can resume behind, where a token sees `lookback` positions
    /// before its own in sliding layers.
    pub(super) fn way(&self, tokens: &[u32], lookback: usize) -> Way {
        let on_the_way = self.on_the_way(tokens);
        // Of each block its tokens and parts.
        let mut blocks: Vec<(Vec<u32>, Found, Option<Found>)> = Vec::new();
        let (mut n_seen, mut best) = (0, 0);
        let (mut start, n_tokens) = (0, tokens.len());
        while start < n_tokens {
            let block = start / self.block_tokens;
            let says = |piece: &'_ Arc<Piece>| {
                let end = piece.header.tokens.len().min(start + self.block_tokens);
                piece.header.tokens[start..end].to_vec()
            };
            let reaches = |(_, n): &&(&Arc<Piece>, usize)| *n > start;
            let with_full = on_the_way.iter().filter(reaches).filter_map(|(piece, n)| {
                let full = find(piece, block, PartKind::Full)?;
                let tokens = says(piece);
                let mut same = on_the_way.iter().filter(reaches).filter(|(other, _)| says(other) == tokens);
                let window = same.find_map(|(other, _)| {
                    find(other, block, PartKind::Sliding).map(|part| (Arc::clone(other), part))
                });
                Some((tokens.len().min(n - start), tokens, (Arc::clone(piece), full), window))
            });
            let best_of = with_full.max_by_key(|(n, _, _, window)| (*n, window.is_some()));
            let Some((n, tokens, full, window)) = best_of else { break };
            start += n;
            n_seen = if window.is_some() { n_seen + n } else { 0 };
            if n_seen >= start.min(lookback) {
                best = start;
            }
            blocks.push((tokens, full, window));
            if n < self.block_tokens {
                break;
            }
        }
        let mut way = Way { n_tokens: best, ..Way::default() };
        let seen_from = best.saturating_sub(lookback);
        for (tokens, full, window) in blocks {
            if way.tokens.len() >= best {
                break;
            }
            way.tokens.extend(tokens);
            way.parts.push(full);
            way.parts.extend(window.filter(|_| way.tokens.len() > seen_from));
        }
        way
    }

    /// Pieces that begin as `tokens` do, and how many tokens agree.
    fn on_the_way(&self, tokens: &[u32]) -> Vec<(&Arc<Piece>, usize)> {
        let agreeing = |known: &'_ Known| agreement(&known.piece.header.tokens, tokens);
        self.known.iter().map(|known| (&known.piece, agreeing(known))).filter(|(_, n)| *n > 0).collect()
    }
}

fn find(piece: &Piece, block: usize, kind: PartKind) -> Option<usize> {
    piece.header.parts.iter().position(|part| part.block == block && part.kind == kind)
}

/// How many first tokens agree.
pub fn agreement(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
