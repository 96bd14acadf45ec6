//! `pled pull` from outside, with a hub of our own.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::server::{Ask, Server, Step, head};
use super::support::fixture;
use super::support::program::pled;

/// A hub with a model, one of its kind in two parts, one with rows, one with experts, and a file that is no model.
fn hub() -> Server {
    let model = std::fs::read(fixture("gemma3/model-q4_0.gguf")).unwrap();
    let with_experts = std::fs::read(fixture("gemma4-moe/model-q4_0.gguf")).unwrap();
    let with_rows = std::fs::read(fixture(WITH_ROWS)).unwrap();
    Server::start(Arc::new(move |ask: &Ask| {
        if ask.path.starts_with("/api/models/o/") {
            let model = r#"{"type":"file","path":"m.gguf","size":1000000}"#;
            let encoder = r#"{"type":"file","path":"mmproj-m.gguf","size":5}"#;
            let other = r#"{"type":"file","path":"folder/b.gguf","size":2000000}"#;
            let text = match ask.path.as_str() {
                "/api/models/o/one/tree/main?recursive=true" => format!("[{model},{encoder}]"),
                "/api/models/o/two/tree/main?recursive=true" => format!("[{model},{other}]"),
                _ => return vec![head(404, &[("Content-Length", "0".to_owned())])],
            };
            return vec![
                head(200, &[("Content-Length", text.len().to_string())]),
                Step::Body(text.into_bytes()),
            ];
        }
        let body = match ask.path.as_str() {
            "/o/one/resolve/main/m.gguf" => model.clone(),
            "/o/experts/resolve/main/x.gguf" => with_experts.clone(),
            "/o/rows/resolve/main/r.gguf" => with_rows.clone(),
            "/o/one/resolve/main/page.gguf" => b"<html>please log in</html>".to_vec(),
            "/o/split/resolve/main/s-00001-of-00002.gguf" | "/o/split/resolve/main/s-00002-of-00002.gguf" => {
                model.clone()
            }
            _ => return vec![head(404, &[("Content-Length", "0".to_owned())])],
        };
        let (first, last) = ask.range.unwrap_or((0, body.len() - 1));
        let range = format!("bytes {first}-{last}/{}", body.len());
        let headers = [("Content-Range", range), ("ETag", "\"1\"".to_owned())];
        let status = if ask.range.is_some() { 206 } else { 200 };
        vec![head(status, &headers), Step::Body(body[first..=last].to_vec())]
    }))
}

/// A model with a per-layer embedding table.
const WITH_ROWS: &str = "gemma4-ple/model-q4_0.gguf";
/// What sha256sum says of it.
const WITH_ROWS_SUM: &str = "a1d33368580ee13ccfcf0e3687c6cf5a0850171be124055da509a624c5ce9bb7";

/// Runs it against the hub, in a folder of its own.
fn pull(hub: &Server, folder: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = pled();
    command.args(["pull", "--endpoint", &hub.url("")]).args(arguments);
    if !arguments.contains(&"--dir") {
        command.arg("--dir").arg(folder);
    }
    command.env_remove("HF_TOKEN").output().unwrap()
}

#[test]
fn a_repository_with_one_model_needs_no_name() {
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    let output = pull(&hub, folder.path(), &["o/one"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let path = folder.path().join("m.gguf");
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(fixture("gemma3/model-q4_0.gguf")).unwrap());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(path.to_str().unwrap()) && text.contains("not compared with a checksum"), "{text}");
    assert!(text.contains("need no new checksums"), "it has no rows: {text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o444, 0o444, "the service runs under another user");
}

#[test]
fn checksums_of_the_rows_come_with_the_model() {
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    // As inspect makes them.
    let (model, sums) = (folder.path().join("r.gguf"), folder.path().join("r.gguf.crc32c"));
    std::fs::copy(fixture(WITH_ROWS), &model).unwrap();
    assert!(pled().args(["inspect", "--checksums"]).arg(&model).output().unwrap().status.success());
    let expected = std::fs::read(&sums).unwrap();

    // Those of a model that is replaced do not stay.
    std::fs::write(&model, "an older model, of another length").unwrap();
    std::fs::write(&sums, "its checksums").unwrap();
    let right = ["o/rows/r.gguf", "--sha256", WITH_ROWS_SUM];
    let output = pull(&hub, folder.path(), &right);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("r.gguf.crc32c has the checksums"), "{text}");
    assert_eq!(std::fs::read(&sums).unwrap(), expected);

    // A second time nothing is downloaded but the byte that asks, and nothing is written, ...
    let before = (hub.asks().len(), std::fs::metadata(&sums).unwrap().modified().unwrap());
    for again in [&right[..], &right[..1]] {
        let output = pull(&hub, folder.path(), again);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("is already there"), "{text}");
    }
    assert_eq!(std::fs::metadata(&sums).unwrap().modified().unwrap(), before.1);
    assert!(hub.asks()[before.0..].iter().all(|ask| ask.range == Some((0, 0))));

    // ... unless the checksums are missing.
    std::fs::remove_file(&sums).unwrap();
    assert!(pull(&hub, folder.path(), &right).status.success());
    assert_eq!(std::fs::read(&sums).unwrap(), expected);
}

