//! Sequences, the scheduler, and the one worker thread that computes.

pub mod scheduler;
