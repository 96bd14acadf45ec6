//! What servers answer, well and badly.

use super::server::{Ask, Step, head};
use super::{ETAG, LEN, file};

/// A partial answer as it should be.
pub(crate) fn partial_head(first: usize, last: usize) -> Step {
    head(
        206,
        &[
            ("Content-Range", format!("bytes {first}-{last}/{LEN}")),
            ("Content-Length", (last + 1 - first).to_string()),
            ("ETag", ETAG.to_owned()),
        ],
    )
}

/// What a good server answers.
pub(crate) fn good(ask: &Ask) -> Vec<Step> {
    let file = file();
    match ask.range {
        Some((first, last)) => vec![partial_head(first, last), Step::Body(file[first..=last].to_vec())],
        None => whole(ask),
    }
}

/// What a server without ranges answers.
pub(crate) fn whole(_: &Ask) -> Vec<Step> {
    vec![head(200, &[("Content-Length", LEN.to_string()), ("ETag", ETAG.to_owned())]), Step::Body(file())]
}

/// The range of a request, the whole if it has none.
pub(crate) fn range(ask: &Ask) -> (usize, usize) {
    ask.range.unwrap_or((0, LEN - 1))
}

/// Whether a request only wants to know what there is.
pub(crate) fn is_probe(ask: &Ask) -> bool {
    ask.range == Some((0, 0))
}

pub(crate) fn status(status: u16) -> Vec<Step> {
    vec![head(status, &[("Content-Length", "0".to_owned())])]
}

pub(crate) fn redirect(to: String) -> Vec<Step> {
    vec![head(302, &[("Location", to), ("Content-Length", "0".to_owned())])]
}

/// A good partial answer with some of its parts replaced.
pub(crate) fn partial(ask: &Ask, headers: &[(&str, String)], body: Vec<u8>) -> Vec<Step> {
    if is_probe(ask) {
        return good(ask);
    }
    vec![head(206, headers), Step::Body(body)]
}

pub(crate) fn content_range(first: usize, last: usize, length: usize) -> (&'static str, String) {
    ("Content-Range", format!("bytes {first}-{last}/{length}"))
}

pub(crate) fn etag(text: &str) -> (&'static str, String) {
    ("ETag", text.to_owned())
}

pub(crate) fn content_length(n: usize) -> (&'static str, String) {
    ("Content-Length", n.to_string())
}

pub(crate) fn chunked() -> (&'static str, String) {
    ("Transfer-Encoding", "chunked".to_owned())
}

pub(crate) fn slice(ask: &Ask) -> Vec<u8> {
    let (first, last) = range(ask);
    file()[first..=last].to_vec()
}

/// One chunk of a chunked body, and its end.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n0\r\n\r\n"].concat()
}
