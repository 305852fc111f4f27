//! The `lora_trainer` sink: a committed table of clips, and when all of it is there an adapter trained on it.
//!
//! Why a sink: a training needs all clips, and needs them to stay what they are; so they are committed like every table, and the work begins after
//! the last commit ([`crate::training::work`]). Trainers are programs of their own (`curette_trainer`). What can go wrong: settings that would cost
//! months or lose frames in silence are found by `check`; a trainer that crashes is started again; an adapter that learned nothing is not published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::operator::{
    BuildContext, Columns, FollowUp, Kind, Operator, OperatorError, ROOT_ID_METADATA, Runtime, SinkFormat, SinkSpec, StepCheck,
};
use curette_engine::resources::OutputPlace;
use curette_trainer::architecture::Architecture;
use curette_trainer::preset::{Ema, NoiseLevels, Preset};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sources::files::{Files, is_url};
use crate::training::rows::{FACT_COLUMNS, FILE_COLUMN, Names, holds_clips};
use crate::training::settings;
use crate::training::work::Training;

/// The table below the step's folder.
const TABLE: &str = "clips";
/// Sizes of the table's files, as the defaults of `parquet`.
const FORMAT: SinkFormat = SinkFormat::Parquet { target_shard_bytes: 512 << 20, row_group_bytes: 64 << 20, zstd_level: 3 };

