//! Keys and values, and typed access to them.

use std::collections::BTreeMap;
use std::io::Read;

use super::MAX_KEY_BYTES;
use super::error::{GgufError, Place};
use super::source::Source;
use super::value::{Array, StringArray, Value};

/// The keys of a file with their values.
///
/// Typed getters accept what writers were seen to do: any integer type whose value fits, and f64 for
/// f32. `opt_...` getters return `Ok(None)` for an absent key; a key that is present with another type
/// or an unusable value is always an error that names it.
#[derive(Debug, Default)]
pub struct Metadata {
    entries: BTreeMap<String, Value>,
}

pub(super) fn read(src: &mut Source<'_, impl Read>, n_keys: u64) -> Result<Metadata, GgufError> {
    let mut entries = BTreeMap::new();
    for index in 0..n_keys {
        src.enter(Place::Key { index, name: String::new() });
        let key = src.name(MAX_KEY_BYTES)?;
        src.enter(Place::Key { index, name: key.clone() });
        if entries.contains_key(&key) {
            return Err(GgufError::DuplicateKey { key });
        }
        let value = Value::read(src)?;
        entries.insert(key, value);
    }
    Ok(Metadata { entries })
}

impl Metadata {
    /// The value as the file has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// Removes a key and returns its value, so that big arrays need not be copied.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.entries.remove(key)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// An integer of any width that fits 32 bits unsigned.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.opt_int(key, |v| u32::try_from(v).ok(), "an integer from 0 to 4294967295")
    }

    /// An integer of any width that is not negative.
    pub fn opt_u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.opt_int(key, |v| u64::try_from(v).ok(), "an integer that is not negative")
    }

    /// A finite number, f32 or f64.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        let number = match self.get(key) {
            None => return Ok(None),
            Some(Value::F32(v)) => *v,
            Some(Value::F64(v)) => *v as f32,
            Some(other) => return Err(wrong_type(key, other, "f32")),
        };
        if !number.is_finite() {
            return Err(wrong_value(key, number, "a finite f32"));
        }
        Ok(Some(number))
    }

    /// A boolean.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(other) => Err(wrong_type(key, other, "bool")),
        }
    }

    /// A string of valid UTF-8.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Str(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(e) => Err(wrong_value(key, format_args!("a string with {e}"), "UTF-8")),
            },
            Some(other) => Err(wrong_type(key, other, "string")),
        }
    }

    /// An array of integers of any width that fit 32 bits unsigned.
    pub fn opt_u32_array(&self, key: &str) -> Result<Option<Vec<u32>>, GgufError> {
        self.opt_int_array(key, |v| u32::try_from(v).ok(), "integers from 0 to 4294967295")
    }

    /// An array of integers of any width that fit 32 bits signed.
    pub fn opt_i32_array(&self, key: &str) -> Result<Option<Vec<i32>>, GgufError> {
        self.opt_int_array(key, |v| i32::try_from(v).ok(), "integers from -2147483648 to 2147483647")
    }

    /// An array of f32 or f64. Infinities and NaN are passed on: some arrays use -inf with a meaning.
    pub fn opt_f32_array(&self, key: &str) -> Result<Option<Vec<f32>>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::F32(a))) => Ok(Some(a.clone())),
            Some(Value::Array(Array::F64(a))) => Ok(Some(a.iter().map(|&v| v as f32).collect())),
            Some(other) => Err(wrong_type(key, other, "array of f32")),
        }
    }

    /// An array of booleans.
    pub fn opt_bool_array(&self, key: &str) -> Result<Option<&[bool]>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Bool(a))) => Ok(Some(a)),
            Some(other) => Err(wrong_type(key, other, "array of bool")),
        }
    }

    /// An array of strings.
    pub fn opt_strings(&self, key: &str) -> Result<Option<&StringArray>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Strings(a))) => Ok(Some(a)),
            Some(other) => Err(wrong_type(key, other, "array of strings")),
        }
    }

    /// An array of strings, removed from the metadata. A key of another type stays.
    pub fn take_strings(&mut self, key: &str) -> Result<Option<StringArray>, GgufError> {
        self.opt_strings(key)?;
        match self.take(key) {
            Some(Value::Array(Array::Strings(a))) => Ok(Some(a)),
            _ => Ok(None),
        }
    }

    /// [`opt_u32`](Self::opt_u32) of a key that must be there.
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        required(key, self.opt_u32(key)?)
    }

    /// [`opt_u64`](Self::opt_u64) of a key that must be there.
    pub fn u64(&self, key: &str) -> Result<u64, GgufError> {
        required(key, self.opt_u64(key)?)
    }

    /// [`opt_f32`](Self::opt_f32) of a key that must be there.
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        required(key, self.opt_f32(key)?)
    }

    /// [`opt_str`](Self::opt_str) of a key that must be there.
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        required(key, self.opt_str(key)?)
    }

    fn opt_int<T>(
        &self,
        key: &str,
        convert: impl Fn(i128) -> Option<T>,
        expected: &'static str,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Some(int) = value.as_int() else { return Err(wrong_type(key, value, "an integer")) };
        match convert(int) {
            Some(v) => Ok(Some(v)),
            None => Err(wrong_value(key, int, expected)),
        }
    }

    fn opt_int_array<T>(
        &self,
        key: &str,
        convert: impl Fn(i128) -> Option<T>,
        expected: &'static str,
    ) -> Result<Option<Vec<T>>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let converted = match value {
            Value::Array(array) => array.convert_ints(convert),
            _ => None,
        };
        match converted {
            Some(Ok(ints)) => Ok(Some(ints)),
            Some(Err(int)) => Err(wrong_value(key, format_args!("an array with {int}"), expected)),
            None => Err(wrong_type(key, value, "array of integers")),
        }
    }
}

fn required<T>(key: &str, value: Option<T>) -> Result<T, GgufError> {
    value.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
}

fn wrong_type(key: &str, found: &Value, expected: &'static str) -> GgufError {
    GgufError::KeyType { key: key.to_owned(), found: found.type_name(), expected }
}

fn wrong_value(key: &str, found: impl std::fmt::Display, expected: &'static str) -> GgufError {
    GgufError::KeyValue { key: key.to_owned(), found: found.to_string(), expected }
}
