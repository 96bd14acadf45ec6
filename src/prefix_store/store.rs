//! The store as others see it: plans of what can be restored, and what is given to the thread that writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::disk;
use super::folder::{Folder, Job};
use super::index::{Found, PartKind};
use super::piece::{NewPiece, PieceError};
use crate::storage::DataFile;

/// What may wait to be written.
const QUEUE: usize = 4;

/// What the store goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most that all pieces may take. Unit: bytes.
    pub disk_bytes: u64,
    /// The most that is written in a day. Unit: bytes.
    pub daily_bytes: u64,
    /// Tokens of a block.
    pub block_tokens: usize,
    /// Says of which model, and how kept, keys and values are.
    pub fingerprint: u64,
}

/// Counters since the start, and what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Pieces that can be used now.
    pub pieces: usize,
    /// Bytes of these and of other models' pieces.
    pub bytes: u64,
    /// Spent of the day's budget since the start: what was written, or failed to be. Unit: bytes.
    pub written_bytes: u64,
    /// Tokens that were restored since the start.
    pub restored_tokens: u64,
    /// Files found damaged since the start.
    pub damaged: u64,
    /// Files found at the start that are of another model, another version, or nobody knows whose.
    pub foreign: u64,
    /// Pieces and records that were not written because the day's bytes were spent, or there was no room.
    pub refused: u64,
    /// Writes that failed.
    pub failed_writes: u64,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{}: another process uses it", .0.display())]
    InUse(PathBuf),
    /// The folder cannot be used.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The folder, opened. Dropping it waits for what is being written.
#[derive(Debug)]
pub struct PrefixStore {
    folder: Arc<Folder>,
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    _lock: File,
}

/// Parts that a caller wants to have written: the block, and of which layers.
pub type Wanted = (usize, PartKind);

/// What would be restored for a prompt.
#[derive(Debug)]
pub struct Plan {
    folder: Arc<Folder>,
    /// First tokens of the prompt that a sequence could resume behind.
    pub n_tokens: usize,
    /// The tokens of the blocks; of the last one perhaps others than the prompt's behind `n_tokens`.
    pub tokens: Vec<u32>,
    parts: Vec<Found>,
}

/// What was restored: bytes by block and kind.
pub type Restored = BTreeMap<Wanted, Vec<u8>>;

impl PrefixStore {
    /// Opens the folder, which is made if it is not there, and reads the heads of its pieces.
    ///
    /// # Errors
    /// If the folder cannot be made, read or written to, or another process uses it. No file in it is an error.
    pub fn open(folder: &Path, options: Options) -> Result<Self, StoreError> {
        assert!(options.block_tokens > 0, "a block has tokens");
        let failed = |source| StoreError::Folder { path: folder.to_owned(), source };
        disk::make_folder(folder).map_err(failed)?;
        let lock = disk::lock(folder).map_err(failed)?.ok_or_else(|| StoreError::InUse(folder.to_owned()))?;
        let opened = Arc::new(Folder::open(folder, options).map_err(failed)?);
        let (jobs, receiver) = sync_channel(QUEUE);
        let of_writer = Arc::clone(&opened);
        let writer = thread::Builder::new().name("prefix-writer".to_owned());
        let writer = writer.spawn(move || of_writer.write_all(&receiver)).map_err(failed)?;
        Ok(Self { folder: opened, jobs: Some(jobs), writer: Some(writer), _lock: lock })
    }

    /// Who is told, by unparking, when something was written. Only the first call counts.
    pub fn wake(&self, thread: thread::Thread) {
        let _ = self.folder.waker.set(thread);
    }

    /// Whether everything is written.
    pub fn is_idle(&self) -> bool {
        self.folder.n_jobs.load(Ordering::Acquire) == 0
    }

    /// What of `tokens` could be restored, where a token sees `lookback` positions before its own in sliding layers.
    pub fn plan(&self, tokens: &[u32], lookback: usize) -> Plan {
        let way = self.folder.state().index.way(tokens, lookback);
        Plan {
            folder: Arc::clone(&self.folder),
            n_tokens: way.n_tokens,
            tokens: way.tokens,
            parts: way.parts,
        }
    }

    /// Of the blocks of `tokens`, of which the last may be short, those of `wanted` that are not written.
    pub fn lacking(&self, tokens: &[u32], wanted: &[Wanted]) -> Vec<Wanted> {
        self.folder.state().index.lacking(tokens, wanted)
    }

