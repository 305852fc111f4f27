//! What an operator is. The only engine file to read before writing one.
//!
//! An operator is one file: a config struct whose doc comments are the user's documentation, `impl Operator` for it, and a
//! runtime part ([`Source`] or [`Transform`]). One line in the registry makes it known to `check`, `run`, `ops` and `schema`.
//!
//! * **source**: lists inputs, then reads a split of them into rows.
//! * **measure**: adds columns. **filter**: drops rows. **expand**: makes one row into many. All three are [`Transform`]s.
//! * **sink**: a committed table, or files. The engine writes it; the operator only describes it ([`SinkSpec`]).
//!
//! What can go wrong: an operator must be a pure function of its rows, its parameters and the files that it names, or resumed runs
//! differ from undisturbed ones. Data errors are [`crate::verdict::Problem`]s of a row; an [`OperatorError`] ends the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use crate::entry::{DynOperator, Entry, entry};

use crate::gate::{Answer, GatePlace};
use crate::graph::RuntimeSettings;
use crate::resources::Resources;
use crate::verdict::{Processed, Verdict};

/// What an operator does to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Makes rows from inputs outside the pipeline.
    Source,
    /// Adds columns to each row.
    Measure,
    /// Drops rows by a rule.
    Filter,
    /// Makes one row into zero or more rows.
    Expand,
    /// Writes rows to a table or files.
    Sink,
}

/// Which threads an operator's work runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// On the worker thread itself: only for work of microseconds per row that never blocks.
    Inline,
    /// Computation.
    Cpu,
    /// Video decoding and encoding.
    Decode,
    /// Model inference.
    Gpu,
    /// Waiting for other machines.
    Net,
}

/// A column that an operator reads.
#[derive(Debug, Clone)]
pub struct Need {
    /// Column name.
    pub name: String,
    /// Accepted Arrow types; empty means any.
    pub types: Vec<DataType>,
    /// If true the operator works without the column.
    pub optional: bool,
}

/// A column that an operator adds, with its documentation.
#[derive(Debug, Clone)]
pub struct Added {
    /// The Arrow field; everything that can be unmeasured must be nullable.
    pub field: Field,
    /// What it holds: meaning, unit, range.
    pub doc: String,
}

/// The columns that an operator reads and adds, given its parameters.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// Columns that must (or may) be there.
    pub needs: Vec<Need>,
    /// Columns that the operator appends. A name that exists already is an error, found by `check`.
    pub adds: Vec<Added>,
    /// Sources and expanding operators: the name of the added column that identifies a row from here on.
    pub id: Option<String>,
}

impl Columns {
    /// No columns.
    pub fn none() -> Self {
        Columns::default()
    }
    /// Requires a column.
    pub fn need(mut self, name: &str, types: &[DataType]) -> Self {
        self.needs.push(Need { name: name.into(), types: types.to_vec(), optional: false });
        self
    }
    /// Reads a column if it is there.
    pub fn may_use(mut self, name: &str, types: &[DataType]) -> Self {
        self.needs.push(Need { name: name.into(), types: types.to_vec(), optional: true });
        self
    }
    /// Adds a nullable column.
    pub fn add(mut self, name: &str, data_type: DataType, doc: &str) -> Self {
        self.adds.push(Added { field: Field::new(name, data_type, true), doc: doc.into() });
        self
    }
    /// Says of the column added last, in its field's metadata, what later steps may want to know at check time ([`MODEL_METADATA`]).
    pub fn note(mut self, key: &str, value: &str) -> Self {
        if let Some(added) = self.adds.last_mut() {
            let mut metadata = added.field.metadata().clone();
            metadata.insert(key.into(), value.into());
            added.field.set_metadata(metadata);
        }
        self
    }
    /// Adds the utf8 column that identifies rows from here on.
    pub fn add_id(mut self, name: &str, doc: &str) -> Self {
        self.adds.push(Added { field: Field::new(name, DataType::Utf8, false), doc: doc.into() });
        self.id = Some(name.into());
        self
    }
    /// The schema of the added columns alone.
    pub fn added_schema(&self) -> Schema {
        Schema::new(self.adds.iter().map(|a| a.field.clone()).collect::<Vec<_>>())
    }
}

