//! Who else has a part in it: a file that is there already, other hosts, another download.

use std::sync::Arc;
use std::time::Duration;

use pled::fetch::Job;

use super::answers::{good, is_probe, redirect, status};
use super::server::{Ask, Server, Step, head};
use super::{Known, SUM, Unknown, fetch, file, is_in_place, job, sum};

#[test]
fn a_file_that_is_there_is_compared_and_not_overwritten_blindly() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Arc::new(good));
    let known = job(&server, folder.path(), Known);
    std::fs::write(&known.target, file()).unwrap();
    assert_eq!(fetch(&known).unwrap().received, 0, "it is the right one");
    let unknown = job(&server, folder.path(), Unknown);
    let done = fetch(&unknown).unwrap();
    assert_eq!((done.received, done.sha256), (0, None), "its length is right, and nothing tells more");
    std::fs::write(&known.target, "short").unwrap();
    let error = fetch(&unknown).unwrap_err().to_string();
    assert!(error.contains("another length"), "{error}");
    assert_eq!(std::fs::read(&known.target).unwrap(), b"short");
    // An older version gives way to the right one, but not to a failure.
    std::fs::write(&known.target, "old").unwrap();
    let bad = Server::start(Arc::new(|_: &Ask| status(500)));
    fetch(&Job { url: bad.url("/m.gguf").parse().unwrap(), ..known.clone() }).unwrap_err();
    assert_eq!(std::fs::read(&known.target).unwrap(), b"old");
    fetch(&known).unwrap();
    assert!(is_in_place(folder.path(), "replaced"));
}

#[test]
fn a_token_stays_with_its_host() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Server::start(Arc::new(good));
    let to = storage.url("/blob");
    let hub = Server::start(Arc::new(move |ask: &Ask| match ask.authorization.as_deref() {
        Some("Bearer secret") => redirect(to.clone()),
        _ => status(401),
    }));
    let mut gated = job(&hub, folder.path(), Known);
    fetch(&gated).unwrap_err();
    gated.token = Some("secret".to_owned());
    fetch(&gated).unwrap();
    assert!(is_in_place(folder.path(), "gated"));
    assert!(storage.asks().len() > 1 && storage.asks().iter().all(|ask| ask.authorization.is_none()));
    // Nor does it go where others could read it.
    gated.url = "http://192.0.2.1/m.gguf".parse().unwrap();
    let error = fetch(&gated).unwrap_err().to_string();
    assert!(error.contains("readable on the way"), "{error}");
}

#[test]
fn a_hub_tells_the_checksum_also_of_a_repository_that_moved() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Server::start(Arc::new(|ask: &Ask| {
        let mut steps = good(ask);
        // What the storage says of checksums is not the hub's word.
        let lie = format!("X-Linked-ETag: \"{}\"\r\n\r\n", "ab".repeat(32));
        if let Step::Send(head) = &mut steps[0] {
            head.truncate(head.len() - 2);
            head.extend_from_slice(lie.as_bytes());
        }
        steps
    }));
    let to = storage.url("/blob");
    let hub = Server::start(Arc::new(move |ask: &Ask| match ask.path.as_str() {
        "/m.gguf" => redirect("/moved/m.gguf".to_owned()),
        _ => {
            let linked = ("X-Linked-ETag", format!("\"{SUM}\""));
            vec![head(302, &[("Location", to.clone()), ("Content-Length", "0".to_owned()), linked])]
        }
    }));
    let done = fetch(&job(&hub, folder.path(), Unknown)).unwrap();
    assert_eq!(done.sha256, Some(sum()));
    assert!(is_in_place(folder.path(), "moved"));
}

#[test]
fn two_at_a_time_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let slow = Server::start(Arc::new(|ask: &Ask| {
        let mut steps = good(ask);
        if !is_probe(ask) {
            steps.insert(1, Step::Wait(Duration::from_millis(300)));
        }
        steps
    }));
    let job = job(&slow, folder.path(), Known);
    let results: Vec<_> = std::thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| fetch(&job))).collect();
        both.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(is_in_place(folder.path(), "two at a time"));
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(error.to_string().contains("another pled pull"), "{error}");
    }
}
