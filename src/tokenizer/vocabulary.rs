//! Token texts, their classes, and the way from a text to its token.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use super::TokenizerError;
use crate::gguf::StringArray;

/// The most tokens that a file may have: sixteen times those of any Gemma model.
pub(super) const MAX_TOKENS: usize = 1 << 22;

/// The longest token text in bytes. Known vocabularies stay below 100; the cost of encoding one byte of
/// text is bounded by this.
pub(super) const MAX_TOKEN_BYTES: usize = 1024;

/// What a token is for the encoder and the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// Text that merges make.
    Text,
    /// One byte, `<0xNN>`.
    Byte,
    /// User-defined tokens that are mere text (runs of white space, HTML tags): matched in every mode,
    /// made by merges too.
    Verbatim,
    /// User-defined tokens that carry structure, like Gemma 4's `<|tool_call>`: visible text, but
    /// nothing that content may bring along, so merges never make them.
    Structural,
    /// Tokens that steer the model: no text, made by templates only.
    Control,
}

/// Texts `[n_vocab]` in one arena, classes `[n_vocab]`, and a table of ids hashed by text.
#[derive(Debug)]
pub(super) struct Vocabulary {
    texts: StringArray,
    classes: Box<[Class]>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    longest: usize,
}

impl Vocabulary {
    /// Of equal texts the last one is found (so do the reference implementations); an empty text never.
    pub(super) fn new(texts: StringArray, types: &[i32]) -> Result<Self, TokenizerError> {
        let n_vocab = texts.len();
        if n_vocab == 0 || n_vocab > MAX_TOKENS {
            return Err(TokenizerError::TokenCount { n: n_vocab, max: MAX_TOKENS });
        }
        if types.len() != n_vocab {
            let key = "tokenizer.ggml.token_type";
            return Err(TokenizerError::WrongLength { key, n: types.len(), n_vocab });
        }
        let hasher = DefaultHashBuilder::default();
        let mut index = HashTable::<u32>::with_capacity(n_vocab);
        let mut classes = Vec::with_capacity(n_vocab);
        let mut longest = 0;
        for (id, (text, &value)) in (0u32..).zip(texts.iter().zip(types)) {
            if text.len() > MAX_TOKEN_BYTES {
                return Err(TokenizerError::TokenTooLong { id, n_bytes: text.len(), max: MAX_TOKEN_BYTES });
            }
            longest = longest.max(text.len());
            classes.push(class_of(text, value).ok_or(TokenizerError::TokenType { id, value })?);
            if text.is_empty() {
                continue;
            }
            let text_of = |&other: &u32| texts.get(other as usize);
            index
                .entry(
                    hasher.hash_one(text),
                    |other| text_of(other) == text,
                    |other| hasher.hash_one(text_of(other)),
                )
                .and_modify(|other| *other = id)
                .or_insert(id);
        }
        Ok(Self { texts, classes: classes.into(), index, hasher, longest })
    }

    pub(super) fn len(&self) -> usize {
        self.classes.len()
    }

    pub(super) fn text(&self, id: u32) -> Option<&[u8]> {
        ((id as usize) < self.texts.len()).then(|| self.texts.get(id as usize))
    }

    pub(super) fn class(&self, id: u32) -> Option<Class> {
        self.classes.get(id as usize).copied()
    }

    pub(super) fn set_class(&mut self, id: u32, class: Class) {
        self.classes[id as usize] = class;
    }

    /// The classes in order of ids.
    pub(super) fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The token with this text, of whatever class.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        // Also keeps a run of 100,000 newlines from being hashed.
        if text.is_empty() || text.len() > self.longest {
            return None;
        }
        self.index.find(self.hasher.hash_one(text), |&id| self.texts.get(id as usize) == text).copied()
    }

    /// The token with this text if ordinary text may become it.
    pub(super) fn find_text(&self, text: &[u8]) -> Option<u32> {
        self.find(text).filter(|&id| self.is_text(id))
    }

    /// Whether ordinary text may become this token.
    pub(super) fn is_text(&self, id: u32) -> bool {
        matches!(self.classes[id as usize], Class::Text | Class::Verbatim)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.texts.heap_bytes() + size_of_val(&*self.classes) + self.index.allocation_size()
    }
}

/// GGUF token types: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
fn class_of(text: &[u8], token_type: i32) -> Option<Class> {
    Some(match token_type {
        1 | 5 => Class::Text,
        2 | 3 => Class::Control,
        4 if is_mere_text(text) => Class::Verbatim,
        4 => Class::Structural,
        6 => Class::Byte,
        _ => return None,
    })
}

/// Runs of white space (spaces also as U+2581) and simple HTML tags such as `</h1>`.
fn is_mere_text(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    if text.chars().all(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{2581}')) {
        return true;
    }
    let Some(tag) = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')) else { return false };
    let name = tag.strip_prefix('/').unwrap_or(tag);
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mere_text() {
        for text in ["\n", "\n\n\n", "  ", "\u{2581}\u{2581}", "\t\t", "<b>", "</h1>", "<blockquote>"] {
            assert!(is_mere_text(text.as_bytes()), "{text:?}");
        }
        for text in
            ["<start_of_image>", "[multimodal]", "<|channel>", "<|\"|>", "<>", "</>", "<1>", "<B>", "x"]
        {
            assert!(!is_mere_text(text.as_bytes()), "{text:?}");
        }
        assert!(!is_mere_text(b"\xff"));
    }

    #[test]
    fn the_last_of_equal_texts_is_found_and_empty_texts_are_not() {
        let texts: StringArray = ["a", "", "b", "a", ""].into_iter().collect();
        let v = Vocabulary::new(texts, &[1, 1, 3, 1, 1]).unwrap();
        assert_eq!(v.find(b"a"), Some(3));
        assert_eq!(v.find(b""), None);
        assert_eq!(v.find(b"ab"), None);
        assert_eq!((v.find(b"b"), v.find_text(b"b")), (Some(2), None));
        assert_eq!((v.text(0), v.text(5)), (Some(&b"a"[..]), None));
    }
}