/// Trains a LoRA adapter on clips with captions, and publishes it when it has passed its gates.
///
/// The rows are committed to the table `LOCATION/clips` like those of a `parquet` sink. When all of them are there, the trainer's `prepare` encodes
/// them into `LOCATION/spool-...`, its `train` trains in `LOCATION/jobs/...`, and its `verify` loads the adapter in a fresh process. What passes the
/// gates (every B matrix has learned, everything is finite, a smaller loss on a fixed grid of noise than without the adapter, the output changes,
/// alpha and rank in the metadata) appears as `LOCATION/adapters/adapter-...` with hashes and provenance, and `latest.json` names it.
///
/// Run again, it does nothing if this training is published, and goes on from its last checkpoint if it was stopped or killed. Keys of the
/// training change no row, so a run with other settings needs no new version of the tables: it is another training beside the first. A second
/// signal, or 30 s after the first one with `--processes`, kills the trainer; it then goes on from the last checkpoint that it had saved.
///
/// `check` estimates time, memory and disk, and refuses what needs more than `max_hours` or would lose frames in silence. Clips that do not fit are
/// not trained on, and `refused.jsonl` in the spool has each with its reason: `no_caption`, `no_clip`, `too_few_frames`, `other_size`, `other_fps`,
/// `caption_too_long`, `not_finite`, the codes of files that cannot be read (`file_missing`, ...), and those of the trainer. `clip_cut` with
/// `width`, `height` and `fps` makes clips that fit. A training that comes to no result ends the run with code 5.
///
/// Sources of the numbers: the paper's Table 5 and the program that it was made with; `curette check` prints which of them are inert.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraTrainer {
    /// The trainer: program and first arguments, such as `["python3", "-m", "diffusion_lora"]`; `prepare`, `train` or `verify` and theirs follow.
    /// Parts that begin with `./` or `../` are paths from the pipeline file's folder.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// `paper_code`: what the paper's program executed (shift 1 in training, no EMA). `paper_text`: what its Table 5 says (shift 7, EMA 0.999).
    /// `custom`: the numbers of `paper_code`, each of which may be changed. Under the paper's presets only the keys from `steps` to `seed` may be.
    pub preset: Preset,
    /// The model that is adapted.
    pub architecture: Architecture,
    /// Its weights: a folder (`./` and `../` from the pipeline file's folder), or the name that the trainer knows them by.
    #[schemars(length(min = 1))]
    pub weights: String,
    /// Which revision of that name.
    #[serde(default)]
    pub revision: String,
    /// Frames of each clip that are trained on, 4k + 1 (`mochi`: 6k + 1).
    #[schemars(range(min = 1, max = 100_000))]
    pub frames: u64,
    /// Height of the clips in pixels, a multiple of 16.
    #[schemars(range(min = 16, max = 16_384))]
    pub height: u64,
    /// Width of the clips in pixels, a multiple of 16.
    #[schemars(range(min = 16, max = 16_384))]
    pub width: u64,
    /// Frames per second of the clips (1 to 240).
    #[serde(default = "fps")]
    #[schemars(range(min = 1.0, max = 240.0))]
    pub fps: f64,
    /// Rank of the adapter. Default: 32.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    pub rank: Option<u32>,
    /// The adapter is scaled by alpha / rank. Default: 32.
    #[serde(default)]
    #[schemars(range(min = 0.001, max = 100_000.0))]
    pub alpha: Option<f64>,
    /// AdamW's learning rate. Default: 5e-5.
    #[serde(default)]
    #[schemars(range(min = 1e-9, max = 1.0))]
    pub learning_rate: Option<f64>,
    /// AdamW's weight decay. Default: 0.01.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: Option<f64>,
    /// Gradients are scaled down to this norm. Default: 1.
    #[serde(default)]
    #[schemars(range(min = 1e-6, max = 1e6))]
    pub max_grad_norm: Option<f64>,
    /// Clips of a step on all ranks together, a multiple of `micro_batch` times `ranks`. Default: 32.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65_536))]
    pub global_batch: Option<u32>,
    /// Noise levels in training are s u / (1 + (s - 1) u) with this s. Default: 1 (`paper_text`: 7).
    #[serde(default)]
    #[schemars(range(min = 0.1, max = 100.0))]
    pub train_shift: Option<f64>,
    /// The same when the trainer makes videos to look at. Default: 7.
    #[serde(default)]
    #[schemars(range(min = 0.1, max = 100.0))]
    pub sample_shift: Option<f64>,
    /// How noise levels are drawn before the shift. Default: `uniform`.
    #[serde(default)]
    pub noise_levels: Option<NoiseLevels>,
    /// Embedded guidance in training. Default: 1.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub train_guidance: Option<f64>,
    /// Share of captions that are left empty (0 to 1). Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub caption_dropout: Option<f64>,
    /// Keep an average of the adapter, such as `{ decay = 0.999 }`. Default: none (`paper_text`: 0.999 with warm-up).
    #[serde(default)]
    pub ema: Option<Ema>,
    /// Optimiser steps. Default: 50000.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub steps: Option<u64>,
    /// Clips of one forward pass on one rank. Default: 1.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    pub micro_batch: Option<u32>,
    /// Steps from one checkpoint to the next. Default: 100.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub checkpoint_every: Option<u64>,
    /// So many of the newest checkpoints are kept. Default: 3.
    #[serde(default)]
    #[schemars(range(min = 2, max = 1000))]
    pub keep_last: Option<u32>,
    /// Checkpoints at multiples of so many steps are kept for ever. Default: 5000.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub keep_every: Option<u64>,
    /// Decides order, noise and first weights. Default: 1024.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Processes of the trainer, one for each device of this machine (1 to 1024).
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub ranks: u32,
    /// Peak of a device in 10^12 operations a second, for the estimate of the time. Default: 312, an A800 in bf16.
    #[serde(default = "tflops")]
    #[schemars(range(min = 0.001, max = 1e6))]
    pub device_tflops: f64,
    /// Share of that peak that training reaches (0 to 1). A guess until a run has shown it.
    #[serde(default = "mfu")]
    #[schemars(range(min = 0.001, max = 1.0))]
    pub device_mfu: f64,
    /// Memory of a device in GB (10^9 bytes), for the estimate of the memory.
    #[serde(default = "memory")]
    #[schemars(range(min = 0.1, max = 100_000.0))]
    pub device_memory_gb: f64,
    /// Longest time of the training in hours. `check` refuses what is estimated to take longer; a run that takes longer saves a checkpoint and ends
    /// with code 5, and goes on with the same command.
    #[serde(default = "hours")]
    #[schemars(range(min = 0.001, max = 100_000.0))]
    pub max_hours: f64,
    /// Largest size of the encoded clips in GB (10^9 bytes); more ends the run.
    #[serde(default = "spool")]
    #[schemars(range(min = 0.001, max = 1_000_000.0))]
    pub spool_max_gb: f64,
    /// Clips that are encoded at once; a killed run loses at most these.
    #[serde(default = "per_shard")]
    #[schemars(range(min = 1, max = 4096))]
    pub clips_per_shard: usize,
    /// More clips that do not fit or cannot be encoded, as a share of all (0 to 1), end the run; likewise bad ones in training.
    #[serde(default = "bad")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_bad_fraction: f64,
    /// Restarts of the trainer in a row without a new checkpoint, after pauses of 5 s, 10 s, 20 s, ...
    #[serde(default = "restarts")]
    #[schemars(range(max = 1000))]
    pub max_restarts: u32,
    /// A trainer that says nothing for so long is killed and started again, in seconds.
    #[serde(default = "heartbeat")]
    #[schemars(range(min = 1, max = 86_400))]
    pub heartbeat_seconds: u64,
    /// From the request to stop to the kill, in seconds: time for a checkpoint.
    #[serde(default = "grace")]
    #[schemars(range(min = 1, max = 86_400))]
    pub grace_seconds: u64,
    /// Column with the captions.
    #[serde(default = "caption")]
    pub caption_column: String,
    /// Column with the clips, as `clip_cut` makes it: a struct of `bytes` and `path`, or bytes. Where it holds none, `clip_uri` names the file.
    #[serde(default = "clip")]
    pub clip_column: String,
    /// Local folder of all this; relative ones are below the pipeline's `output`. Default: the step's name.
    #[serde(default)]
    pub location: Option<String>,
    /// Keys that only the trainer knows, for its `train`. Part of what a training is.
    #[serde(default)]
    pub trainer_options: BTreeMap<String, Value>,
    /// Keys that only the trainer knows, for its `prepare`. Others make another spool.
    #[serde(default)]
    pub prepare_options: BTreeMap<String, Value>,
}

