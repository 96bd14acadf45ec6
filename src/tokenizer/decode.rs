//! Ids to text, whole and as they come.

use super::{Tokenizer, vocabulary::Class};

/// U+2581, which vocabularies write for a space.
const SPACE: &[u8] = "\u{2581}".as_bytes();

impl Tokenizer {
    /// Appends the bytes that a token stands for: one byte of a byte token, nothing of a control token
    /// (or of an id outside the vocabulary), else the text with spaces for U+2581.
    pub fn token_bytes(&self, id: u32, out: &mut Vec<u8>) {
        let (Some(text), Some(class)) = (self.vocabulary.text(id), self.vocabulary.class(id)) else { return };
        match class {
            Class::Control => {}
            // Loading has checked that the text is <0xNN>.
            Class::Byte => out.extend(byte_of(text)),
            Class::Text | Class::Verbatim | Class::Structural => {
                let mut rest = text;
                while let Some(at) = rest.windows(SPACE.len()).position(|w| w == SPACE) {
                    out.extend_from_slice(&rest[..at]);
                    out.push(b' ');
                    rest = &rest[at + SPACE.len()..];
                }
                out.extend_from_slice(rest);
            }
        }
    }

    /// The text of some tokens. A leading space stays; bytes that are not UTF-8 become U+FFFD, one for
    /// each maximal invalid part (as [`String::from_utf8_lossy`]).
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            self.token_bytes(id, &mut bytes);
        }
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(invalid) => String::from_utf8_lossy(invalid.as_bytes()).into_owned(),
        }
    }
}

/// The byte that `<0xNN>` names.
pub(super) fn byte_of(text: &[u8]) -> Option<u8> {
    let hex = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    // `from_str_radix` would take a sign.
    if hex.len() != 2 || !hex.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

/// Decodes an answer token by token. All pieces and the rest from [`finish`](Self::finish) together are
/// what [`Tokenizer::decode`] makes of the whole.
///
/// A character may be spread over several tokens: an incomplete sequence (at most 3 bytes) waits
/// for its rest; what cannot become valid any more is given out as U+FFFD.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    /// Bytes not given out yet. Between calls: an incomplete sequence.
    bytes: Vec<u8>,
}

impl StreamDecoder {
    /// Nothing pending.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends to `out` the text that the token completes.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut String) {
        tokenizer.token_bytes(id, &mut self.bytes);
        let mut pending = 0;
        let mut chunks = self.bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            out.push_str(chunk.valid());
            let invalid = chunk.invalid();
            // Only at the end of the bytes can more of them make the part valid.
            let incomplete = chunks.peek().is_none()
                && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if incomplete {
                pending = invalid.len();
            } else if !invalid.is_empty() {
                out.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.bytes.drain(..self.bytes.len() - pending);
    }

    /// The answer has ended: appends U+FFFD for an incomplete sequence. The decoder is as new.
    pub fn finish(&mut self, out: &mut String) {
        if !self.bytes.is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
            self.bytes.clear();
        }
    }

    /// Bytes of an incomplete character.
    pub fn pending_bytes(&self) -> usize {
        self.bytes.len()
    }
}
