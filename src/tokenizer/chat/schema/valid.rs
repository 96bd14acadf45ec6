//! Whether a value is as a checked schema wants it, within a bounded number of steps.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::number::{compare, is_multiple, is_whole};
use super::{MAX_STEPS, Validator};

/// It takes too many steps to tell, or more digits than are counted with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Undecided;

/// An undecided part leaves the whole undecided, so that a `not` around it does not turn it into consent.
type Told = Result<bool, Undecided>;

/// One validation.
pub(super) struct Run<'s> {
    validator: &'s Validator,
    n_left: usize,
}

impl<'s> Run<'s> {
    pub(super) fn new(validator: &'s Validator) -> Self {
        Self { validator, n_left: MAX_STEPS }
    }

    fn spend(&mut self, n_steps: usize) -> Result<(), Undecided> {
        self.n_left = self.n_left.checked_sub(n_steps).ok_or(Undecided)?;
        Ok(())
    }

    /// Whether `value` is as this part of the schema wants it.
    pub(super) fn part(&mut self, part: &Value, value: &Value) -> Told {
        self.spend(1)?;
        let schema = match part {
            Value::Object(schema) => schema,
            other => return Ok(*other == Value::Bool(true)),
        };
        if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
            return Ok(true);
        }
        for (key, wanted) in schema {
            self.spend(1)?;
            let kept = match value {
                Value::Number(n) => of_number(key, wanted, schema, n)?,
                Value::String(text) => self.of_string(key, wanted, text)?,
                Value::Array(items) => self.of_array(key, wanted, schema, items)?,
                Value::Object(fields) => self.of_object(key, wanted, schema, fields, value)?,
                Value::Null | Value::Bool(_) => true,
            };
            if !kept || !self.of_any(key, wanted, schema, value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keywords about values of any type.
    fn of_any(&mut self, key: &str, wanted: &Value, schema: &Map<String, Value>, value: &Value) -> Told {
        match (key, wanted) {
            ("type", Value::Array(several)) => Ok(several.iter().any(|t| is_of_type(value, t))),
            ("type", one) => Ok(is_of_type(value, one)),
            ("enum", Value::Array(choices)) => self.any(choices, |run, choice| run.same(choice, value)),
            ("const", only) => self.same(only, value),
            ("$ref", Value::String(target)) => match self.validator.referred(target) {
                Some(part) => self.part(part, value),
                None => Ok(false),
            },
            ("allOf", Value::Array(parts)) => self.all(parts, |run, part| run.part(part, value)),
            ("anyOf", Value::Array(parts)) => self.any(parts, |run, part| run.part(part, value)),
            ("oneOf", Value::Array(parts)) => Ok(self.count(parts, |run, part| run.part(part, value))? == 1),
            ("not", part) => Ok(!self.part(part, value)?),
            ("if", part) => {
                let branch = if self.part(part, value)? { "then" } else { "else" };
                schema.get(branch).map_or(Ok(true), |part| self.part(part, value))
            }
            _ => Ok(true),
        }
    }

    fn of_string(&mut self, key: &str, wanted: &Value, text: &str) -> Told {
        match key {
            "minLength" | "maxLength" => {
                self.spend(text.len() / 64)?;
                Ok(counts(key == "minLength", text.chars().count(), wanted))
            }
            "pattern" => wanted.as_str().map_or(Ok(true), |pattern| self.matches(pattern, text)),
            _ => Ok(true),
        }
    }

    fn matches(&mut self, pattern: &str, text: &str) -> Told {
        let pattern = self.validator.patterns.get(pattern).ok_or(Undecided)?;
        self.spend(pattern.n_steps(text))?;
        Ok(pattern.is_match(text))
    }

    fn of_array(&mut self, key: &str, wanted: &Value, schema: &Map<String, Value>, items: &[Value]) -> Told {
        let n_first = |key: &str| schema.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        match (key, wanted) {
            ("minItems" | "maxItems", _) => Ok(counts(key == "minItems", items.len(), wanted)),
            ("prefixItems" | "items", Value::Array(parts)) => {
                let mut pairs = parts.iter().zip(items);
                pairs.try_fold(true, |kept, (part, item)| Ok(kept && self.part(part, item)?))
            }
            ("items", part) => self.rest(n_first("prefixItems"), items, part),
            ("additionalItems", part) if schema.get("items").is_some_and(Value::is_array) => {
                self.rest(n_first("items"), items, part)
            }
            ("contains", part) => {
                let n = self.count(items, |run, item| run.part(part, item))?;
                let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
                let least = bound("minContains").unwrap_or(1);
                Ok(n as u64 >= least && bound("maxContains").is_none_or(|most| n as u64 <= most))
            }
            ("uniqueItems", Value::Bool(true)) => {
                for (i, item) in items.iter().enumerate() {
                    if self.any(&items[..i], |run, other| run.same(other, item))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// Items behind the first `n_first`.
    fn rest(&mut self, n_first: usize, items: &[Value], part: &Value) -> Told {
        let items = items.get(n_first..).unwrap_or_default();
        self.all(items, |run, item| run.part(part, item))
    }

    fn of_object(
        &mut self,
        key: &str,
        wanted: &Value,
        schema: &Map<String, Value>,
        fields: &Map<String, Value>,
        value: &Value,
    ) -> Told {
        let all_there =
            |names: &[Value]| names.iter().filter_map(Value::as_str).all(|n| fields.contains_key(n));
        match (key, wanted) {
            ("required", Value::Array(names)) => {
                self.spend(names.len())?;
                Ok(all_there(names))
            }
            ("minProperties" | "maxProperties", _) => {
                Ok(counts(key == "minProperties", fields.len(), wanted))
            }
            ("properties", Value::Object(parts)) => self.all(fields, |run, (name, field)| {
                parts.get(name).map_or(Ok(true), |part| run.part(part, field))
            }),
            ("patternProperties", Value::Object(parts)) => self.all(fields, |run, (name, field)| {
                run.all(parts, |run, (pattern, part)| {
                    Ok(!run.matches(pattern, name)? || run.part(part, field)?)
                })
            }),
            ("additionalProperties", part) => self.all(fields, |run, (name, field)| {
                Ok(run.is_declared(name, schema)? || run.part(part, field)?)
            }),
            ("propertyNames", part) => {
                self.all(fields.keys(), |run, name| run.part(part, &Value::String(name.clone())))
            }
            ("dependentRequired" | "dependentSchemas" | "dependencies", Value::Object(all)) => {
                self.all(all, |run, (name, wanted)| match wanted {
                    _ if !fields.contains_key(name) => Ok(true),
                    Value::Array(names) => Ok(all_there(names)),
                    part => run.part(part, value),
                })
            }
            _ => Ok(true),
        }
    }

    /// Whether `properties` or `patternProperties` speak of a field of this name.
    fn is_declared(&mut self, name: &str, schema: &Map<String, Value>) -> Told {
        if schema.get("properties").is_some_and(|parts| parts.get(name).is_some()) {
            return Ok(true);
        }
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        patterns.map_or(Ok(false), |parts| self.any(parts.keys(), |run, pattern| run.matches(pattern, name)))
    }

    /// Whether two values are the same: numbers by what they count, objects in any order.
    fn same(&mut self, a: &Value, b: &Value) -> Told {
        self.spend(1)?;
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => Ok(compare(a, b) == Some(Ordering::Equal)),
            (Value::Array(a), Value::Array(b)) => {
                Ok(a.len() == b.len() && self.all(a.iter().zip(b), |run, (a, b)| run.same(a, b))?)
            }
            (Value::Object(a), Value::Object(b)) => Ok(a.len() == b.len()
                && self.all(a, |run, (key, a)| b.get(key).map_or(Ok(false), |b| run.same(a, b)))?),
            _ => Ok(a == b),
        }
    }

    fn all<T>(&mut self, of: impl IntoIterator<Item = T>, mut f: impl FnMut(&mut Self, T) -> Told) -> Told {
        Ok(!self.any(of, |run, one| Ok(!f(run, one)?))?)
    }

    fn any<T>(&mut self, of: impl IntoIterator<Item = T>, mut f: impl FnMut(&mut Self, T) -> Told) -> Told {
        for one in of {
            self.spend(1)?;
            if f(self, one)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn count<T>(
        &mut self,
        of: impl IntoIterator<Item = T>,
        mut f: impl FnMut(&mut Self, T) -> Told,
    ) -> Result<usize, Undecided> {
        let mut n = 0;
        for one in of {
            n += usize::from(f(self, one)?);
        }
        Ok(n)
    }
}

fn of_number(key: &str, wanted: &Value, schema: &Map<String, Value>, n: &Number) -> Told {
    let Value::Number(bound) = wanted else { return Ok(true) };
    let against = || compare(n, bound).ok_or(Undecided);
    // Of old drafts: a flag that takes the bound itself away.
    let excludes = |key: &str| schema.get(key) == Some(&Value::Bool(true));
    match key {
        "minimum" if excludes("exclusiveMinimum") => Ok(against()?.is_gt()),
        "minimum" => Ok(against()?.is_ge()),
        "exclusiveMinimum" => Ok(against()?.is_gt()),
        "maximum" if excludes("exclusiveMaximum") => Ok(against()?.is_lt()),
        "maximum" => Ok(against()?.is_le()),
        "exclusiveMaximum" => Ok(against()?.is_lt()),
        "multipleOf" => is_multiple(n, bound).ok_or(Undecided),
        _ => Ok(true),
    }
}

/// Whether `n` is at least, or at most, as large as wanted.
fn counts(is_least: bool, n: usize, wanted: &Value) -> bool {
    let n = n as u64;
    wanted.as_u64().is_none_or(|bound| if is_least { n >= bound } else { n <= bound })
}

fn is_of_type(value: &Value, t: &Value) -> bool {
    let Some(t) = t.as_str() else { return false };
    match value {
        Value::String(_) => t.eq_ignore_ascii_case("string"),
        Value::Number(n) => {
            t.eq_ignore_ascii_case("number") || t.eq_ignore_ascii_case("integer") && is_whole(n)
        }
        Value::Bool(_) => t.eq_ignore_ascii_case("boolean"),
        Value::Object(_) => t.eq_ignore_ascii_case("object"),
        Value::Array(_) => t.eq_ignore_ascii_case("array"),
        Value::Null => t.eq_ignore_ascii_case("null"),
    }
}
