//! Text to token ids and back, with the vocabulary that the model file carries.
//!
//! The rule of the room: the file's own vocabulary decides, and ids equal those of the reference
//! implementations to the last one. Two procedures, told apart by `tokenizer.ggml.model`:
//!
//! * byte-pair merges by rank (Gemma 4; Sennrich et al. 2016), text cut into runs of newlines and runs
//!   of anything else first;
//! * SentencePiece-style merges by score (Gemma 3 and 3n; Kudo and Richardson 2018).
//!
//! Both start from code points, know no normalisation, write U+2581 for a space, put no space in front,
//! and spell symbols outside the vocabulary as byte tokens `<0xNN>`.
//!
//! | file | what it does |
//! |---|---|
//! | `load` | metadata keys to [`Tokenizer`], every check on the way |
//! | `vocabulary` | texts, classes, look-up by text |
//! | `special` | cuts a text at special tokens |
//! | `ranks`, `merge` | the merge table; the merge loop of both procedures |
//! | `encode`, `decode` | the two directions, whole and streamed |
//! | `chat` | conversations to prompts, answers to text, thoughts and tool calls |
//!
//! A text of n bytes costs O(n log n): texts may come from strangers, and one paragraph is one run. The
//! vocabulary of 262,144 tokens and 514,906 merges takes 14 MB, and 9 MB more while it is built: texts
//! lie in one arena, tables hold indices.
//!
//! Deliberately absent: any bound on the length of a text (callers refuse what exceeds their
//! context), normalisation and clean-up.

pub mod chat;
mod decode;
mod encode;
mod error;
mod load;
mod merge;
mod ranks;
mod special;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use decode::StreamDecoder;
pub use encode::Specials;
pub use error::TokenizerError;

use merge::ScoreRule;
use ranks::MergeTable;
use special::SpecialIndex;
use vocabulary::{Class, Vocabulary};

/// A vocabulary with its encoder and decoder. Immutable: share it by reference.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    rule: Rule,
    special: SpecialIndex,
    /// The byte tokens `<0x00>` to `<0xFF>`.
    byte_ids: Box<[u32; 256]>,
    bos: u32,
    add_bos: bool,
    /// Sorted.
    eog: Box<[u32]>,
    /// Sorted.
    suppressed: Box<[u32]>,
}

/// What decides which neighbours are merged next.
#[derive(Debug)]
enum Rule {
    Ranks(MergeTable),
    Scores(ScoreRule),
}

impl Tokenizer {
    /// Whether prompts begin with [`bos`](Self::bos). True for every Gemma model, whatever the file says.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// The token that begins a prompt. Always known: a vocabulary without one is refused.
    pub fn bos(&self) -> Option<u32> {
        Some(self.bos)
    }

    /// Whether this token ends an answer.
    pub fn is_eog(&self, id: u32) -> bool {
        self.eog.binary_search(&id).is_ok()
    }

    /// The tokens that end an answer, in rising order.
    pub fn eog_ids(&self) -> &[u32] {
        &self.eog
    }

    /// The tokens that are never to be sampled (padding, media placeholders, what the file lists), in
    /// rising order.
    pub fn suppressed(&self) -> &[u32] {
        &self.suppressed
    }

    /// Number of tokens.
    pub fn n_vocab(&self) -> usize {
        self.vocabulary.len()
    }

    /// The text of a token as the file has it (U+2581 for a space, `<0x0A>` for a byte, control tokens
    /// too); `None` for an id outside the vocabulary. Not always UTF-8.
    pub fn piece(&self, id: u32) -> Option<&[u8]> {
        self.vocabulary.text(id)
    }

    /// The token with exactly this text, of whatever class; of several the last.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.vocabulary.find(text.as_bytes())
    }

    /// Whether the token steers the model and has no text of its own.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocabulary.class(id) == Some(Class::Control)
    }

    /// Whether ordinary text may hold this token: it neither steers the model nor marks structure.
    pub fn is_text(&self, id: u32) -> bool {
        matches!(self.vocabulary.class(id), Some(Class::Text | Class::Verbatim | Class::Byte))
    }

    /// The token `<0xNN>` of a byte.
    pub fn byte_token(&self, byte: u8) -> u32 {
        self.byte_ids[usize::from(byte)]
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let rule = match &self.rule {
            Rule::Ranks(table) => table.heap_bytes(),
            Rule::Scores(scores) => scores.heap_bytes(),
        };
        self.vocabulary.heap_bytes()
            + rule
            + self.special.heap_bytes()
            + size_of_val(&*self.byte_ids)
            + size_of_val(&*self.eog)
            + size_of_val(&*self.suppressed)
    }
}
