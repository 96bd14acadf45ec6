//! Answers that have a given form: which tokens may come next, and which must.
//!
//! The rule here: what cannot be kept is refused by name when the grammar is compiled, and what was taken is kept to
//! the last token. A grammar comes from a stranger, so compiling is bounded in size, in steps and in stack; following
//! it is bounded in steps for each token, and one that exceeds them is an error, never a token.
//!
//! llguidance does the work: regular expressions by derivatives, an Earley parser over their lexemes, and the walk
//! over a trie of the vocabulary that tells which tokens may follow. Its trie is built at the first compilation, by the
//! thread that compiles.
//!
//! | file | what it does |
//! |---|---|
//! | `vocabulary` | what a grammar has to know of a vocabulary |
//! | `compile` | grammars of all kinds to constraints, within bounds |
//! | `keywords` | refuses words of a JSON schema that are no keywords, and settles `nullable` |
//! | `numbers` | keeps numbers of a JSON schema to sizes that readers take |
//! | `course` | thoughts, calls and text of one answer, each under its own rule |
//! | `mask` | sets of tokens |
//!
//! Deliberately absent: the syntax of a model's tool calls (that room writes grammars of its own), the choice of a token.

mod compile;
mod course;
mod keywords;
mod mask;
mod numbers;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use compile::{
    Calls, Compiled, Grammar, GrammarError, Grammars, MAX_CHOICES, MAX_GRAMMAR_BYTES, Outline, Part,
};
pub use course::{Constraint, ConstraintError};
pub use mask::TokenSet;
pub use vocabulary::Vocabulary;
