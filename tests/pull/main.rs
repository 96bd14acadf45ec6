//! Downloads from a server that misbehaves in every way we could think of.
//!
//! `server` plays scripts, `answers` has what scripts are made of, `table` a row for each misbehaviour and what must
//! come of it, `resuming` and `place` what one download leaves for the next, `command` the command from outside.
//! Whatever a script does: the target is absent, as it was before, or the right file byte by byte.

mod answers;
mod command;
mod place;
mod resuming;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::path::Path;
use std::time::Duration;

use pled::fetch::{Done, FetchError, Job, Options, Sha256Sum, Stage, download};
use server::Server;

/// Bytes of the file that is downloaded: several pieces, and no round number.
const LEN: usize = 300_007;
/// SHA-256 of the file, as sha256sum says.
const SUM: &str = "295a3e4d286e471608827990fe406a11f1818fbc7841c7de02ca5c4adbcbaa76";
const ETAG: &str = "\"v1\"";

/// The file: bytes that differ everywhere.
fn file() -> Vec<u8> {
    let mut state = 12345u32;
    (0..LEN)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn options() -> Options {
    Options {
        connections: 3,
        patience: Duration::from_millis(400),
        attempts: 4,
        backoff: Duration::from_millis(1),
        min_piece_bytes: 64 << 10,
        checkpoint_bytes: 16 << 10,
        reserve_bytes: 0,
    }
}

/// Whether the downloader knows the checksum.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sum {
    Known,
    Unknown,
}
pub(crate) use Sum::{Known, Unknown};

pub(crate) fn fetch(job: &Job) -> Result<Done, FetchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let progress = |stage: Stage<'_>| {
        if let Stage::Receiving { done, total } = stage {
            assert!(done <= total);
        }
    };
    runtime.block_on(download(job, &options(), progress, check))
}

/// What a complete file must look like, as far as one can tell without a checksum.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    match std::fs::read(path).unwrap().starts_with(&file()[..8]) {
        true => Ok(()),
        false => Err("no model".to_owned()),
    }
}

pub(crate) fn sum() -> Sha256Sum {
    SUM.parse().unwrap()
}

pub(crate) fn job(server: &Server, folder: &Path, known: Sum) -> Job {
    Job {
        url: server.url("/m.gguf").parse().unwrap(),
        token: None,
        sha256: (known == Known).then(sum),
        target: folder.join("m.gguf"),
    }
}

/// Whether the target is the right file. Anything else in its place is what must never be.
pub(crate) fn is_in_place(folder: &Path, name: &str) -> bool {
    match std::fs::read(folder.join("m.gguf")) {
        Ok(bytes) => {
            assert!(bytes == file(), "{name}: a wrong file is in place");
            true
        }
        Err(_) => false,
    }
}
