//! A schema to the rule of its values.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::call::QUOTE;
use super::super::schema::Validator;
use super::number::{BOUNDS, number};
use super::pattern::whole;
use super::rules::{Rules, STRING, any, any_array, any_object, any_within, literal};

/// Beyond these counts the parts of a grammar cost more than they are worth.
const MAX_ITEMS: u64 = 256;
const MAX_CHARS: u64 = 512;
/// How deep schemas are followed, through references too, which may go round in circles.
const MAX_DEPTH: usize = 64;

/// Keywords of JSON schema that the grammar does not know.
const UNKNOWN: [&str; 24] = [
    "$dynamicRef",
    "$recursiveRef",
    "additionalItems",
    "allOf",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "maxProperties",
    "minContains",
    "minProperties",
    "multipleOf",
    "not",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];
/// Keywords that say something about values of one type.
const OF_ONE_TYPE: [&str; 13] = [
    "additionalProperties",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
];

/// A keyword that cannot be kept, by its path in the schema.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unkept(pub(super) String);

/// Writes the rules of one schema.
pub(super) struct Schema<'s, 'r> {
    rules: &'r mut Rules,
    root: &'s Value,
    validator: &'s Validator,
    /// Rules of what was referred to by now.
    referred: BTreeMap<&'s str, String>,
}

impl<'s, 'r> Schema<'s, 'r> {
    pub(super) fn new(rules: &'r mut Rules, root: &'s Value, validator: &'s Validator) -> Self {
        Self { rules, root, validator, referred: BTreeMap::new() }
    }

    /// The arguments of a call: an object, whether the schema says so or not.
    pub(super) fn arguments(&mut self) -> Result<String, Unkept> {
        let Some(schema) = self.root.as_object() else { return Ok(literal("{}")) };
        let beyond_objects = ["$ref", "anyOf", "const", "enum"];
        match unknown(schema).or_else(|| beyond_objects.into_iter().find(|key| schema.contains_key(*key))) {
            Some(keyword) => self.free(keyword, "", any_object()),
            None => self.object(schema, "", 0),
        }
    }

    /// What stands for a part of which nothing can be kept.
    fn free(&self, keyword: &str, path: &str, rule: String) -> Result<String, Unkept> {
        match self.rules.strict {
            false => Ok(rule),
            true if path.is_empty() => Err(Unkept(keyword.to_owned())),
            true => Err(Unkept(format!("{path}.{keyword}"))),
        }
    }

    /// Values of a part of the schema.
    fn value(&mut self, schema: &'s Value, path: &str, depth: usize) -> Result<String, Unkept> {
        let part = schema;
        let schema = match part {
            Value::Object(schema) => schema,
            Value::Bool(true) => return Ok(any()),
            _ => return self.free("false", path, any()),
        };
        if let Some(keyword) = unknown(schema) {
            return self.free(keyword, path, any());
        }
        if depth >= MAX_DEPTH {
            return self.free("$ref", path, any());
        }
        let of_one_type = OF_ONE_TYPE.into_iter().find(|key| schema.contains_key(*key));
        let mut ways = Vec::new();
        if let Some(target) = schema.get("$ref") {
            let beside = ["type", "anyOf", "const", "enum"].iter().any(|key| schema.contains_key(*key));
            if of_one_type.is_some() || beside {
                return self.free("$ref", path, any());
            }
            ways.push(self.reference(target, path, depth)?);
        } else if let Some((keyword, choices)) = choices(schema) {
            let valid = choices.iter().filter(|choice| self.validator.part_allows(part, choice));
            let written: Option<Vec<String>> = valid.map(|choice| self.constant(choice)).collect();
            // What else is said of a text is not looked at.
            let only = !["minLength", "maxLength", "pattern"].iter().any(|key| schema.contains_key(*key));
            match written.filter(|ways| only && !ways.is_empty()) {
                Some(written) => ways = written,
                None => return self.free(keyword, path, any()),
            }
        } else if let Some(branches) = schema.get("anyOf").and_then(Value::as_array) {
            if of_one_type.is_some() || schema.contains_key("type") {
                return self.free("anyOf", path, any());
            }
            for (i, branch) in branches.iter().enumerate() {
                ways.push(self.value(branch, &format!("{path}.anyOf[{i}]"), depth + 1)?);
            }
        } else {
            ways = self.of_types(schema, path, depth)?;
            if ways.is_empty() {
                return match of_one_type {
                    Some(keyword) => self.free(keyword, path, any()),
                    None => Ok(any()),
                };
            }
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) {
            ways.push(literal("null"));
        }
        Ok(match ways.len() {
            1 => ways.swap_remove(0),
            _ => self.rules.rule(&ways.join(" | ")),
        })
    }

