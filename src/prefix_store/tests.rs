//! The store over a folder. What is kept of a block is bytes that follow from its tokens and its kind, so that
//! whatever is restored can be checked.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;

const BLOCK: usize = 4;
const LOOKBACK: usize = 5;
const OPTIONS: Options = Options {
    disk_bytes: 1 << 20,
    daily_bytes: 1 << 20,
    block_tokens: BLOCK,
    fingerprint: 0x0123_4567_89ab_cdef,
};

fn content(tokens: &[u32], kind: PartKind) -> Vec<u8> {
    let salt = if kind == PartKind::Full { 1 } else { 2 };
    tokens.iter().flat_map(|token| [salt, *token as u8, (*token >> 8) as u8]).collect()
}

/// All blocks of the prompt in full layers, and those of the last tokens in sliding ones.
fn wanted(n_tokens: usize) -> Vec<Wanted> {
    let full = (0..n_tokens.div_ceil(BLOCK)).map(|block| (block, PartKind::Full));
    let seen =
        (0..n_tokens.div_ceil(BLOCK)).filter(|block| (block + 1) * BLOCK > n_tokens.saturating_sub(LOOKBACK));
    full.chain(seen.map(|block| (block, PartKind::Sliding))).collect()
}

fn piece(tokens: &[u32], wanted: &[Wanted]) -> NewPiece {
    let part = |&(block, kind): &Wanted| {
        let end = tokens.len().min((block + 1) * BLOCK);
        NewPart { block, kind, bytes: content(&tokens[block * BLOCK..end], kind) }
    };
    NewPiece { tokens: tokens.to_vec(), parts: wanted.iter().map(part).collect() }
}

fn await_idle(store: &PrefixStore) {
    while !store.is_idle() {
        std::thread::yield_now();
    }
}

/// Writes what is lacking of a prompt.
fn save(store: &PrefixStore, tokens: &[u32]) -> bool {
    let lacking = store.lacking(tokens, &wanted(tokens.len()));
    let is_taken = lacking.is_empty() || store.write(piece(tokens, &lacking));
    await_idle(store);
    is_taken
}

/// Restores what is known of a prompt, checks it, and says how many tokens that are.
fn restore(store: &PrefixStore, tokens: &[u32]) -> usize {
    loop {
        let plan = store.plan(tokens, LOOKBACK);
        let (n, all) = (plan.n_tokens, plan.tokens.clone());
        assert!(n <= tokens.len() && all[..n] == tokens[..n]);
        let Some(restored) = plan.read() else { continue };
        for (&(block, kind), bytes) in &restored {
            let end = all.len().min((block + 1) * BLOCK);
            assert!(*bytes == content(&all[block * BLOCK..end], kind), "block {block} of {kind:?}");
        }
        let has = |position: usize, kind| restored.contains_key(&(position / BLOCK, kind));
        assert!((0..n).all(|p| has(p, PartKind::Full)));
        assert!((n.saturating_sub(LOOKBACK)..n).all(|p| has(p, PartKind::Sliding)));
        return n;
    }
}

fn prompt(of: u32, n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 100 * of + i).collect()
}

fn pieces(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = all.filter(|path| path.extension().is_some_and(|e| e == "kv")).collect();
    all.sort();
    all
}

#[test]
fn what_was_written_is_restored_after_a_restart_and_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
    let long = prompt(1, 22);
    assert_eq!(restore(&store, &long), 0);
    assert!(save(&store, &long) && save(&store, &long));
    assert_eq!(store.stats().pieces, 1);
    // Another end: only that is written.
    let fork = [&long[..13], &prompt(2, 9)].concat();
    assert!(save(&store, &fork));
    let written = store.stats();
    drop(store);
    let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
    let found = store.stats();
    assert_eq!((found.pieces, found.bytes), (2, written.bytes));
    assert_eq!((found.damaged, found.foreign, found.written_bytes), (0, 0, 0));
    for (tokens, n) in [(&long, 22), (&fork, 22)] {
        assert_eq!(restore(&store, tokens), n);
        // To the token where a prompt differs, if the windows are there.
        assert_eq!(restore(&store, &[&tokens[..21], &[7]].concat()), 21);
        assert_eq!(restore(&store, &[&tokens[..], &[7]].concat()), n);
    }
    // Where no window is nobody can resume.
    assert_eq!(restore(&store, &long[..9]), 0);
    assert_eq!(restore(&store, &prompt(3, 9)), 0);
    assert!(store.lacking(&long, &wanted(22)).is_empty());
    assert_eq!(store.lacking(&long[..20], &wanted(20)), [(3, PartKind::Sliding)]);
    assert!(store.stats().restored_tokens > 0);
}