/// A file whose content is part of an operator's meaning: a dictionary, a model, a head. `check` reports it when it is missing, and its
/// content hash enters the plan hash.
#[derive(Debug, Clone)]
pub struct FileRef {
    /// The config key that names it.
    pub key: &'static str,
    /// The path as resolved by [`Paths::resolve`].
    pub path: PathBuf,
}

/// Where relative paths of a pipeline start: the folder of the pipeline file.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Folder of the pipeline file.
    pub base: PathBuf,
}

impl Paths {
    /// Absolute paths and URLs (`scheme://`) stay; the rest is taken from the pipeline's folder.
    pub fn resolve(&self, path: &str) -> PathBuf {
        if path.contains("://") { PathBuf::from(path) } else { self.base.join(path) }
    }
}

/// Where an operator reports what is wrong with its own parameters. Every call becomes a diagnostic at the key's place in the TOML file.
pub trait StepCheck {
    /// A mistake at a key (`None`: the step as a whole). `code` is one of [`crate::diag::Code`]'s.
    fn error(&mut self, key: Option<&str>, code: crate::diag::Code, message: String, help: Option<String>);
    /// As `error`, with the byte range inside the key's string value that is wrong (used for SQL).
    fn error_in(
        &mut self,
        key: &str,
        range: Option<std::ops::Range<usize>>,
        code: crate::diag::Code,
        message: String,
        help: Option<String>,
    );
    /// Where relative paths start.
    fn paths(&self) -> &Paths;
}

/// What `build` is given.
pub struct BuildContext<'a> {
    /// The step's name in the pipeline.
    pub step: &'a str,
    /// Schema of the input edge (empty for sources).
    pub input: SchemaRef,
    /// Name of the column that identifies an input row (empty for sources).
    pub id_column: String,
    /// Where relative paths start.
    pub paths: &'a Paths,
    /// Shared things of this process.
    pub resources: &'a Arc<Resources>,
}

/// An operator could not be started or broke in a way that is not a row's fault. Ends the run.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", .help.as_ref().map(|h| format!(" ({h})")).unwrap_or_default())]
pub struct OperatorError {
    /// What is wrong and where.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl OperatorError {
    /// An error without a remedy.
    pub fn new(message: impl Into<String>) -> Self {
        OperatorError { message: message.into(), help: None }
    }
    /// Adds the remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// What a task may use besides its rows.
pub struct Task<'a> {
    /// The step's name.
    pub step: &'a str,
    /// Shared things of this process.
    pub resources: &'a Arc<Resources>,
    /// Turns true when the run is cancelled: return early, with `Unmeasured` verdicts or whatever is at hand (nothing of it is recorded).
    pub cancelled: &'a std::sync::atomic::AtomicBool,
}

impl Task<'_> {
    /// True when the run is being stopped.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// One input of a source: a video file, a manifest row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InputItem {
    /// What names it, unique in its source: a path, URL or row key. Splits are cut from items sorted by it.
    pub key: String,
    /// Content identity: changes when the content changes (size + modification time, etag, version, hash).
    pub identity: String,
    /// Estimated cost in arbitrary units of work (about: bytes). Splits are cut by it.
    pub cost: u64,
    /// Whatever the source needs to read it again without listing, as JSON text; enters the plan hash.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub payload: String,
}

