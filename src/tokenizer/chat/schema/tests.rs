//! Schemas of real clients, every keyword both ways, and what strangers may send.

use serde_json::{Value, json};

use super::*;

fn validator(schema: &Value) -> Validator {
    Validator::new(schema, &mut Patterns::new()).unwrap_or_else(|problem| panic!("{schema}: {problem}"))
}

fn refusal(schema: &Value) -> String {
    Validator::new(schema, &mut Patterns::new()).expect_err(&schema.to_string())
}

/// Whether arguments whose `x` is this value are valid where `x` has this schema.
fn allows(schema: &Value, value: &Value) -> bool {
    validator(&json!({"properties": {"x": schema}})).allows(&json!({"x": value}))
}

#[test]
fn every_keyword_is_kept() {
    for (schema, valid, others) in [
        (json!({"type": ["STRING", "null"]}), json!(["a", null]), json!([1, [], {}, true])),
        (json!({"type": "integer"}), json!([1, 1.0, -7]), json!([1.5, "1"])),
        (json!({"type": "string", "nullable": true, "enum": ["a"]}), json!(["a", null]), json!(["b"])),
        (
            json!({"enum": [1, {"a": [2]}]}),
            json!([1, 1.0, {"a": [2.0]}]),
            json!([2, {"a": []}, {"a": [2], "b": 1}]),
        ),
        (json!({"const": null}), json!([null]), json!([0, "null"])),
        (json!({"minimum": 1, "maximum": 3}), json!([1, 3, "x"]), json!([0.99, 3.01])),
        (json!({"exclusiveMinimum": 1, "exclusiveMaximum": 3}), json!([1.01, 2]), json!([1, 3])),
        (json!({"minimum": 1, "exclusiveMinimum": true}), json!([2]), json!([1])),
        (json!({"maximum": 3, "exclusiveMaximum": true}), json!([2]), json!([3])),
        (json!({"multipleOf": 0.1}), json!([0.3, 7]), json!([0.35])),
        (json!({"minLength": 2, "maxLength": 3}), json!(["éé", "abc", 1]), json!(["é", "abcd"])),
        (json!({"pattern": "^[a-z]+$"}), json!(["abc", 7]), json!(["", "Abc"])),
        (json!({"minItems": 1, "maxItems": 2}), json!([[1], [1, 2], "x"]), json!([[], [1, 2, 3]])),
        (json!({"items": {"type": "boolean"}}), json!([[], [true]]), json!([[true, 1]])),
        (json!({"items": false}), json!([[]]), json!([[1]])),
        (
            json!({"prefixItems": [{"type": "string"}], "items": {"type": "null"}}),
            json!([[], ["a", null]]),
            json!([[1], ["a", 1]]),
        ),
        (
            json!({"items": [{"type": "string"}], "additionalItems": false}),
            json!([[], ["a"]]),
            json!([[1], ["a", 1]]),
        ),
        (json!({"uniqueItems": true}), json!([[], [1, 2, "1"]]), json!([[1, 2, 1.0], [{"a": 1}, {"a": 1}]])),
        (json!({"contains": {"const": 1}}), json!([[2, 1]]), json!([[], [2]])),
        (
            json!({"contains": {"const": 1}, "minContains": 0, "maxContains": 1}),
            json!([[], [1, 2]]),
            json!([[1, 1]]),
        ),
        (json!({"required": ["a"]}), json!([{"a": null}, []]), json!([{}, {"b": 1}])),
        (
            json!({"minProperties": 1, "maxProperties": 2}),
            json!([{"a": 1}]),
            json!([{}, {"a": 1, "b": 1, "c": 1}]),
        ),
        (
            json!({"properties": {"a": {"type": "string"}}, "additionalProperties": false}),
            json!([{}, {"a": "b"}]),
            json!([{"a": 1}, {"b": 1}]),
        ),
        (
            json!({"patternProperties": {"^n_": {"type": "number"}}, "additionalProperties": {"type": "string"}}),
            json!([{"n_a": 1, "b": "c"}]),
            json!([{"n_a": "1"}, {"b": 1}]),
        ),
        (json!({"propertyNames": {"maxLength": 2}}), json!([{"ab": 1}]), json!([{"abc": 1}])),
        (json!({"dependentRequired": {"a": ["b"]}}), json!([{"b": 1}, {"a": 1, "b": 1}]), json!([{"a": 1}])),
        (
            json!({"dependentSchemas": {"a": {"required": ["b"]}}}),
            json!([{}, {"a": 1, "b": 1}]),
            json!([{"a": 1}]),
        ),
        (
            json!({"dependencies": {"a": ["b"], "c": {"maxProperties": 1}}}),
            json!([{"c": 1}]),
            json!([{"a": 1}, {"c": 1, "d": 1}]),
        ),
        (json!({"allOf": [{"minimum": 1}, {"maximum": 2}]}), json!([1, 2]), json!([0, 3])),
        (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!(["a", null]), json!([1])),
        (json!({"oneOf": [{"minimum": 5}, {"type": "integer"}]}), json!([7.5, 3]), json!([7, 1.5])),
        (json!({"not": {"type": "string"}}), json!([1]), json!(["a"])),
        (
            json!({"if": {"type": "string"}, "then": {"maxLength": 1}, "else": {"type": "null"}}),
            json!(["a", null]),
            json!(["ab", 1]),
        ),
        (json!({"then": false}), json!([1]), json!([])),
        (
            json!({"type": "number", "format": "date", "title": "n", "default": "x", "x-y": 1, "nulable": 1}),
            json!([1]),
            json!(["a"]),
        ),
    ] {
        for value in valid.as_array().unwrap() {
            assert!(allows(&schema, value), "{schema} allows {value}");
        }
        for value in others.as_array().unwrap() {
            assert!(!allows(&schema, value), "{schema} does not allow {value}");
        }
    }
}

