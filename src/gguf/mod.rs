//! Room `gguf`.
