//! A small registry for tests of everything that looks at pipelines: one operator of each kind, with every kind of key.

use std::path::PathBuf;

use arrow::datatypes::{DataType, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::operator::{
    BuildContext, Columns, Entry, FileRef, Kind, Operator, OperatorError, Paths, Runtime, Secret, SinkFormat, SinkSpec,
    StepCheck, entry,
};
use curette_engine::predicate::{self, referenced_columns};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub const REGISTRY: &[Entry] = &[
    entry::<Clips>(),
    entry::<Texts>(),
    entry::<Size>(),
    entry::<Score>(),
    entry::<Keep>(),
    entry::<Wide>(),
    entry::<Cut>(),
    entry::<Table>(),
];

fn no_runtime() -> Result<Runtime, OperatorError> {
    Err(OperatorError::new("made for checks only"))
}

/// Lists clips.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clips {
    /// Files to read, as a glob pattern. Relative ones start at the pipeline file.
    path: String,
    /// How often to try again (0 to 10).
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    retries: u32,
}

impl Operator for Clips {
    const NAME: &'static str = "clips";
    const KIND: Kind = Kind::Source;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.clips]\ntype = \"clips\"\npath = \"videos/*.mp4\"\n";
    fn columns(&self) -> Columns {
        Columns::none().add_id("video_id", "Path below the listed folder.").add("title", DataType::Utf8, "Its title.")
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        no_runtime()
    }
}

/// Lists texts, with a width that is text.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Texts {}

impl Operator for Texts {
    const NAME: &'static str = "texts";
    const KIND: Kind = Kind::Source;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.texts]\ntype = \"texts\"\n";
    fn columns(&self) -> Columns {
        Columns::none().add_id("video_id", "Row.").add("width", DataType::Utf8, "As written.")
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        no_runtime()
    }
}

/// Measures the size.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Size {}

impl Operator for Size {
    const NAME: &'static str = "size";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.size]\ntype = \"size\"\ninputs = [\"clips\"]\n";
    fn columns(&self) -> Columns {
        Columns::none().need("video_id", &[DataType::Utf8]).add("width", DataType::Int32, "Pixels.").add(
            "height",
            DataType::Int32,
            "Pixels.",
        )
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        no_runtime()
    }
}

/// Where the model runs.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// In this process.
    #[default]
    Local,
    /// At a service.
    Remote,
}

/// What to ask the service.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Its address.
    url: String,
    /// Seconds until it must have answered (more than 0).
    #[schemars(range(min = 1, max = 600))]
    timeout_seconds: Option<u32>,
}

/// Scores how beautiful a clip is, from 0 to 1.
///
/// The score is a plain mean; see the paper.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Model file.
    model: String,
    /// Where it runs.
    #[serde(default)]
    backend: Backend,
    /// Frames per clip (1 to 64).
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 64))]
    frames: u32,
    /// Lowest score that is kept (0 to 1).
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    min_score: Option<f32>,
    /// Highest score that is kept (0 to 1).
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    max_score: Option<f32>,
    /// Key of the service.
    #[serde(default)]
    api_key: Secret,
    /// Names of classes.
    #[serde(default)]
    classes: Vec<String>,
    /// The service.
    #[serde(default)]
    service: Service,
    /// Needs a graphics card.
    #[serde(default)]
    cuda: bool,
}

fn eight() -> u32 {
    8
}

impl Operator for Score {
    const NAME: &'static str = "score";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 3;
    const EXAMPLE: &'static str = "[step.score]\ntype = \"score\"\ninputs = [\"size\"]\nmodel = \"model.bin\"\nframes = 16\n";
    fn columns(&self) -> Columns {
        Columns::none().need("width", &[DataType::Int32]).may_use("title", &[DataType::Utf8]).add(
            "score",
            DataType::Float32,
            "0 (ugly) to 1 (beautiful).",
        )
    }
    fn validate(&self, check: &mut dyn StepCheck) {
        if let (Some(min), Some(max)) = (self.min_score, self.max_score)
            && min > max
        {
            let message = format!("`min_score` {min} is above `max_score` {max}");
            check.error(Some("min_score"), Code::Contradiction, message, Some("swap them".into()));
        }
        if matches!(self.backend, Backend::Remote) && self.service.url.is_empty() {
            check.error(Some("service.url"), Code::Contradiction, "the remote backend needs a `service.url`".into(), None);
        }
    }
    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        vec![FileRef { key: "model", path: paths.resolve(&self.model) }]
    }
    fn check_environment(&self, check: &mut dyn StepCheck) {
        if self.cuda {
            check.error(
                Some("cuda"),
                Code::MissingSoftware,
                "this machine has no CUDA".into(),
                Some("use another machine".into()),
            );
        }
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        no_runtime()
    }
}

/// Keeps rows for which a condition holds.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// SQL condition over the columns.
    condition: String,
}

impl Operator for Keep {
    const NAME: &'static str = "keep";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.keep]\ntype = \"keep\"\ninputs = [\"score\"]\ncondition = \"score >= 0.5\"\n";
    fn columns(&self) -> Columns {
        let names = referenced_columns(&self.condition).unwrap_or_default();
        names.iter().fold(Columns::none(), |columns, name| columns.may_use(name, &[]))
    }
    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        predicate::check("condition", &self.condition, input, check);
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        no_runtime()
    }
}

/// Keeps wide rows.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wide {}

impl Operator for Wide {
    const NAME: &'static str = "wide";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.wide]\ntype = \"wide\"\ninputs = [\"size\"]\n";
    fn columns(&self) -> Columns {
        Columns::none().need("width", &[DataType::Int32, DataType::Int64]).need("height", &[])
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        no_runtime()
    }
}

/// Cuts a row into parts.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Lengths of the parts in seconds: lowest and highest.
    lengths_seconds: (f64, f64),
}

impl Operator for Cut {
    const NAME: &'static str = "cut";
    const KIND: Kind = Kind::Expand;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.cut]\ntype = \"cut\"\ninputs = [\"size\"]\nlengths_seconds = [1.0, 5.0]\n";
    fn columns(&self) -> Columns {
        Columns::none().add_id("clip_id", "Part.").add("start_us", DataType::Int64, "Begin.")
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        no_runtime()
    }
}

/// Writes a table.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Folder below the output.
    #[serde(default)]
    location: Option<String>,
    /// Columns to write, in order.
    #[serde(default)]
    columns: Option<Vec<String>>,
    /// Columns to leave out.
    #[serde(default)]
    exclude: Vec<String>,
}

impl Operator for Table {
    const NAME: &'static str = "table";
    const KIND: Kind = Kind::Sink;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.table]\ntype = \"table\"\ninputs = [\"keep\"]\n";
    fn columns(&self) -> Columns {
        Columns::none()
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        let (location, columns, exclude) = (self.location.clone(), self.columns.clone(), self.exclude.clone());
        Ok(Runtime::Sink(SinkSpec { location, columns, exclude, format: SinkFormat::Jsonl }))
    }
}

/// A folder with the file that `score` needs; keep it as long as the path is used.
pub fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.bin"), b"model").unwrap();
    let file = folder.path().join("pipeline.toml");
    (folder, file)
}
