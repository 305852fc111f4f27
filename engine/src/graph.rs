//! A checked pipeline: steps in topological order, one Arrow schema per edge, every parameter valid.
//!
//! Why a type of its own: after `check` nothing can be misspelt any more, so the planner and the dataflow index steps by number and never look at
//! TOML again. What can go wrong: [`Graph::meaning`] decides which work is redone after an edit; a parameter that changes the output but is left
//! out of it (see [`crate::operator::Operator::cosmetic_keys`]) would mix old and new rows in one table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::operator::{DynOperator, Kind, Paths};

/// What happens to a row that a step could not measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnmeasured {
    /// The row is dropped and recorded in `errors`; it counts for `max_error_rate`.
    #[default]
    Error,
    /// The row is dropped and recorded in `rejects`.
    Reject,
    /// The row goes on with nulls and is recorded in `errors` with `kept = true`. Not for expanding steps.
    Keep,
}

/// The `[pipeline]` table.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineSettings {
    /// Name of the pipeline: letters, digits, `-` and `_`. Shown in logs; does not change the plan.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Folder or URL (`s3://bucket/prefix`) for tables, from the pipeline file's folder if relative.
    pub output: String,
    /// The run fails (exit code 4) when more than this share of the rows that entered a step ended as errors there (0 to 1). The share is rounded up
    /// to whole rows: 0.1 allows one bad file among three, and three among 25; 0 allows none. Midway it stops the run once at least 20 rows entered
    /// the step; at the end it is held against all rows that the tables stand for, those of earlier runs included, however few they are.
    #[serde(default = "default_max_error_rate")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_error_rate: f64,
    /// A split holds at most this many inputs (1 to 100000).
    #[serde(default = "default_split_max_items")]
    #[schemars(range(min = 1, max = 100_000))]
    pub split_max_items: u64,
    /// A split closes when the summed cost of its inputs (about: bytes) reaches this.
    #[serde(default = "default_split_max_cost")]
    #[schemars(range(min = 1))]
    pub split_max_cost_bytes: u64,
    /// What a run does when inputs are new, changed or gone since the tables were made and nothing else differs.
    #[serde(default)]
    pub on_new_inputs: OnNewInputs,
    /// Counts of another run of these steps, a paper's for example, to be shown beside ours; changes nothing else.
    #[serde(default)]
    pub reference: Option<Reference>,
}

/// What a run does when its inputs differ from those that the tables were made from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNewInputs {
    /// It is refused, and `--new-version` goes on.
    #[default]
    Refuse,
    /// It begins a new version by itself; kept answers make that cost about the difference, and older versions stay readable.
    NewVersion,
}

/// Counts of another run: `[pipeline.reference]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Where the counts are from.
    pub source: String,
    /// Rows that came out of a step there, by the step's name here.
    pub rows_out: BTreeMap<String, u64>,
}

fn default_max_error_rate() -> f64 {
    0.1
}
fn default_split_max_items() -> u64 {
    64
}
fn default_split_max_cost() -> u64 {
    4 << 30
}

/// Threads per pool of one process: `[engine.pools]`. Zero means: as many as the machine has cores (`gpu`: 1; `net`: 64, or as many as its steps
/// ask for, up to 1024: twice their `max_in_flight`).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSettings {
    /// Decoding and encoding of video.
    #[schemars(range(max = 4096))]
    pub decode: usize,
    /// Computation.
    #[schemars(range(max = 4096))]
    pub cpu: usize,
    /// Inference of steps that do nothing else (0 = as many as cores where `[runtime] providers` is the processor alone, else 1).
    #[schemars(range(max = 4096))]
    pub gpu: usize,
    /// Waiting for other machines.
    #[schemars(range(max = 4096))]
    pub net: usize,
}

