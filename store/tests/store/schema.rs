//! A checker of JSON against the part of JSON Schema that the tests' descriptions use. An unknown keyword is an error, so that a
//! description cannot state what nothing checks.

use serde_json::Value;

/// Checks a value; `root` is the document that references begin at.
pub(crate) fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    at(root, schema, value, "$")
}

/// What a reference names.
pub(crate) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => {
            let pointer = path.strip_prefix('#').expect("in the same document");
            let found = root.pointer(pointer);
            resolve(root, found.unwrap_or_else(|| panic!("{path} is nowhere")))
        }
        None => schema,
    }
}

fn at(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let schema = resolve(root, schema);
    for (keyword, given) in schema.as_object().expect("a schema is an object") {
        let wrong = |what: String| Err(format!("{place}: {what}, not {value}"));
        match keyword.as_str() {
            "description" | "properties" | "definitions" => {}
            "type" => {
                let one = |name: &Value| is_of(name.as_str().expect("a name"), value);
                let is_one = given
                    .as_array()
                    .map_or_else(|| one(given), |all| all.iter().any(one));
                if !is_one {
                    return wrong(format!("expected {given}"));
                }
            }
            "enum" if !given.as_array().expect("a list").contains(value) => {
                return wrong(format!("expected one of {given}"));
            }
            "minimum" if value.as_f64() < given.as_f64() => {
                return wrong(format!("expected at least {given}"));
            }
            "pattern" => {
                let pattern =
                    regex::Regex::new(given.as_str().expect("a text")).expect("a pattern");
                if !pattern.is_match(value.as_str().unwrap_or_default()) {
                    return wrong(format!("expected {given}"));
                }
            }
            "enum" | "minimum" => {}
            "anyOf" => {
                let all = given.as_array().expect("a list");
                if !all.iter().any(|one| at(root, one, value, place).is_ok()) {
                    return wrong("expected one of several forms".into());
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    at(root, given, item, &format!("{place}[{index}]"))?;
                }
            }
            "required" => {
                for name in given.as_array().expect("a list") {
                    if value.get(name.as_str().expect("a name")).is_none() {
                        return wrong(format!("{name} is missing"));
                    }
                }
            }
            "additionalProperties" => assert_eq!(given, &Value::Bool(false)),
            unknown => panic!("{place}: nothing checks {unknown}"),
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => at(root, schema, member, &format!("{place}.{name}"))?,
            None if schema["additionalProperties"] == Value::Bool(false)
                && !name.starts_with('_') =>
            {
                return Err(format!("{place}: {name} is not described"));
            }
            None => {}
        }
    }
    Ok(())
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no such type: {other}"),
    }
}

#[test]
fn what_does_not_fit_is_found() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": { "a": { "type": ["integer", "null"] }, "b": { "type": "array", "items": { "enum": ["x"] } } },
    });
    let fits = |value: Value| check(&schema, &schema, &value).is_ok();
    assert!(fits(serde_json::json!({"a": 1, "b": ["x"]})));
    assert!(fits(serde_json::json!({"a": null})));
    for value in [
        serde_json::json!({"b": []}),
        serde_json::json!({"a": 1.5}),
        serde_json::json!({"a": 1, "b": ["y"]}),
        serde_json::json!({"a": 1, "c": 1}),
        serde_json::json!([]),
    ] {
        assert!(!fits(value.clone()), "{value}");
    }
}
