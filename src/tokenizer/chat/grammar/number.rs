//! Numbers within bounds.

use serde_json::{Map, Value, json};

/// Whole numbers that every reader of JSON has exactly. Larger ones come only where a schema asks for them.
const MAX_NUMBER: i64 = 999_999_999_999_999;

/// What bounds a number.
pub(super) const BOUNDS: [&str; 4] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];

/// Numbers of the type `t`, "integer" or "number".
pub(super) fn number(t: &str, schema: &Map<String, Value>) -> String {
    let bounds = BOUNDS.map(|key| schema.get(key).filter(|bound| bound.is_number()).cloned());
    if bounds.iter().all(Option::is_none) {
        return if t == "integer" { "INTEGER".to_owned() } else { "NUMBER".to_owned() };
    }
    let [minimum, maximum, above, below] = bounds;
    let far = |bound: &Option<Value>| {
        bound.as_ref().and_then(Value::as_f64).is_some_and(|bound| bound.abs() >= MAX_NUMBER as f64)
    };
    let mut part = json!({"type": t, "x-guidance": {"whitespace_flexible": false}});
    // A bound on the other side as well: without one a number may have digits for ever.
    if minimum.is_none() && above.is_none() && !far(&maximum) && !far(&below) {
        part["minimum"] = (-MAX_NUMBER).into();
    }
    if maximum.is_none() && below.is_none() && !far(&minimum) && !far(&above) {
        part["maximum"] = MAX_NUMBER.into();
    }
    for (key, bound) in BOUNDS.into_iter().zip([minimum, maximum, above, below]) {
        if let Some(bound) = bound {
            part[key] = bound;
        }
    }
    format!("%json {part}")
}
