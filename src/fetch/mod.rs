//! Downloading a model file: over HTTP(S), resumed, in parallel, and proven before it has its name.
//!
//! The rule of this room: a server is hostile until the bytes are proven. Bytes of two responses are joined only if
//! something can tell that they belong together, a strong ETag that both carry or a checksum of the whole; else the
//! file comes in one piece or not at all. What arrives lies in `NAME.part`, and what of it is on storage stands in
//! `NAME.part.state`; the file takes its name by one rename, after its length, its checksum and its content were
//! looked at and all of it was synced. So a power cut at any moment leaves the old file, the new one, or a part
//! that is resumed.
//!
//! A token goes to the host that it was meant for and never further: not to where that host redirects, and not
//! over an unencrypted connection.
//!
//! Deliberately absent: proxies, cookies, compression, HTTP/2 (one large body gains nothing by it), what a model
//! is (whoever asks gives a check), deciding where files belong.

mod client;
mod digest;
mod error;
mod hub;
mod part;
mod state;
mod transfer;
mod url;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use digest::Sha256Sum;
pub use error::FetchError;
pub use hub::{HUB, HubFile, KNOWN, Known, Repository, list_files};
pub use url::Url;

use client::Client;
use part::PartFile;
use transfer::{Facts, Outcome, Progress};

/// How hard to try.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections at a time, where the server has ranges.
    pub connections: usize,
    /// Longest silence of a server, while connecting, answering or sending.
    pub patience: Duration,
    /// Tries in a row that may bring nothing.
    pub attempts: u32,
    /// Pause after the first of them; each further one is twice as long.
    pub backoff: Duration,
    /// Smallest piece that is worth a connection of its own, bytes.
    pub min_piece_bytes: u64,
    /// What may arrive before it is synced and noted down, bytes: a power cut loses no more.
    pub checkpoint_bytes: u64,
    /// Space that must be left for others, bytes.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 4,
            patience: Duration::from_secs(30),
            attempts: 6,
            backoff: Duration::from_secs(1),
            min_piece_bytes: 32 << 20,
            checkpoint_bytes: 16 << 20,
            reserve_bytes: 64 << 20,
        }
    }
}

/// What to download and where to.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where it is.
    pub url: Url,
    /// Token for the host of `url` and nobody else.
    pub token: Option<String>,
    /// Checksum that the file must have; without one the server's own is used, if it tells one.
    pub sha256: Option<Sha256Sum>,
    /// The file to be.
    pub target: PathBuf,
}

/// How a download ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Length of the file, bytes.
    pub bytes: u64,
    /// Bytes that came over the network this time.
    pub received: u64,
    /// The checksum that the file was compared with, if there was one to compare with.
    pub sha256: Option<Sha256Sum>,
}

/// Times that a file which changes under our hands is begun anew.
const RESTARTS: u32 = 3;

/// What a download is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage<'a> {
    /// A request came to nothing, and is made again after a while.
    Waiting {
        /// Where, without its query.
        url: &'a str,
        /// What happened.
        problem: &'a str,
    },
    /// So many bytes of so many are there.
    Receiving {
        /// Bytes that are there.
        done: u64,
        /// Length of the file, bytes.
        total: u64,
    },
    /// The whole file is read and compared with its checksum.
    Comparing,
}

/// Downloads a file. `progress` hears what goes on. `admit` is called with the complete file just before it takes its
/// name: it may refuse it with a reason, and clears away what belongs to a file that is replaced.
///
/// A file that is there already is compared with the checksum. Without one to compare with it is left alone: if it has
/// the right length that is a good end with no `sha256`, and else an error.
///
/// # Errors
/// If the file cannot be had, does not fit, or is not what it should be. What arrived by then is kept for the next
/// try, unless it is wrong.
pub async fn download(
    job: &Job,
    options: &Options,
    progress: impl Fn(Stage<'_>) + Send + Sync + 'static,
    admit: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<Done, FetchError> {
    let client = Client::new(job.url.clone(), job.token.clone(), options.patience);
    let progress: Progress = Arc::new(progress);
    let url = job.url.to_string();
    let mut opened = None;
    let mut received = 0;
    for restart in 0..=RESTARTS {
        let mut facts = transfer::probe(&client, options, &progress).await?;
        // A server that breaks ranges is asked for the whole.
        facts.has_ranges &= restart == 0;
        let expected = expected_sum(job, &facts)?;
        if is_there(job, facts.length, expected, &progress).await? {
            return Ok(Done { bytes: facts.length, received, sha256: expected });
        }
        let mut part = match opened.take() {
            Some(part) => part,
            None => PartFile::open(&job.target)?,
        };
        part.prepare(&facts, expected, options)?;
        part.make_room(options.reserve_bytes)?;
        let ended = transfer::run(&client, &facts, expected.is_some(), part, options, &progress).await;
        received += ended.received;
        part = ended.part;
        match ended.how {
            Outcome::Complete => {}
            Outcome::Changed => {
                part.reset()?;
                opened = Some(part);
                continue;
            }
            Outcome::Failed(error) => {
                part.checkpoint()?;
                return Err(error);
            }
        }
        if let Some(expected) = expected {
            progress(Stage::Comparing);
            let found = digest::of_file(part.path()).await?;
            if found != expected {
                part.discard()?;
                return Err(FetchError::Checksum { url, expected, found });
            }
        }
        if let Err(reason) = admit(part.path()) {
            part.discard()?;
            return Err(FetchError::Refused { url, reason });
        }
        part.finish(facts.length)?;
        return Ok(Done { bytes: facts.length, received, sha256: expected });
    }
    if let Some(part) = opened {
        part.discard()?;
    }
    Err(FetchError::KeepsChanging { url })
}

/// Whether the target is the file that is wanted, as far as anything tells.
async fn is_there(
    job: &Job,
    length: u64,
    expected: Option<Sha256Sum>,
    progress: &Progress,
) -> Result<bool, FetchError> {
    let Ok(found) = std::fs::metadata(&job.target) else { return Ok(false) };
    match expected {
        None if found.len() == length => Ok(true),
        None => Err(FetchError::Exists { path: job.target.clone() }),
        Some(_) if found.len() != length => Ok(false),
        Some(sum) => {
            progress(Stage::Comparing);
            Ok(digest::of_file(&job.target).await? == sum)
        }
    }
}

/// The checksum to compare with: ours, else the server's. Two that differ are an error before anything is read.
fn expected_sum(job: &Job, facts: &Facts) -> Result<Option<Sha256Sum>, FetchError> {
    match (job.sha256, facts.linked_sum) {
        (Some(expected), Some(found)) if expected != found => {
            Err(FetchError::OtherFile { url: job.url.to_string(), expected, found })
        }
        (ours, theirs) => Ok(ours.or(theirs)),
    }
}
