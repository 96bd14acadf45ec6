//! Whether arguments are as a tool declares them: the part of JSON schema that declarations of tools use.
//!
//! Looked at: `type` (one or several), `nullable: true`, `properties`, `required`, `additionalProperties: false`, `items`, `enum`,
//! `minimum`, `maximum`. Other keywords are passed on to the model and not enforced here.

use serde_json::{Map, Value};

use super::conversation::{MAX_DEPTH, is_shallow};

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];

/// Whether `schema` can be used for a tool's parameters; the error says what is wrong.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let Some(fields) = schema.as_object() else { return Err("is no JSON object".into()) };
    if !is_shallow(schema) {
        return Err(format!("is nested deeper than {MAX_DEPTH}"));
    }
    match fields.get("type") {
        None => {}
        Some(Value::String(t)) if t.eq_ignore_ascii_case("object") => {}
        Some(other) => return Err(format!("has the type {other}, parameters are an object")),
    }
    check_part(fields, "")
}

fn check_part(schema: &Map<String, Value>, path: &str) -> Result<(), String> {
    let named = |field: &str| if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
    for t in types(schema) {
        let known = t.as_str().is_some_and(|t| TYPES.iter().any(|k| k.eq_ignore_ascii_case(t)));
        if !known {
            return Err(format!("{} is {t}, which is no type", named("type")));
        }
    }
    if let Some(properties) = schema.get("properties") {
        let Some(properties) = properties.as_object() else {
            return Err(format!("{} is no object", named("properties")));
        };
        for (key, part) in properties {
            let at = named(&format!("properties.{key}"));
            // Keys stand bare in calls.
            if key.is_empty() || key.contains([':', '{', '}', ',', '<']) {
                return Err(format!("{at}: a name of a parameter is not empty and has none of : {{ }} , <"));
            }
            let Some(part) = part.as_object() else { return Err(format!("{at} is no object")) };
            check_part(part, &at)?;
        }
    }
    match schema.get("items") {
        Some(Value::Object(items)) => check_part(items, &named("items"))?,
        Some(_) => return Err(format!("{} is no object", named("items"))),
        None => {}
    }
    for (key, is_right) in [("required", all_strings as fn(&Value) -> bool), ("enum", Value::is_array)] {
        if let Some(value) = schema.get(key)
            && !is_right(value)
        {
            return Err(format!(
                "{} is no array{}",
                named(key),
                if key == "required" { " of strings" } else { "" }
            ));
        }
    }
    for key in ["minimum", "maximum"] {
        if schema.get(key).is_some_and(|bound| !bound.is_number()) {
            return Err(format!("{} is no number", named(key)));
        }
    }
    Ok(())
}

fn all_strings(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(Value::is_string))
}

/// The types that a schema allows; none means any.
fn types(schema: &Map<String, Value>) -> &[Value] {
    match schema.get("type") {
        None => &[],
        Some(Value::Array(several)) => several,
        Some(one) => std::slice::from_ref(one),
    }
}

/// Whether `value` is as a checked schema wants it.
pub(super) fn is_valid(value: &Value, schema: &Map<String, Value>) -> bool {
    if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
        return true;
    }
    let types = types(schema);
    let allowed = |t: &Value| t.as_str().is_some_and(|t| is_of_type(value, &t.to_ascii_lowercase()));
    if !types.is_empty() && !types.iter().any(allowed) {
        return false;
    }
    if let Some(Value::Array(choices)) = schema.get("enum")
        && !choices.contains(value)
    {
        return false;
    }
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    if let Some(n) = value.as_f64()
        && (bound("minimum").is_some_and(|least| n < least) || bound("maximum").is_some_and(|most| n > most))
    {
        return false;
    }
    match value {
        Value::Object(fields) => is_valid_object(fields, schema),
        Value::Array(items) => match schema.get("items") {
            Some(Value::Object(part)) => items.iter().all(|item| is_valid(item, part)),
            _ => true,
        },
        _ => true,
    }
}

/// Whether arguments, or an object among them, are as a checked schema wants them.
pub(super) fn is_valid_object(fields: &Map<String, Value>, schema: &Map<String, Value>) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array);
    let all_there =
        required.is_none_or(|keys| keys.iter().filter_map(Value::as_str).all(|key| fields.contains_key(key)));
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    all_there
        && fields.iter().all(|(key, value)| match properties.and_then(|p| p.get(key)) {
            Some(Value::Object(part)) => is_valid(value, part),
            _ => !closed,
        })
}

fn is_of_type(value: &Value, t: &str) -> bool {
    match t {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => false,
    }
}
