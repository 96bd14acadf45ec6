//! How many parts of a schema speak about one value, through references too: bounded, or validation would recurse for ever.

use std::collections::HashMap;

use serde_json::Value;

use super::check::Refusal;
use super::referred;

/// The longest chain of parts that speak about one value, each because the one before says so. With the depth of
/// values it bounds how deep validation recurses.
pub(super) const MAX_CHAIN: usize = 24;

/// Whether no chain of these parts is too long, or closed.
pub(super) fn check<'s>(root: &'s Value, parts: &[&'s Value]) -> Result<(), Refusal> {
    let mut chains = Chains { root, lengths: HashMap::new() };
    parts.iter().try_for_each(|part| chains.length(part, 0).map(|_| ()))
}

struct Chains<'s> {
    root: &'s Value,
    /// The longest chain from a part on, by its address; `None` while it is being followed.
    lengths: HashMap<*const Value, Option<usize>>,
}

impl<'s> Chains<'s> {
    fn length(&mut self, part: &'s Value, n_before: usize) -> Result<usize, Refusal> {
        let known = self.lengths.get(&std::ptr::from_ref(part)).copied();
        if known == Some(None) {
            return Err(Refusal::new("has a $ref that comes back to itself without a step into the value"));
        }
        let n_known = known.flatten();
        if n_before + n_known.unwrap_or(0) > MAX_CHAIN {
            let problem =
                format!("has more than {MAX_CHAIN} schemas ($ref, anyOf, not, ...) one within the other");
            return Err(Refusal::new(format!("{problem} for a single value")));
        }
        if let Some(n) = n_known {
            return Ok(n);
        }
        self.lengths.insert(part, None);
        let mut longest = 0;
        for next in self.of_same_value(part) {
            longest = longest.max(1 + self.length(next, n_before + 1)?);
        }
        self.lengths.insert(part, Some(longest));
        Ok(longest)
    }

    /// The parts that are about the same value as this one.
    fn of_same_value(&self, part: &'s Value) -> Vec<&'s Value> {
        let Value::Object(fields) = part else { return Vec::new() };
        let mut all = Vec::new();
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("$ref", Value::String(target)) => all.extend(referred(self.root, target)),
                ("allOf" | "anyOf" | "oneOf", Value::Array(parts)) => all.extend(parts),
                ("not" | "if" | "then" | "else", part) => all.push(part),
                ("dependentSchemas" | "dependencies", Value::Object(parts)) => all.extend(parts.values()),
                _ => {}
            }
        }
        all
    }
}
