//! What an interrupted download leaves, and what the next try makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::answers::{content_range, etag, good, is_probe, partial_head, range, slice};
use super::server::{Ask, Server, Step, head};
use super::{Known, LEN, Unknown, fetch, file, is_in_place, job};

/// A server that is cut off after some bytes of each answer, until it is told to be good.
fn interrupted() -> (Arc<AtomicBool>, Server) {
    let well = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&well);
    let script = move |ask: &Ask| {
        if now.load(Ordering::SeqCst) || is_probe(ask) {
            return good(ask);
        }
        // Each piece brings 70 kB and then nothing more.
        let (first, last) = range(ask);
        let piece_begin = first - first % (LEN / 3);
        let n = (70_000usize).saturating_sub(first - piece_begin).min(last + 1 - first);
        vec![partial_head(first, last), Step::Body(file()[first..first + n].to_vec())]
    };
    (well, Server::start(Arc::new(script)))
}

#[test]
fn a_second_try_downloads_only_what_the_first_did_not() {
    for known in [Known, Unknown] {
        let folder = tempfile::tempdir().unwrap();
        let (well, server) = interrupted();
        let job = job(&server, folder.path(), known);
        let error = fetch(&job).unwrap_err();
        assert!(error.to_string().contains("goes on with what has come"), "{error}");
        assert!(!job.target.exists());
        let note = std::fs::read_to_string(folder.path().join("m.gguf.part.state")).unwrap();
        let missing: u64 = note.lines().filter_map(|line| line.strip_prefix("missing ")).map(length).sum();
        assert!((1..=LEN as u64 - 70_000).contains(&missing), "{missing}");
        well.store(true, Ordering::SeqCst);
        assert_eq!(fetch(&job).unwrap().received, missing);
        assert!(is_in_place(folder.path(), "resumed"));
    }
}

/// Length of a range that the note has as two numbers.
fn length(range: &str) -> u64 {
    let (at, end) = range.split_once(' ').unwrap();
    end.parse::<u64>().unwrap() - at.parse::<u64>().unwrap()
}

#[test]
fn a_part_of_another_file_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (_, server) = interrupted();
    fetch(&job(&server, folder.path(), Unknown)).unwrap_err();
    // The same length, another ETag, other bytes before.
    let other = Server::start(Arc::new(|ask: &Ask| {
        let (first, last) = range(ask);
        vec![head(206, &[content_range(first, last, LEN), etag("\"v9\"")]), Step::Body(slice(ask))]
    }));
    let done = fetch(&job(&other, folder.path(), Unknown)).unwrap();
    assert_eq!(done.received, LEN as u64);
    assert!(is_in_place(folder.path(), "another file"));
}

#[test]
fn a_damaged_note_means_beginning_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (well, server) = interrupted();
    let job = job(&server, folder.path(), Known);
    fetch(&job).unwrap_err();
    let note = folder.path().join("m.gguf.part.state");
    let text = std::fs::read_to_string(&note).unwrap();
    std::fs::write(&note, &text[..text.len() / 2]).unwrap();
    well.store(true, Ordering::SeqCst);
    assert_eq!(fetch(&job).unwrap().received, LEN as u64);
    assert!(is_in_place(folder.path(), "damaged note"));
}
