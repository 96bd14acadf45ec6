//! Keys and values of prefixes on disk, so that a restart computes none of them again.
//!
//! The rule of the room: what cannot be proven whole is not used. A piece is written beside its place and renamed
//! into it when it is on the disk; every part of it has a checksum; it says of which model it is, by a fingerprint
//! that the caller makes. What is unfinished is removed; whatever else lies in the folder is counted, told of, and left
//! alone. A fault of the disk costs time, never an answer.
//!
//! What is written wears a card, so there is a budget for each day, which is spent before the bytes are written, in whole
//! blocks of a card, and is itself kept on the disk. What is there stays below a bound; what was not used for longest goes first.
//!
//! | file | what it holds |
//! |---|---|
//! | `piece` | the format of a piece: some blocks of tokens, with all tokens before them |
//! | `index` | which pieces there are, and what of a prompt they know |
//! | `budget` | bytes that may be written today |
//! | `disk` | writing so that a torn file cannot be, small records, the lock |
//! | `folder` | what is found at the start, and what the thread that writes does |
//! | `store` | the store as others see it: plans of what can be restored, jobs for the writer |
//!
//! Deliberately absent: what keys and values are (bytes here), which prefixes are worth writing (room `engine`).

mod budget;
mod disk;
mod folder;
mod index;
mod piece;
mod store;

pub use index::{PartKind, agreement};
pub use piece::{NewPart, NewPiece};
pub use store::{Options, Plan, PrefixStore, Restored, StoreError, StoreStats, Wanted};

#[cfg(test)]
mod tests;
