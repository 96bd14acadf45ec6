//! Keeps numbers to sizes that readers take. JSON has numbers of any length and any exponent, and a model that begins
//! to write digits may go on for ever; readers refuse what exceeds their types.

use serde_json::{Map, Value};

/// Whole numbers up to this are exact for every reader.
const MAX_NUMBER: i64 = 999_999_999_999_999;
const BOUNDS: [&str; 4] = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"];

/// Gives bounds to the numbers of a schema that have none. What says more than its type about itself elsewhere stays
/// as it is: together they might leave no number at all.
pub(super) fn bound_numbers(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    let is_number = match fields.get("type") {
        Some(Value::String(t)) => t == "number" || t == "integer",
        Some(Value::Array(several)) => several.iter().any(|t| t == "number" || t == "integer"),
        _ => false,
    };
    let elsewhere = ["allOf", "anyOf", "oneOf", "$ref"].iter().any(|key| fields.contains_key(*key));
    if is_number && !elsewhere {
        bound(fields);
    }
    let has_bounds = BOUNDS.iter().any(|key| fields.contains_key(*key));
    for (key, part) in fields {
        match (key.as_str(), part) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(parts)) => {
                parts.values_mut().for_each(bound_numbers);
            }
            ("items" | "additionalItems" | "additionalProperties", part @ Value::Object(_)) => {
                bound_numbers(part)
            }
            ("items" | "prefixItems", Value::Array(parts)) => parts.iter_mut().for_each(bound_numbers),
            ("anyOf" | "oneOf", Value::Array(parts)) if !has_bounds => {
                parts.iter_mut().for_each(bound_numbers)
            }
            _ => {}
        }
    }
}

fn bound(fields: &mut Map<String, Value>) {
    let bounds = BOUNDS.map(|key| fields.get(key).and_then(Value::as_f64));
    if bounds.iter().flatten().any(|bound| bound.abs() >= MAX_NUMBER as f64) {
        return;
    }
    let [minimum, above, maximum, below] = bounds;
    if minimum.or(above).is_none() {
        fields.insert("minimum".to_owned(), (-MAX_NUMBER).into());
    }
    if maximum.or(below).is_none() {
        fields.insert("maximum".to_owned(), MAX_NUMBER.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_without_bounds_get_them_and_others_keep_theirs() {
        let (least, most) = (-MAX_NUMBER, MAX_NUMBER);
        let same = |schema: Value| (schema.clone(), schema);
        for (mut given, bound) in [
            (json!({"type": "number"}), json!({"type": "number", "minimum": least, "maximum": most})),
            (
                json!({"type": "integer", "exclusiveMinimum": 3}),
                json!({"type": "integer", "exclusiveMinimum": 3, "maximum": most}),
            ),
            (
                json!({"anyOf": [{"items": {"type": ["null", "number"]}}]}),
                json!({"anyOf": [{"items": {"type": ["null", "number"], "minimum": least, "maximum": most}}]}),
            ),
            (
                json!({"properties": {"minimum": {"type": "integer"}}}),
                json!({"properties": {"minimum": {"type": "integer", "minimum": least, "maximum": most}}}),
            ),
            same(json!({"type": "integer", "minimum": 1e18})),
            same(json!({"minimum": 1e18, "anyOf": [{"type": "number"}]})),
            same(json!({"const": {"type": "number"}})),
            same(json!({"type": "string"})),
            same(json!(true)),
        ] {
            bound_numbers(&mut given);
            assert_eq!(given, bound);
        }
    }
}