/// The `[engine]` table: how fast, never what. Nothing here enters the plan hash.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Worker threads per process (0 = cores). `-w` overrides.
    #[schemars(range(max = 1024))]
    pub workers: usize,
    /// Splits open at once over the whole cluster (0 = two per worker).
    #[schemars(range(max = 65_536))]
    pub window_splits: usize,
    /// A split is opened only while the rows in flight take less than this many bytes, over the whole cluster.
    #[schemars(range(min = 1))]
    pub max_bytes_in_flight: u64,
    /// Finished splits are committed at least this often.
    #[schemars(range(min = 0, max = 86_400))]
    pub commit_interval_seconds: u64,
    /// Keep the answers of expensive steps (decoding, models) below the output, so that a new version of the pipeline reuses those that
    /// its changes do not concern. A limit that is a parameter of the measuring step makes other answers: measure without one and decide in a
    /// `filter` step.
    pub reuse: bool,
    /// Kept answers may take this many bytes. Near it, those that the pipeline no longer uses go first. Answers of more than 64 KiB (clips) are kept
    /// only while less than half is taken, and none of more than 16 MiB.
    pub reuse_max_bytes: u64,
    /// Restarts of a local cluster (`--processes`) before giving up.
    #[schemars(range(max = 1_000))]
    pub max_restarts: u32,
    /// Address for `/metrics` and `/healthz`, for example `127.0.0.1:9464`. Off when empty.
    pub metrics_address: String,
    /// Let steps that decode (pool `decode`) work in child processes, at most this many per process of the run (0 = off). A crash or a hang of a
    /// decoder then costs one row (`decoder_crashed`, `decoder_hung`) instead of the run. Each child loads the models of the steps that it serves.
    #[schemars(range(max = 1024))]
    pub decoder_processes: usize,
    /// A child process that does not answer a task within this time is killed, in seconds. A step's own `timeout_seconds` comes first.
    #[schemars(range(min = 1, max = 86_400))]
    pub decoder_task_seconds: u64,
    /// Threads per pool.
    pub pools: PoolSettings,
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            workers: 0,
            window_splits: 0,
            max_bytes_in_flight: 1 << 30,
            commit_interval_seconds: 60,
            reuse: true,
            reuse_max_bytes: 64 << 30,
            max_restarts: 5,
            metrics_address: String::new(),
            decoder_processes: 0,
            decoder_task_seconds: 3600,
            pools: PoolSettings::default(),
        }
    }
}

/// What computes models, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA TensorRT.
    TensorRt,
    /// NVIDIA CUDA.
    Cuda,
    /// Intel OpenVINO.
    OpenVino,
    /// The processor.
    Cpu,
}

/// The `[runtime]` table: where the software and the models of this machine are. A model's content enters the plan hash, its place does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeSettings {
    /// ONNX Runtime's shared library, from the pipeline file's folder if relative. Empty: `ORT_DYLIB_PATH`, beside the executable, the data
    /// folder (`~/.local/share/curette`), the system's loader, in this order.
    pub onnxruntime: String,
    /// What computes models, best first. With `cpu` in the list a provider that is not there is skipped with a warning; without it, it is an error.
    pub providers: Vec<Provider>,
    /// Sessions of each model in one process; each holds a full copy of the weights (0 = as many as cores / threads).
    #[schemars(range(max = 256))]
    pub replicas: usize,
    /// Threads of one session. More than 1 costs more processor time per row; raise `replicas` first.
    #[schemars(range(min = 1, max = 256))]
    pub threads: usize,
    /// Folder of model manifests, from the pipeline file's folder if relative; they come before the built-in ones. Empty: `CURETTE_MODELS`.
    pub models: String,
    /// Folder of downloaded and added model files. Empty: `CURETTE_MODEL_CACHE`, else `curette/models` in the user's cache folder.
    pub cache: String,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        RuntimeSettings {
            onnxruntime: String::new(),
            providers: vec![Provider::Cpu],
            replicas: 0,
            threads: 1,
            models: String::new(),
            cache: String::new(),
        }
    }
}

impl RuntimeSettings {
    /// With absolute paths.
    pub fn resolved(mut self, paths: &Paths) -> Self {
        for path in [&mut self.onnxruntime, &mut self.models, &mut self.cache] {
            if !path.is_empty() {
                *path = paths.resolve(path).to_string_lossy().into_owned();
            }
        }
        self
    }
}

/// A file whose content is part of a step's meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashedFile {
    /// The config key that names it.
    pub key: String,
    /// blake3 of its content, hex.
    pub blake3: String,
}

/// One step.
#[derive(Clone)]
pub struct Step {
    /// Its name in the pipeline.
    pub name: String,
    /// Its parameters and behaviour.
    pub operator: Arc<dyn DynOperator>,
    /// Steps whose rows it reads, as indexes into [`Graph::steps`], all smaller than its own index, in the order of the file.
    pub inputs: Vec<usize>,
    /// What happens to rows that it cannot measure.
    pub on_unmeasured: OnUnmeasured,
    /// Spread its input rows over all workers by a hash of the row id.
    pub balance: bool,
    /// Schema of its input edge, with id metadata; empty for sources.
    pub input: SchemaRef,
    /// Schema of its output edge, with id metadata; for sinks the columns that are written.
    pub output: SchemaRef,
    /// Content of the files that it names.
    pub files: Vec<HashedFile>,
}

