//! Whether a schema can be kept: every keyword of every part, at the door.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::super::conversation::{MAX_DEPTH, is_shallow};
use super::{Patterns, circles, pattern, referred};

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];
/// The longest refusal: schemas are strangers' words. Unit: characters.
const MAX_REFUSAL: usize = 400;

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Refusal {
    path: String,
    problem: String,
}

impl Refusal {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { path: String::new(), problem: problem.into() }
    }

    /// The same one level up. Paths are written on the way back alone, where there is something to tell.
    fn within(mut self, place: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{place}{joint}{}", self.path);
        self
    }

    fn told(self) -> String {
        let text =
            if self.path.is_empty() { self.problem } else { format!("{} {}", self.path, self.problem) };
        match text.char_indices().nth(MAX_REFUSAL) {
            None => text,
            Some((end, _)) => format!("{}...", &text[..end]),
        }
    }
}

/// The texts of the schema's patterns, which are among `patterns` then.
pub(super) fn check<'s>(root: &'s Value, patterns: &mut Patterns) -> Result<BTreeSet<&'s str>, String> {
    let Some(fields) = root.as_object() else { return Err("is no JSON object".into()) };
    if !is_shallow(root) {
        return Err(format!("is nested deeper than {MAX_DEPTH}"));
    }
    match fields.get("type") {
        None => {}
        Some(Value::String(t)) if t.eq_ignore_ascii_case("object") => {}
        Some(other) => {
            return Err(Refusal::new(format!("has the type {other}, parameters are an object")).told());
        }
    }
    let mut check = Check {
        root,
        patterns,
        used: BTreeSet::new(),
        seen: HashSet::new(),
        parts: Vec::new(),
        pending: Vec::new(),
    };
    check.all().map_err(Refusal::told)?;
    Ok(check.used)
}

struct Check<'s, 'p> {
    root: &'s Value,
    patterns: &'p mut Patterns,
    used: BTreeSet<&'s str>,
    /// Parts that were looked at, by their address.
    seen: HashSet<*const Value>,
    parts: Vec<&'s Value>,
    /// What is referred to, and by which words: it may stand where no part is looked for.
    pending: Vec<(&'s str, &'s Value)>,
}

type Checked = Result<(), Refusal>;

