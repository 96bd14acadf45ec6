//! The tokenizer as grammars see it: the two rooms do not know each other.

use crate::sampling::constraint::Vocabulary;
use crate::tokenizer::{Specials, Tokenizer};

/// Stands for a space in the texts of tokens.
const SPACE: &str = "\u{2581}";

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

    /// What stands for a space in the vocabulary's texts is spelled in bytes: written as it is it would become one.
    fn encode(&self, text: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        for chunk in text.utf8_chunks() {
            for (i, part) in chunk.valid().split(SPACE).enumerate() {
                if i > 0 {
                    ids.extend(SPACE.bytes().map(|byte| self.byte_token(byte)));
                }
                ids.extend(self.encode(part, Specials::None));
            }
            ids.extend(chunk.invalid().iter().map(|&byte| self.byte_token(byte)));
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use super::*;
    use crate::gguf;
    use crate::sampling::constraint::{Grammar, Grammars, Outline};

    fn tokenizer(path: &Path) -> Tokenizer {
        let bytes = std::fs::read(path).unwrap();
        let mut metadata = gguf::read(&mut &bytes[..], bytes.len() as u64).unwrap().metadata;
        Tokenizer::from_metadata(&mut metadata).unwrap()
    }

    /// A small one, the built-in model's, and Gemma 4's own where it was downloaded.
    fn vocabularies() -> Vec<PathBuf> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let cache = std::env::var_os("PLED_CACHE").map(PathBuf::from);
        let real = cache.map(|cache| cache.join("vocab-gemma4.gguf")).filter(|path| path.exists());
        let small = ["tests/fixtures/gemma4-ple/model-q4_0.gguf", "models/home-mini/home-mini.gguf"];
        small.iter().map(|path| here.join(path)).chain(real).collect()
    }

    #[test]
    fn the_one_way_that_a_grammar_leaves_is_the_tokenizers() {
        for path in vocabularies() {
            let tokenizer = Arc::new(tokenizer(&path));
            let grammars = Grammars::new(Arc::clone(&tokenizer) as _);
            for text in [
                "the kitchen light",
                "  two  spaces ",
                "line\n\nline",
                "Küche 🏠 日本",
                r#"{"on": true}"#,
                "<b>\t</b>",
                "a▁b",
            ] {
                let outline =
                    Outline { text: Some(Grammar::Choice(vec![text.to_owned()])), ..Outline::default() };
                let mut constraint = grammars.compile(outline).unwrap().constraint;
                let expected = Vocabulary::encode(&*tokenizer, text.as_bytes());
                let mut ids = constraint.forced(usize::MAX).unwrap();
                // The last tokens are not forced: there are other ways to write the same letters.
                while !constraint.is_complete() {
                    let next = expected[ids.len()];
                    assert!(
                        constraint.allowed().unwrap().unwrap().contains(next),
                        "{text:?}: {ids:?} {next}"
                    );
                    constraint.accept(next).unwrap();
                    ids.push(next);
                    ids.extend(constraint.forced(usize::MAX).unwrap());
                }
                assert_eq!(ids, expected, "{text:?} of {}", path.display());
                assert_eq!(tokenizer.decode(&ids), text, "{}", path.display());
            }
        }
    }
}
