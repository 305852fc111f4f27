//! Plans on disk or in a store: what a later run compares itself with.
//!
//! `_curette/plans/<hash>/meaning.json` and `inputs.parquet` below the pipeline's output. They are written once under their own hash, so writing
//! them again is harmless. They serve people (what did this table come from, what did I change) and the refusal of a changed plan; finished
//! work is recorded in the tables, not here. `_curette/reference.json` holds the counts that a report is shown beside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::{Plan, PlanHash};
use crate::commit::Folder;
use crate::graph::{Graph, Reference};

/// Where the counts of another run are kept.
const REFERENCE: &str = "_curette/reference.json";

/// A plan could not be stored or read back.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} plan {hash} below {place}: {message}")]
pub struct StoreError {
    action: &'static str,
    hash: String,
    place: String,
    message: String,
}

/// The plans below a pipeline's output.
pub struct PlanStore {
    folder: Folder,
}

/// All of an input that enters the plan hash, besides its key.
fn fingerprint(identity: &str, payload: &str) -> String {
    format!("{identity}\n{payload}")
}

/// Which inputs differ between two plans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputDiff {
    /// Keys that are new.
    pub added: Vec<String>,
    /// Keys that are gone.
    pub removed: Vec<String>,
    /// Keys whose content changed, or what else the source needs to read them: their place, say.
    pub changed: Vec<String>,
}

impl InputDiff {
    /// True when the inputs are the same.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Adds those of another source.
    pub fn merge(&mut self, other: InputDiff) {
        self.added.extend(other.added);
        self.removed.extend(other.removed);
        self.changed.extend(other.changed);
    }
}

impl PlanStore {
    /// The store below `output`.
    pub fn new(output: Folder) -> Self {
        PlanStore { folder: output }
    }

    fn path(hash: &PlanHash, file: &str) -> String {
        format!("_curette/plans/{hash}/{file}")
    }

    fn error(&self, action: &'static str, hash: &PlanHash, message: impl ToString) -> StoreError {
        StoreError { action, hash: hash.short().into(), place: self.folder.to_string(), message: message.to_string() }
    }

    /// Writes a plan; harmless when it is there already.
    pub fn save(&self, graph: &Graph, plan: &Plan) -> Result<(), StoreError> {
        let fail = |e: &dyn ToString| self.error("store", &plan.hash, e.to_string());
        let meaning = serde_json::to_vec_pretty(&plan.meaning).map_err(|e| fail(&e))?;
        let inputs = encode(graph, plan).map_err(|e| fail(&e))?;
        self.folder.put(&Self::path(&plan.hash, "inputs.parquet"), inputs).map_err(|e| fail(&e))?;
        self.folder.put(&Self::path(&plan.hash, "meaning.json"), meaning).map_err(|e| fail(&e))?;
        // Of the newest run, so that whoever looks at the tables sees them beside the same counts.
        match &graph.pipeline.reference {
            Some(reference) => {
                let reference = serde_json::to_vec_pretty(reference).map_err(|e| fail(&e))?;
                self.folder.put(REFERENCE, reference).map_err(|e| fail(&e))
            }
            None => self.folder.delete(REFERENCE).map_err(|e| fail(&e)),
        }
    }

    /// The counts that the newest run was shown beside, if any.
    pub fn reference(&self) -> Option<Reference> {
        serde_json::from_slice(&self.folder.get(REFERENCE).ok()?).ok()
    }

    /// What the pipeline of an older plan meant.
    pub fn meaning(&self, hash: &PlanHash) -> Result<Value, StoreError> {
        let bytes = self.folder.get(&Self::path(hash, "meaning.json")).map_err(|e| self.error("read", hash, e))?;
        serde_json::from_slice(&bytes).map_err(|e| self.error("read", hash, e))
    }

