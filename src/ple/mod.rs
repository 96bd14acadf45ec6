//! Room `ple`.