#[test]
fn of_what_is_in_memory_nothing_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
    let tokens = prompt(1, 16);
    save(&store, &tokens);
    let mut plan = store.plan(&tokens, LOOKBACK);
    let all = plan.n_bytes();
    plan.without(|path, kind| path == &tokens[..8] && kind == PartKind::Full || path == tokens);
    assert_eq!(plan.n_bytes(), all - 3 * 3 * BLOCK as u64);
    let restored = plan.read().unwrap();
    let there: Vec<Wanted> = restored.into_keys().collect();
    assert_eq!(there, [(0, PartKind::Full), (2, PartKind::Full), (2, PartKind::Sliding)]);
}

#[test]
fn the_disk_bound_holds_and_what_was_not_used_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let one = piece(&prompt(1, 16), &wanted(16)).n_bytes();
    let options = Options { disk_bytes: 3 * one, ..OPTIONS };
    let store = PrefixStore::open(folder.path(), options).unwrap();
    for of in 1..=3 {
        assert!(save(&store, &prompt(of, 16)));
    }
    assert_eq!(restore(&store, &prompt(1, 16)), 16);
    assert!(save(&store, &prompt(4, 16)));
    assert_eq!(restore(&store, &prompt(2, 16)), 0);
    assert!([1, 3, 4].iter().all(|&of| restore(&store, &prompt(of, 16)) == 16));
    assert!(!store.write(piece(&prompt(9, 900), &wanted(900))), "larger than all may be");
    for of in 5..30 {
        save(&store, &prompt(of, 16));
        let on_disk: u64 = pieces(folder.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(on_disk, store.stats().bytes);
        assert!(on_disk <= options.disk_bytes);
    }
    // A smaller bound than what is there.
    drop(store);
    let store = PrefixStore::open(folder.path(), Options { disk_bytes: one, ..OPTIONS }).unwrap();
    save(&store, &prompt(40, 16));
    assert_eq!(store.stats().pieces, 1);
}

#[test]
fn the_budget_of_the_day_holds_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    // A small piece and the note of the budget, a block of the card each.
    let one = 2 * 4096;
    let options = Options { daily_bytes: 5 * one, ..OPTIONS };
    let mut n_written = 0;
    for of in 1..=12 {
        let store = PrefixStore::open(folder.path(), options).unwrap();
        n_written += u64::from(save(&store, &prompt(of, 16)));
        let stats = store.stats();
        assert_eq!(stats.refused, u64::from(of > 5), "{stats:?}");
    }
    // At midnight there would be twice as many.
    assert!([5, 10].contains(&n_written), "{n_written}");
    // Of a note that cannot be trusted nothing good is believed.
    fs::write(folder.path().join("budget.record"), b"pledrc01").unwrap();
    let store = PrefixStore::open(folder.path(), Options { daily_bytes: 1 << 30, ..OPTIONS }).unwrap();
    assert!(!save(&store, &prompt(99, 16)));
    assert_eq!(restore(&store, &prompt(1, 16)), 16);
}

#[test]
fn one_process_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
    let second = PrefixStore::open(folder.path(), OPTIONS).unwrap_err();
    assert!(matches!(second, StoreError::InUse(_)), "{second}");
    drop(store);
    PrefixStore::open(folder.path(), OPTIONS).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(PrefixStore::open(&file, OPTIONS), Err(StoreError::Folder { .. })));
}

