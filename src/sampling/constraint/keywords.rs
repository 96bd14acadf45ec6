//! Keywords of a JSON schema for texts. llguidance refuses those of its drafts that it cannot keep, and passes over words
//! that the draft does not have: a misspelled bound would bind nothing. Here such words are refused by name, but for
//! annotations, which say nothing about values; and OpenAPI's `nullable` becomes what it means.

use serde_json::{Map, Value, json};

use super::compile::reason;

/// What some draft defines. Whether it can be kept, llguidance says.
const KNOWN: [&str; 50] = [
    "$anchor",
    "$defs",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "definitions",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "then",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];
/// What says nothing about values.
const ANNOTATIONS: [&str; 13] = [
    "$comment",
    "$id",
    "$schema",
    "default",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];

/// Refuses words that are no keywords, and says what `nullable` means in keywords.
///
/// Errors: the first such word, by its place.
pub(super) fn settle(schema: &mut Value) -> Result<(), String> {
    part(schema).map_err(|problem| reason(&problem))
}

/// Recursion is as deep as the schema's text, which its parser bounds.
fn part(schema: &mut Value) -> Result<(), String> {
    // What is no schema is refused by whoever compiles it.
    let Value::Object(fields) = schema else { return Ok(()) };
    let is_keyword = |key: &str| {
        KNOWN.contains(&key)
            || ANNOTATIONS.contains(&key)
            || key == "nullable"
            || key.starts_with("x-") && key != "x-guidance"
    };
    if let Some(key) = fields.keys().find(|key| !is_keyword(key)) {
        return Err(format!("{key} is no keyword of JSON Schema"));
    }
    for (key, value) in fields.iter_mut() {
        let within = |problem| format!("{key}.{problem}");
        match (key.as_str(), value) {
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
                Value::Object(parts),
            ) => {
                for (name, value) in parts {
                    part(value).map_err(|problem| within(format!("{name}.{problem}")))?;
                }
            }
            ("items" | "prefixItems" | "allOf" | "anyOf" | "oneOf", Value::Array(parts)) => {
                for (i, value) in parts.iter_mut().enumerate() {
                    part(value).map_err(|problem| within(format!("{i}.{problem}")))?;
                }
            }
            (
                "items"
                | "additionalItems"
                | "additionalProperties"
                | "contains"
                | "propertyNames"
                | "not"
                | "if"
                | "then"
                | "else",
                value,
            ) => part(value).map_err(within)?,
            _ => {}
        }
    }
    match fields.remove("nullable") {
        None | Some(Value::Bool(false)) => Ok(()),
        Some(Value::Bool(true)) => allow_null(fields),
        Some(_) => Err("nullable is neither true nor false".to_owned()),
    }
}

/// Lets null through each keyword that would keep it out.
fn allow_null(fields: &mut Map<String, Value>) -> Result<(), String> {
    if let Some(key) = ["allOf", "oneOf", "not", "if"].iter().find(|key| fields.contains_key(**key)) {
        return Err(format!("nullable cannot be kept beside {key}"));
    }
    if let Some(target) = fields.get("$ref").cloned() {
        if fields.contains_key("anyOf") {
            return Err("nullable cannot be kept beside $ref and anyOf".to_owned());
        }
        fields.remove("$ref");
        fields.insert("anyOf".to_owned(), json!([{ "$ref": target }]));
    }
    if let Some(only) = fields.remove("const") {
        fields.insert("enum".to_owned(), json!([only]));
    }
    match fields.get_mut("type") {
        Some(Value::Array(types)) if !types.contains(&json!("null")) => types.push(json!("null")),
        Some(one @ Value::String(_)) if *one != json!("null") => *one = json!([one.clone(), "null"]),
        _ => {}
    }
    if let Some(Value::Array(choices)) = fields.get_mut("enum")
        && !choices.contains(&Value::Null)
    {
        choices.push(Value::Null);
    }
    if let Some(Value::Array(branches)) = fields.get_mut("anyOf") {
        branches.push(json!({"type": "null"}));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_keyword_is_refused_by_its_place() {
        for (mut schema, named) in [
            (json!({"minimun": 3}), "minimun is no keyword"),
            (
                json!({"properties": {"a": {"items": {"maxLenght": 3}}}}),
                "properties.a.items.maxLenght is no keyword",
            ),
            (json!({"anyOf": [{}, {"Type": "string"}]}), "anyOf.1.Type is no keyword"),
            (json!({"$defs": {"a": {"x-guidance": {}}}}), "$defs.a.x-guidance is no keyword"),
            (json!({"items": {"nullable": 1}}), "items.nullable is neither"),
            (json!({"nullable": true, "oneOf": [{}]}), "nullable cannot be kept beside oneOf"),
        ] {
            let said = settle(&mut schema).unwrap_err();
            assert!(said.contains(named), "{said}");
        }
    }

    #[test]
    fn annotations_and_names_of_properties_are_no_keywords() {
        let mut schema = json!({"title": "t", "description": "d", "default": {"minimun": 1}, "examples": [{"a": 1}],
            "$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": "c", "deprecated": true, "x-order": 1,
            "readOnly": true, "writeOnly": false, "enum": [{"minimun": 1}], "const": {"nullable": true},
            "properties": {"minimun": {"type": "string"}, "nullable": {"type": "boolean"}}});
        let before = schema.clone();
        settle(&mut schema).unwrap();
        assert_eq!(schema, before);
    }

    #[test]
    fn nullable_becomes_null() {
        for (mut schema, meant) in [
            (json!({"type": "string", "nullable": true}), json!({"type": ["string", "null"]})),
            (json!({"type": "string", "nullable": false}), json!({"type": "string"})),
            (json!({"type": ["null"], "nullable": true}), json!({"type": ["null"]})),
            (
                json!({"type": "string", "enum": ["a"], "nullable": true}),
                json!({"type": ["string", "null"], "enum": ["a", null]}),
            ),
            (json!({"const": 1, "nullable": true}), json!({"enum": [1, null]})),
            (
                json!({"anyOf": [{"type": "string"}], "nullable": true}),
                json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
            ),
            (
                json!({"$ref": "#/$defs/a", "nullable": true}),
                json!({"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}),
            ),
            (json!({"items": {"minimum": 1, "nullable": true}}), json!({"items": {"minimum": 1}})),
        ] {
            settle(&mut schema).unwrap();
            assert_eq!(schema, meant);
        }
    }
}