/// As voluptuous_openapi (Home Assistant) and pydantic write them.
#[test]
fn schemas_of_clients_are_taken_and_kept() {
    let home = json!({"type": "object", "properties": {
        "name": {"type": "string"},
        "domain": {"type": "array", "items": {"type": "string", "enum": ["light", "fan"]}},
        "brightness": {"type": "integer", "minimum": 0, "maximum": 100, "nullable": true},
        "temperature": {"anyOf": [{"type": "integer", "nullable": true}, {"type": "string"}]},
        "at": {"type": "string", "format": "date-time", "default": ""},
        "nothing": {"type": "object", "nullable": true, "description": "Must be null"},
        "both": {"allOf": [{"type": "number"}, {"minimum": 3}]}}, "required": []});
    let validated = validator(&home);
    assert!(
        validated
            .allows(&json!({"domain": ["fan"], "brightness": null, "temperature": null, "nothing": null}))
    );
    for wrong in [
        json!({"domain": ["door"]}),
        json!({"brightness": 101}),
        json!({"temperature": 1.5}),
        json!({"both": 2}),
    ] {
        assert!(!validated.allows(&wrong), "{wrong}");
    }
    let pydantic = json!({"type": "object", "title": "Args", "required": ["room"], "properties": {
        "room": {"$ref": "#/$defs/Room", "description": "which"},
        "level": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}], "default": null, "title": "Level"},
        "shape": {"discriminator": {"propertyName": "kind", "mapping": {"dot": "#/$defs/Dot"}}, "oneOf": [{"$ref": "#/$defs/Dot"}]}},
        "$defs": {"Room": {"title": "Room", "type": "string", "enum": ["bath"]},
            "Dot": {"properties": {"kind": {"const": "dot"}, "next": {"anyOf": [{"$ref": "#/$defs/Dot"}, {"type": "null"}]}}, "required": ["kind"]}}});
    let validated = validator(&pydantic);
    assert!(
        validated.allows(
            &json!({"room": "bath", "level": null, "shape": {"kind": "dot", "next": {"kind": "dot"}}})
        )
    );
    for wrong in [
        json!({}),
        json!({"room": "hall"}),
        json!({"room": "bath", "level": 0}),
        json!({"room": "bath", "shape": {"kind": "dot", "next": {"kind": "line"}}}),
    ] {
        assert!(!validated.allows(&wrong), "{wrong}");
    }
    let root =
        json!({"$ref": "#/definitions/a", "definitions": {"a": {"type": "object", "required": ["x"]}}});
    assert!(validator(&root).allows(&json!({"x": 1})) && !validator(&root).allows(&json!({})));
}

