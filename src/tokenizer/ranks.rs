//! The merge table of a byte-pair vocabulary.

use super::{
    TokenizerError,
    merge::{MergeRule, Merged, Symbol},
    vocabulary::Vocabulary,
};
use crate::gguf::{StringArray, quote};

/// Which two neighbouring tokens merge, with which rank, into which token.
///
/// Merges are sorted by left and then by right token; `starts[left]..starts[left + 1]` are those of one
/// left token. Half a million merges take 7 MB, a look-up is one indexed read and a short binary
/// search, and no choice of texts makes it slow.
#[derive(Debug)]
pub(super) struct MergeTable {
    /// `[n_vocab + 1]`
    starts: Box<[u32]>,
    merges: Box<[Merge]>,
}

#[derive(Clone, Copy, Debug)]
struct Merge {
    right: u32,
    rank: u32,
    merged: u32,
}

impl MergeTable {
    /// Entries are "left right"; of equal pairs the first one counts. Consumes the entries because they
    /// are as large as the table that replaces them.
    pub(super) fn new(vocabulary: &Vocabulary, entries: StringArray) -> Result<Self, TokenizerError> {
        let mut sorted = Vec::with_capacity(entries.len());
        let mut joined = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let (left, right) =
                split(entry).ok_or_else(|| TokenizerError::MergeSyntax { index, merge: quote(entry) })?;
            let find = |part: &[u8]| {
                vocabulary.find(part).ok_or_else(|| TokenizerError::MergePart {
                    index,
                    merge: quote(entry),
                    part: quote(part),
                })
            };
            joined.clear();
            joined.extend_from_slice(left);
            joined.extend_from_slice(right);
            let merged = find(&joined)?;
            if !vocabulary.is_text(merged) {
                let merge = quote(entry);
                return Err(TokenizerError::MergeMakesSpecial { index, merge, id: merged });
            }
            // The directory of a GGUF file is bounded far below 2^32 entries.
            let rank = u32::try_from(index).expect("fewer than 2^32 merges");
            sorted.push((find(left)?, Merge { right: find(right)?, rank, merged }));
        }
        drop(entries);
        sorted.sort_unstable_by_key(|(left, m)| (*left, m.right, m.rank));
        sorted.dedup_by_key(|(left, m)| (*left, m.right));
        let mut starts = vec![0u32; vocabulary.len() + 1];
        for (left, _) in &sorted {
            starts[*left as usize + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let merges = sorted.into_iter().map(|(_, merge)| merge).collect();
        Ok(Self { starts: starts.into(), merges })
    }

    /// `left` and `right` are tokens of the vocabulary.
    fn find(&self, left: u32, right: u32) -> Option<&Merge> {
        let range = self.starts[left as usize] as usize..self.starts[left as usize + 1] as usize;
        let of_left = &self.merges[range];
        of_left.binary_search_by_key(&right, |merge| merge.right).ok().map(|at| &of_left[at])
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.merges)
    }
}

/// At the first space after the first byte: a part may begin with a newline, and a vocabulary that
/// spells spaces as spaces may have a left part that begins with one.
fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = entry.get(1..)?.iter().position(|&b| b == b' ')? + 1;
    Some((&entry[..at], &entry[at + 1..]))
}

impl MergeRule for (&Vocabulary, &MergeTable) {
    fn vocabulary(&self) -> &Vocabulary {
        self.0
    }

    fn merge(&self, _text: &[u8], left: &Symbol, right: &Symbol) -> Option<Merged> {
        let merge = self.1.find(left.token()?, right.token()?)?;
        Some(Merged { priority: merge.rank, id: merge.merged })
    }
}
