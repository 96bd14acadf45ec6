//! Wiring, signals, bounded drain.
