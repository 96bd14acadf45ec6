//! The tokenizer as grammars see it: the two rooms do not know each other.

use crate::sampling::constraint::Vocabulary;
use crate::tokenizer::{Specials, Tokenizer};

impl Vocabulary for Tokenizer {
    fn n_vocab(&self) -> usize {
        self.n_vocab()
    }

    /// Nothing for a byte that is also a token of its own, as a newline is: models were trained on that one. Nothing
    /// either for what is never sampled.
    fn text(&self, id: u32) -> Option<Vec<u8>> {
        if !self.is_text(id) || self.is_eog(id) {
            return None;
        }
        if self.suppressed().binary_search(&id).is_ok() {
            return Some(Vec::new());
        }
        let mut bytes = Vec::new();
        self.token_bytes(id, &mut bytes);
        if let [byte] = bytes[..]
            && self.byte_token(byte) == id
            && std::str::from_utf8(&bytes).is_ok_and(|text| self.encode(text, Specials::None) != [id])
        {
            bytes.clear();
        }
        Some(bytes)
    }

    fn name(&self, id: u32) -> Option<&[u8]> {
        self.piece(id)
    }

    fn eog_ids(&self) -> &[u32] {
        self.eog_ids()
    }

    fn encode(&self, text: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        for chunk in text.utf8_chunks() {
            ids.extend(self.encode(chunk.valid(), Specials::None));
            ids.extend(chunk.invalid().iter().map(|&byte| self.byte_token(byte)));
        }
        ids
    }
}
