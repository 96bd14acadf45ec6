//! The board: what the system tells about it, and what of that harms pled.
//!
//! The rule of this room: every fact is a file below one [`Root`], which tests replace by a folder, and becomes a
//! [`Finding`] with a fixed id, a verdict, and, unless all is well, what to do. A file that is not there proves
//! nothing: the finding then says that it was not told, and never that a thing is off. Every finding here costs a
//! few small reads, so that the daemon can look at each start.
//!
//! Deliberately absent: measuring (`cli/doctor` does that), writing, mending, running other programs, models.

mod clock;
mod device;
mod memory;
mod power;
mod processor;
mod root;

use std::fmt;

pub use device::{Device, DeviceKind, device_of};
pub use memory::{Memory, memory_left, read_memory};
pub use power::{celsius, held_down};
pub use root::Root;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be, or not told.
    Ok,
    /// Worth knowing; nothing is slower or less safe for it than it was planned.
    Notice,
    /// pled works, but slower or less safely than the board could.
    Warning,
    /// pled does not work so, or not for long.
    Error,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Notice => "notice",
            Verdict::Warning => "warning",
            Verdict::Error => "error",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Fixed name, for programs.
    pub id: &'static str,
    /// How much it matters.
    pub verdict: Verdict,
    /// What was found, one line without control characters.
    pub found: String,
    /// What to do. Present unless the verdict is [`Verdict::Ok`].
    pub advice: Option<String>,
}

impl Finding {
    /// A finding that needs nothing done.
    pub fn ok(id: &'static str, found: impl Into<String>) -> Finding {
        Finding { id, verdict: Verdict::Ok, found: one_line(&found.into()), advice: None }
    }

    /// A finding that somebody should act upon.
    pub fn with_advice(
        id: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding { id, verdict, found: one_line(&found.into()), advice: Some(one_line(&advice.into())) }
    }

    /// For what this system does not tell.
    fn untold(id: &'static str) -> Finding {
        Finding::ok(id, "not told by this system")
    }
}

/// The text on one line, with U+FFFD for what could steer a terminal: parts of it come from files.
fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// What is looked at: the system's files, and what only this process knows.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where /proc, /sys, /run and /etc are found.
    pub root: Root,
    /// The instruction set that was chosen.
    pub kernels: &'static str,
    /// Page size, bytes.
    pub page_bytes: usize,
    /// Seconds since 1970 by the system's clock.
    pub unix_s: u64,
}

/// Every finding of this room, in a fixed order.
pub fn findings(seen: &Surroundings) -> Vec<Finding> {
    let root = &seen.root;
    vec![
        processor::board(root),
        processor::cpu(root, seen.kernels),
        processor::page_size(root, seen.page_bytes),
        processor::governor(root),
        memory::memory(root),
        memory::memory_cgroup(root),
        memory::swap(root),
        memory::zram(root),
        power::undervoltage(root),
        power::throttling(root),
        power::temperature(root),
        clock::clock(root, seen.unix_s),
    ]
}

#[cfg(test)]
mod tests;