fn fps() -> f64 {
    24.0
}
fn one() -> u32 {
    1
}
fn tflops() -> f64 {
    312.0
}
fn mfu() -> f64 {
    0.45
}
fn memory() -> f64 {
    80.0
}
fn hours() -> f64 {
    72.0
}
fn spool() -> f64 {
    500.0
}
fn per_shard() -> usize {
    32
}
fn bad() -> f64 {
    0.05
}
fn restarts() -> u32 {
    5
}
fn heartbeat() -> u64 {
    300
}
fn grace() -> u64 {
    120
}
fn caption() -> String {
    "caption".into()
}
fn clip() -> String {
    "clip".into()
}

impl LoraTrainer {
    /// The step's folder below a local output, or where it is by itself.
    fn folder(&self, step: &str, output: &str) -> Result<PathBuf, OperatorError> {
        let location = self.location.as_deref().unwrap_or(step);
        let local = Path::new(location.strip_prefix("file://").unwrap_or(location));
        let output = output.strip_prefix("file://").unwrap_or(output);
        if !local.is_absolute() && is_url(output) {
            let what = format!("the pipeline's output `{output}` is in a store, but a training works in a local folder");
            return Err(OperatorError::new(what).help("give the step an absolute path as `location`"));
        }
        let full = Path::new(output).join(local);
        std::path::absolute(&full).map_err(|e| OperatorError::new(format!("`location` {}: {e}", full.display())))
    }

    /// The columns of the input that the table has: what is trained on, and where it comes from.
    fn written(&self, context: &BuildContext) -> Vec<String> {
        let root = context.input.metadata().get(ROOT_ID_METADATA).cloned().unwrap_or_default();
        let facts = FACT_COLUMNS.map(str::to_owned);
        let named = [context.id_column.clone(), root, self.caption_column.clone(), self.clip_column.clone(), FILE_COLUMN.into()];
        let mut out: Vec<String> = Vec::new();
        for name in named.into_iter().chain(facts).chain(["clip_blake3".into()]) {
            if context.input.column_with_name(&name).is_some() && !out.contains(&name) {
                out.push(name);
            }
        }
        out
    }
}