impl Step {
    /// What it does to rows.
    pub fn kind(&self) -> Kind {
        self.operator.kind()
    }
}

/// A checked pipeline.
#[derive(Clone)]
pub struct Graph {
    /// The `[pipeline]` table.
    pub pipeline: PipelineSettings,
    /// The `[engine]` table.
    pub engine: EngineSettings,
    /// The `[runtime]` table, paths resolved.
    pub runtime: RuntimeSettings,
    /// Steps; inputs come before their consumers, ties in the order of the file.
    pub steps: Vec<Step>,
    /// The pipeline file.
    pub file: PathBuf,
    /// Where relative paths start.
    pub paths: Paths,
}

impl Step {
    /// What the operator does with a row, as canonical JSON: its type, version, parameters and files, not where they lie nor how fast it works.
    pub fn meaning(&self) -> Value {
        let mut parameters = self.operator.parameters();
        if let Value::Object(map) = &mut parameters {
            for key in self.operator.cosmetic_keys() {
                map.shift_remove(*key);
            }
            // A file is known by its content, not by where it lies; of several with names the names count.
            let keys: std::collections::BTreeSet<&String> = self.files.iter().map(|file| &file.key).collect();
            for key in keys {
                let named = map.get(key).and_then(Value::as_object);
                match named.map(|files| json!(files.keys().collect::<Vec<_>>())) {
                    Some(names) => drop(map.insert(key.clone(), names)),
                    None => drop(map.shift_remove(key)),
                }
            }
        }
        json!({
            "type": self.operator.name(),
            "version": self.operator.version(),
            "parameters": sorted(parameters),
            "files": self.files,
        })
    }
}

impl Graph {
    /// The steps that read from step `index`.
    pub fn consumers(&self, index: usize) -> Vec<usize> {
        (0..self.steps.len()).filter(|&i| self.steps[i].inputs.contains(&index)).collect()
    }

    /// Everything that decides what the output is, inputs aside, as canonical JSON: keys sorted, steps by name, no file names, no parallelism.
    pub fn meaning(&self) -> Value {
        let steps: BTreeMap<&str, Value> = self
            .steps
            .iter()
            .map(|step| {
                let inputs: Vec<&str> = step.inputs.iter().map(|&i| self.steps[i].name.as_str()).collect();
                let mut value = step.meaning();
                value["inputs"] = json!(inputs);
                value["on_unmeasured"] = json!(step.on_unmeasured);
                (step.name.as_str(), value)
            })
            .collect();
        json!({
            "split_max_items": self.pipeline.split_max_items,
            "split_max_cost_bytes": self.pipeline.split_max_cost_bytes,
            "steps": steps,
        })
    }
}

/// The same JSON with the keys of all objects in order.
pub fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<String, Value> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// What differs between two meanings, one sentence each: `step.split.min_similarity: 0.9 -> 0.8`. At most 50 lines.
pub fn meaning_diff(old: &Value, new: &Value) -> Vec<String> {
    let mut out = Vec::new();
    diff("", old, new, &mut out);
    out.truncate(50);
    out
}

fn diff(path: &str, old: &Value, new: &Value, out: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (a.get(key), b.get(key)) {
                    (Some(x), Some(y)) => diff(&here, x, y, out),
                    (Some(_), None) => out.push(format!("{}: removed", shown(&here))),
                    (None, Some(y)) => out.push(format!(
                        "{}: added{}",
                        shown(&here),
                        if y.is_object() { String::new() } else { format!(" ({y})") }
                    )),
                    (None, None) => {}
                }
            }
        }
        (a, b) if a == b => {}
        (a, b) if path.ends_with(".files") => {
            let _ = (a, b);
            out.push(format!("{}: the content of a file changed", shown(path)));
        }
        (a, b) => out.push(format!("{}: {a} -> {b}", shown(path))),
    }
}

/// `steps.split.parameters.tau` as users wrote it: `step.split.tau`.
fn shown(path: &str) -> String {
    path.replacen("steps.", "step.", 1).replacen(".parameters", "", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_in_the_users_terms() {
        let old = json!({"steps": {"split": {"parameters": {"tau": 0.9}}, "a": {"files": [1]}}});
        let new = json!({"steps": {"split": {"parameters": {"tau": 0.8}}, "a": {"files": [2]}, "cut": {}}});
        assert_eq!(
            meaning_diff(&old, &new),
            ["step.a.files: the content of a file changed", "step.cut: added", "step.split.tau: 0.9 -> 0.8"]
        );
    }
}
