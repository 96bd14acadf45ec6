//! Writing so that a torn file cannot be: beside its place, to the disk, then renamed into it. And small records,
//! which prove themselves as pieces do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Ends the name of a file that is being written.
pub(super) const UNFINISHED: &str = ".tmp";
/// Ends the name of a record.
pub(super) const RECORD: &str = ".record";
const LOCK: &str = "lock";

const MAGIC: [u8; 8] = *b"pledrc01";
/// No record is larger. Unit: bytes.
const MAX_RECORD_BYTES: u64 = 1 << 20;

/// Makes the folder if it is not there; what people say at home is nobody else's.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Keeps other processes out of the folder for as long as the file is open. `None` if one is there.
pub(super) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
        return Err(io::Error::other("the lock is a link to somewhere else"));
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

/// Whether the folder has files of this name besides pieces.
pub(super) fn is_own(name: &str) -> bool {
    name == LOCK || name.ends_with(RECORD)
}

/// Writes a file that is there whole or not at all.
pub(super) fn write<'a>(
    folder: &Path,
    name: &str,
    contents: impl IntoIterator<Item = &'a [u8]>,
) -> io::Result<()> {
    let unfinished = folder.join(format!("{name}{UNFINISHED}"));
    let written = write_to(&unfinished, contents).and_then(|()| fs::rename(&unfinished, folder.join(name)));
    if written.is_err() {
        // What is left of it would be taken away at the next start.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    // Until then a power cut may take the new name back.
    File::open(folder)?.sync_all()
}

fn write_to<'a>(path: &Path, contents: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
    // A new file in any case: what has the name may be a link to somewhere else.
    if let Err(e) = fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for bytes in contents {
        file.write_all(bytes)?;
    }
    file.sync_all()
}

fn record_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{RECORD}"))
}

/// Bytes of a record on the disk.
pub(super) fn record_bytes(payload: &[u8]) -> u64 {
    (MAGIC.len() + payload.len() + 4) as u64
}

pub(super) fn write_record(folder: &Path, name: &str, payload: &[u8]) -> io::Result<()> {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&MAGIC), payload);
    write(folder, &format!("{name}{RECORD}"), [&MAGIC[..], payload, &sum.to_le_bytes()])
}

/// A record; `None` if there is none.
///
/// # Errors
/// If it cannot be read, or is damaged.
pub(super) fn read_record(folder: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the record is damaged");
    let path = record_path(folder, name);
    match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
        Ok(metadata) if !metadata.is_file() || metadata.len() > MAX_RECORD_BYTES => return Err(damaged()),
        Ok(_) => {}
    }
    let bytes = fs::read(&path)?;
    let payload = bytes.strip_prefix(&MAGIC).and_then(|rest| rest.split_last_chunk::<4>());
    match payload {
        Some((payload, sum))
            if crc32c::crc32c_append(crc32c::crc32c(&MAGIC), payload).to_le_bytes() == *sum =>
        {
            Ok(Some(payload.to_vec()))
        }
        _ => Err(damaged()),
    }
}
