//! Who may call: tokens, what each of them may do and how much of it, and certificates.
//!
//! The rule of the room: one decision for every dialect, made from the head of a call before a byte of its body
//! is looked at. Whatever is not known to be harmless counts as work. A new file that is wrong changes nothing.
//!
//! | file | what it does |
//! |---|---|
//! | `keys` | the decision, and the tokens that it is made by |
//! | `token_file` | the file of tokens |
//! | `usage` | how often, and how many at a time |
//! | `certificates` | encryption, and certificates of clients |
//! | `validity` | whether the server's own are within their days |
//!
//! Deliberately absent: wire formats and status codes, which the dialects have, and anything that a prompt says.

mod certificates;
mod keys;
mod token_file;
mod usage;
mod validity;

use std::path::PathBuf;
use std::time::Duration;

pub use certificates::{CertificateFiles, Certificates};
pub use keys::{Admitted, Keys, Owner};
pub use validity::Validity;

/// What a call wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Whether the server is well. Everybody may ask.
    Health,
    /// Figures about the server.
    Figures,
    /// What there is: it costs next to nothing and does not count towards limits.
    Facts,
    /// Anything else.
    Work,
}

/// Why a call is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It brings no token.
    #[error("a token is needed: send the header \"Authorization: Bearer TOKEN\"")]
    NoToken,
    /// What it brings is no token that is known here.
    #[error("the token is not known here")]
    WrongToken,
    /// Its token is not for this.
    #[error("this token is for figures only")]
    FiguresOnly,
    /// Its token was used too often.
    #[error("this token may ask {per_minute} times a minute")]
    TooOften {
        /// How often it may.
        per_minute: u32,
        /// When it may again.
        retry_after: Duration,
    },
    /// Its token is in use too often at this moment.
    #[error("this token may have {at_a_time} calls at a time")]
    TooMany {
        /// How many it may have.
        at_a_time: u32,
    },
}

/// A file that says who may call, and cannot be used. Never quotes a token.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line of the file is wrong.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The file as a whole is wrong.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}
