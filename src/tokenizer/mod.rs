//! Room `tokenizer`.
