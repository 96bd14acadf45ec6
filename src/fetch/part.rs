//! The file that is being made: `NAME.part`, and `NAME.part.state` beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, fstatvfs};

use super::Options;
use super::digest::Sha256Sum;
use super::error::FetchError;
use super::state::{Piece, State};
use super::transfer::Facts;

/// The part with what is known of it. It is locked for this process as long as this lives.
#[derive(Debug)]
pub(super) struct PartFile {
    file: File,
    path: PathBuf,
    state_path: PathBuf,
    target: PathBuf,
    state: State,
    /// Bytes written since the last checkpoint.
    unsynced: u64,
}

impl PartFile {
    pub(super) fn open(target: &Path) -> Result<PartFile, FetchError> {
        let with = |suffix: &str| {
            let mut name = target.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let (path, state_path) = (with(".part"), with(".part.state"));
        let failed = |source| FetchError::File { path: path.clone(), source };
        // Readable for all: the service that is to read it runs under another user. A link would lead elsewhere.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(FetchError::Busy { path }),
            // A file system without locks.
            Err(_) => {}
        }
        // The other one may have finished between our opening and locking: then this is the model in its place.
        let is_same =
            |named: fs::Metadata, ours: fs::Metadata| named.ino() == ours.ino() && named.dev() == ours.dev();
        let named = fs::symlink_metadata(&path).ok();
        let ours = file.metadata().map_err(failed)?;
        if !named.is_some_and(|named| is_same(named, ours)) {
            return Err(FetchError::Busy { path });
        }
        let state = State { length: 0, etag: None, sum: None, pieces: Vec::new() };
        Ok(PartFile { file, path, state_path, target: target.to_owned(), state, unsynced: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.state.pieces
    }

    pub(super) fn missing(&self) -> u64 {
        self.state.missing()
    }

    /// Takes up what is there if it belongs to the file that the server has now, and begins anew if not.
    pub(super) fn prepare(
        &mut self,
        facts: &Facts,
        sum: Option<Sha256Sum>,
        options: &Options,
    ) -> Result<(), FetchError> {
        let can_join = facts.has_ranges && (facts.etag.is_some() || sum.is_some());
        let noted = fs::read_to_string(&self.state_path).ok().and_then(|text| text.parse::<State>().ok());
        let length_on_storage = self.file.metadata().map_err(|e| self.failed(e))?.len();
        let resumed = noted.filter(|state| {
            state.belongs_to(facts.length, facts.etag.as_deref(), sum)
                && length_on_storage == facts.length
                && (can_join || state.missing() == 0)
        });
        if let Some(state) = resumed {
            self.state = State { etag: facts.etag.clone().or(state.etag.clone()), sum, ..state };
            return Ok(());
        }
        let n_pieces = match can_join {
            true => {
                (facts.length / options.min_piece_bytes.max(1)).clamp(1, options.connections.max(1) as u64)
            }
            false => 1,
        };
        let bound = |i: u64| (u128::from(facts.length) * u128::from(i) / u128::from(n_pieces)) as u64;
        let pieces = (0..n_pieces).map(|i| Piece { at: bound(i), end: bound(i + 1) }).collect();
        self.state = State { length: facts.length, etag: facts.etag.clone(), sum, pieces };
        self.reset()
    }

    /// Gives the part its length, and fails if what is missing would not fit.
    pub(super) fn make_room(&self, reserve_bytes: u64) -> Result<(), FetchError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let length = self.state.length;
        let allocated = self.file.metadata().map_err(|e| self.failed(e))?.blocks().saturating_mul(512);
        let needed = length.saturating_sub(allocated).saturating_add(reserve_bytes);
        // A file system that does not tell is tried.
        let told = fstatvfs(&self.file).ok();
        let available = told.map_or(u64::MAX, |told| told.f_bavail.saturating_mul(told.f_frsize));
        if needed > available {
            if allocated == 0 {
                // It would look like a download that has begun.
                remove(&self.path)?;
            }
            return Err(FetchError::Space { path: folder.to_owned(), needed, available });
        }
        self.file.set_len(length).map_err(|e| self.failed(e))
    }

    /// Writes bytes that belong at the beginning of what piece `i` lacks. More than it lacks is not taken.
    pub(super) fn append(&mut self, i: usize, bytes: &[u8], checkpoint_bytes: u64) -> Result<(), FetchError> {
        let piece = self.state.pieces[i];
        let n = bytes.len().min(usize::try_from(piece.end - piece.at).unwrap_or(usize::MAX));
        self.file.write_all_at(&bytes[..n], piece.at).map_err(|e| self.failed(e))?;
        self.state.pieces[i].at += n as u64;
        self.unsynced += n as u64;
        if self.unsynced >= checkpoint_bytes {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Makes piece `i` begin anew at `start`.
    pub(super) fn rewind(&mut self, i: usize, start: u64) {
        self.state.pieces[i].at = start;
    }

    /// Notes what is there, after it is on storage: the note never promises more than a power cut leaves.
    pub(super) fn checkpoint(&mut self) -> Result<(), FetchError> {
        if self.state.etag.is_none() && self.state.sum.is_none() {
            // Nothing could prove that a later answer belongs to this.
            return Ok(());
        }
        self.file.sync_data().map_err(|e| self.failed(e))?;
        let new = self.state_path.with_extension("state.new");
        // Made anew, for a link in its place would lead elsewhere.
        remove(&new)?;
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&new)
            .and_then(|mut file| {
                file.write_all(self.state.to_text().as_bytes()).and_then(|()| file.sync_data())
            })
            .and_then(|()| fs::rename(&new, &self.state_path));
        written.map_err(|source| FetchError::File { path: self.state_path.clone(), source })?;
        self.unsynced = 0;
        Ok(())
    }

    /// Throws away what is there, but not the file.
    pub(super) fn reset(&mut self) -> Result<(), FetchError> {
        self.unsynced = 0;
        remove(&self.state_path)?;
        self.file.set_len(0).map_err(|e| self.failed(e))
    }

    /// Throws away what is there.
    pub(super) fn discard(&self) -> Result<(), FetchError> {
        remove(&self.state_path)?;
        remove(&self.path)
    }

    /// Gives the complete file its name. Everything is on storage before and after.
    pub(super) fn finish(&self, length: u64) -> Result<(), FetchError> {
        let found = self.file.metadata().map_err(|e| self.failed(e))?.len();
        assert_eq!(found, length, "a complete part has the length that was prepared");
        self.file.sync_all().map_err(|e| self.failed(e))?;
        fs::rename(&self.path, &self.target).map_err(|e| self.failed(e))?;
        let folder = match self.target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| FetchError::File { path: folder.to_owned(), source })?;
        remove(&self.state_path)
    }

    fn failed(&self, source: io::Error) -> FetchError {
        FetchError::File { path: self.path.clone(), source }
    }
}

/// An interrupted download notes how far it came; if it cannot, the last note stands.
impl Drop for PartFile {
    fn drop(&mut self) {
        if self.unsynced > 0 && self.path.exists() {
            let _ = self.checkpoint();
        }
    }
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FetchError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
