//! The folder: what is found in it at the start, and what the thread that writes does to it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::budget::Budget;
use super::disk::{self, UNFINISHED};
use super::index::{Index, Piece};
use super::piece::{Header, Identity, NewPiece, PieceError};
use super::store::{Options, StoreStats};

/// Ends the name of a piece.
const PIECE: &str = ".kv";
/// The budget's record.
const BUDGET: &str = "budget";
const SECONDS_OF_DAY: u64 = 24 * 60 * 60;
/// The least that a file system writes.
const BLOCK_BYTES: u64 = 4096;

/// What all threads see of it.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) options: Options,
    state: Mutex<State>,
    /// Jobs that are not done.
    pub(super) n_jobs: AtomicUsize,
    /// Who is told when a job is done.
    pub(super) waker: OnceLock<thread::Thread>,
    opened: Instant,
    /// The day of the budget's record.
    first_day: u64,
}

/// What changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) index: Index,
    /// Pieces of other models by the time of their last use, and their bytes. They go first.
    others: BTreeMap<(SystemTime, String), u64>,
    pub(super) budget: Budget,
    pub(super) stats: StoreStats,
    n_named: u64,
}

/// What the thread that writes is to do.
#[derive(Debug)]
pub(super) enum Job {
    Piece(NewPiece),
    Record(&'static str, Vec<u8>),
    /// Pieces that say more of these tokens than so many.
    Forget(Vec<u32>, usize),
}

/// Makes room of what is proven to be of no use. A file that only could not be read may be whole.
fn remove_damaged(path: &Path, e: &PieceError) {
    if matches!(e, PieceError::Damaged(_)) {
        // A card that cannot do that says so when it is written to.
        let _ = fs::remove_file(path);
    }
}

fn clock_day() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / SECONDS_OF_DAY)
}

impl State {
    pub(super) fn n_bytes(&self) -> u64 {
        self.index.n_bytes() + self.others.values().sum::<u64>()
    }

    fn scan(&mut self, folder: &Path, options: Options) -> io::Result<()> {
        let identity = Identity { fingerprint: options.fingerprint, block_tokens: options.block_tokens };
        let mut pieces = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            let name = entry.file_name().into_string().unwrap_or_default();
            if metadata.is_file() && disk::is_own(&name) {
                continue;
            }
            let is_of_ours = |name: &str| name.ends_with(PIECE) || name.ends_with(disk::RECORD);
            if metadata.is_file() && name.strip_suffix(UNFINISHED).is_some_and(is_of_ours) {
                log::info!("{}: was not finished, so it is removed", path.display());
                fs::remove_file(&path)?;
                continue;
            }
            let header = match metadata.is_file() && name.ends_with(PIECE) {
                true => Header::read(&path, identity),
                false => Err(PieceError::Foreign),
            };
            let used = metadata.modified().unwrap_or(UNIX_EPOCH);
            match header {
                Ok(header) => pieces.push((used, Piece { name, header })),
                Err(PieceError::Other) => {
                    self.stats.foreign += 1;
                    self.others.insert((used, name), metadata.len());
                }
                Err(e @ PieceError::Foreign) => {
                    self.stats.foreign += 1;
                    log::warn!("{}: {e}, so it is left alone", path.display());
                }
                Err(e) => {
                    self.stats.damaged += 1;
                    log::warn!("{}: {e}; it is not used", path.display());
                    remove_damaged(&path, &e);
                }
            }
        }
        pieces.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.name.cmp(&other.name)));
        pieces.into_iter().for_each(|(_, piece)| self.index.insert(piece));
        if !self.others.is_empty() {
            log::info!("{}: {} pieces of other models", folder.display(), self.others.len());
        }
        Ok(())
    }
}

