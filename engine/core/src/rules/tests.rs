//! The reference loggers' results, and the fast path against a slow obvious one.

use std::path::Path;

use serde_json::Value;

use super::*;

/// The test vectors of one file, or nothing (said loudly) when this checkout has none beside it.
pub(crate) fn vectors(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/spec/vectors")
        .join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no vectors at {}", path.display());
        return Vec::new();
    };
    let Value::Object(mut file) = serde_json::from_str(&text).unwrap() else {
        panic!("{name} is no object")
    };
    let Some(Value::Array(vectors)) = file.remove("vectors") else {
        panic!("{name} has no vectors")
    };
    vectors
}

fn details(value: &Value) -> Vec<(String, Vec<u8>)> {
    let pairs = value.as_array().unwrap().iter();
    pairs
        .map(|pair| {
            (
                pair[0].as_str().unwrap().to_owned(),
                pair[1].as_str().unwrap().as_bytes().to_vec(),
            )
        })
        .collect()
}

/// The result of a vector in the form that the files use for one logger's output.
fn outcome(rules: &str, details_in: &Value) -> Value {
    match RuleSet::parse(rules) {
        Err(error) => serde_json::json!({ "error": error.class.name() }),
        Ok(rules) => {
            let left = apply_all(&rules, &details(details_in), &mut Sampler::new(1));
            let left = left.map(|left| {
                let pairs = left
                    .into_iter()
                    .map(|(key, value)| vec![key, String::from_utf8(value).unwrap()]);
                pairs.collect::<Vec<_>>()
            });
            serde_json::json!({ "out": left })
        }
    }
}

fn expected(vector: &Value) -> Value {
    match vector.get("expected_error") {
        Some(class) => serde_json::json!({ "error": class }),
        None => serde_json::json!({ "out": vector["expected_out"] }),
    }
}

#[test]
fn rules_do_what_the_reference_loggers_do() {
    let mut wrong = Vec::new();
    for vector in vectors("rules-vectors.json") {
        let ours = outcome(vector["rules"].as_str().unwrap(), &vector["details_in"]);
        let others = vector["outputs"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, output)| output);
        let allowed = if vector.get("latitude").is_some() {
            others.cloned().collect()
        } else {
            Vec::new()
        };
        if ours != expected(&vector) && !allowed.contains(&ours) {
            wrong.push(format!(
                "{}: {}\n  ours     {ours}\n  expected {}",
                vector["name"],
                vector["rules"],
                expected(&vector)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn lines_are_read_as_the_reference_loggers_read_them() {
    let mut wrong = Vec::new();
    for vector in vectors("rules-parse-vectors.json") {
        let text = vector["rule_text"].as_str().unwrap();
        // Blank text would be the default set; as one line of a set it is blank.
        let ours = match RuleSet::parse(&format!("#\n{text}")) {
            Ok(_) => Value::Null,
            Err(error) => error.class.name().into(),
        };
        let expected = vector.get("error").cloned().unwrap_or(Value::Null);
        if ours != expected && vector.get("latitude").is_none() {
            wrong.push(format!("{text:?}: ours {ours}, expected {expected}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
