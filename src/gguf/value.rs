//! Metadata values.

use std::io::Read;

use super::error::GgufError;
use super::source::Source;

/// A metadata value as the file stores it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the types' names")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Should be UTF-8, but files exist where it is not: the bytes.
    Str(Vec<u8>),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A metadata array as the file stores it, packed.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the element types' names")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    Strings(StringArray),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Value {
    /// Reads type and value.
    pub(super) fn read(src: &mut Source<'_, impl Read>) -> Result<Self, GgufError> {
        let offset = src.pos();
        Ok(match src.u32()? {
            0 => Value::U8(u8::from_le_bytes(src.array()?)),
            1 => Value::I8(i8::from_le_bytes(src.array()?)),
            2 => Value::U16(u16::from_le_bytes(src.array()?)),
            3 => Value::I16(i16::from_le_bytes(src.array()?)),
            4 => Value::U32(src.u32()?),
            5 => Value::I32(i32::from_le_bytes(src.array()?)),
            6 => Value::F32(f32::from_le_bytes(src.array()?)),
            7 => Value::Bool(src.bool()?),
            8 => Value::Str(src.string()?),
            9 => Value::Array(Array::read(src)?),
            10 => Value::U64(src.u64()?),
            11 => Value::I64(i64::from_le_bytes(src.array()?)),
            12 => Value::F64(f64::from_le_bytes(src.array()?)),
            id => return Err(GgufError::ValueType { place: src.place(), offset, id }),
        })
    }

    /// Name of the type, for messages: "u32", "array of f32", "string".
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::U8(_) => "u8",
            Value::I8(_) => "i8",
            Value::U16(_) => "u16",
            Value::I16(_) => "i16",
            Value::U32(_) => "u32",
            Value::I32(_) => "i32",
            Value::F32(_) => "f32",
            Value::Bool(_) => "bool",
            Value::Str(_) => "string",
            Value::Array(a) => a.type_name(),
            Value::U64(_) => "u64",
            Value::I64(_) => "i64",
            Value::F64(_) => "f64",
        }
    }

    /// The value of any integer type.
    pub fn as_int(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// Whether it is an array: some keys hold one number for all layers or an array with one each.
    pub fn is_array(&self) -> bool {
        matches!(self, Value::Array(_))
    }
}

impl Array {
    /// Reads element type, count and elements.
    fn read(src: &mut Source<'_, impl Read>) -> Result<Self, GgufError> {
        let offset = src.pos();
        let id = src.u32()?;
        // One byte each is the least; the element's own reader then asks for its true size.
        let min_bytes = if id == 8 { 8 } else { 1 };
        let n = src.count("array length", super::MAX_DIRECTORY_BYTES, min_bytes)?;
        Ok(match id {
            0 => Array::U8(src.numbers(n, u8::from_le_bytes)?),
            1 => Array::I8(src.numbers(n, i8::from_le_bytes)?),
            2 => Array::U16(src.numbers(n, u16::from_le_bytes)?),
            3 => Array::I16(src.numbers(n, i16::from_le_bytes)?),
            4 => Array::U32(src.numbers(n, u32::from_le_bytes)?),
            5 => Array::I32(src.numbers(n, i32::from_le_bytes)?),
            6 => Array::F32(src.numbers(n, f32::from_le_bytes)?),
            7 => Array::Bool(src.bools(n)?),
            8 => Array::Strings(StringArray::read(src, n)?),
            9 => return Err(GgufError::NestedArray { place: src.place(), offset }),
            10 => Array::U64(src.numbers(n, u64::from_le_bytes)?),
            11 => Array::I64(src.numbers(n, i64::from_le_bytes)?),
            12 => Array::F64(src.numbers(n, f64::from_le_bytes)?),
            id => return Err(GgufError::ValueType { place: src.place(), offset, id }),
        })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(a) => a.len(),
            Array::I8(a) => a.len(),
            Array::U16(a) => a.len(),
            Array::I16(a) => a.len(),
            Array::U32(a) => a.len(),
            Array::I32(a) => a.len(),
            Array::F32(a) => a.len(),
            Array::Bool(a) => a.len(),
            Array::Strings(a) => a.len(),
            Array::U64(a) => a.len(),
            Array::I64(a) => a.len(),
            Array::F64(a) => a.len(),
        }
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Array::U8(_) => "array of u8",
            Array::I8(_) => "array of i8",
            Array::U16(_) => "array of u16",
            Array::I16(_) => "array of i16",
            Array::U32(_) => "array of u32",
            Array::I32(_) => "array of i32",
            Array::F32(_) => "array of f32",
            Array::Bool(_) => "array of bool",
            Array::Strings(_) => "array of strings",
            Array::U64(_) => "array of u64",
            Array::I64(_) => "array of i64",
            Array::F64(_) => "array of f64",
        }
    }

    /// The elements of an array of any integer type, each converted by `convert`; `None` for other
    /// arrays, `Err` with the first element that does not convert.
    pub(super) fn convert_ints<T>(
        &self,
        convert: impl Fn(i128) -> Option<T>,
    ) -> Option<Result<Vec<T>, i128>> {
        fn each<S: Copy + Into<i128>, T>(
            items: &[S],
            convert: impl Fn(i128) -> Option<T>,
        ) -> Result<Vec<T>, i128> {
            items.iter().map(|&v| convert(v.into()).ok_or_else(|| v.into())).collect()
        }
        Some(match self {
            Array::U8(a) => each(a, convert),
            Array::I8(a) => each(a, convert),
            Array::U16(a) => each(a, convert),
            Array::I16(a) => each(a, convert),
            Array::U32(a) => each(a, convert),
            Array::I32(a) => each(a, convert),
            Array::U64(a) => each(a, convert),
            Array::I64(a) => each(a, convert),
            Array::F32(_) | Array::Bool(_) | Array::Strings(_) | Array::F64(_) => return None,
        })
    }
}

/// Strings in one arena: a vocabulary of 262,144 tokens is two allocations. Token texts need not be
/// UTF-8, so elements are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StringArray {
    bytes: Box<[u8]>,
    /// `ends[i]`: where string i ends in `bytes`; it begins where string i-1 ends.
    ends: Box<[u32]>,
}

impl StringArray {
    fn read(src: &mut Source<'_, impl Read>, n: u64) -> Result<Self, GgufError> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..n {
            src.string_into(&mut bytes)?;
            ends.push(u32::try_from(bytes.len()).expect("bounded by the limit for directories"));
        }
        Ok(Self { bytes: bytes.into(), ends: ends.into() })
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no string.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `i`.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn get(&self, i: usize) -> &[u8] {
        let end = self.ends[i] as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.bytes[start..end]
    }

    /// All strings in order.
    pub fn iter(&self) -> Strings<'_> {
        Strings { array: self, range: 0..self.len() }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends)
    }
}

impl<'a> IntoIterator for &'a StringArray {
    type Item = &'a [u8];
    type IntoIter = Strings<'a>;

    fn into_iter(self) -> Strings<'a> {
        self.iter()
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for StringArray {
    /// # Panics
    /// If the strings have more than `u32::MAX` bytes together.
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for s in strings {
            bytes.extend_from_slice(s.as_ref());
            ends.push(u32::try_from(bytes.len()).expect("an arena holds less than 4 GiB"));
        }
        Self { bytes: bytes.into(), ends: ends.into() }
    }
}

/// Iterator over the strings of a [`StringArray`].
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    array: &'a StringArray,
    range: std::ops::Range<usize>,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.range.next().map(|i| self.array.get(i))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }
}

impl ExactSizeIterator for Strings<'_> {}
