//! The `pled` binary.
fn main() {}