#[test]
fn foreign_files_are_counted_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tokens = prompt(1, 16);
    // Of another model, with other blocks, of an older version.
    let others = [Options { fingerprint: 1, ..OPTIONS }, Options { block_tokens: 2 * BLOCK, ..OPTIONS }];
    for (i, options) in others.into_iter().enumerate() {
        let elsewhere = tempfile::tempdir().unwrap();
        save(&PrefixStore::open(elsewhere.path(), options).unwrap(), &tokens);
        fs::copy(&pieces(elsewhere.path())[0], at(&format!("{i}.kv"))).unwrap();
    }
    let mut old = fs::read(at("0.kv")).unwrap();
    old[6..8].copy_from_slice(b"00");
    fs::write(at("old.kv"), &old).unwrap();
    fs::write(at("notes.txt"), b"buy milk").unwrap();
    fs::write(at("video.kv"), b"a video of the kitchen, which has nothing to do with it").unwrap();
    fs::create_dir(at("folder.kv")).unwrap();
    symlink(at("notes.txt"), at("link.kv")).unwrap();
    fs::write(at("half.kv.tmp"), b"pledkv01").unwrap();
    let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
    let stats = store.stats();
    assert_eq!((stats.pieces, stats.foreign, stats.damaged), (0, 7, 0), "{stats:?}");
    assert!(stats.bytes > 0, "other models' pieces take room");
    assert_eq!(restore(&store, &tokens), 0);
    assert!(!at("half.kv.tmp").exists());
    assert!(save(&store, &tokens));
    assert_eq!(restore(&store, &tokens), 16);
    // For room those go that are pieces.
    let full = store.stats().bytes;
    drop(store);
    let store = PrefixStore::open(folder.path(), Options { disk_bytes: full, ..OPTIONS }).unwrap();
    assert!(save(&store, &prompt(2, 16)));
    let left = ["0.kv", "1.kv", "old.kv"].iter().filter(|name| at(name).exists()).count();
    assert_eq!((store.stats().pieces, left), (2, 2));
    assert!(["notes.txt", "video.kv", "folder.kv", "link.kv"].iter().all(|name| at(name).exists()));
}

/// Whatever happens to a file, nothing is restored that was not written, and the head or a part says so.
#[test]
fn damaged_files_are_never_used() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    let original = tempfile::tempdir().unwrap();
    let tokens = prompt(1, 16);
    save(&PrefixStore::open(original.path(), OPTIONS).unwrap(), &tokens);
    let whole = fs::read(&pieces(original.path())[0]).unwrap();
    let mut n_found_at_start = 0;
    for round in 0..400 {
        let mut bytes = whole.clone();
        match round % 4 {
            // Any bits, anywhere.
            0 => (0..1 + below(8)).for_each(|_| bytes[below(whole.len())] ^= 1 << below(8)),
            1 => bytes.truncate(below(whole.len())),
            // A block of the disk that was never written, or holds something else.
            2 => {
                let at = below(whole.len());
                let n = (1 + below(64)).min(whole.len() - at);
                let fill = [0, 0xff, below(256) as u8][below(3)];
                bytes[at..at + n].fill(fill);
            }
            _ => {
                let at = below(whole.len());
                let more = vec![below(256) as u8; 1 + below(16)];
                drop(bytes.splice(at..at, more));
            }
        }
        if bytes == whole {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("1.kv"), &bytes).unwrap();
        let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
        let at_start = store.stats();
        let refused_at_start = at_start.damaged + at_start.foreign;
        n_found_at_start += refused_at_start;
        // `restore` checks all that comes back, and only the whole prompt is worth reading here.
        assert_eq!(restore(&store, &tokens), 0, "round {round}");
        let stats = store.stats();
        assert_eq!((stats.pieces, stats.damaged + stats.foreign), (0, 1), "round {round}: {stats:?}");
        if round % 20 == 0 {
            assert!(save(&store, &tokens));
            assert_eq!(restore(&store, &tokens), 16, "the place can be used again");
        }
    }
    assert!((100..400).contains(&n_found_at_start), "some are found when they are read: {n_found_at_start}");
}

