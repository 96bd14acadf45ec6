//! Whether arguments are as a tool declares them.
//!
//! The rule here: a keyword that constrains is kept or refused by name, never ignored. Kept is JSON Schema 2020-12 but for
//! `unevaluated...` and `$dynamicRef`, and what older drafts wrote otherwise: lists below `items` with `additionalItems`,
//! `dependencies`, bounds that `exclusiveMinimum: true` makes exclusive. Of OpenAPI there is `nullable: true`, which allows
//! null whatever else its part says, and names of types in capitals. `format` is an annotation, as that draft has it, and
//! so is what no draft defines (`title`, `example`, `discriminator`, `x-...`).
//!
//! Schemas and values come from strangers. A schema is nested [`MAX_DEPTH`](super::conversation::MAX_DEPTH) deep at most, refers to
//! its own parts alone, and never to itself about the same value; its patterns are of the kind that is matched in linear time.
//! Validation counts its steps, and stops at [`MAX_STEPS`]: what could not be told by then is not valid.
//!
//! | file | what it does |
//! |---|---|
//! | `check` | whether a schema can be kept |
//! | `circles` | how many parts of a schema speak about one value |
//! | `valid` | whether a value is as a schema wants it |
//! | `number` | numbers, compared and divided exactly |
//! | `pattern` | patterns of ECMAScript as the regex crate reads them |
//!
//! Deliberately absent: fetching what is referred to; saying why a value is not valid (nobody is told: it becomes text).

mod check;
mod circles;
mod number;
mod pattern;
#[cfg(test)]
mod tests;
mod valid;

use std::collections::BTreeMap;

use serde_json::Value;

use pattern::Pattern;
pub(super) use pattern::{CLASSES, DOT};

/// Steps of one validation: parts of a schema held against a value, and what they look at of it.
const MAX_STEPS: usize = 250_000;

/// Patterns by their text in schemas. Those of one request are compiled once.
pub(super) type Patterns = BTreeMap<String, Pattern>;

/// A schema that can be kept.
#[derive(Clone, Debug)]
pub(super) struct Validator {
    root: Value,
    patterns: Patterns,
}

impl PartialEq for Validator {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl Validator {
    /// For a tool's parameters. Patterns that are not yet among `patterns` join them.
    ///
    /// Errors: what of the schema is wrong, or cannot be kept.
    pub(super) fn new(root: &Value, patterns: &mut Patterns) -> Result<Self, String> {
        let used = check::check(root, patterns)?;
        let of_use = |text: &str| patterns.get(text).map(|pattern| (text.to_owned(), pattern.clone()));
        let patterns = used.into_iter().filter_map(of_use).collect();
        Ok(Self { root: root.clone(), patterns })
    }

    /// Whether these arguments, an object, are as the schema wants them.
    pub(super) fn allows(&self, arguments: &Value) -> bool {
        self.part_allows(&self.root, arguments)
    }

    /// Whether `value` is as this part of the schema wants it.
    pub(super) fn part_allows(&self, part: &Value, value: &Value) -> bool {
        valid::Run::new(self).part(part, value).unwrap_or(false)
    }

    /// The part of the schema that a `$ref` names; `None` if there is none.
    fn referred(&self, target: &str) -> Option<&Value> {
        referred(&self.root, target)
    }
}

/// The part of a schema that a `$ref` names: a JSON pointer behind `#`. Other forms name nothing here.
fn referred<'s>(root: &'s Value, target: &str) -> Option<&'s Value> {
    let pointer = target.strip_prefix('#').filter(|pointer| !pointer.contains('%'))?;
    root.pointer(pointer)
}