    /// Values of another part of the schema, which may refer to itself.
    fn reference(&mut self, target: &'s Value, path: &str, depth: usize) -> Result<String, Unkept> {
        let target = target.as_str().unwrap_or_default();
        if let Some(rule) = self.referred.get(target) {
            return Ok(rule.clone());
        }
        match target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) {
            None => self.free("$ref", path, any()),
            Some(part) => {
                let name = self.rules.name();
                self.referred.insert(target, name.clone());
                let value = self.value(part, path, depth + 1)?;
                self.rules.define(&name, &value);
                Ok(name)
            }
        }
    }

    /// One value, as the format writes it; `None` of one that it cannot be told to write.
    fn constant(&self, value: &Value) -> Option<String> {
        let quote = &self.rules.quote;
        match value {
            Value::String(text) if text.contains(QUOTE) => None,
            Value::String(text) if text.is_empty() => Some(format!("({quote} {quote})")),
            Value::String(text) => Some(format!("({quote} {} {quote})", literal(text))),
            Value::Number(_) | Value::Bool(_) | Value::Null => Some(literal(&value.to_string())),
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// One way for each type that the schema names; what has properties is an object.
    fn of_types(
        &mut self,
        schema: &'s Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<Vec<String>, Unkept> {
        let types: Vec<&str> = match schema.get("type") {
            None if schema.contains_key("properties") => vec!["object"],
            None => vec![],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            Some(one) => one.as_str().into_iter().collect(),
        };
        let of_type = |t: &&str| match t.to_ascii_lowercase().as_str() {
            "string" => self.string(schema, path),
            t @ ("integer" | "number") => Ok(number(t, schema)),
            "boolean" => Ok("(\"true\" | \"false\")".to_owned()),
            "null" => Ok(literal("null")),
            "array" => self.array(schema, path, depth),
            _ => self.object(schema, path, depth),
        };
        types.iter().map(of_type).collect()
    }

    fn string(&mut self, schema: &Map<String, Value>, path: &str) -> Result<String, Unkept> {
        let count = |key| schema.get(key).and_then(Value::as_u64);
        let (least, most) = (count("minLength").unwrap_or(0), count("maxLength"));
        for (key, n) in [("minLength", Some(least)), ("maxLength", most)] {
            if n.is_some_and(|n| n > MAX_CHARS) {
                return self.free(key, path, STRING.to_owned());
            }
        }
        let quote = self.rules.quote.clone();
        let most = most.map_or(String::new(), |n| n.to_string());
        let pattern = match schema.get("pattern").and_then(Value::as_str) {
            None if least == 0 && most.is_empty() => return Ok(STRING.to_owned()),
            None if most == "0" => return Ok(format!("({quote} {quote})")),
            None => String::new(),
            Some(pattern) => match whole(pattern) {
                Some(whole) => format!("/{whole}/ & "),
                None => return self.free("pattern", path, STRING.to_owned()),
            },
        };
        // Content without a character is no content: a terminal has at least one.
        let content = format!("{pattern}/[^{QUOTE}]{{{},{most}}}/", least.max(1));
        let content = self.rules.terminal(&content);
        let may_be_empty = if least == 0 && pattern.is_empty() { "?" } else { "" };
        Ok(format!("({quote} {content}{may_be_empty} {quote})"))
    }

    fn array(&mut self, schema: &'s Map<String, Value>, path: &str, depth: usize) -> Result<String, Unkept> {
        let count = |key| schema.get(key).and_then(Value::as_u64);
        let (least, most) = (count("minItems").unwrap_or(0), count("maxItems"));
        for (key, n) in [("minItems", Some(least)), ("maxItems", most)] {
            if n.is_some_and(|n| n > MAX_ITEMS) {
                return self.free(key, path, any_array());
            }
        }
        if most == Some(0) {
            return Ok(literal("[]"));
        }
        let item = match schema.get("items") {
            Some(Value::Array(_)) => return self.free("items", path, any_array()),
            Some(items) => self.value(items, &format!("{path}.items"), depth + 1)?,
            None => any_within(),
        };
        let item = self.rules.rule(&item);
        let further = format!("(\",\" {item})");
        let items = match (least.saturating_sub(1), most.map(|n| n - 1)) {
            (_, Some(0)) => item,
            (0, None) => format!("{item} {further}*"),
            (least, None) => format!("{item} {further}{{{least},}}"),
            (least, Some(most)) => format!("{item} {further}{{{least},{most}}}"),
        };
        Ok(self.rules.rule(&match least {
            0 => format!("\"[\" ({items})? \"]\""),
            _ => format!("\"[\" {items} \"]\""),
        }))
    }

    fn object(&mut self, schema: &'s Map<String, Value>, path: &str, depth: usize) -> Result<String, Unkept> {
        let required: Vec<&str> = match schema.get("required") {
            Some(Value::Array(keys)) => keys.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        if required.iter().any(|key| properties.is_none_or(|properties| !properties.contains_key(*key))) {
            return self.free("required", path, any_object());
        }
        let Some(properties) = properties.filter(|properties| !properties.is_empty()) else {
            return self.open_object(schema, path, depth);
        };
        if !properties.keys().all(|key| is_read_as_written(key)) {
            return self.free("properties", path, any_object());
        }
        let mut sorted: Vec<(&String, &Value)> = properties.iter().collect();
        sorted.sort_by_cached_key(|(key, _)| (key.to_lowercase(), (*key).clone()));
        let mut fields = Vec::with_capacity(sorted.len());
        for (key, part) in sorted {
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let value = self.value(part, &at, depth + 1)?;
            let field = format!("{} {value}", literal(&format!("{key}:")));
            fields.push((field, required.contains(&key.as_str())));
        }
        Ok(self.fields(&fields))
    }

    /// An object of which no field is declared.
    fn open_object(
        &mut self,
        schema: &'s Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<String, Unkept> {
        let value = match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => return Ok(literal("{}")),
            Some(part @ Value::Object(_)) => {
                self.value(part, &format!("{path}.additionalProperties"), depth + 1)?
            }
            _ => return Ok(any_object()),
        };
        let value = self.rules.rule(&value);
        Ok(self.rules.rule(&format!("\"{{\" (KEY \":\" {value} (\",\" KEY \":\" {value})*)? \"}}\"")))
    }

    /// An object of these fields in this order, of which some may be left out. From the last to the first: what may
    /// follow when nothing came before, and when something did.
    fn fields(&mut self, fields: &[(String, bool)]) -> String {
        let (mut first, mut further) = (String::new(), String::new());
        for (field, required) in fields.iter().rev() {
            let field = self.rules.rule(field);
            let begun = format!("{field} {further}");
            let (all_first, all_further) = match (required, first.is_empty()) {
                (true, _) => (begun.clone(), format!("\",\" {begun}")),
                (false, true) => (format!("({begun})?"), format!("(\",\" {begun})?")),
                (false, false) => (format!("{begun} | {first}"), format!("\",\" {begun} | {further}")),
            };
            (first, further) = (self.rules.rule(&all_first), self.rules.rule(&all_further));
        }
        self.rules.rule(&format!("\"{{\" {first} \"}}\""))
    }
}

/// The first keyword that the grammar does not know.
fn unknown(schema: &Map<String, Value>) -> Option<&'static str> {
    let says = |keyword: &&str| schema.get(*keyword).is_some_and(|value| *value != Value::Bool(false));
    // In old drafts a flag that turns the other bound into one that excludes.
    let is_flag = |keyword: &&str| schema.get(*keyword).is_some_and(|bound| !bound.is_number());
    UNKNOWN.into_iter().find(says).or_else(|| BOUNDS.into_iter().find(is_flag))
}

/// The only values that a schema allows, if it names them.
fn choices(schema: &Map<String, Value>) -> Option<(&'static str, &[Value])> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(one), _) => Some(("const", std::slice::from_ref(one))),
        (None, Some(Value::Array(several))) => Some(("enum", several)),
        (None, _) => None,
    }
}

/// Whether a key means itself where it stands bare in a call.
fn is_read_as_written(key: &str) -> bool {
    !key.is_empty() && key.trim() == key && !key.contains([':', '{', '}', ',', '<', QUOTE])
}