/// A name in the folder may lead elsewhere.
#[test]
fn links_are_not_followed() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (weights, absent) = (elsewhere.path().join("weights"), elsewhere.path().join("absent"));
    fs::write(&weights, b"weights").unwrap();
    let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
    symlink(&weights, folder.path().join("list.record.tmp")).unwrap();
    assert!(store.write_record("list", b"milk".to_vec()));
    await_idle(&store);
    assert_eq!(store.record("list").as_deref(), Some(&b"milk"[..]));
    assert_eq!(fs::read(&weights).unwrap(), b"weights");
    drop(store);
    fs::remove_file(folder.path().join("lock")).unwrap();
    symlink(&absent, folder.path().join("lock")).unwrap();
    assert!(matches!(PrefixStore::open(folder.path(), OPTIONS), Err(StoreError::Folder { .. })));
    assert!(!absent.exists());
}

/// The length of a part is what its file says, and a file with a hole takes no room: nobody reserves memory for it.
#[test]
fn a_part_that_no_model_has_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = prompt(1, 16);
    save(&PrefixStore::open(folder.path(), OPTIONS).unwrap(), &tokens);
    let path = &pieces(folder.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let n_parts = u32::from_le_bytes(bytes[24..28].try_into().unwrap()) as usize;
    let (first, sum_at) = (28 + 4 * tokens.len(), 28 + 4 * tokens.len() + 20 * n_parts);
    let hole = 8_u64 << 30;
    bytes[first + 12..first + 20].copy_from_slice(&hole.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..sum_at]);
    bytes[sum_at..sum_at + 4].copy_from_slice(&sum.to_le_bytes());
    fs::write(path, &bytes).unwrap();
    let first_part = 3 * BLOCK as u64;
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(bytes.len() as u64 + hole - first_part)
        .unwrap();
    let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
    let stats = store.stats();
    assert_eq!((stats.pieces, stats.damaged), (0, 1), "{stats:?}");
    assert!(!path.exists());
}

#[test]
fn what_vanishes_or_rots_while_the_store_is_open_is_done_without() {
    let folder = tempfile::tempdir().unwrap();
    let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
    let (one, other) = (prompt(1, 16), prompt(2, 16));
    save(&store, &one);
    save(&store, &other);
    let plan = store.plan(&one, LOOKBACK);
    fs::remove_file(&pieces(folder.path())[0]).unwrap();
    assert!(plan.read().is_none());
    assert_eq!((restore(&store, &one), restore(&store, &other)), (0, 16));
    let path = &pieces(folder.path())[0];
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    assert_eq!(restore(&store, &other), 0);
    assert_eq!((store.stats().pieces, store.stats().damaged), (0, 2));
}

#[test]
fn what_is_forgotten_is_gone_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
    let shared = prompt(1, 8);
    let (mine, yours) = ([&shared[..], &prompt(2, 8)].concat(), [&shared[..], &prompt(3, 8)].concat());
    for tokens in [&shared, &mine, &yours] {
        save(&store, tokens);
    }
    assert!(store.forget(mine.clone(), 8));
    await_idle(&store);
    assert_eq!((restore(&store, &mine), restore(&store, &yours)), (8, 16));
    assert_eq!(pieces(folder.path()).len(), 2);
}

#[test]
fn records_are_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = PrefixStore::open(folder.path(), OPTIONS).unwrap();
    assert_eq!(store.record("list"), None);
    assert!(store.write_record("list", b"milk".to_vec()));
    await_idle(&store);
    assert_eq!(store.record("list").as_deref(), Some(&b"milk"[..]));
    let path = folder.path().join("list.record");
    let whole = fs::read(&path).unwrap();
    for n in 0..whole.len() {
        fs::write(&path, &whole[..n]).unwrap();
        assert_eq!(store.record("list"), None);
        let mut flipped = whole.clone();
        flipped[n] ^= 0x10;
        fs::write(&path, flipped).unwrap();
        assert_eq!(store.record("list"), None);
    }
    assert_eq!(store.stats().damaged, 2 * whole.len() as u64);
    fs::write(&path, whole).unwrap();
    assert!(store.record("list").is_some());
}