    /// What the sources kept of these inputs of a plan (see [`crate::operator::InputItem::payload`]), by key. One part of the list of inputs is in memory at a time.
    pub fn payloads(&self, hash: &PlanHash, keys: &BTreeSet<String>) -> Result<BTreeMap<String, String>, StoreError> {
        let fail = |e: &dyn ToString| self.error("read", hash, e.to_string());
        let bytes = self.folder.get(&Self::path(hash, "inputs.parquet")).map_err(|e| fail(&e))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|b| b.build()).map_err(|e| fail(&e))?;
        let mut out = BTreeMap::new();
        for batch in reader {
            let batch = batch.map_err(|e| fail(&e))?;
            let column = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
            let (Some(key), Some(payload)) = (column("key"), column("payload")) else {
                return Err(fail(&"its list of inputs has no column `key` or `payload`"));
            };
            let wanted = (0..batch.num_rows()).filter(|&row| keys.contains(key.value(row)));
            out.extend(wanted.map(|row| (key.value(row).to_owned(), payload.value(row).to_owned())));
        }
        Ok(out)
    }

    /// What each input of an older plan was ([`fingerprint`]), by source step and key.
    pub fn inputs(&self, hash: &PlanHash) -> Result<BTreeMap<(String, String), String>, StoreError> {
        let bytes = self.folder.get(&Self::path(hash, "inputs.parquet")).map_err(|e| self.error("read", hash, e))?;
        decode(bytes).map_err(|e| self.error("read", hash, e))
    }
}

/// Inputs of one source in the present plan against those that it had in an older one.
pub fn input_diff(graph: &Graph, plan: &Plan, old: &BTreeMap<(String, String), String>, source: &str) -> InputDiff {
    let mut diff = InputDiff::default();
    let mut left: BTreeMap<&str, &str> =
        old.iter().filter(|((step, _), _)| step == source).map(|((_, key), was)| (key.as_str(), was.as_str())).collect();
    for item in plan.splits.iter().filter(|s| graph.steps[s.source].name == source).flat_map(|s| &s.items) {
        match left.remove(item.key.as_str()) {
            None => diff.added.push(item.key.clone()),
            Some(was) if was != fingerprint(&item.identity, &item.payload) => diff.changed.push(item.key.clone()),
            Some(_) => {}
        }
    }
    diff.removed = left.into_keys().map(str::to_owned).collect();
    diff
}

fn encode(graph: &Graph, plan: &Plan) -> Result<Vec<u8>, parquet::errors::ParquetError> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let schema = Arc::new(Schema::new(vec![
        Field::new("split", DataType::UInt32, false),
        text("source"),
        text("key"),
        text("identity"),
        Field::new("cost", DataType::UInt64, false),
        text("payload"),
    ]));
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    for split in &plan.splits {
        let items = &split.items;
        let strings = |f: fn(&crate::operator::InputItem) -> &str| Arc::new(StringArray::from_iter_values(items.iter().map(f)));
        let source = graph.steps[split.source].name.as_str();
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(UInt32Array::from_value(split.id, items.len())),
                Arc::new(StringArray::from_iter_values(items.iter().map(|_| source))),
                strings(|i| &i.key),
                strings(|i| &i.identity),
                Arc::new(UInt64Array::from_iter_values(items.iter().map(|i| i.cost))),
                strings(|i| &i.payload),
            ],
        )?;
        writer.write(&batch)?;
    }
    writer.into_inner()
}

fn decode(bytes: bytes::Bytes) -> Result<BTreeMap<(String, String), String>, String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|b| b.build()).map_err(|e| e.to_string())?;
    let mut out = BTreeMap::new();
    for batch in reader {
        let batch = batch.map_err(|e| e.to_string())?;
        let column = |name: &str| -> Result<StringArray, String> {
            batch
                .column_by_name(name)
                .and_then(|c| c.as_string_opt::<i32>())
                .cloned()
                .ok_or_else(|| format!("column {name} is missing or not text"))
        };
        let (source, key, identity, payload) = (column("source")?, column("key")?, column("identity")?, column("payload")?);
        batch
            .column_by_name("split")
            .and_then(|c| c.as_primitive_opt::<UInt32Type>())
            .ok_or_else(|| "column split is missing".to_string())?;
        for row in 0..key.len() {
            out.insert((source.value(row).into(), key.value(row).into()), fingerprint(identity.value(row), payload.value(row)));
        }
    }
    Ok(out)
}
