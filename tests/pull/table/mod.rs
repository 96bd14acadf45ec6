//! The table of misbehaviours.

mod connections;
mod contents;
mod lengths;
mod refusals;

use std::sync::Arc;

use super::answers::good;
use super::server::{Ask, Script, Server, Step};
use super::{Known, LEN, Sum, fetch, is_in_place, job};

/// What must come of a script.
enum Expect {
    /// The right file.
    File,
    /// An error that says this, and no file.
    Error(&'static str),
}
use Expect::{Error, File};

type Row = (&'static str, Sum, Expect, Box<Script>);

fn row(
    name: &'static str,
    sum: Sum,
    expect: Expect,
    script: impl Fn(&Ask) -> Vec<Step> + Send + Sync + 'static,
) -> Row {
    (name, sum, expect, Box::new(script))
}

fn table() -> Vec<Row> {
    let mut rows = connections::well_meaning();
    rows.extend(connections::broken());
    rows.extend(lengths::lies());
    rows.extend(contents::wrong_bytes());
    rows.extend(refusals::statuses());
    rows.extend(refusals::redirects());
    rows
}

#[test]
fn every_misbehaviour_ends_with_the_right_file_or_with_none() {
    let rows = table();
    assert!(rows.len() >= 50, "{} rows", rows.len());
    for (name, known, expect, script) in rows {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(Arc::from(script));
        let result = fetch(&job(&server, folder.path(), known));
        let in_place = is_in_place(folder.path(), name);
        match expect {
            File => {
                let done = result.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(in_place, "{name}");
                assert_eq!(done.bytes, LEN as u64, "{name}");
                let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
                assert_eq!(left.len(), 1, "{name}: {left:?}");
            }
            Error(part) => {
                let error = result.expect_err(name).to_string();
                assert!(error.contains(part) && !in_place, "{name}: {error}");
                // And what it leaves behind does not spoil the next try with a good server.
                let server = Server::start(Arc::new(good));
                fetch(&job(&server, folder.path(), Known))
                    .unwrap_or_else(|error| panic!("after {name}: {error}"));
                assert!(is_in_place(folder.path(), name), "after {name}");
            }
        }
    }
}
