//! What a grammar has to know of a vocabulary.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

/// A vocabulary, as far as grammars are concerned.
pub trait Vocabulary: Send + Sync + 'static {
    /// Number of tokens.
    fn n_vocab(&self) -> usize;

    /// The bytes that a token stands for in a text; `None` of one that text never becomes.
    fn text(&self, id: u32) -> Option<Vec<u8>>;

    /// What the vocabulary calls a token that is no text: grammars may name it.
    fn name(&self, id: u32) -> Option<&[u8]>;

    /// The tokens that end an answer; at least one.
    fn eog_ids(&self) -> &[u32];

    /// The ids of a text, which may begin or end within a character, as the model saw texts in its training.
    fn encode(&self, text: &[u8]) -> Vec<u32>;
}

/// A vocabulary with its trie.
struct Environment {
    vocabulary: Arc<dyn Vocabulary>,
    trie: TokTrie,
}

/// Builds the trie.
pub(super) fn environment(vocabulary: Arc<dyn Vocabulary>) -> TokEnv {
    let n_vocab = vocabulary.n_vocab() as u32;
    let eog_ids = vocabulary.eog_ids().to_vec();
    let info = TokRxInfo::new(n_vocab, eog_ids[0]);
    let words: Vec<Vec<u8>> = (0..n_vocab).map(|id| word(&*vocabulary, id)).collect();
    let trie = TokTrie::from(&info, &words).with_eos_tokens(&eog_ids);
    Arc::new(Environment { vocabulary, trie })
}

/// What the trie holds for a token; nothing for one that is never allowed.
fn word(vocabulary: &dyn Vocabulary, id: u32) -> Vec<u8> {
    if let Some(text) = vocabulary.text(id) {
        return text;
    }
    let name = vocabulary.name(id).unwrap_or_default();
    // The marker is no part of any text in UTF-8, so no expression over texts leads here.
    [&[TokTrie::SPECIAL_TOKEN_MARKER], name].concat()
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.vocabulary.encode(text)
    }
}
