//! Room `sampling`.
