//! Files that were damaged on purpose: the GGUF reader must answer each with a directory that holds
//! or with an error that says something, and must not allocate more than the file can back.
//!
//! `PLED_MUTATIONS=10000` sets how many files (500 otherwise), `PLED_MUTATIONS_SEED` which ones.

#[path = "support/damage.rs"]
mod damage;
#[path = "support/gauge.rs"]
mod gauge;

use std::collections::HashSet;
use std::io::Cursor;
use std::iter::repeat_n;
use std::panic::catch_unwind;
use std::path::Path;

use damage::{Random, Specimen, from_env, mutate};
use gauge::{Gauges, MAX_ALLOCATION, alone};
use pled::gguf::{self, Gguf, GgufError, Value};

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
fn read_gauged(
    gauges: &mut Gauges,
    bytes: &[u8],
    told: u64,
) -> (std::thread::Result<Result<Gguf, GgufError>>, usize, usize) {
    gauges.reset();
    let outcome = catch_unwind(|| gguf::read(&mut Cursor::new(bytes), told));
    (outcome, gauges.largest(), gauges.peak().saturating_sub(64 << 10))
}

#[test]
fn damaged_files_are_answered() {
    let mut gauges = alone();
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

        let (outcome, single, beyond_buffer) = read_gauged(&mut gauges, &bytes, told);
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
    let mut gauges = alone();
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
        let (outcome, _, most) = read_gauged(&mut gauges, &bytes, bytes.len() as u64);
        check_promises(&outcome.unwrap().unwrap(), bytes.len() as u64);
        eprintln!("{what}: {most} bytes for a file of {}", bytes.len());
        assert!(most <= 10 * bytes.len(), "{what}: {most} bytes for a file of {}", bytes.len());
    }
}
