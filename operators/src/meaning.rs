//! A stored plan's meaning, read back: which steps a table went through, in which order, and where its sinks write. Pure.
//!
//! `meaning.json` names steps by name and not in order, so the order is made again from their inputs. What can go wrong: a file of another program;
//! what is not understood is left out.

use serde_json::Value;

use crate::sources::files::is_url;

/// A step of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanStep<'a> {
    /// Its name in the pipeline.
    pub name: &'a str,
    /// Its operator.
    pub operator: &'a str,
    /// The operator's version.
    pub version: u64,
    /// What the pipeline set, defaults included.
    pub parameters: &'a Value,
    /// Key and blake3 of the files that are part of the meaning.
    pub files: Vec<(&'a str, &'a str)>,
    /// The steps that feed it.
    pub inputs: Vec<&'a str>,
}

/// A table or folder that a plan writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// The step.
    pub step: String,
    /// Its folder or URL.
    pub place: String,
    /// JSON Lines, which have no versions.
    pub is_jsonl: bool,
}

/// The steps, each behind those that feed it; neighbours by name.
pub fn steps(meaning: &Value) -> Vec<PlanStep<'_>> {
    let mut left: Vec<PlanStep> =
        meaning["steps"].as_object().into_iter().flatten().map(|(name, step)| step_of(name, step)).collect();
    left.sort_by_key(|step| step.name);
    let mut out: Vec<PlanStep> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let ready = left.iter().position(|step| step.inputs.iter().all(|input| out.iter().any(|done| done.name == *input)));
        // A step whose input is not there is shown where it is.
        out.push(left.remove(ready.unwrap_or(0)));
    }
    out
}

fn step_of<'a>(name: &'a str, step: &'a Value) -> PlanStep<'a> {
    let text = |value: &'a Value| value.as_str().unwrap_or_default();
    let items = |key: &str| step[key].as_array().into_iter().flatten();
    PlanStep {
        name,
        operator: text(&step["type"]),
        version: step["version"].as_u64().unwrap_or(0),
        parameters: &step["parameters"],
        files: items("files").map(|file| (text(&file["key"]), text(&file["blake3"]))).collect(),
        inputs: items("inputs").filter_map(Value::as_str).collect(),
    }
}

/// What the plan writes below an output.
pub fn sinks(meaning: &Value, output: &str) -> Vec<Sink> {
    let sink = |step: &PlanStep| {
        let location = step.parameters["location"].as_str().unwrap_or(step.name).trim_end_matches('/');
        let place =
            if is_url(location) || location.starts_with('/') { location.to_owned() } else { format!("{output}/{location}") };
        Sink { step: step.name.to_owned(), place, is_jsonl: step.operator == "jsonl" }
    };
    steps(meaning).iter().filter(|step| ["parquet", "jsonl"].contains(&step.operator)).map(sink).collect()
}

/// The steps that a sink's rows went through, in order, without the sink.
pub fn before<'a>(meaning: &'a Value, sink: &str) -> Vec<PlanStep<'a>> {
    let all = steps(meaning);
    let mut wanted: Vec<&str> = vec![sink];
    for step in all.iter().rev() {
        if wanted.contains(&step.name) {
            wanted.extend(&step.inputs);
        }
    }
    all.iter().filter(|step| step.name != sink && wanted.contains(&step.name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn steps_come_behind_their_inputs_and_sinks_where_they_write() {
        let meaning = json!({"steps": {
            "a_last": {"type": "parquet", "inputs": ["m"], "parameters": {"location": "clips"}},
            "b": {"type": "jsonl", "inputs": ["z"], "parameters": {}},
            "m": {"type": "filter", "version": 2, "inputs": ["z"], "parameters": {"keep_if": "x > 1"}, "files": [{"key": "head", "blake3": "ab"}]},
            "z": {"type": "videos", "inputs": [], "parameters": {}},
        }});
        let names = |steps: Vec<PlanStep>| steps.iter().map(|s| s.name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(steps(&meaning)), ["z", "b", "m", "a_last"]);
        assert_eq!(names(before(&meaning, "a_last")), ["z", "m"]);
        assert_eq!(steps(&meaning)[2].files, [("head", "ab")]);
        let places: Vec<_> = sinks(&meaning, "/out").into_iter().map(|s| (s.place, s.is_jsonl)).collect();
        assert_eq!(places, [("/out/b".to_owned(), true), ("/out/clips".to_owned(), false)]);
        // Inputs that are nowhere, and a circle, end.
        let broken = json!({"steps": {"a": {"inputs": ["b"]}, "b": {"inputs": ["a", "none"]}}});
        assert_eq!(steps(&broken).len(), 2);
        assert!(steps(&json!(3)).is_empty());
    }
}
