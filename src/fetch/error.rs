//! What can go wrong with a download.

use std::io;
use std::path::PathBuf;

use super::digest::Sha256Sum;

/// A download failed. Places are URLs without their query, which may hold a signature.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The text is no URL that can be used.
    #[error("{text}: {problem}; give http:// or https://, a host and a path")]
    Url {
        /// The text.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The text names no repository.
    #[error("{text}: not OWNER/NAME, OWNER/NAME/FILE, a URL, or one of {known}")]
    Repository {
        /// The text.
        text: String,
        /// Names that are known.
        known: String,
    },
    /// No connection, or it broke, too often in a row.
    #[error("{url}: {problem}; run it again later: it goes on with what has come by then")]
    Connection {
        /// Where.
        url: String,
        /// What happened last.
        problem: String,
    },
    /// The server wants to know who asks, or does not let us in.
    #[error(
        "{url}: the server answers {status}; if the model is gated, accept its licence in a browser and give a token \
         in HF_TOKEN or in the file that `hf auth login` writes"
    )]
    Forbidden {
        /// Where.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The server has no such file.
    #[error(
        "{url}: the server answers {status}; look for a typing error in the name of the repository or file"
    )]
    NotFound {
        /// Where.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// An answer that makes no sense for a download.
    #[error("{url}: {problem}; another --endpoint may do better")]
    Protocol {
        /// Where.
        url: String,
        /// What the server did.
        problem: String,
    },
    /// The server says by itself that its file is another one.
    #[error(
        "{url}: the server has a file with SHA-256 {found}, wanted is {expected}; nothing was downloaded"
    )]
    OtherFile {
        /// Where.
        url: String,
        /// What was asked for.
        expected: Sha256Sum,
        /// What the server announces.
        found: Sha256Sum,
    },
    /// The bytes are wrong.
    #[error("{url}: the bytes that came have SHA-256 {found}, wanted is {expected}; they were thrown away")]
    Checksum {
        /// Where.
        url: String,
        /// What they should have.
        expected: Sha256Sum,
        /// What they have.
        found: Sha256Sum,
    },
    /// The check of the complete file refused it.
    #[error("{url}: {reason}; it was thrown away")]
    Refused {
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file changes while it is read.
    #[error(
        "{url}: the file changes while it is read, or the server's answers contradict each other; try again later"
    )]
    KeepsChanging {
        /// Where.
        url: String,
    },
    /// No room.
    #[error("{}: {needed} bytes are needed and {available} are free; free some, or give another folder with --dir",
            path.display())]
    Space {
        /// Folder.
        path: PathBuf,
        /// Bytes that are still to come, with what others must keep.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// Another file is in the way, and nothing tells which of the two is right.
    #[error("{} is already there with another length, and the server gives no checksum; give --sha256, or remove it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else is at it.
    #[error("{}: another pled pull is writing this file", path.display())]
    Busy {
        /// The part.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
}