impl Folder {
    /// Reads the note of the budget and the heads of all pieces.
    pub(super) fn open(path: &Path, options: Options) -> io::Result<Self> {
        let today = clock_day();
        let budget = match disk::read_record(path, BUDGET) {
            Ok(None) => Budget::new(options.daily_bytes, today),
            Ok(Some(record)) => Budget::of_record(options.daily_bytes, &record)
                .unwrap_or_else(|| Budget::spent(options.daily_bytes, today)),
            Err(e) => {
                log::warn!("{}: what was written today is not known, so no more is: {e}", path.display());
                Budget::spent(options.daily_bytes, today)
            }
        };
        let first_day = budget.day();
        let mut state = State {
            index: Index::new(options.block_tokens),
            others: BTreeMap::new(),
            budget,
            stats: StoreStats::default(),
            n_named: 0,
        };
        state.scan(path, options)?;
        Ok(Self {
            path: path.to_owned(),
            options,
            state: Mutex::new(state),
            n_jobs: AtomicUsize::new(0),
            waker: OnceLock::new(),
            opened: Instant::now(),
            first_day,
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked left is an index that knows one piece more or less.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn identity(&self) -> Identity {
        Identity { fingerprint: self.options.fingerprint, block_tokens: self.options.block_tokens }
    }

    /// By the system's clock, and a day later after each day that the process runs: a clock that was once far ahead
    /// does not end writing for good.
    pub(super) fn today(&self) -> u64 {
        clock_day().max(self.first_day + self.opened.elapsed().as_secs() / SECONDS_OF_DAY)
    }

    /// What a file of so many bytes costs with the note of the budget itself: a card writes whole blocks.
    pub(super) fn budget_bytes(&self, n_bytes: u64) -> u64 {
        n_bytes.next_multiple_of(BLOCK_BYTES) + disk::record_bytes(&[0; 16]).next_multiple_of(BLOCK_BYTES)
    }

    pub(super) fn write_all(&self, jobs: &Receiver<Job>) {
        for job in jobs {
            let wrote = match job {
                Job::Piece(piece) => self.write_piece(&piece),
                Job::Record(name, payload) => self.write_record(name, &payload),
                Job::Forget(tokens, n) => self.forget(&tokens, n),
            };
            if let Err(e) = wrote {
                self.state().stats.failed_writes += 1;
                log::warn!("{}: {e}", self.path.display());
            }
            self.n_jobs.fetch_sub(1, Ordering::AcqRel);
            if let Some(thread) = self.waker.get() {
                thread.unpark();
            }
        }
    }

    /// Notes that the bytes are spent. False if there are not so many.
    fn spend(&self, n_bytes: u64) -> io::Result<bool> {
        let n_bytes = self.budget_bytes(n_bytes);
        let record = {
            let mut state = self.state();
            if !state.budget.spend(n_bytes, self.today()) {
                state.stats.refused += 1;
                return Ok(false);
            }
            state.stats.written_bytes += n_bytes;
            state.budget.record()
        };
        disk::write_record(&self.path, BUDGET, &record)?;
        Ok(true)
    }

    fn write_piece(&self, piece: &NewPiece) -> io::Result<()> {
        let header = piece.header(self.identity());
        if !self.spend(piece.n_bytes())? {
            return Ok(());
        }
        self.make_room(piece.n_bytes())?;
        let name = self.new_name();
        let parts = piece.parts.iter().map(|part| part.bytes.as_slice());
        disk::write(&self.path, &name, [header.as_slice()].into_iter().chain(parts))?;
        self.state().index.insert(Piece { name, header: Header::of(piece) });
        Ok(())
    }

    fn write_record(&self, name: &str, payload: &[u8]) -> io::Result<()> {
        if self.spend(disk::record_bytes(payload))? {
            disk::write_record(&self.path, name, payload)?;
        }
        Ok(())
    }

    fn forget(&self, tokens: &[u32], n: usize) -> io::Result<()> {
        let pieces = self.state().index.beyond(tokens, n);
        pieces.iter().try_for_each(|piece| self.remove(&piece.name))
    }

    /// A name that no file has.
    fn new_name(&self) -> String {
        loop {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let n_named = {
                let mut state = self.state();
                state.n_named += 1;
                state.n_named
            };
            let name = format!("{:016x}-{n_named:x}{PIECE}", since.as_micros() as u64);
            // Asked without the lock: the engine does not wait for a disk that stalls.
            if !self.path.join(&name).exists() {
                return name;
            }
        }
    }

    /// Removes pieces, other models' first, until so many bytes more may be there.
    fn make_room(&self, n_bytes: u64) -> io::Result<()> {
        loop {
            let oldest = {
                let mut state = self.state();
                if state.n_bytes() + n_bytes <= self.options.disk_bytes {
                    return Ok(());
                }
                match state.others.pop_first() {
                    Some(((_, name), _)) => Some(name),
                    None => state.index.oldest().map(|piece| piece.name.clone()),
                }
            };
            let Some(name) = oldest else { return Ok(()) };
            self.remove(&name)?;
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().index.remove(name);
        match fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Takes a piece out that cannot be read as it should.
    pub(super) fn give_up(&self, piece: &Piece, e: &PieceError) {
        let path = self.path.join(&piece.name);
        if !self.state().index.remove(&piece.name) {
            // It was removed to make room, or another has found the same.
            return;
        }
        self.state().stats.damaged += 1;
        log::warn!("{}: {e}; it is not used", path.display());
        remove_damaged(&path, e);
    }

    /// Takes note of a use, for the order in which pieces go, after a restart too.
    pub(super) fn used(&self, names: &[&str]) {
        self.state().index.used(names);
        for name in names {
            let file = File::options().write(true).open(self.path.join(name));
            // If it is gone or read-only it keeps its place in the order.
            let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        }
    }
}
