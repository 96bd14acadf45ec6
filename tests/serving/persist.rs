//! Prefixes on disk: after a restart the answers are the same to the last bit, whatever became of the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pled::engine::{
    BLOCK_TOKENS, Draft, EngineHandle, EngineOptions, MAX_SESSIONS, Purpose, SessionDraft, SessionKey,
};
use pled::model::KvType;
use pled::prefix_store::{Options, PrefixStore, StoreStats};

use super::real::engine_over_disk;
use super::reuse::{Dice, House, KEEPING, hear, submit};
use super::scripted::*;

/// The windows of the fixtures are shorter than a block: only with long chunks there is a whole block in the ring.
pub(crate) const WRITING: EngineOptions = EngineOptions { worth_tokens: 8, prefill_chunk: 128, ..KEEPING };
const STORE: Options =
    Options { disk_bytes: 64 << 20, daily_bytes: 1 << 30, block_tokens: BLOCK_TOKENS, fingerprint: 77 };

pub(crate) fn store(folder: &Path) -> PrefixStore {
    PrefixStore::open(folder, STORE).unwrap()
}

pub(crate) fn stats(engine: &EngineHandle) -> StoreStats {
    engine.stats().store.unwrap()
}

/// Ends an engine as the daemon does, with what there is to write.
pub(crate) fn end(engine: EngineHandle) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(engine.drain(Instant::now() + PATIENCE));
}

pub(crate) fn pieces(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = all.filter(|path| path.extension().is_some_and(|e| e == "kv")).collect();
    all.sort();
    all
}

/// The same people talk to one engine after the other. `between`: what happens to the folder meanwhile.
fn talk_over_restarts(
    file: &str,
    kv_type: Option<KvType>,
    mut between: impl FnMut(&mut Dice, &Path),
) -> (usize, StoreStats) {
    let folder = tempfile::tempdir().unwrap();
    let oracle = engine_over_disk(
        model_file(file),
        kv_type,
        EngineOptions { kept_contexts: 0, prefill_chunk: 64, ..KEEPING },
        None,
    );
    let (mut house, mut dice) = (House::new(11), Dice(12));
    let (mut n_cached_first, mut sum) = (0, StoreStats::default());
    for life in 0..6 {
        let options = EngineOptions { prefill_chunk: [64, 128][life % 2], ..WRITING };
        let engine = engine_over_disk(model_file(file), kv_type, options, Some(store(folder.path())));
        for turn in 0..8 {
            let mut drafts: Vec<Draft> = (0..1 + turn % 3).map(|_| house.ask()).collect();
            if turn % 2 == 0 {
                engine.open_session(&SessionKey::unowned("talk")).unwrap();
                drafts[0].session = "talk".to_owned();
            }
            let together: Vec<_> = drafts.iter().map(|draft| submit(&engine, draft)).collect();
            for (draft, generation) in drafts.iter().zip(together) {
                let (answer, cached) = hear(generation);
                let (expected, _) = hear(submit(&oracle, &Draft { session: String::new(), ..draft.clone() }));
                assert!(answer == expected, "{file}, life {life}, turn {turn}");
                n_cached_first += if turn == 0 { cached } else { 0 };
                house.hear(draft, &answer);
            }
        }
        let seen = stats(&engine);
        sum.restored_tokens += seen.restored_tokens;
        sum.damaged += seen.damaged;
        sum.foreign += seen.foreign;
        sum.failed_writes += seen.failed_writes;
        end(engine);
        between(&mut dice, folder.path());
    }
    (n_cached_first, sum)
}

#[test]
fn answers_after_restarts_are_those_without_any() {
    for (file, kv_type) in [
        ("gemma4-ple/model-q4_0.gguf", None),
        ("gemma3/model-f32.gguf", None),
        ("gemma4-ple-alt/model-q8_0.gguf", Some(KvType::Q8_0)),
    ] {
        let mut n_pieces = 0;
        let (n_cached, stats) =
            talk_over_restarts(file, kv_type, |_, folder| n_pieces = pieces(folder).len());
        assert!(n_pieces > 3, "{file}: {n_pieces} pieces");
        assert!(n_cached > 50 && stats.restored_tokens > 200, "{file}: little was restored: {stats:?}");
        assert_eq!((stats.damaged, stats.foreign, stats.failed_writes), (0, 0, 0), "{file}");
    }
}

#[test]
fn answers_are_the_same_whatever_becomes_of_the_files() {
    let damage = |dice: &mut Dice, folder: &Path| {
        for path in pieces(folder) {
            let mut bytes = fs::read(&path).unwrap();
            let at = dice.below(bytes.len());
            match dice.below(6) {
                0 => bytes[at] ^= 1 << dice.below(8),
                1 => bytes.truncate(at),
                2 => fs::rename(&path, path.with_extension("kv.tmp")).unwrap(),
                _ => continue,
            }
            if path.exists() {
                fs::write(&path, bytes).unwrap();
            }
        }
    };
    // How many files there are when a life ends is up to the thread that writes, so what the dice hit differs.
    let (mut n_damaged, mut n_restored) = (0, 0);
    for _ in 0..8 {
        let (_, stats) = talk_over_restarts("gemma4-ple/model-q4_0.gguf", None, damage);
        n_damaged += stats.damaged;
        n_restored += stats.restored_tokens;
        if n_damaged > 2 && n_restored > 0 {
            return;
        }
    }
    panic!("{n_damaged} damaged files were found, {n_restored} tokens restored");
}