/// The runtime part of a source.
pub trait Source: Send + Sync {
    /// Lists all inputs, in any order. An input that cannot be looked at must still be listed (its read gives the problem).
    fn list(&self) -> Result<Vec<InputItem>, OperatorError>;
    /// What people should know of the last listing, a sentence each: what it left out, say. Shown by `curette plan` and by the report of a run.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
    /// Makes durable what the last listing decided, for sources that decide in rounds. Called once by the first process of a run, after the plan was accepted and
    /// before the first row is read; never by `plan` or `check`. The next listing must be the same whether this was called, was cut off, or never happened.
    fn settle(&self) -> Result<(), OperatorError> {
        Ok(())
    }
    /// Says which of the added columns somebody reads (ids included), before anything is read. The others may be of any type and hold nothing, as
    /// long as they have a value for each row: what nobody reads need not be read from a disk either.
    fn only(&mut self, _columns: &std::collections::BTreeSet<String>) {}
    /// Reads items into rows: like a measure whose input rows are the items. The first added column is the id; the id must be given for every item,
    /// also unmeasured ones. A source of [`Operator::records`] gives a verdict and a value of each column for each record instead, in order.
    fn read(&self, items: &[InputItem], task: &Task) -> Result<Processed, OperatorError>;
}

/// The runtime part of a measure, filter or expand operator.
pub trait Transform: Send + Sync {
    /// Answers for each row of a batch (never empty). Runs on a pool thread; several calls may run at once.
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError>;
}

/// What kind of files a sink makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SinkFormat {
    /// A Delta table of Parquet shards.
    Parquet {
        /// Close a shard when its rows take about this many bytes in memory.
        target_shard_bytes: u64,
        /// Close a row group at about this many bytes.
        row_group_bytes: u64,
        /// zstd level, 1..=22.
        zstd_level: i32,
    },
    /// One JSON Lines file per split, named by the split and replaced as a whole.
    Jsonl,
}

/// What a sink writes.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkSpec {
    /// Folder or URL; relative ones are below the pipeline's output. Default: the step's name.
    pub location: Option<String>,
    /// The columns to write, in order; `None` = all.
    pub columns: Option<Vec<String>>,
    /// Columns to leave out.
    pub exclude: Vec<String>,
    /// Format and its options.
    pub format: SinkFormat,
}

/// The runtime part of any operator.
pub enum Runtime {
    /// A source.
    Source(Box<dyn Source>),
    /// A measure, filter or expand.
    Transform(Box<dyn Transform>),
    /// A sink.
    Sink(SinkSpec),
}

