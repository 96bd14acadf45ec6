//! Cutting a text at the special tokens in it.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    encode::Specials,
    vocabulary::{Class, Vocabulary},
};

/// The texts of all special tokens in the order of their bytes.
///
/// A text is looked up byte by byte: each byte narrows the range of entries that begin like the text at
/// hand. The cost for a position is the length of the longest match there, whatever the number of
/// special tokens (some 6,400 in a Gemma 3 vocabulary).
#[derive(Debug)]
pub(super) struct SpecialIndex {
    entries: Box<[Entry]>,
    /// `entries[starts[b]..starts[b + 1]]` begin with byte b.
    starts: Box<[u32; 257]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u32,
    /// The most careful mode in which it is still matched.
    until: Specials,
}

/// Part of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Special(u32),
}

/// An occurrence of a special token.
#[derive(Clone, Copy, Debug)]
struct Match {
    start: usize,
    n_bytes: usize,
    id: u32,
}

impl SpecialIndex {
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for (id, class) in (0u32..).zip(vocabulary.classes()) {
            let until = match class {
                Class::Text | Class::Byte => continue,
                // Reference engines take `</s>` for a control token here although it is an HTML tag.
                Class::Verbatim if vocabulary.text(id) == Some(b"</s>") => Specials::Parse,
                Class::Verbatim => Specials::None,
                Class::Structural => Specials::Plain,
                Class::Control => Specials::Parse,
            };
            // Of equal texts only the one that a look-up finds, and no empty ones. The text must be
            // UTF-8, so that a cut never falls inside a character.
            let text = text(vocabulary, id);
            if vocabulary.find(text) == Some(id) && std::str::from_utf8(text).is_ok() {
                entries.push(Entry { id, until });
            }
        }
        entries.sort_unstable_by_key(|e| text(vocabulary, e.id));
        let mut starts = Box::new([0u32; 257]);
        for entry in &entries {
            starts[text(vocabulary, entry.id)[0] as usize + 1] += 1;
        }
        for byte in 0..256 {
            starts[byte + 1] += starts[byte];
        }
        Self { entries: entries.into(), starts }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.starts)
    }

    /// The longest special token of at most `most` bytes at `start`.
    fn longest_at(
        &self,
        vocabulary: &Vocabulary,
        bytes: &[u8],
        start: usize,
        mode: Specials,
        most: usize,
    ) -> Option<Match> {
        let first = bytes[start] as usize;
        let mut range = &self.entries[self.starts[first] as usize..self.starts[first + 1] as usize];
        let mut best = None;
        let mut n_bytes = 1;
        // Here all entries of the range begin with the `n_bytes` bytes at `start`.
        while let Some(entry) = range.first() {
            if n_bytes > most {
                break;
            }
            // The shortest comes first, and no two are equal.
            if text(vocabulary, entry.id).len() == n_bytes {
                if mode <= entry.until {
                    best = Some(Match { start, n_bytes, id: entry.id });
                }
                range = &range[1..];
            }
            let Some(&next) = bytes.get(start + n_bytes) else { break };
            let byte_of = |e: &Entry| text(vocabulary, e.id)[n_bytes];
            // In a long run of one character the whole range goes on.
            let all =
                |range: &[Entry]| [range.first(), range.last()].iter().flatten().all(|e| byte_of(e) == next);
            if !all(range) {
                let from = range.partition_point(|e| byte_of(e) < next);
                let to = range.partition_point(|e| byte_of(e) <= next);
                range = &range[from..to];
            }
            n_bytes += 1;
        }
        best
    }

    /// Where in `text` the text of a token begins that means something to the model. Unit: bytes.
    pub(super) fn forgeries(&self, vocabulary: &Vocabulary, text: &str) -> Vec<usize> {
        let bytes = text.as_bytes();
        let begins = |start: usize| {
            let mut most = usize::MAX;
            while let Some(m) = self.longest_at(vocabulary, bytes, start, Specials::Parse, most) {
                if vocabulary.class(m.id) != Some(Class::Verbatim) {
                    return true;
                }
                most = m.n_bytes - 1;
            }
            false
        };
        (0..bytes.len()).filter(|&start| text.is_char_boundary(start) && begins(start)).collect()
    }

    /// Cuts `text` at special tokens, the longest text first, lower ids first among equally long ones,
    /// and each from left to right: what is covered by a longer one is not looked at again.
    pub(super) fn cut<'t>(
        &self,
        vocabulary: &Vocabulary,
        text: &'t str,
        mode: Specials,
        mut piece: impl FnMut(Piece<'t>),
    ) {
        let bytes = text.as_bytes();
        let matches: Vec<Match> = (0..bytes.len())
            .filter_map(|start| self.longest_at(vocabulary, bytes, start, mode, usize::MAX))
            .collect();
        let disjoint = matches.is_sorted_by(|a, b| a.start + a.n_bytes <= b.start);
        let chosen = if disjoint { matches } else { self.longest_first(vocabulary, bytes, mode, matches) };
        let mut done = 0;
        for m in chosen {
            if m.start > done {
                piece(Piece::Text(&text[done..m.start]));
            }
            piece(Piece::Special(m.id));
            done = m.start + m.n_bytes;
        }
        if done < text.len() {
            piece(Piece::Text(&text[done..]));
        }
    }

    /// Of overlapping matches (the longest at each place) those that remain, by place.
    ///
    /// They come from a heap in the order of their length. If a longer one has taken the end of a match,
    /// the next shorter one at its place takes its turn.
    fn longest_first(
        &self,
        vocabulary: &Vocabulary,
        bytes: &[u8],
        mode: Specials,
        matches: Vec<Match>,
    ) -> Vec<Match> {
        let key = |m: Match| (m.n_bytes, Reverse(m.id), Reverse(m.start));
        let mut heap: BinaryHeap<_> = matches.into_iter().map(key).collect();
        let mut taken = vec![false; bytes.len()];
        let mut chosen = Vec::new();
        while let Some((n_bytes, Reverse(id), Reverse(start))) = heap.pop() {
            // What is taken came in pieces at least this long, so a look at both ends sees any overlap.
            if taken[start] {
                continue;
            }
            if taken[start + n_bytes - 1] {
                heap.extend(self.longest_at(vocabulary, bytes, start, mode, n_bytes - 1).map(key));
                continue;
            }
            taken[start..start + n_bytes].fill(true);
            chosen.push(Match { start, n_bytes, id });
        }
        chosen.sort_unstable_by_key(|m| m.start);
        chosen
    }
}

/// Text of a token of the vocabulary.
fn text(vocabulary: &Vocabulary, id: u32) -> &[u8] {
    vocabulary.text(id).expect("ids of the vocabulary only")
}