    /// Gives a piece to the writer. False if it will not be written: today's bytes are spent, it is larger than all
    /// pieces may be, or too much waits.
    pub fn write(&self, piece: NewPiece) -> bool {
        let n_bytes = piece.n_bytes();
        let fits = {
            let mut state = self.folder.state();
            let fits = n_bytes <= self.folder.options.disk_bytes
                && self.folder.budget_bytes(n_bytes) <= state.budget.room(self.folder.today());
            state.stats.refused += u64::from(!fits);
            fits
        };
        fits && self.give(Job::Piece(piece))
    }

    /// Gives a record to the writer, to be read again by [`record`](Self::record). False if too much waits.
    pub fn write_record(&self, name: &'static str, payload: Vec<u8>) -> bool {
        self.give(Job::Record(name, payload))
    }

    /// A record; `None` if there is none that is whole.
    pub fn record(&self, name: &str) -> Option<Vec<u8>> {
        match disk::read_record(&self.folder.path, name) {
            Ok(record) => record,
            Err(e) => {
                log::warn!("{}: the record of {name} is not used: {e}", self.folder.path.display());
                self.folder.state().stats.damaged += 1;
                None
            }
        }
    }

    /// Has the pieces removed that say more of `tokens` than the first `n`. False if too much waits.
    pub fn forget(&self, tokens: Vec<u32>, n: usize) -> bool {
        self.give(Job::Forget(tokens, n))
    }

    /// The most that all pieces may take. Unit: bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.folder.options.disk_bytes
    }

    /// Counters of now.
    pub fn stats(&self) -> StoreStats {
        let state = self.folder.state();
        StoreStats { pieces: state.index.len(), bytes: state.n_bytes(), ..state.stats }
    }

    fn give(&self, job: Job) -> bool {
        self.folder.n_jobs.fetch_add(1, Ordering::AcqRel);
        let is_taken = self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok());
        if !is_taken {
            self.folder.n_jobs.fetch_sub(1, Ordering::AcqRel);
        }
        is_taken
    }
}

impl Drop for PrefixStore {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // If it has panicked there is nothing left to wait for.
            let _ = writer.join();
        }
    }
}

impl Plan {
    /// Leaves out what the caller has already: `has` is asked for the tokens up to the end of a block, and of which
    /// layers.
    pub fn without(&mut self, has: impl Fn(&[u32], PartKind) -> bool) {
        let (tokens, block_tokens) = (&self.tokens, self.folder.options.block_tokens);
        self.parts.retain(|(piece, i)| {
            let part = &piece.header.parts[*i];
            let end = tokens.len().min((part.block + 1) * block_tokens);
            !has(&tokens[..end], part.kind)
        });
    }

    /// Bytes that would be read.
    #[cfg(test)]
    pub(super) fn n_bytes(&self) -> u64 {
        let n_bytes =
            |(piece, i): &Found| piece.header.parts[*i].place.end - piece.header.parts[*i].place.start;
        self.parts.iter().map(n_bytes).sum()
    }

    /// Reads it. `None` if a piece turns out to be damaged, or gone: it is known no more, and another plan may do
    /// without it.
    pub fn read(self) -> Option<Restored> {
        let mut restored = Restored::new();
        let mut open: Option<(&str, DataFile)> = None;
        for (piece, i) in &self.parts {
            let part = &piece.header.parts[*i];
            let is_open = open.as_ref().is_some_and(|(name, _)| *name == piece.name);
            let opened = match open.take().filter(|_| is_open) {
                Some((_, file)) => Ok(file),
                None => DataFile::open(&self.folder.path.join(&piece.name)).map_err(PieceError::from),
            };
            match opened.and_then(|file| Ok((part.read(&file)?, file))) {
                Ok((bytes, file)) => {
                    restored.insert((part.block, part.kind), bytes);
                    open = Some((&piece.name, file));
                }
                Err(e) => {
                    self.folder.give_up(piece, &e);
                    return None;
                }
            }
        }
        let mut names: Vec<&str> = self.parts.iter().map(|(piece, _)| piece.name.as_str()).collect();
        names.dedup();
        self.folder.used(&names);
        self.folder.state().stats.restored_tokens += self.n_tokens as u64;
        Some(restored)
    }
}
