//! Answers without bytes: refusals, and redirects that lead nowhere good.

use super::super::Known;
use super::super::answers::*;
use super::super::server::head;
use super::{Error, File, Row, row};

pub(super) fn statuses() -> Vec<Row> {
    vec![
        row("404", Known, Error("typing error"), |_| status(404)),
        row("410", Known, Error("typing error"), |_| status(410)),
        row("401: gated", Known, Error("HF_TOKEN"), |_| status(401)),
        row("403 in the middle", Known, Error("HF_TOKEN"), |ask| match ask.number {
            0..=1 => good(ask),
            _ => status(403),
        }),
        row("500, always", Known, Error("answers 500"), |_| status(500)),
        row("503 now and then", Known, File, |ask| match ask.number {
            0 | 1 | 3..=5 => status(503),
            _ => good(ask),
        }),
        row("429 with a wait, once", Known, File, |ask| match ask.number {
            0 => vec![head(429, &[("Retry-After", "1".to_owned()), content_length(0)])],
            _ => good(ask),
        }),
        row("416 to every range: the whole is taken", Known, File, |ask| match (is_probe(ask), ask.range) {
            (true, _) => good(ask),
            (_, Some(_)) => status(416),
            _ => whole(ask),
        }),
        row("416 to the first byte", Known, Error("how long"), |_| status(416)),
        row("204", Known, Error("answers 204"), |_| vec![head(204, &[])]),
        row("304", Known, Error("answers 304"), |_| vec![head(304, &[])]),
        row("418", Known, Error("answers 418"), |_| status(418)),
    ]
}

pub(super) fn redirects() -> Vec<Row> {
    vec![
        row("to itself, for ever", Known, Error("without end"), |ask| redirect(ask.path.clone())),
        row("in circles of two", Known, Error("without end"), |ask| {
            redirect(if ask.path == "/a" { "/b" } else { "/a" }.to_owned())
        }),
        row("to another path, relative", Known, File, |ask| match ask.path.as_str() {
            "/m.gguf" => redirect("cdn/x?signature=1".to_owned()),
            "/cdn/x?signature=1" => good(ask),
            _ => status(404),
        }),
        row("to nowhere", Known, Error("to nowhere"), |_| status(302)),
        row("to another kind of place", Known, Error("no web address"), |_| {
            redirect("file:///etc/passwd".to_owned())
        }),
        row("to a port where nobody is", Known, Error("cannot connect"), |_| {
            redirect("http://127.0.0.1:9/x".to_owned())
        }),
    ]
}