#[test]
fn another_models_prefixes_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let prompt: Vec<u32> = (0..100).map(|i| 3 + i).collect();
    let ask = |file: &str, fingerprint| {
        let store = PrefixStore::open(folder.path(), Options { fingerprint, ..STORE }).unwrap();
        let engine = engine_over_disk(model_file(file), None, WRITING, Some(store));
        let first = hear(submit(&engine, &draft(&prompt, 6)));
        hear(submit(&engine, &draft(&prompt, 6)));
        let seen = stats(&engine);
        end(engine);
        (first, seen.foreign)
    };
    let (alone, none) = ask("gemma4-ple/model-q4_0.gguf", 1);
    assert_eq!((alone.1, none), (0, 0));
    let (other, foreign) = ask("gemma4-ple-seed7/model-q4_0.gguf", 2);
    assert!(other.0 != alone.0 && other.1 == 0 && foreign > 0, "{foreign} files");
    let (again, _) = ask("gemma4-ple/model-q4_0.gguf", 1);
    assert_eq!(again, (alone.0, 99));
}

/// The prompt of a speaker is asked once and is no one else's: it is not written. What is shared, computed ahead or a
/// session's is.
#[test]
fn what_is_worth_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = "gemma4-ple/model-q4_0.gguf";
    let letters =
        |first: u32| -> Vec<u32> { [&[first][..], &(0..99).map(|i| 3 + i).collect::<Vec<_>>()].concat() };
    let [mine, shared, warmed, of_session] = [200, 201, 202, 203].map(letters);
    let engine = engine_over_disk(model_file(file), None, WRITING, Some(store(folder.path())));
    engine.create_session(SessionDraft { id: "s".to_owned(), ..SessionDraft::default() }).unwrap();
    hear(submit(&engine, &draft(&mine, 2)));
    for end in [300, 301] {
        hear(submit(&engine, &draft(&[&shared[..], &[end]].concat(), 2)));
    }
    let session = "s".to_owned();
    hear(submit(
        &engine,
        &Draft { session: session.clone(), purpose: Purpose::Prewarm, ..draft(&warmed, 2) },
    ));
    hear(submit(&engine, &Draft { session, ..draft(&of_session, 2) }));
    end(engine);
    let engine = engine_over_disk(model_file(file), None, WRITING, Some(store(folder.path())));
    let s = engine.sessions().get(&SessionKey::unowned("s")).expect("sessions outlast a restart");
    assert_eq!((s.n_requests, s.n_tokens), (2, 102));
    for (prompt, cached) in [(&mine, 0), (&shared, 99), (&warmed, 99), (&of_session, 99)] {
        assert_eq!(hear(submit(&engine, &draft(prompt, 2))).1, cached);
    }
    end(engine);
}

/// A conversation that is given up is gone from the disk, and what it shares with others is not.
#[test]
fn what_is_given_up_is_gone_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let file = "gemma4-ple/model-q4_0.gguf";
    let shared: Vec<u32> = (0..64).map(|i| 3 + i).collect();
    let of =
        |first: u32| -> Vec<u32> { [&shared[..], &(0..64).map(|i| first + i).collect::<Vec<_>>()].concat() };
    let engine = engine_over_disk(model_file(file), None, WRITING, Some(store(folder.path())));
    for (id, first) in [("mine", 100), ("yours", 200)] {
        engine.open_session(&SessionKey::unowned(id)).unwrap();
        let warm = Draft { session: id.to_owned(), purpose: Purpose::Prewarm, ..draft(&of(first), 1) };
        hear(submit(&engine, &warm));
    }
    await_that("both are written", || stats(&engine).pieces >= 2);
    assert!(engine.delete_session(&SessionKey::unowned("mine")));
    await_that("it is gone", || {
        let lacks = |first| lacks_end(folder.path(), &of(first));
        lacks(100) && !lacks(200)
    });
    end(engine);
    let engine = engine_over_disk(model_file(file), None, WRITING, Some(store(folder.path())));
    assert_eq!(hear(submit(&engine, &draft(&of(200), 1))).1, 127);
    end(engine);
}

/// However many sessions there are when the daemon ends: fewer may wait to be written at a time.
#[test]
fn what_many_sessions_said_is_written_at_the_end() {
    const SESSIONS: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let file = "gemma4-ple/model-q4_0.gguf";
    let options = EngineOptions { kept_contexts: SESSIONS, ..WRITING };
    let engine = engine_over_disk(model_file(file), None, options, Some(store(folder.path())));
    for i in 0..SESSIONS {
        let session = format!("s{i}");
        engine.open_session(&SessionKey::unowned(&session)).unwrap();
        hear(submit(&engine, &Draft { session, ..draft(&prompt_of(i), 1) }));
    }
    assert_eq!(stats(&engine).pieces, 0, "they may go on soon");
    end(engine);
    assert_eq!(pieces(folder.path()).len(), SESSIONS);
}