#[test]
fn every_part_of_a_split_model_comes() {
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    let output = pull(&hub, folder.path(), &["o/split/s-00001-of-00002.gguf"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_model_that_pled_cannot_run_comes_and_that_is_said() {
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    let output = pull(&hub, folder.path(), &["o/experts/x.gguf"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("pled cannot run it: "), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_interrupted_download_is_noted_down() {
    let model = std::fs::read(fixture("gemma3/model-q4_0.gguf")).unwrap();
    let half = model.len() / 2;
    let slow = Server::start(Arc::new(move |ask: &Ask| {
        let (first, last) = ask.range.unwrap();
        let range = format!("bytes {first}-{last}/{}", model.len());
        let answer = head(206, &[("Content-Range", range), ("ETag", "\"1\"".to_owned())]);
        match last {
            0 => vec![answer, Step::Body(model[..1].to_vec())],
            _ => vec![answer, Step::Body(model[first..half].to_vec()), Step::Wait(Duration::from_secs(20))],
        }
    }));
    let folder = tempfile::tempdir().unwrap();
    let mut command = pled();
    command.args(["pull", &slow.url("/m.gguf"), "--dir"]).arg(folder.path()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // The bytes that arrive are written at once.
    let part = folder.path().join("m.gguf.part");
    while std::fs::read(&part).map_or(true, |bytes| bytes.len() < half || bytes[half - 8..half] == [0; 8]) {
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && stderr.contains("goes on from there"), "{stderr}");
    let note = std::fs::read_to_string(folder.path().join("m.gguf.part.state")).unwrap();
    assert!(note.contains(&format!("\nmissing {half} ")), "{note}");
}

#[test]
fn what_is_tried_again_is_said_also_where_there_is_no_terminal() {
    let model = std::fs::read(fixture("gemma3/model-q4_0.gguf")).unwrap();
    let is_first = AtomicBool::new(true);
    let busy = Server::start(Arc::new(move |ask: &Ask| {
        if is_first.swap(false, Ordering::SeqCst) {
            return vec![head(503, &[("Content-Length", "0".to_owned())])];
        }
        let (first, last) = ask.range.unwrap();
        let range = format!("bytes {first}-{last}/{}", model.len());
        let headers = [("Content-Range", range), ("ETag", "\"1\"".to_owned())];
        vec![head(206, &headers), Step::Body(model[first..=last].to_vec())]
    }));
    let folder = tempfile::tempdir().unwrap();
    let url = busy.url("/m.gguf?signature=secret");
    let output = pled().args(["pull", &url, "--dir"]).arg(folder.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, format!("{}: the server answers 503; trying again\n", busy.url("/m.gguf")));
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    for (code, arguments, part) in [
        (64, &["o/two"][..], "several models"),
        (64, &["nonsense"], "gemma4-e2b"),
        (64, &["ftp://h/x.gguf"], "https://"),
        (64, &["o/one/m.gguf", "--sha256", "12"], "64 hexadecimal digits"),
        (64, &["o/one/m.gguf", "--dir", "/nowhere"], "--dir"),
        (1, &["o/three"], "404"),
        (1, &["o/one/other.gguf"], "404"),
        (1, &["o/one/page.gguf"], "no model"),
    ] {
        let output = pull(&hub, folder.path(), arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{arguments:?} leaves nothing");
    }
    // Of several models all are shown with their sizes.
    let shown = String::from_utf8(pull(&hub, folder.path(), &["o/two"]).stdout).unwrap();
    assert!(
        shown.contains("1.0 MB  o/two/m.gguf") && shown.contains("2.0 MB  o/two/folder/b.gguf"),
        "{shown}"
    );
}
