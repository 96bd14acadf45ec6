//! The merge loop: from code points to tokens.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::vocabulary::Vocabulary;

/// No neighbour, or no token.
const NONE: u32 = u32::MAX;

/// A piece of the text that is or may become a token, linked to its neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    /// Bytes `start..end` of the text; empty once merged into the left neighbour.
    start: u32,
    end: u32,
    prev: u32,
    next: u32,
    id: u32,
}

impl Symbol {
    /// The token that this piece is.
    pub(super) fn token(&self) -> Option<u32> {
        (self.id != NONE).then_some(self.id)
    }
}

/// What two neighbours become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merged {
    /// Lower merges earlier.
    pub(super) priority: u32,
    /// The token.
    pub(super) id: u32,
}

/// One of the two procedures.
pub(super) trait MergeRule {
    fn vocabulary(&self) -> &Vocabulary;

    /// Whether and when two neighbours merge.
    fn merge(&self, text: &[u8], left: &Symbol, right: &Symbol) -> Option<Merged>;
}

/// SentencePiece: neighbours merge if they spell a token, the one with the highest score first.
#[derive(Debug)]
pub(super) struct ScoreRule {
    /// `[n_vocab]`, the order of the scores turned round: lower is better.
    priorities: Box<[u32]>,
}

impl ScoreRule {
    /// The scores must not be NaN.
    pub(super) fn new(scores: &[f32]) -> Self {
        let priority = |score: &f32| {
            // -0 + 0 is +0, so that the two zeros are equal. The bits of positive floats rise with
            // their value, those of negative ones fall.
            let bits = (score + 0.0).to_bits();
            if bits >> 31 == 0 { !bits & 0x7fff_ffff } else { bits }
        };
        Self { priorities: scores.iter().map(priority).collect() }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.priorities)
    }
}

impl MergeRule for (&Vocabulary, &ScoreRule) {
    fn vocabulary(&self) -> &Vocabulary {
        self.0
    }

    fn merge(&self, text: &[u8], left: &Symbol, right: &Symbol) -> Option<Merged> {
        let id = self.0.find_text(&text[left.start as usize..right.end as usize])?;
        Some(Merged { priority: self.1.priorities[id as usize], id })
    }
}

/// The loop with its buffers, which serve all pieces of one text.
///
/// Possible merges wait in a heap, best first, leftmost among equals. Neighbours are linked by index,
/// so a merge is O(log n); an entry whose parts have changed meanwhile is recognised when it comes up.
#[derive(Debug, Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    /// (priority and position of the left symbol, length of both in bytes, token)
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
}

impl Merger {
    /// Merges the code points of `text` as far as they go and appends the tokens to `out`; symbols that
    /// are no token are spelled with `byte_ids`. The text must be shorter than 4 GiB.
    pub(super) fn run(
        &mut self,
        rule: &impl MergeRule,
        text: &str,
        byte_ids: &[u32; 256],
        out: &mut Vec<u32>,
    ) {
        let bytes = text.as_bytes();
        self.symbols.clear();
        for (start, c) in text.char_indices() {
            let end = start + c.len_utf8();
            let index = self.symbols.len() as u32;
            self.symbols.push(Symbol {
                start: start as u32,
                end: end as u32,
                prev: index.checked_sub(1).unwrap_or(NONE),
                next: index + 1,
                id: rule.vocabulary().find_text(&bytes[start..end]).unwrap_or(NONE),
            });
        }
        let Some(last) = self.symbols.last_mut() else { return };
        last.next = NONE;

        // All at once is O(n), pushing one by one would be O(n log n).
        let mut waiting = std::mem::take(&mut self.heap).into_vec();
        waiting.extend((1..self.symbols.len()).filter_map(|i| self.candidate(rule, bytes, i as u32 - 1)));
        self.heap = waiting.into();

        while let Some(Reverse((key, n_bytes, id))) = self.heap.pop() {
            let left_no = key as u32;
            let left = self.symbols[left_no as usize];
            if left.start == left.end || left.next == NONE {
                continue;
            }
            let right = self.symbols[left.next as usize];
            // Symbols only grow: if the two still have their length together, they are the same two.
            if right.end - left.start != n_bytes {
                continue;
            }
            self.symbols[left.next as usize].end = right.start;
            self.symbols[left_no as usize] = Symbol { end: right.end, next: right.next, id, ..left };
            if right.next != NONE {
                self.symbols[right.next as usize].prev = left_no;
                let candidate = self.candidate(rule, bytes, left_no);
                self.heap.extend(candidate);
            }
            if left.prev != NONE {
                let candidate = self.candidate(rule, bytes, left.prev);
                self.heap.extend(candidate);
            }
        }

        // The first symbol has no left neighbour, so it is never merged away.
        let mut at = 0;
        while at != NONE {
            let symbol = self.symbols[at as usize];
            match symbol.token() {
                Some(id) => out.push(id),
                None => {
                    let spelled = &bytes[symbol.start as usize..symbol.end as usize];
                    out.extend(spelled.iter().map(|&b| byte_ids[b as usize]));
                }
            }
            at = symbol.next;
        }
    }

    /// The heap entry for a symbol and its right neighbour.
    fn candidate(
        &self,
        rule: &impl MergeRule,
        text: &[u8],
        left_no: u32,
    ) -> Option<Reverse<(u64, u32, u32)>> {
        let left = &self.symbols[left_no as usize];
        let right = &self.symbols[left.next as usize];
        let merged = rule.merge(text, left, right)?;
        let key = u64::from(merged.priority) << 32 | u64::from(left_no);
        Some(Reverse((key, right.end - left.start, merged.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_turn_the_order_of_scores_round() {
        let falling = [f32::INFINITY, 3e38, 1.0, 1e-40, 0.0, -1e-40, -0.5, -1000.0, f32::NEG_INFINITY];
        let rule = ScoreRule::new(&falling);
        assert!(rule.priorities.is_sorted_by(|a, b| a < b), "{:x?}", rule.priorities);
        let zeros = ScoreRule::new(&[0.0, -0.0]);
        assert_eq!(zeros.priorities[0], zeros.priorities[1]);
    }
}
