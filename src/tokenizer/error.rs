//! What can be wrong with a vocabulary.

use thiserror::Error;

use crate::gguf::GgufError;

/// A model file whose vocabulary cannot be used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// A key of the wrong type or with an unusable value.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// A key that every vocabulary of this kind needs.
    #[error("key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A vocabulary of another family.
    #[error("tokenizer.ggml.model {model} (pre {pre}) is not supported: it must be \"gemma4\" or \"llama\"")]
    UnsupportedModel {
        /// Value of `tokenizer.ggml.model`, quoted and shortened.
        model: String,
        /// Value of `tokenizer.ggml.pre`, the same; empty if absent.
        pre: String,
    },
    /// `add_space_prefix` is true: ids would differ from what this encoder gives.
    #[error("`tokenizer.ggml.add_space_prefix` is true: this kind of vocabulary is not supported")]
    SpacePrefix,
    /// No token at all, or more than any model has.
    #[error("`tokenizer.ggml.tokens` has {n} entries, it must have from 1 to {max}")]
    TokenCount {
        /// Number of tokens.
        n: usize,
        /// The most that are accepted.
        max: usize,
    },
    /// Two arrays that must be of one length.
    #[error("`{key}` has {n} entries for {n_vocab} tokens")]
    WrongLength {
        /// The array.
        key: &'static str,
        /// Its length.
        n: usize,
        /// Number of tokens.
        n_vocab: usize,
    },
    /// A text that would make encoding slow for every text.
    #[error("`tokenizer.ggml.tokens`[{id}] has {n_bytes} bytes, at most {max} are accepted")]
    TokenTooLong {
        /// The token.
        id: u32,
        /// Its length.
        n_bytes: usize,
        /// The longest accepted.
        max: usize,
    },
    /// A token type that the format does not know.
    #[error("`tokenizer.ggml.token_type`[{id}] is {value}, it must be from 1 to 6")]
    TokenType {
        /// The token.
        id: u32,
        /// The value found.
        value: i32,
    },
    /// A score that has no place in an order.
    #[error("`tokenizer.ggml.scores`[{id}] is {value}, it must be a number")]
    Score {
        /// The token.
        id: u32,
        /// The value found.
        value: f32,
    },
    /// A byte token that does not name a byte.
    #[error("`tokenizer.ggml.tokens`[{id}] is of type byte, but its text {text} is not `<0x00>`..`<0xFF>`")]
    ByteToken {
        /// The token.
        id: u32,
        /// Its text, quoted and shortened.
        text: String,
    },
    /// Without all byte tokens some texts could not be encoded.
    #[error("`tokenizer.ggml.tokens` has no byte token <0x{byte:02X}>")]
    MissingByteToken {
        /// The byte.
        byte: u8,
    },
    /// A special id beyond the vocabulary.
    #[error("`{key}` is {id}, the vocabulary has {n_vocab} tokens")]
    IdOutOfRange {
        /// The key.
        key: &'static str,
        /// Its value.
        id: u32,
        /// Number of tokens.
        n_vocab: usize,
    },
    /// A merge that is not two texts with a space between them.
    #[error("`tokenizer.ggml.merges`[{index}] is {merge}: there is no space between two parts")]
    MergeSyntax {
        /// Its rank.
        index: usize,
        /// The entry, quoted and shortened.
        merge: String,
    },
    /// A merge of or into something that is not a token.
    #[error("`tokenizer.ggml.merges`[{index}] is {merge}: {part} is not a token")]
    MergePart {
        /// Its rank.
        index: usize,
        /// The entry, quoted and shortened.
        merge: String,
        /// The left part, the right part or both together, quoted and shortened.
        part: String,
    },
    /// A merge that would let ordinary text become a token with a meaning.
    #[error("`tokenizer.ggml.merges`[{index}] is {merge}: it makes the special token {id}")]
    MergeMakesSpecial {
        /// Its rank.
        index: usize,
        /// The entry, quoted and shortened.
        merge: String,
        /// The token.
        id: u32,
    },
    /// Neither a key nor a token `<bos>` says how prompts begin.
    #[error("no beginning-of-text token: neither `tokenizer.ggml.bos_token_id` nor a token <bos>")]
    NoBos,
    /// Nothing would ever end an answer.
    #[error("no end-of-generation token: no usable `tokenizer.ggml.eos_token_id` nor any of the known texts")]
    NoEndOfGeneration,
}
