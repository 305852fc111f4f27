//! The JSON Schema of a pipeline file, draft-07: what editors complete and check while typing.

use serde_json::{Map, Value, json};

use crate::check::schema_of;
use crate::config::schema::first_sentence;
use crate::graph::{EngineSettings, OnUnmeasured, PipelineSettings, RuntimeSettings};
use crate::operator::{Entry, Kind};

/// The schema of a whole file: `pipeline`, `engine`, and each step one of the registry's operators.
pub fn json_schema(registry: &[Entry]) -> Value {
    let steps: Vec<Value> = registry.iter().map(step).collect();
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "curette pipeline",
        "type": "object",
        "properties": {
            "pipeline": part(schema_of::<PipelineSettings>()),
            "engine": part(schema_of::<EngineSettings>()),
            "runtime": part(schema_of::<RuntimeSettings>()),
            "step": {
                "description": "One table per step: `[step.NAME]`.",
                "type": "object",
                "propertyNames": { "pattern": "^[A-Za-z0-9_-]{1,64}$" },
                "additionalProperties": { "type": "object", "required": ["type"], "oneOf": steps },
            },
        },
        "required": ["pipeline", "step"],
        "additionalProperties": false,
    });
    for_toml(&mut schema);
    schema
}

/// A default as a person would write it: no null (TOML has none), no masked secret, and 0.3 instead of 0.30000001192092896.
pub(super) fn tidy_default(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null() && v != "***");
            map.values_mut().for_each(tidy_default);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy_default),
        Value::Number(n) if n.is_f64() => {
            #[expect(clippy::cast_possible_truncation, reason = "looks whether it was a Float32")]
            let narrow = n.as_f64().map(|wide| (wide, wide as f32)).filter(|(wide, narrow)| f64::from(*narrow) == *wide);
            if let Some(short) = narrow.and_then(|(_, narrow)| narrow.to_string().parse::<f64>().ok()) {
                *value = json!(short);
            }
        }
        _ => {}
    }
}

/// TOML has no null: an editor should offer neither the type nor the value. Nor the mask of a secret as its default.
fn for_toml(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("default").is_some_and(|d| d.is_null() || d == "***") {
                map.shift_remove("default");
            }
            map.get_mut("default").into_iter().for_each(tidy_default);
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|t| t != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    map.insert("type".into(), one);
                }
            }
            for key in ["anyOf", "oneOf"] {
                if let Some(Value::Array(alternatives)) = map.get_mut(key) {
                    alternatives.retain(|a| a.get("type").and_then(Value::as_str) != Some("null"));
                }
            }
            if let Some(Value::Array(names)) = map.get_mut("enum") {
                names.retain(|n| !n.is_null());
            }
            map.values_mut().for_each(for_toml);
        }
        Value::Array(items) => items.iter_mut().for_each(for_toml),
        _ => {}
    }
}

/// A schema inside of another has no `$schema` of its own.
fn part(mut schema: Value) -> Value {
    if let Some(map) = schema.as_object_mut() {
        map.shift_remove("$schema");
    }
    schema
}

fn step(entry: &Entry) -> Value {
    let mut own = part((entry.schema)());
    let doc = own.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut properties = Map::new();
    properties.insert("type".into(), json!({ "const": entry.name, "description": first_sentence(&doc) }));
    if entry.kind != Kind::Source {
        properties.insert(
            "inputs".into(),
            json!({
                "description": "Names of the steps whose rows it reads.",
                "type": "array",
                "items": { "type": "string" },
                "minItems": 1,
                "uniqueItems": true,
            }),
        );
        properties.insert(
            "balance".into(),
            json!({
                "description": "Spread the input rows over all workers by a hash of the row id. Default: true right behind a source or an \
                                expanding step, else false.",
                "type": "boolean",
            }),
        );
    }
    if entry.kind != Kind::Sink {
        let mut on_unmeasured = part(schema_of::<OnUnmeasured>());
        if let Some(map) = on_unmeasured.as_object_mut() {
            map.shift_remove("title");
            map.insert("default".into(), json!("error"));
        }
        properties.insert("on_unmeasured".into(), on_unmeasured);
    }
    let mut required = vec![json!("type")];
    if entry.kind != Kind::Source {
        required.push(json!("inputs"));
    }
    if let Some(map) = own.as_object_mut() {
        if let Some(Value::Object(of_operator)) = map.shift_remove("properties") {
            properties.extend(of_operator);
        }
        required.extend(map.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
        map.insert("title".into(), json!(entry.name));
        map.insert("type".into(), json!("object"));
        map.insert("properties".into(), Value::Object(properties));
        map.insert("required".into(), Value::Array(required));
        map.insert("additionalProperties".into(), json!(false));
    }
    own
}
