//! Files that were damaged on purpose: the GGUF reader must answer each with a directory that holds
//! or with an error that says something, and must not allocate more than the file can back.
//!
//! `PLED_MUTATIONS=10000` sets how many files (500 otherwise), `PLED_MUTATIONS_SEED` which ones.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Cursor;
use std::iter::repeat_n;
use std::ops::Range;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use pled::gguf::{self, Gguf, GgufError, Value};

/// No single allocation may be larger, whatever a file says.
const MAX_ALLOCATION: usize = 64 << 20;

/// The system's allocator with two gauges.
struct Gauged;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// Held by the one test that looks at the gauges: they see the whole process.
static MEASURING: Mutex<()> = Mutex::new(());

fn count(size: usize) {
    LARGEST.fetch_max(size, Relaxed);
    PEAK.fetch_max(LIVE.fetch_add(size, Relaxed) + size, Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of it.
unsafe impl GlobalAlloc for Gauged {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `System` by `alloc` or `realloc`, with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new exist together for a moment.
        count(new_size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `System` with this layout; the caller's promise is passed on.
        unsafe { System.realloc(at, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Gauged = Gauged;

/// splitmix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What a field of the directory is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Number of entries or elements, or length of a string.
    Count,
    /// Type of a value, an element or a tensor.
    Type,
    /// Number of dimensions.
    DimCount,
    Dim,
    /// Offset of a tensor.
    Offset,
    Name,
    /// A value that is one number, or a bool.
    Scalar,
}

/// A file that is right, with the places of its fields.
struct Specimen {
    bytes: Vec<u8>,
    fields: Vec<(Kind, Range<usize>)>,
    /// Length of the directory.
    directory: usize,
}

impl Specimen {
    /// Walks a file known to be right; written apart from the reader under test.
    fn new(bytes: Vec<u8>) -> Self {
        let mut walk = Walk { bytes: &bytes, at: 4, fields: vec![] };
        walk.field(Kind::Scalar, 4);
        let n_tensors = walk.field(Kind::Count, 8);
        let n_keys = walk.field(Kind::Count, 8);
        for _ in 0..n_keys {
            walk.string(Kind::Name);
            let type_id = walk.field(Kind::Type, 4);
            walk.value(type_id);
        }
        for _ in 0..n_tensors {
            walk.string(Kind::Name);
            for _ in 0..walk.field(Kind::DimCount, 4) {
                walk.field(Kind::Dim, 8);
            }
            walk.field(Kind::Type, 4);
            walk.field(Kind::Offset, 8);
        }
        let (fields, directory) = (walk.fields, walk.at);
        Self { bytes, fields, directory }
    }

    fn field_of(&self, random: &mut Random, kinds: &[Kind]) -> Range<usize> {
        let of_kind: Vec<_> = self.fields.iter().filter(|(k, _)| kinds.contains(k)).collect();
        random.pick(&of_kind).1.clone()
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    fields: Vec<(Kind, Range<usize>)>,
}

impl Walk<'_> {
    fn field(&mut self, kind: Kind, len: usize) -> u64 {
        let range = self.at..self.at + len;
        self.at = range.end;
        let mut number = [0; 8];
        let shown = len.min(8);
        number[..shown].copy_from_slice(&self.bytes[range.start..][..shown]);
        self.fields.push((kind, range));
        u64::from_le_bytes(number)
    }

    fn string(&mut self, kind: Kind) {
        let len = self.field(Kind::Count, 8);
        self.field(kind, len as usize);
    }

    fn value(&mut self, type_id: u64) {
        match type_id {
            8 => self.string(Kind::Scalar),
            9 => {
                let element = self.field(Kind::Type, 4);
                for _ in 0..self.field(Kind::Count, 8) {
                    self.value(element);
                }
            }
            _ => {
                self.field(Kind::Scalar, [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8][type_id as usize]);
            }
        }
    }
}

/// Numbers that break sums, products, roundings and limits.
fn nasty(random: &mut Random, file_len: u64) -> u64 {
    let exact = [
        0,
        1,
        2,
        31,
        33,
        255,
        256,
        257,
        0xffff,
        0x1_0000,
        0x1_0001,
        1 << 20,
        (16 << 20) + 1,
        256 << 20,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        1 << 60,
        i64::MAX as u64,
        1 << 63,
        u64::MAX - 31,
        u64::MAX - 7,
        u64::MAX,
        file_len,
        file_len - 1,
        file_len + 1,
    ];
    match random.below(4) {
        0 => random.next() >> random.below(64),
        1 => random.next() % (2 * file_len),
        _ => *random.pick(&exact),
    }
}

/// Damages a copy of the specimen; says how, and what length the reader is told.
fn mutate(random: &mut Random, specimen: &Specimen) -> (Vec<u8>, u64, String) {
    let mut bytes = specimen.bytes.clone();
    let (mut told, mut how) = (None, String::new());
    for _ in 0..1 + random.below(3) {
        match random.below(10) {
            0 => {
                for _ in 0..1 + random.below(16) {
                    let bit = random.below(specimen.directory.min(bytes.len()) * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    let _ = write!(how, "flip bit {bit}; ");
                }
            }
            1 => {
                let within = if random.below(4) == 0 { bytes.len() } else { specimen.directory };
                let len = random.below(within.min(bytes.len())).max(32);
                // Sometimes the reader is told the length from before.
                told = (random.below(2) == 0).then_some(bytes.len() as u64);
                bytes.truncate(len);
                let _ = write!(how, "truncate to {len}; ");
            }
            2 => {
                let from = random.below(specimen.directory.min(bytes.len()));
                let len = random.below(64).min(bytes.len() - from);
                if random.below(2) == 0 {
                    bytes.drain(from..from + len);
                    let _ = write!(how, "remove {len} at {from}; ");
                } else {
                    bytes.splice(from..from, vec![random.next() as u8; len]);
                    let _ = write!(how, "insert {len} at {from}; ");
                }
            }
            3 => {
                let kinds = [Kind::Name];
                let (from, to) = (specimen.field_of(random, &kinds), specimen.field_of(random, &kinds));
                // A name over another one: a duplicate, if they are of one length.
                let len = from.len().min(to.len());
                let name = specimen.bytes[from][..len].to_vec();
                put(&mut bytes, to.start, &name);
                let _ = write!(how, "name {:?} to {}; ", String::from_utf8_lossy(&name), to.start);
            }
            4 => {
                let at = specimen.field_of(random, &[Kind::Type]).start;
                let id = random.below(45) as u32;
                put(&mut bytes, at, &id.to_le_bytes());
                let _ = write!(how, "type {id} at {at}; ");
            }
            5 => {
                // The alignment, hidden in the value of some key that is renamed to it.
                let target = b"general.alignment";
                if let Some((_, name)) =
                    specimen.fields.iter().find(|(k, r)| *k == Kind::Name && r.len() == 17)
                {
                    put(&mut bytes, name.start, target);
                    put(&mut bytes, name.end, &4u32.to_le_bytes());
                    let alignment = nasty(random, bytes.len() as u64) as u32;
                    put(&mut bytes, name.end + 4, &alignment.to_le_bytes());
                    let _ = write!(how, "alignment {alignment}; ");
                }
            }
            _ => {
                let kinds = match random.below(6) {
                    0 => Kind::DimCount,
                    1 => Kind::Dim,
                    2 => Kind::Offset,
                    3 => Kind::Scalar,
                    _ => Kind::Count,
                };
                let field = specimen.field_of(random, &[kinds]);
                let value = match random.below(3) {
                    // Slightly off, which shifts everything behind.
                    0 => {
                        let mut old = [0; 8];
                        let len = field.len().min(8);
                        old[..len].copy_from_slice(&specimen.bytes[field.start..][..len]);
                        u64::from_le_bytes(old).wrapping_add([1, u64::MAX, 32, 8][random.below(4)])
                    }
                    _ => nasty(random, bytes.len() as u64),
                };
                put(&mut bytes, field.start, &value.to_le_bytes()[..field.len().min(8)]);
                let _ = write!(how, "{kinds:?} {value:#x} at {}; ", field.start);
            }
        }
    }
    let told = told.unwrap_or(bytes.len() as u64);
    (bytes, told, how)
}

/// Overwrites, as far as the file reaches.
fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(old) = bytes.get_mut(at..at + new.len()) {
        old.copy_from_slice(new);
    }
}

/// What the reader promises of every directory that it returns.
fn check_promises(gguf: &Gguf, file_len: u64) {
    let mut names = HashSet::new();
    let mut ranges = Vec::new();
    for t in gguf.tensors() {
        assert!(names.insert(&t.name), "two tensors {}", t.name);
        assert!((1..=63).contains(&t.name.len()), "name {:?}", t.name);
        assert!((1..=4).contains(&t.dims().len()) && t.dims().iter().all(|&d| d >= 1), "{:?}", t.dims());
        assert_eq!(t.n_elements() as u128, t.dims().iter().map(|&d| u128::from(d)).product::<u128>());
        let n_bytes = t.n_bytes.unwrap_or(1);
        assert!(t.offset.checked_add(n_bytes).unwrap() <= file_len, "{} ends outside", t.name);
        assert_eq!(t.offset % gguf.alignment(), 0, "{}", t.name);
        if let (Some(format), Some(n)) = (t.format(), t.n_bytes) {
            let row = format.row_bytes(t.dims()[0] as usize).unwrap() as u64;
            assert_eq!(n, row * t.dims()[1..].iter().product::<u64>(), "{}", t.name);
        }
        ranges.push((t.offset, t.offset + n_bytes));
        assert_eq!(gguf.tensor(&t.name), Some(t));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0), "overlap");

    let m = &gguf.metadata;
    for (key, value) in m.iter() {
        // Each getter either fits or says why not.
        let errors = [
            m.opt_u32(key).err(),
            m.opt_u64(key).err(),
            m.opt_f32(key).err(),
            m.opt_bool(key).err(),
            m.opt_str(key).err(),
            m.opt_u32_array(key).err(),
            m.opt_i32_array(key).err(),
            m.opt_f32_array(key).err(),
            m.opt_bool_array(key).err(),
            m.opt_strings(key).err(),
        ];
        assert!(errors.iter().flatten().all(|e| e.to_string().contains(key)), "{key}");
        if let Value::Array(gguf::Array::Strings(strings)) = value {
            let total: usize = strings.iter().map(<[u8]>::len).sum();
            assert!(total as u64 <= file_len);
        }
    }
    let _ = gguf.n_parts();
}

/// Reads a file; also returns the largest single allocation, and the most bytes that were allocated at
/// a time beside the input buffer of 64 KiB.
fn read_gauged(bytes: &[u8], told: u64) -> (std::thread::Result<Result<Gguf, GgufError>>, usize, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    LARGEST.store(0, Relaxed);
    let outcome = catch_unwind(|| gguf::read(&mut Cursor::new(bytes), told));
    let peak = PEAK.load(Relaxed) - before;
    (outcome, LARGEST.load(Relaxed), peak.saturating_sub(64 << 10))
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap_or_else(|e| panic!("{name}={v}: {e}")))
}

#[test]
fn damaged_files_are_answered() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let n = from_env("PLED_MUTATIONS", 500);
    let seed = from_env("PLED_MUTATIONS_SEED", 1);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let specimens = ["gemma4-ple", "gemma4-keqv", "gemma3"].map(|name| {
        let bytes = std::fs::read(fixtures.join(name).join("model-q4_0.gguf")).unwrap();
        let specimen = Specimen::new(bytes);
        let gguf = gguf::read(&mut Cursor::new(&specimen.bytes), specimen.bytes.len() as u64).unwrap();
        check_promises(&gguf, specimen.bytes.len() as u64);
        specimen
    });

    let (mut refused, mut accepted, mut largest, mut most) = (0u64, 0u64, 0, 0.0);
    let mut texts = HashSet::new();
    for i in 0..n {
        // Each file has its own generator, so one of them can be made again alone.
        let mut random = Random(seed.wrapping_mul(0x1_0000_0001).wrapping_add(i));
        let specimen = random.pick(&specimens);
        let (bytes, told, how) = mutate(&mut random, specimen);

        let (outcome, single, beyond_buffer) = read_gauged(&bytes, told);
        let which = format!("PLED_MUTATIONS_SEED={seed}, file {i}: {how}");

        assert!(single <= MAX_ALLOCATION, "an allocation of {single} bytes; {which}");
        assert!(beyond_buffer <= 16 * bytes.len(), "{beyond_buffer} bytes for {}; {which}", bytes.len());
        largest = largest.max(single);
        most = f64::max(most, beyond_buffer as f64 / bytes.len() as f64);
        match outcome.unwrap_or_else(|_| panic!("the reader panicked; {which}")) {
            Ok(gguf) => {
                accepted += 1;
                catch_unwind(|| check_promises(&gguf, told))
                    .unwrap_or_else(|_| panic!("a promise is broken; {which}"));
            }
            Err(e) => {
                refused += 1;
                let text = e.to_string();
                assert!(text.len() > 10, "{text:?}; {which}");
                texts.insert(text);
            }
        }
    }
    eprintln!(
        "seed {seed}: {n} files, {refused} refused with {} different messages, {accepted} accepted; \
         largest allocation {largest} bytes, together at most {most:.2} times the file and its buffer",
        texts.len()
    );
    // The damage must be of a kind that is noticed, and not always in the same place.
    assert!(refused * 2 > n, "only {refused} of {n} files were refused");
    assert!(texts.len() as u64 > n / 8, "only {} different messages", texts.len());
}

/// Files that are right and have as many entries as their bytes can hold.
#[test]
fn dense_files_take_a_few_times_their_size() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    fn file(n_tensors: u64, n_keys: u64, body: impl Iterator<Item = u8>) -> Vec<u8> {
        let header = [&b"GGUF\x03\0\0\0"[..], &n_tensors.to_le_bytes(), &n_keys.to_le_bytes()].concat();
        header.into_iter().chain(body).collect()
    }
    fn name(i: u64) -> [u8; 11] {
        let digit = |n: u64| b' ' + (n % 95) as u8;
        [3, 0, 0, 0, 0, 0, 0, 0, digit(i), digit(i / 95), digit(i / 95 / 95)]
    }
    let n = gguf::MAX_ENTRIES;
    let keys = (0..n).flat_map(|i| name(i).into_iter().chain([0, 0, 0, 0, 7]));
    // One dimension of 1, type 99, data a byte each.
    let tensor = |i| {
        let rest = [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0];
        name(i).into_iter().chain(rest).chain((32 * i).to_le_bytes())
    };
    let mut tensors = file(n, 0, (0..n).flat_map(tensor));
    tensors.resize(tensors.len() + 32 * n as usize + 32, 0);
    // An array of 200,000 empty strings, and one of bools.
    let array = |element: u8, count: u64| {
        name(element.into()).into_iter().chain([9, 0, 0, 0, element, 0, 0, 0]).chain(count.to_le_bytes())
    };
    let arrays =
        array(8, 200_000).chain(repeat_n(0, 1_600_000)).chain(array(7, 100_000)).chain(repeat_n(1, 100_000));

    for (what, bytes) in [("keys", file(0, n, keys)), ("tensors", tensors), ("arrays", file(0, 2, arrays))] {
        let (outcome, _, most) = read_gauged(&bytes, bytes.len() as u64);
        check_promises(&outcome.unwrap().unwrap(), bytes.len() as u64);
        eprintln!("{what}: {most} bytes for a file of {}", bytes.len());
        assert!(most <= 10 * bytes.len(), "{what}: {most} bytes for a file of {}", bytes.len());
    }
}