/// Prompts of which no two begin alike.
fn prompt_of(i: usize) -> Vec<u32> {
    (0..40).map(|token| 3 + (i + token * 7) as u32).collect()
}

/// However many are given up at once: the writer takes a few jobs at a time.
#[test]
fn many_that_are_given_up_at_once_are_gone_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let file = "gemma4-ple/model-q4_0.gguf";
    let engine = engine_over_disk(model_file(file), None, WRITING, Some(store(folder.path())));
    let keys: Vec<SessionKey> = (0..20).map(|i| SessionKey::unowned(&format!("s{i}"))).collect();
    for (i, key) in keys.iter().enumerate() {
        engine.open_session(key).unwrap();
        let warm = Draft { session: key.id.clone(), purpose: Purpose::Prewarm, ..draft(&prompt_of(i), 1) };
        hear(submit(&engine, &warm));
        // No more wait to be written at a time than may, however slow the disk is.
        await_that("it is written", || stats(&engine).pieces == i + 1);
    }
    assert!(keys.iter().all(|key| engine.delete_session(key)));
    await_that("all are gone", || pieces(folder.path()).is_empty());
    end(engine);
}

/// A disk that is full, or read-only since it failed, is not worn out by trying.
#[test]
fn what_cannot_be_written_is_not_tried_again_and_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("sessions");
    let file = "gemma4-ple/model-q4_0.gguf";
    let engine = engine_over_disk(model_file(file), None, WRITING, Some(store(&folder)));
    fs::remove_dir_all(&folder).unwrap();
    let prompt: Vec<u32> = (0..64).map(|i| 3 + i).collect();
    engine.open_session(&SessionKey::unowned("s")).unwrap();
    let warm = Draft { session: "s".to_owned(), purpose: Purpose::Prewarm, ..draft(&prompt, 1) };
    hear(submit(&engine, &warm));
    await_that("a write fails", || stats(&engine).failed_writes > 0);
    // Enough for hundreds.
    std::thread::sleep(Duration::from_millis(200));
    let n_failed = stats(&engine).failed_writes;
    assert!(n_failed <= 3, "the prefix, and the list of sessions: {n_failed}");
    assert_eq!(hear(submit(&engine, &draft(&prompt, 1))).1, 63);
    end(engine);
}

/// A session that makes room for another loses its name. Nobody wanted what was said forgotten.
#[test]
fn what_a_session_said_that_makes_room_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = "gemma4-ple/model-q4_0.gguf";
    let prompt: Vec<u32> = (0..64).map(|i| 3 + i).collect();
    let engine = engine_over_disk(model_file(file), None, WRITING, Some(store(folder.path())));
    engine.open_session(&SessionKey::unowned("old")).unwrap();
    hear(submit(&engine, &Draft { session: "old".to_owned(), ..draft(&prompt, 1) }));
    for i in 0..MAX_SESSIONS {
        engine.open_session(&SessionKey::unowned(&format!("s{i}"))).unwrap();
    }
    assert!(engine.sessions().get(&SessionKey::unowned("old")).is_none());
    // It had not been left alone for long enough yet to be written.
    await_that("it is written", || stats(&engine).pieces == 1);
    end(engine);
    let engine = engine_over_disk(model_file(file), None, WRITING, Some(store(folder.path())));
    assert_eq!(hear(submit(&engine, &draft(&prompt, 1))).1, 63);
    end(engine);
}

/// Whether no piece has the last tokens of a prompt.
fn lacks_end(folder: &Path, prompt: &[u32]) -> bool {
    let end: Vec<u8> = prompt[prompt.len() - 8..].iter().flat_map(|token| token.to_le_bytes()).collect();
    let has = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.windows(end.len()).any(|w| w == end));
    !pieces(folder).iter().any(has)
}

/// Prompts that begin alike and come together wait for one read, and everybody else goes on.
#[test]
fn several_that_begin_alike_are_restored_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = "gemma4-ple/model-q4_0.gguf";
    let prompt: Vec<u32> = (0..120).map(|i| 3 + i).collect();
    let engine = engine_over_disk(model_file(file), None, WRITING, Some(store(folder.path())));
    for _ in 0..2 {
        hear(submit(&engine, &draft(&prompt, 1)));
    }
    end(engine);
    let engine = engine_over_disk(model_file(file), None, WRITING, Some(store(folder.path())));
    let others: Vec<_> = (0..3)
        .map(|i| submit(&engine, &draft(&[&prompt[..], &[300 + i]].concat(), 3)))
        .chain([submit(&engine, &draft(&[350, 351, 352], 3))])
        .collect();
    let cached: Vec<usize> = others.into_iter().map(|generation| hear(generation).1).collect();
    assert!(cached[..3].iter().all(|&n| n >= 119) && cached[3] == 0, "{cached:?}");
    assert_eq!(stats(&engine).restored_tokens, 120);
    end(engine);
}
