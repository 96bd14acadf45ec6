//! Bytes that are not those of the file, or not of the range that was asked for.

use super::super::answers::*;
use super::super::server::{Step, head};
use super::super::{ETAG, Known, LEN, Unknown, file};
use super::{Error, File, Row, row};

pub(super) fn wrong_bytes() -> Vec<Row> {
    vec![
        row("one wrong bit, checksum known", Known, Error("thrown away"), |ask| {
            let (first, last) = range(ask);
            let mut body = slice(ask);
            if let Some(byte) = body.get_mut(1000) {
                *byte ^= 4;
            }
            vec![partial_head(first, last), Step::Body(body)]
        }),
        row("zeros", Known, Error("thrown away"), |ask| {
            let (first, last) = range(ask);
            vec![partial_head(first, last), Step::Body(vec![0; last + 1 - first])]
        }),
        row("a page instead of the file", Unknown, Error("no model"), |_| {
            vec![head(200, &[content_length(20)]), Step::Body(b"<html>Log in</html>.".to_vec())]
        }),
        row("another file by its own word", Known, Error("nothing was downloaded"), |ask| {
            let (first, last) = range(ask);
            let linked = ("X-Linked-ETag", format!("\"{}\"", "ab".repeat(32)));
            vec![head(206, &[content_range(first, last, LEN), linked]), Step::Body(slice(ask))]
        }),
        row("the bytes of another range", Known, Error("contradict"), |ask| {
            let (first, last) = range(ask);
            let body = vec![1; last + 1 - first];
            partial(ask, &[content_range(first + 1, last + 1, LEN + 1), etag(ETAG)], body)
        }),
        row("the file from its beginning for every range", Known, Error("contradict"), |ask| {
            let (first, last) = range(ask);
            let n = last - first;
            partial(ask, &[content_range(0, n, LEN), etag(ETAG)], file()[..=n].to_vec())
        }),
        row("200 to every range but the first byte", Known, File, |ask| match is_probe(ask) {
            true => good(ask),
            false => whole(ask),
        }),
        row("changes between ranges, and stays so", Unknown, Error("no model"), |ask| {
            let (first, last) = range(ask);
            match ask.number {
                0..=1 => good(ask),
                _ => {
                    let body = vec![b'n'; last + 1 - first];
                    let headers = [content_range(first, last, LEN), etag("\"v2\"")];
                    vec![head(if ask.range.is_some() { 206 } else { 200 }, &headers), Step::Body(body)]
                }
            }
        }),
        row("changes once, to the right file", Known, File, |ask| match ask.number {
            0 => {
                vec![head(206, &[content_range(0, 0, LEN - 5), etag("\"v0\"")]), Step::Body(vec![0])]
            }
            _ => good(ask),
        }),
        row("another ETag at every answer", Unknown, Error("contradict"), |ask| {
            let (first, last) = range(ask);
            let own = etag(&format!("\"{}\"", ask.number));
            match ask.range {
                Some(_) => vec![head(206, &[content_range(first, last, LEN), own]), Step::Body(slice(ask))],
                None => vec![head(200, &[content_length(LEN), own]), Step::Body(file())],
            }
        }),
        row("compresses although nobody asked for it", Known, Error("encoding"), |ask| {
            let (first, last) = range(ask);
            let encoding = ("Content-Encoding", "gzip".to_owned());
            vec![head(206, &[content_range(first, last, LEN), encoding]), Step::Body(slice(ask))]
        }),
        row("several ranges at once", Known, Error("nobody asked for"), |_| {
            let kind = ("Content-Type", "multipart/byteranges; boundary=x".to_owned());
            vec![head(206, &[kind, content_length(3)]), Step::Body(b"--x".to_vec())]
        }),
    ]
}
