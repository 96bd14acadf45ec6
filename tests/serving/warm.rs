//! The rows that a daemon wanted most are in the cache of the next one before anybody asks.

use std::path::Path;

use pled::engine::{EngineHandle, Timings};
use pled::ple::{Mode, Options, RowStore};
use pled::prefix_store::PrefixStore;

use super::persist::{end, stats, store};
use super::real::{engine_over, load};
use super::scripted::*;
use super::support::{fixture, runs};

fn engine(prefixes: PrefixStore) -> EngineHandle {
    let file = model_file("gemma4-ple/model-q4_0.gguf");
    let model = load(&file);
    engine_over(file, model, OPTIONS, Some(prefixes), |part, layout| {
        let options = Options { mode: Mode::Direct, cache_bytes: 1 << 20, read_threads: 2 };
        RowStore::open(part, layout, options).unwrap()
    })
}

/// Asks for what the reference asked for: the answer, and what it took.
fn ask(engine: &EngineHandle) -> Timings {
    let run = &runs(&fixture("gemma4-ple"), "q4_0")[1];
    let mut draft = draft(&run.prompt, run.greedy.len());
    draft.stopping.ignore_eos = true;
    let request = pled::engine::Request::new(draft, engine.limits()).unwrap();
    let heard = hear_all(engine.submit(request).unwrap());
    assert_eq!(heard.token_ids, run.greedy);
    heard.done().timings
}

fn list(folder: &Path) -> std::path::PathBuf {
    folder.join("rows.record")
}

#[test]
fn rows_wanted_before_a_restart_are_read_again_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = engine(store(folder.path()));
    let cold = ask(&first);
    assert!(cold.ple_bytes_read > 0 && !list(folder.path()).exists(), "while it serves nothing is written");
    end(first);
    let whole = std::fs::read(list(folder.path())).unwrap();

    let second = engine(store(folder.path()));
    // Every different row once, neighbours together: some reads, and then none for longer than one takes on a busy machine.
    let n_rows = u64::from(u32::from_le_bytes(whole[16..20].try_into().unwrap()));
    assert!(n_rows > 5 && n_rows <= cold.ple_rows);
    await_that("the rows are read", || {
        let before = second.stats().rows.unwrap_or_default().reads.count;
        std::thread::sleep(std::time::Duration::from_millis(500));
        before > 0 && second.stats().rows.unwrap_or_default().reads.count == before
    });
    let warm = ask(&second);
    assert_eq!((warm.ple_bytes_read, warm.ple_cache_hits), (0, warm.ple_rows));
    end(second);

    // What is damaged, or not of this vocabulary, is left alone and told of.
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    std::fs::write(list(folder.path()), &damaged).unwrap();
    let third = engine(store(folder.path()));
    assert_eq!((stats(&third).damaged, third.stats().rows.unwrap_or_default().reads.count), (1, 0));
    assert!(ask(&third).ple_bytes_read > 0);
    end(third);
    assert_ne!(std::fs::read(list(folder.path())).unwrap(), damaged, "the end writes a good one");
}
