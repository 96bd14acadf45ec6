//! Lengths that are lies.

use super::super::answers::*;
use super::super::server::{Step, head};
use super::super::{ETAG, Known, LEN, file};
use super::{Error, Row, row};

pub(super) fn lies() -> Vec<Row> {
    vec![
        row("no length at all", Known, Error("how long"), |_| vec![head(200, &[]), Step::Body(file())]),
        row("length zero", Known, Error("empty"), |_| status(200)),
        row("a length that is no number", Known, Error("broken"), |_| {
            vec![head(200, &[("Content-Length", "many".to_owned())])]
        }),
        row("an unknown total", Known, Error("nobody asked for"), |_| {
            vec![
                head(206, &[("Content-Range", "bytes 0-0/*".to_owned()), content_length(1)]),
                Step::Body(vec![0]),
            ]
        }),
        row("more than fits any disk", Known, Error("are free"), |_| {
            vec![head(206, &[content_range(0, 0, 1 << 60), content_length(1)]), Step::Body(vec![0])]
        }),
        row("says too long, sends all, closes", Known, Error("broke"), |_| {
            vec![head(200, &[content_length(LEN + 10)]), Step::Body(file())]
        }),
        row("says too short: the checksum tells", Known, Error("thrown away"), |_| {
            vec![head(200, &[content_length(LEN - 10)]), Step::Body(file())]
        }),
        row("another total in every range", Known, Error("contradict"), |ask| {
            let (first, last) = range(ask);
            let length = if is_probe(ask) { LEN } else { LEN + 1 };
            vec![head(206, &[content_range(first, last, length), etag(ETAG)]), Step::Body(slice(ask))]
        }),
        row("a body that is longer than its range", Known, Error("contradict"), |ask| {
            let (first, last) = range(ask);
            let body = [slice(ask), vec![7; 10]].concat();
            partial(ask, &[content_range(first, last, LEN), etag(ETAG), chunked()], chunk(&body))
        }),
        row("a content length that is not that of the range", Known, Error("contradict"), |ask| {
            let (first, last) = range(ask);
            partial(ask, &[content_range(first, last, LEN), content_length(10)], slice(ask))
        }),
    ]
}