impl<'s> Check<'s, '_> {
    fn all(&mut self) -> Checked {
        self.part(self.root)?;
        while let Some((target, part)) = self.pending.pop() {
            self.part(part).map_err(|e| e.within(target))?;
        }
        circles::check(self.root, &self.parts)
    }

    /// One part and those within it. Recursion is as deep as the schema.
    fn part(&mut self, part: &'s Value) -> Checked {
        if !self.seen.insert(std::ptr::from_ref(part)) {
            return Ok(());
        }
        self.parts.push(part);
        match part {
            Value::Bool(_) => Ok(()),
            Value::Object(fields) => {
                let is_root = std::ptr::eq(part, self.root);
                fields
                    .iter()
                    .try_for_each(|(key, value)| self.keyword(key, value, is_root).map_err(|e| e.within(key)))
            }
            _ => wrong("is no object"),
        }
    }

    fn keyword(&mut self, key: &str, value: &'s Value, is_root: bool) -> Checked {
        match key {
            "type" => types(value),
            "nullable" | "uniqueItems" => must(value.is_boolean(), "is neither true nor false"),
            "required" => must(all_strings(value), "is no array of strings"),
            "enum" => must(value.is_array(), "is no array"),
            "minimum" | "maximum" => must(value.is_number(), "is no number"),
            "exclusiveMinimum" | "exclusiveMaximum" => {
                must(value.is_number() || value.is_boolean(), "is no number")
            }
            "multipleOf" => must(value.as_f64().is_some_and(|n| n > 0.0), "is no number above 0"),
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
            | "minContains" | "maxContains" => must(value.is_u64(), "is no whole number from 0 on"),
            "pattern" => self.pattern(value),
            "properties" => self.properties(value),
            "patternProperties" => self.pattern_properties(value),
            "$defs" | "definitions" | "dependentSchemas" => self.named_parts(object(value)?),
            "dependentRequired" => {
                each(object(value)?, |names| must(all_strings(names), "is no array of strings"))
            }
            "dependencies" => self.dependencies(object(value)?),
            "items" if value.is_array() => self.list(value),
            "prefixItems" | "allOf" => self.list(value),
            "anyOf" | "oneOf" => {
                must(value.as_array().is_none_or(|parts| !parts.is_empty()), "is empty: nothing is valid")?;
                self.list(value)
            }
            "items"
            | "additionalItems"
            | "additionalProperties"
            | "propertyNames"
            | "contains"
            | "not"
            | "if"
            | "then"
            | "else" => self.part(value),
            "$ref" => self.reference(value),
            // What is referred to would have to be looked for elsewhere.
            "$id" => must(is_root, "is supported at the root alone"),
            "$dynamicRef"
            | "$recursiveRef"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "propertyDependencies"
            | "divisibleBy"
            | "disallow"
            | "extends" => wrong("is not supported"),
            // Annotations, and words that no draft defines, which are annotations too.
            _ => Ok(()),
        }
    }

    fn properties(&mut self, value: &'s Value) -> Checked {
        let properties = object(value)?;
        // Keys stand bare in calls.
        let unfit = |key: &str| key.is_empty() || key.contains([':', '{', '}', ',', '<']);
        if let Some(key) = properties.keys().find(|key| unfit(key)) {
            let problem = "a name of a parameter is not empty and has none of : { } , <";
            return Err(Refusal::new(format!("has the key {key:?}: {problem}")));
        }
        self.named_parts(properties)
    }

    fn pattern_properties(&mut self, value: &'s Value) -> Checked {
        let parts = object(value)?;
        for text in parts.keys() {
            pattern::join(text, self.patterns).map_err(|problem| Refusal::new(problem).within(text))?;
            self.used.insert(text);
        }
        self.named_parts(parts)
    }

    fn named_parts(&mut self, parts: &'s Map<String, Value>) -> Checked {
        each(parts, |part| self.part(part))
    }

    /// Of old drafts: for each property either names of others, or a schema.
    fn dependencies(&mut self, all: &'s Map<String, Value>) -> Checked {
        each(all, |one| match one {
            Value::Array(_) => must(all_strings(one), "is no array of strings"),
            part => self.part(part),
        })
    }

    fn list(&mut self, value: &'s Value) -> Checked {
        let Some(parts) = value.as_array() else { return wrong("is no array") };
        for (i, part) in parts.iter().enumerate() {
            self.part(part).map_err(|e| e.within(&format!("[{i}]")))?;
        }
        Ok(())
    }

    fn pattern(&mut self, value: &'s Value) -> Checked {
        let Some(text) = value.as_str() else { return wrong("is no string") };
        pattern::join(text, self.patterns).map_err(Refusal::new)?;
        self.used.insert(text);
        Ok(())
    }

    fn reference(&mut self, value: &'s Value) -> Checked {
        let Some(target) = value.as_str() else { return wrong("is no string") };
        match referred(self.root, target) {
            Some(part) => {
                self.pending.push((target, part));
                Ok(())
            }
            None => {
                let problem = "and names no part of this schema; a pointer as #/$defs/name is possible";
                Err(Refusal::new(format!("is {target:?} {problem}")))
            }
        }
    }
}

fn wrong(problem: &str) -> Checked {
    Err(Refusal::new(problem))
}

fn must(is_right: bool, problem: &str) -> Checked {
    if is_right { Ok(()) } else { wrong(problem) }
}

fn object(value: &Value) -> Result<&Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| Refusal::new("is no object"))
}

fn each<'s>(fields: &'s Map<String, Value>, mut f: impl FnMut(&'s Value) -> Checked) -> Checked {
    fields.iter().try_for_each(|(key, value)| f(value).map_err(|e| e.within(key)))
}

fn types(value: &Value) -> Checked {
    let several = match value {
        Value::Array(several) => several.as_slice(),
        one => std::slice::from_ref(one),
    };
    let known = |t: &Value| t.as_str().is_some_and(|t| TYPES.iter().any(|k| k.eq_ignore_ascii_case(t)));
    match several.iter().find(|t| !known(t)) {
        Some(t) => Err(Refusal::new(format!("is {t}, which is no type"))),
        None => must(!several.is_empty(), "names no type"),
    }
}

fn all_strings(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(Value::is_string))
}
