//! Connections that are slow, break or stall.

use std::time::Duration;

use super::super::answers::*;
use super::super::server::{Ask, Step, head};
use super::super::{ETAG, Known, LEN, Unknown, file};
use super::{Error, File, Row, row};

pub(super) fn well_meaning() -> Vec<Row> {
    vec![
        row("ranges", Known, File, good),
        row("ranges, no checksum", Unknown, File, good),
        row("no ranges", Known, File, whole),
        row("no ranges, no checksum", Unknown, File, whole),
        row("ranges without an ETag, checksum known", Known, File, |ask| {
            let (first, last) = range(ask);
            vec![head(206, &[content_range(first, last, LEN)]), Step::Body(slice(ask))]
        }),
        row("a weak ETag, no checksum: one piece", Unknown, File, |ask| match ask.range {
            Some((first, last)) => {
                vec![head(206, &[content_range(first, last, LEN), etag("W/\"v1\"")]), Step::Body(slice(ask))]
            }
            None => whole(ask),
        }),
        row("chunks of odd sizes", Known, File, |ask| {
            let (first, last) = range(ask);
            let mut steps = vec![head(206, &[content_range(first, last, LEN), etag(ETAG), chunked()])];
            for part in slice(ask).chunks(7777) {
                steps.push(Step::Send(format!("{:x}\r\n", part.len()).into_bytes()));
                steps.push(Step::Body(part.to_vec()));
                steps.push(Step::Send(b"\r\n".to_vec()));
            }
            steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
            steps
        }),
        row("half of each range that is asked for", Known, File, |ask| {
            let (first, last) = range(ask);
            let last = first + (last - first) / 2;
            vec![partial_head(first, last), Step::Body(file()[first..=last].to_vec())]
        }),
        row("slowly but surely", Known, File, |ask| {
            let (first, last) = range(ask);
            let mut steps = vec![partial_head(first, last)];
            for part in slice(ask).chunks(40_000) {
                steps.extend([Step::Body(part.to_vec()), Step::Wait(Duration::from_millis(50))]);
            }
            steps
        }),
    ]
}

pub(super) fn broken() -> Vec<Row> {
    let cut = |ask: &Ask, n: usize| {
        let (first, last) = range(ask);
        let body = slice(ask);
        vec![partial_head(first, last), Step::Body(body[..n.min(body.len())].to_vec())]
    };
    vec![
        row("closes without an answer, always", Known, Error("broken"), |_| vec![]),
        row("closes without an answer, every other time", Known, File, |ask| match ask.number {
            0 | 2 | 4 | 6 => vec![],
            _ => good(ask),
        }),
        row("closes in the middle of the head", Known, Error("broken"), |_| {
            vec![Step::Send(b"HTTP/1.1 206 Par".to_vec()), Step::Close]
        }),
        row("cuts after 20 kB, always: goes on from there", Known, File, move |ask| cut(ask, 20_000)),
        row("cuts after 20 kB, no checksum: the ETag joins", Unknown, File, move |ask| cut(ask, 20_000)),
        row("cuts after one byte, always", Known, Error("broke"), move |ask| match is_probe(ask) {
            true => good(ask),
            false => cut(ask, 1),
        }),
        row("cuts after the head, always", Known, Error("broke"), move |ask| match is_probe(ask) {
            true => good(ask),
            false => cut(ask, 0),
        }),
        row("cuts a whole answer, always", Known, Error("broke"), |_| {
            vec![head(200, &[content_length(LEN)]), Step::Body(file()[..100_000].to_vec())]
        }),
        row("cuts a whole answer twice", Known, File, |ask| match ask.number {
            0..=2 => vec![head(200, &[content_length(LEN)]), Step::Body(file()[..100_000].to_vec())],
            _ => whole(ask),
        }),
        row("cuts a whole answer twice, no checksum: begins anew", Unknown, File, |ask| match ask.number {
            0..=2 => vec![head(200, &[content_length(LEN)]), Step::Body(vec![0; 100_000])],
            _ => whole(ask),
        }),
        row("cuts chunks in the middle", Known, Error("broke"), |ask| match is_probe(ask) {
            true => good(ask),
            false => {
                let (first, last) = range(ask);
                vec![
                    head(206, &[content_range(first, last, LEN), etag(ETAG), chunked()]),
                    Step::Send(b"800\r\n".to_vec()),
                    Step::Body(slice(ask)[..100].to_vec()),
                ]
            }
        }),
        row("stalls before the head, always", Known, Error("does not answer"), |_| {
            vec![Step::Wait(Duration::from_millis(1500))]
        }),
        row("stalls in the body, always, after 20 kB", Known, File, move |ask| {
            let mut steps = cut(ask, 20_000);
            steps.push(Step::Wait(Duration::from_millis(600)));
            steps
        }),
        row("stalls in the body without a byte", Known, Error("stopped sending"), move |ask| match is_probe(
            ask,
        ) {
            true => good(ask),
            false => {
                let mut steps = cut(ask, 0);
                steps.push(Step::Wait(Duration::from_millis(1500)));
                steps
            }
        }),
        row("speaks another language", Known, Error("broken"), |_| {
            vec![Step::Send(b"220 ftp ready\r\n".to_vec()), Step::Wait(Duration::from_millis(50))]
        }),
        row("sends headers without end", Known, Error("broken"), |_| {
            let mut steps = vec![Step::Send(b"HTTP/1.1 206 Partial\r\n".to_vec())];
            steps.extend(
                (0..2000).map(|i| Step::Send(format!("X-{i}: {}\r\n", "y".repeat(500)).into_bytes())),
            );
            steps
        }),
    ]
}