impl Operator for LoraTrainer {
    const NAME: &'static str = "lora_trainer";
    const KIND: Kind = Kind::Sink;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.adapter]\ntype = \"lora_trainer\"\ninputs = [\"cut\"]\n\
        command = [\"python3\", \"-m\", \"diffusion_lora\"]\npreset = \"paper_code\"\narchitecture = \"hunyuan\"\n\
        weights = \"hunyuanvideo-community/HunyuanVideo\"\nframes = 93\nheight = 256\nwidth = 448\nranks = 8\nmax_hours = 400\n";

    fn columns(&self) -> Columns {
        Columns::none()
            .need(&self.caption_column, &[DataType::Utf8])
            .may_use(&self.clip_column, &[])
            .may_use(FILE_COLUMN, &[DataType::Utf8])
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if self.location.as_deref().is_some_and(is_url) {
            let message = "a training works in a local folder".to_owned();
            check.error(Some("location"), Code::OutOfRange, message, Some("name a folder, or leave the key out".into()));
        }
        settings::check(self, check);
    }

    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        let clip = input.field_with_name(&self.clip_column).ok();
        if let Some(odd) = clip.filter(|field| !holds_clips(field.data_type())) {
            let message = format!("column `{}` holds no clips, but {}", self.clip_column, odd.data_type());
            let help = "a clip is a struct of `bytes` and `path`, as `clip_cut` makes it, or bytes".to_owned();
            check.error(Some("clip_column"), Code::WrongColumnType, message, Some(help));
        }
        if clip.is_none() && input.column_with_name(FILE_COLUMN).is_none() {
            let message =
                format!("there is neither a column `{}` with clips nor `{FILE_COLUMN}` with their files", self.clip_column);
            check.error(None, Code::MissingColumn, message, Some("put a `clip_cut` step before it".into()));
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        if let Some((message, help)) = settings::missing_program(self, &check.paths().base) {
            check.error(Some("command"), Code::MissingSoftware, message, Some(help));
        }
    }

    /// Everything but what decides the rows of the table: a training is known by its own hash.
    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &[
            "command",
            "preset",
            "architecture",
            "weights",
            "revision",
            "frames",
            "height",
            "width",
            "fps",
            "rank",
            "alpha",
            "learning_rate",
            "weight_decay",
            "max_grad_norm",
            "global_batch",
            "train_shift",
            "sample_shift",
            "noise_levels",
            "train_guidance",
            "caption_dropout",
            "ema",
            "steps",
            "micro_batch",
            "checkpoint_every",
            "keep_last",
            "keep_every",
            "seed",
            "ranks",
            "device_tflops",
            "device_mfu",
            "device_memory_gb",
            "max_hours",
            "spool_max_gb",
            "clips_per_shard",
            "max_bad_fraction",
            "max_restarts",
            "heartbeat_seconds",
            "grace_seconds",
            "trainer_options",
            "prepare_options",
        ]
    }

    fn remarks(&self) -> Vec<String> {
        settings::at_check(self).to_string().lines().map(str::to_owned).collect()
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let folder = self.folder(context.step, &context.resources.get(OutputPlace::default).0)?;
        Ok(Runtime::Sink(SinkSpec {
            location: Some(folder.join(TABLE).to_string_lossy().into_owned()),
            columns: Some(self.written(context)),
            exclude: Vec::new(),
            format: FORMAT,
        }))
    }

    fn follow_up(&self, context: &BuildContext) -> Result<Option<Box<dyn FollowUp>>, OperatorError> {
        let base = std::path::absolute(&context.paths.base)
            .map_err(|e| OperatorError::new(format!("{}: {e}", context.paths.base.display())))?;
        Ok(Some(Box::new(Training {
            folder: self.folder(context.step, &context.resources.get(OutputPlace::default).0)?,
            names: Names { id: context.id_column.clone(), caption: self.caption_column.clone(), clip: self.clip_column.clone() },
            base,
            files: context.resources.get(Files::default),
            config: self.clone(),
        })))
    }
}

#[cfg(test)]
#[path = "lora_trainer_tests.rs"]
mod tests;