/// An operator's static description and its config struct. Doc comments of the struct and its fields are the user's documentation: state units,
/// ranges (`#[schemars(range(min = 0.0, max = 1.0))]` is enforced by `check`) and the source of each formula. Use
/// `#[serde(deny_unknown_fields, default)]` or per-field defaults.
pub trait Operator: DeserializeOwned + Serialize + JsonSchema + Send + Sync + 'static {
    /// The `type` in TOML. Sources and sinks are nouns, transforms are verbs or what they measure.
    const NAME: &'static str;
    /// What it does to rows.
    const KIND: Kind;
    /// Raise when the meaning of the output changes: enters the plan hash.
    const VERSION: u32;
    /// A complete `[step.NAME]` table, checked by the test suite.
    const EXAMPLE: &'static str;

    /// Columns read and added with these parameters.
    fn columns(&self) -> Columns;

    /// Where the work runs.
    fn pool(&self) -> Pool {
        Pool::Cpu
    }

    /// How many rows one task takes: 1 for work of seconds per row, hundreds for work of microseconds.
    fn rows_per_task(&self) -> usize {
        64
    }

    /// Parameters that contradict each other (single ranges belong into the JSON schema).
    fn validate(&self, _check: &mut dyn StepCheck) {}

    /// Mistakes that need the input's schema: SQL, column names in parameters.
    fn check_input(&self, _input: &SchemaRef, _check: &mut dyn StepCheck) {}

    /// What must be there on this machine besides [`Operator::files`]: encoders, services. Skipped by `check --no-environment`.
    fn check_environment(&self, _check: &mut dyn StepCheck) {}

    /// Sources: an input holds any number of rows, such as a file of records, and each of them has its own verdict.
    fn records(&self) -> bool {
        false
    }

    /// Files that are part of the meaning.
    fn files(&self, _paths: &Paths) -> Vec<FileRef> {
        Vec::new()
    }

    /// Files of the models that it uses, as found on this machine: part of the meaning like [`Operator::files`]. What is missing is left out here and
    /// reported by [`Operator::check_models`].
    fn model_files(&self, _paths: &Paths, _runtime: &RuntimeSettings) -> Vec<FileRef> {
        Vec::new()
    }

    /// Reports models, and the software that runs them, that are not on this machine. Skipped by `check --no-environment`.
    fn check_models(&self, _runtime: &RuntimeSettings, _check: &mut dyn StepCheck) {}

    /// Mistakes that show only between the input's schema and the models on this machine: a head whose embeddings another model makes upstream.
    /// Skipped by `check --no-environment`, and where the input is wrong already.
    fn check_models_of_input(&self, _input: &SchemaRef, _runtime: &RuntimeSettings, _check: &mut dyn StepCheck) {}

    /// Keys that do not change the output (concurrency, timeouts, where secrets are): left out of the plan hash.
    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// The columns that, with the parameters and [`Operator::files`], decide the answer for a row. With `Some` the engine keeps answers and reuses
    /// them when the same row comes again in a later version: right for work of 10 ms per row and more whose answer is a function of these
    /// columns alone. A video is known by `content_blake3`, never by its name. Each must be declared in [`Operator::columns`]; where the input
    /// lacks one, or its value is null, nothing is reused.
    fn decided_by(&self) -> Option<Vec<&'static str>> {
        None
    }

    /// Further columns that decide, for steps with [`Operator::decided_by`]: those that the input has, null being a value like any other. Titles, for
    /// instance, may be missing, and are then known to be.
    fn also_decided_by(&self) -> Vec<String> {
        Vec::new()
    }

    /// Threads of its pool that the step can keep waiting at once; 0: it has no wish. A pool whose size is not set has at least the sum of its
    /// steps' wishes, so that a limit such as "256 requests in flight" is one key and not two. For [`Pool::Net`]: computing takes cores, not threads.
    fn threads_wanted(&self) -> usize {
        0
    }

    /// Steps at which rows wait for people: whether they may pass, asked once when a version of the tables is begun ([`crate::gate`]). `None`: no such step.
    /// What was decided is found in the resource [`crate::gate::Gates`].
    fn gate(&self, _place: &GatePlace) -> Option<Result<Answer, OperatorError>> {
        None
    }

    /// Starts the operator.
    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError>;
}

/// A value that must not be shown: prints and serialises as `***`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The value itself: give it only to the service that it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
    /// True when nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// The id column of a schema, set by the source or the last expanding operator: metadata key `curette.id`.
pub const ID_METADATA: &str = "curette.id";
/// The id column that the source gave, kept for lineage: metadata key `curette.root_id`.
pub const ROOT_ID_METADATA: &str = "curette.root_id";

/// What made the vectors of a column, as the step that adds it names the model: metadata key `curette.model` of the field.
pub const MODEL_METADATA: &str = "curette.model";

/// Appends an operator's columns to its input schema and moves the id, as the engine will do to the rows.
pub fn output_schema(input: &Schema, columns: &Columns) -> SchemaRef {
    let mut fields: Vec<_> = input.fields().iter().cloned().collect();
    fields.extend(columns.adds.iter().map(|a| Arc::new(a.field.clone())));
    let mut metadata = input.metadata().clone();
    if let Some(id) = &columns.id {
        metadata.insert(ID_METADATA.into(), id.clone());
        metadata.entry(ROOT_ID_METADATA.into()).or_insert_with(|| id.clone());
    }
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// All rows unmeasured for one reason: what a task returns when it was cancelled or lost its service.
pub fn all_unmeasured(rows: usize, problem: &crate::verdict::Problem) -> Vec<Verdict> {
    vec![Verdict::Unmeasured(problem.clone()); rows]
}

/// The folder of a pipeline file, for [`Paths`].
pub fn paths_of(pipeline_file: &Path) -> Paths {
    let base = pipeline_file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Paths { base: base.to_path_buf() }
}
