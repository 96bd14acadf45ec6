//! Model files that are damaged on purpose, each by a number that makes it again.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use std::fmt::Write as _;
use std::ops::Range;

/// A number from the environment.
pub fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap_or_else(|e| panic!("{name}={v}: {e}")))
}

/// splitmix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What a field of the directory is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
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
    /// The value of a key that is one number, bool or string.
    Scalar,
    /// The same in an array.
    Element,
}

/// A file that is right, with the places of its fields.
pub struct Specimen {
    pub bytes: Vec<u8>,
    fields: Vec<(Kind, Range<usize>)>,
    /// Length of the directory.
    pub directory: usize,
}

impl Specimen {
    /// Walks a file known to be right; written apart from the reader under test.
    pub fn new(bytes: Vec<u8>) -> Self {
        let mut walk = Walk { bytes: &bytes, at: 4, fields: vec![] };
        walk.field(Kind::Scalar, 4);
        let n_tensors = walk.field(Kind::Count, 8);
        let n_keys = walk.field(Kind::Count, 8);
        for _ in 0..n_keys {
            walk.string(Kind::Name);
            let type_id = walk.field(Kind::Type, 4);
            walk.value(Kind::Scalar, type_id);
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

    pub fn field_of(&self, random: &mut Random, kinds: &[Kind]) -> Range<usize> {
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

    fn value(&mut self, kind: Kind, type_id: u64) {
        match type_id {
            8 => self.string(kind),
            9 => {
                let element = self.field(Kind::Type, 4);
                for _ in 0..self.field(Kind::Count, 8) {
                    self.value(Kind::Element, element);
                }
            }
            _ => {
                self.field(kind, [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8][type_id as usize]);
            }
        }
    }
}

/// Numbers that break sums, products, roundings and limits.
pub fn nasty(random: &mut Random, file_len: u64) -> u64 {
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
pub fn mutate(random: &mut Random, specimen: &Specimen) -> (Vec<u8>, u64, String) {
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
                let kinds = match random.below(7) {
                    0 => Kind::DimCount,
                    1 => Kind::Dim,
                    2 => Kind::Offset,
                    3 => Kind::Scalar,
                    4 => Kind::Element,
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

/// Damages what a model is made of and leaves the structure of the file alone: hyper-parameters, shapes,
/// types, names, texts and weights. Says how.
pub fn mutate_model(random: &mut Random, specimen: &Specimen) -> (Vec<u8>, String) {
    let (mut bytes, mut how) = (specimen.bytes.clone(), String::new());
    for _ in 0..1 + random.below(2) {
        let kind = match random.below(16) {
            0 => Kind::Name,
            1 => Kind::Dim,
            2 => Kind::Type,
            3..5 => Kind::Element,
            5..10 => {
                // Weights: a run of one byte, as a lost block of storage leaves it, or of any.
                let at = random.below(bytes.len() - specimen.directory) + specimen.directory;
                let len = (1 + random.below(4096)).min(bytes.len() - at);
                let byte = *random.pick(&[None, Some(0), Some(0x7f), Some(0xff), Some(0x7c)]);
                bytes[at..at + len].fill_with(|| byte.unwrap_or_else(|| random.next() as u8));
                let _ = write!(how, "fill {len} at {at} with {byte:?}; ");
                continue;
            }
            _ => Kind::Scalar,
        };
        let field = specimen.field_of(random, &[kind]);
        match kind {
            Kind::Name => {
                let other = specimen.field_of(random, &[kind]);
                let len = field.len().min(other.len());
                let name = specimen.bytes[other][..len].to_vec();
                put(&mut bytes, field.start, &name);
                let _ = write!(how, "name {:?} at {}; ", String::from_utf8_lossy(&name), field.start);
            }
            Kind::Type => {
                let id = random.below(32) as u32;
                put(&mut bytes, field.start, &id.to_le_bytes());
                let _ = write!(how, "type {id} at {}; ", field.start);
            }
            _ if field.len() > 8 => {
                let at = field.start + random.below(field.len());
                bytes[at] = random.next() as u8;
                let _ = write!(how, "text {:#x} at {at}; ", bytes[at]);
            }
            _ => {
                let value = hyper_parameter(random);
                put(&mut bytes, field.start, &value.to_le_bytes()[..field.len()]);
                let _ = write!(how, "{kind:?} {value:#x} at {}; ", field.start);
            }
        }
    }
    (bytes, how)
}

/// Numbers that could pass for a hyper-parameter, or nearly.
fn hyper_parameter(random: &mut Random) -> u64 {
    let floats = [0.0, -1.0, 1e-40, 1e-6, 1.0, 3e38, f32::INFINITY, f32::NAN];
    match random.below(8) {
        0 => random.next() >> random.below(64),
        1 => u64::from(random.pick(&floats).to_bits()),
        2 => *random.pick(&[0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 20, (1 << 20) + 1, 1 << 24]),
        3 => 1 << random.below(20),
        4 => 32 * (1 + random.next() % 16),
        _ => random.next() % 40,
    }
}

/// Overwrites, as far as the file reaches.
pub fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(old) = bytes.get_mut(at..at + new.len()) {
        old.copy_from_slice(new);
    }
}