#[test]
fn what_cannot_be_kept_is_refused_by_its_place() {
    for (schema, named) in [
        (json!({"unevaluatedProperties": false}), "properties.x.unevaluatedProperties is not supported"),
        (json!({"items": {"$dynamicRef": "#a"}}), "properties.x.items.$dynamicRef is not supported"),
        (json!({"$id": "other"}), "properties.x.$id"),
        (json!({"$ref": "#/$defs/none"}), "properties.x.$ref is \"#/$defs/none\""),
        (json!({"$ref": "http://example.org/schema"}), "names no part"),
        (json!({"$ref": "file:///etc/passwd"}), "names no part"),
        (json!({"$ref": "#/properties/x"}), "comes back to itself"),
        (json!({"anyOf": [{"not": {"$ref": "#/properties/x"}}]}), "comes back to itself"),
        (json!({"$ref": "#/x-parts/0"}), "names no part"),
        (json!({"anyOf": [{}, {"pattern": "(?=a)"}]}), "properties.x.anyOf[1].pattern is \"(?=a)\""),
        (json!({"patternProperties": {"(": {}}}), "properties.x.patternProperties"),
        (json!({"oneOf": []}), "properties.x.oneOf is empty"),
        (json!({"allOf": {}}), "properties.x.allOf is no array"),
        (json!({"nullable": "yes"}), "properties.x.nullable"),
        (json!({"minLength": -1}), "properties.x.minLength"),
        (json!({"multipleOf": 0}), "properties.x.multipleOf"),
        (json!({"type": []}), "properties.x.type"),
        (json!({"items": 3}), "properties.x.items is no object"),
        (json!({"$defs": {"a": {"properties": {"b:c": {}}}}}), "properties.x.$defs.a.properties"),
        (
            json!({"default": {"pattern": "("}, "$ref": "#/properties/x/default"}),
            "#/properties/x/default.pattern",
        ),
    ] {
        let said = refusal(&json!({"properties": {"x": schema}}));
        assert!(said.contains(named) && said.chars().count() <= 410, "{schema}: {said}");
    }
    assert!(refusal(&json!({"properties": {"é".repeat(9000): 1}})).chars().count() <= 410);
}

/// Each is refused, or takes bounded steps and stack.
#[test]
fn strangers_schemas_and_values_are_borne() {
    let chain = |n: usize| {
        let links = (0..n).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)})));
        let mut defs: serde_json::Map<String, Value> = links.collect();
        defs.insert(format!("d{n}"), json!({}));
        json!({"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": defs})
    };
    assert!(validator(&chain(circles::MAX_CHAIN - 1)).allows(&json!({"x": 1})));
    for n in [circles::MAX_CHAIN, 20_000] {
        assert!(refusal(&chain(n)).contains("one within the other"), "{n}");
    }
    // Every level doubles the ways: without a bound 2^28 of them.
    let twice = json!({"$ref": "#/$defs/d"});
    let doubling = json!({"properties": {"x": twice},
        "$defs": {"d": {"anyOf": [{"type": "array", "items": twice}, {"type": "array", "items": twice}]}}});
    let nested = (0..28).fold(json!(1), |inner, _| json!([inner]));
    assert!(!validator(&doubling).allows(&json!({"x": nested})));
    // What cannot be told is not valid, and neither is its opposite.
    let opposite = json!({"properties": {"x": {"not": twice}}, "$defs": doubling["$defs"]});
    assert!(!validator(&opposite).allows(&json!({"x": nested})));
    let many: Vec<u32> = (0..8000).collect();
    assert!(!allows(&json!({"uniqueItems": true}), &json!(many)));
    assert!(allows(&json!({"uniqueItems": true}), &json!(many[..300])));
    // As deep as schema and value may be, with the longest chain at each level.
    let defs: serde_json::Map<String, Value> = (0..9)
        .map(|i| {
            (format!("d{i}"), json!({"anyOf": [{"type": "null"}, {"$ref": format!("#/$defs/d{}", i + 1)}]}))
        })
        .chain([("d9".to_owned(), json!({"type": "array", "items": {"$ref": "#/$defs/d0"}}))])
        .collect();
    let deep = json!({"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": defs});
    let nested = (0..30).fold(json!(null), |inner, _| json!([inner]));
    assert!(validator(&deep).allows(&json!({"x": nested})));
    assert!(refusal(&(0..40).fold(json!({}), |inner, _| json!({"not": inner}))).contains("nested deeper"));
}
