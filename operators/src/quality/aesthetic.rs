//! `aesthetic`: how pleasing a clip looks, by a CLIP image encoder and a linear head on top of it; drops clips that score too low.
//!
//! What can go wrong: a head belongs to one encoder (LAION's to OpenAI's ViT-L/14, 768 numbers). A head of the same width for another encoder gives plausible nonsense, so
//! the hash of the encoder in the head's file is compared when the step starts, and the row names both models. A limit on another scale than the head's keeps everything or
//! nothing; the head's manifest says the scale and which way is better, and `check` compares.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Float32Builder, Int64Array, ListArray, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::graph::RuntimeSettings;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, MODEL_METADATA, Operator, OperatorError, Paths, Pool, Runtime, StepCheck, Task,
    Transform,
};
use curette_engine::verdict::{Problem, Processed, Verdict};
use curette_heads::Encoder;
use curette_models::image::Rgb;
use curette_models::{ClipImageEncoder, ErrorKind, ModelError, Models};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::models::Failure;
use super::per_clip::mean;
use super::regression_head::RegressionHead;
use super::scale;
use crate::frames::vectors::{RowVectors, Vectors};
use crate::media::{Frame, MediaContext, plane_of, shown, uniform_frames};
use crate::models;
use crate::models::{FOREIGN_HELP, identity_of};
use crate::span::{Span, Spans, text_column};
use crate::video::report_missing;

/// Scores how pleasing clips look and drops those that score too low.
///
/// `frames` frames of the clip are taken (index floor(k (N - 1) / (frames - 1)) of its N frames). Each is scaled and cropped as CLIP wants it, embedded by `encoder`,
/// its embedding scaled to length 1, and scored by `head`; `aesthetic_score` is the mean. For LAION's improved predictor (C. Schuhmann, 2022: an affine map of
/// OpenAI's ViT-L/14 embedding) scores lie in about 1 to 10; MedGen drops clips below 3.0.
///
/// `encoder` is a manifest's name, or the path of a manifest (`.toml`) or graph (`.onnx`) that takes `[batch, 3, 224, 224]` and gives `[batch, D]`. `head` is a manifest's name
/// or path, or a `.safetensors` file of kind `regression` as `curette head import-laion` makes it. `min_score` is on the scale of the manifest's `[score]`: one outside of it, or on
/// a scale where lower is better, is refused.
///
/// With `look_at = "sampled_frames"` the frames are those that `frame_embed` sampled inside the clip, and their vectors are taken from its column: nothing is decoded and no
/// model runs, so that one pass of CLIP serves the whole pipeline. `encoder` must then be the `model` of that `frame_embed`.
///
/// Reject code: `low_aesthetic`. Unmeasured codes besides those of `probe`: `no_span`, `no_frames`, `model_output_not_finite` (NaN or infinity),
/// `model_input` (a picture that is longer than 16384 pixels or more than 64 times longer than wide); with `sampled_frames` `no_embeddings`, `bad_embedding`,
/// `wrong_embedding_model`, `wrong_embedding_width` as `frame_classifier` has them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aesthetic {
    /// The CLIP image encoder.
    pub encoder: String,
    /// The head.
    pub head: String,
    /// Drop below this `aesthetic_score` (-100 to 100); a score of exactly this is kept. Not set: nothing is dropped.
    #[serde(default)]
    #[schemars(range(min = -100.0, max = 100.0))]
    pub min_score: Option<f64>,
    /// Frames looked at (1 to 64).
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 64))]
    pub frames: usize,
    /// Where the frames come from.
    #[serde(default)]
    pub look_at: LookAt,
    /// Time for decoding one row, in seconds (1 to 86400).
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

/// See [`Aesthetic::look_at`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LookAt {
    /// The clip is decoded and its frames embedded.
    #[default]
    Clip,
    /// `frame_embed` has done so.
    SampledFrames,
}

fn five() -> usize {
    5
}
fn ten_minutes() -> u64 {
    600
}

impl Operator for Aesthetic {
    const NAME: &'static str = "aesthetic";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = r#"
[step.aesthetic]
type = "aesthetic"
inputs = ["clips"]
encoder = "clip-vit-l14"
head = "laion-aesthetic"
min_score = 3.0
"#;

    fn columns(&self) -> Columns {
        let sampled = DataType::new_list(DataType::Int64, true);
        let needs = match self.look_at {
            LookAt::Clip => Columns::none(),
            LookAt::SampledFrames => Columns::none()
                .need("frame_times_us", &[sampled])
                .need("frame_embeddings", &[])
                .need("embedding_model", &[DataType::Utf8]),
        };
        needs
            .need("video_uri", &[DataType::Utf8])
            .may_use("content_blake3", &[DataType::Utf8])
            .may_use("start_us", &[DataType::Int64])
            .may_use("end_us", &[DataType::Int64])
            .may_use("duration_us", &[DataType::Int64])
            .add(
                "aesthetic_score",
                DataType::Float32,
                "mean score of the frames; LAION's scale is about 1 to 10, larger is better",
            )
            .add("aesthetic_min", DataType::Float32, "lowest score of a frame")
            .add("aesthetic_model", DataType::Utf8, "encoder and head, each with version and the start of its SHA-256")
    }

    fn pool(&self) -> Pool {
        if self.look_at == LookAt::Clip { Pool::Decode } else { Pool::Cpu }
    }

    fn rows_per_task(&self) -> usize {
        if self.look_at == LookAt::Clip { 1 } else { 64 }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        if self.look_at == LookAt::Clip {
            report_missing(check);
        }
    }

    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        let own = self.head.ends_with(".safetensors");
        own.then(|| FileRef { key: "head", path: paths.resolve(&self.head) }).into_iter().collect()
    }

    fn model_files(&self, paths: &Paths, runtime: &RuntimeSettings) -> Vec<FileRef> {
        let mut files = models::files("encoder", &self.encoder, paths, runtime);
        if !self.head.ends_with(".safetensors") {
            files.extend(models::files("head", &self.head, paths, runtime));
        }
        files
    }

    fn check_models(&self, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
        let encoder = models::check("encoder", &self.encoder, runtime, check);
        let all = Models::new(models::settings(runtime));
        if !self.head.ends_with(".safetensors")
            && let Err(e) = all.find(&models::reference(&self.head, check.paths()))
        {
            return check.error(Some("head"), Code::MissingFile, e.message, e.help);
        }
        // A head file that is missing is reported by the check of `files`.
        if self.head.ends_with(".safetensors") && !check.paths().resolve(&self.head).is_file() {
            return;
        }
        match (RegressionHead::open(&all, &self.head, &check.paths().base), encoder) {
            (Err(e), _) => check.error(Some("head"), Code::BadModel, e.message, e.help),
            (Ok(head), located) => {
                if let Some(why) = self.wrong_limit(&head) {
                    check.error(Some("min_score"), Code::Contradiction, why, Some(LIMIT_HELP.into()));
                }
                let Some(located) = located else { return };
                let foreign = models::encoder_of_located(&located)
                    .ok()
                    .and_then(|encoder| models::foreign(&head.head, &encoder, models::width_of_located(&located)));
                if let Some(why) = foreign {
                    check.error(Some("head"), Code::BadModel, why, Some(FOREIGN_HELP.into()));
                }
            }
        }
    }

    fn check_models_of_input(&self, input: &SchemaRef, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
        let made_by = input.field_with_name("frame_embeddings").ok().and_then(|f| f.metadata().get(MODEL_METADATA));
        let Some(made_by) = made_by.filter(|_| self.look_at == LookAt::SampledFrames) else { return };
        let all = Models::new(models::settings(runtime));
        let of = |text: &str, paths: &Paths| {
            all.find(&models::reference(text, paths)).and_then(|located| models::encoder_of_located(&located)).ok()
        };
        // A model that is missing is reported where it is named.
        let (theirs, Some(ours)) = (of(made_by, check.paths()), of(&self.encoder, check.paths())) else { return };
        if theirs.as_ref() != Some(&ours) && (theirs.is_some() || made_by == crate::frames::descriptor::NAME) {
            let message = format!("the sampled frames are embedded by `{made_by}`, not by `{}`", self.encoder);
            let help = "set `model` of `frame_embed` and `encoder` here to the same model, or `look_at = \"clip\"`";
            check.error(Some("encoder"), Code::BadModel, message, Some(help.into()));
        }
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["timeout_seconds"]
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        // Reading a column costs less than finding a kept answer.
        (self.look_at == LookAt::Clip).then(|| crate::span::OF_PIXELS.to_vec())
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let models = models::of(context.resources);
        let scorer = match self.look_at {
            LookAt::Clip => Scorer::open(&models, &self.encoder, &self.head, context.paths),
            LookAt::SampledFrames => Scorer::of_sampled(&models, &self.encoder, &self.head, context.paths),
        };
        let scorer = scorer.map_err(models::broken)?;
        if let Some(why) = self.wrong_limit(&scorer.head) {
            return Err(OperatorError { message: format!("min_score: {why}"), help: Some(LIMIT_HELP.into()) });
        }
        Ok(Runtime::Transform(Box::new(Started { settings: self.clone(), scorer })))
    }
}

/// What to do about a limit that is not on the head's scale.
const LIMIT_HELP: &str =
    "set `min_score` on the scale of `[score]` in the head's manifest, or leave it out and decide with a `filter` step";

impl Aesthetic {
    /// Why the limit does not fit the scores of this head, if so. A bare file says nothing of its scale.
    fn wrong_limit(&self, head: &RegressionHead) -> Option<String> {
        self.min_score.zip(head.score.as_ref()).and_then(|(min, score)| scale::against(min, score))
    }
}

/// Encoder and head.
struct Scorer {
    /// `None`: vectors are read, not made.
    encoder: Option<ClipImageEncoder>,
    /// Who makes the vectors.
    made_by: Encoder,
    head: RegressionHead,
    /// Both, for the output.
    name: String,
}

impl Scorer {
    fn open(models: &Models, encoder: &str, head: &str, paths: &Paths) -> Result<Scorer, ModelError> {
        let head = RegressionHead::open(models, head, &paths.base)?;
        let encoder = models.image_encoder(&models::reference(encoder, paths))?;
        let made_by = models::encoder_of(encoder.model());
        belongs(&head, &made_by, Some(encoder.width()))?;
        let name = format!("{} + {}", identity_of(encoder.model()), head.identity);
        Ok(Scorer { encoder: Some(encoder), made_by, head, name })
    }

    /// For vectors that the encoder has made: it is looked at, not opened.
    fn of_sampled(models: &Models, encoder: &str, head: &str, paths: &Paths) -> Result<Scorer, ModelError> {
        let head = RegressionHead::open(models, head, &paths.base)?;
        let located = models.find(&models::reference(encoder, paths))?;
        let made_by = models::encoder_of_located(&located)?;
        belongs(&head, &made_by, models::width_of_located(&located))?;
        let manifest = &located.manifest;
        let own = models::identity(&manifest.name, &manifest.version, made_by.sha256.as_deref().unwrap_or_default());
        let name = format!("{own} + {}", head.identity);
        Ok(Scorer { encoder: None, made_by, head, name })
    }

    /// One score per frame.
    fn score(&self, frames: &[Frame], context: &MediaContext) -> Result<Vec<f64>, Failure> {
        let pictures: Vec<Rgb> = frames.iter().map(|f| Rgb { pixels: &f.rgb, width: f.width, height: f.height }).collect();
        let Some(encoder) = &self.encoder else { return Ok(Vec::new()) };
        let vectors = encoder.embed_until(&pictures, Some(context.cancelled))?;
        Ok(vectors.iter().map(|vector| f64::from(self.head.head.score(vector))).collect())
    }

    /// One score for each of `wanted` uniformly spaced frames of those that were sampled in the span.
    fn score_sampled(&self, row: Option<SampledRow>, span: Span, wanted: usize) -> Result<Vec<f64>, Problem> {
        let Some(row) = row else {
            let message = "the row has no frame embeddings or does not name their model; see what `frame_embed` said";
            return Err(Problem::new("no_embeddings", message));
        };
        if row.model != self.made_by.to_string() {
            // It may be anything: a message is no place for a megabyte.
            let model: String = row.model.chars().take(80).collect();
            let message = format!("the embeddings are of `{model}`, the head reads `{}`", self.made_by);
            return Err(Problem::new("wrong_embedding_model", message));
        }
        let inside: Vec<usize> = (0..row.times_us.len().min(row.vectors.len()))
            .filter(|i| (span.start_us..span.end_us).contains(&row.times_us.value(*i)))
            .collect();
        if inside.is_empty() {
            return Err(Problem::new("no_frames", format!("{}: no frame was sampled in the span", shown(span.uri))));
        }
        let mut chosen: Vec<usize> = (0..wanted).map(|k| k * (inside.len() - 1) / (wanted - 1).max(1)).collect();
        chosen.dedup();
        let score = |k: usize| {
            let i = inside[k];
            let vector = row.vectors.get(i);
            let vector = vector.map_err(|what| Problem::new("bad_embedding", format!("the embedding of frame {i} {what}")))?;
            if vector.len() != self.head.head.dim() {
                let message = format!("the head reads {} numbers, the embedding has {}", self.head.head.dim(), vector.len());
                return Err(Problem::new("wrong_embedding_width", message));
            }
            Ok(f64::from(self.head.head.score(vector)))
        };
        chosen.into_iter().map(score).collect()
    }
}

/// What `frame_embed` sampled of a row's video.
struct SampledRow<'a> {
    times_us: Int64Array,
    vectors: RowVectors<'a>,
    model: &'a str,
}

/// The columns of `frame_embed`.
struct Sampled<'a> {
    times_us: &'a ListArray,
    vectors: Vectors<'a>,
    models: &'a StringArray,
}

impl<'a> Sampled<'a> {
    fn of(rows: &'a RecordBatch) -> Result<Self, OperatorError> {
        let wrong = |name: &str| {
            OperatorError::new(format!("column `{name}` is missing or of another type, although `check` accepted it"))
        };
        let times = rows.column_by_name("frame_times_us").and_then(|c| c.as_list_opt::<i32>());
        let vectors = rows.column_by_name("frame_embeddings").and_then(|c| Vectors::of(c.as_ref()));
        Ok(Sampled {
            times_us: times.ok_or_else(|| wrong("frame_times_us"))?,
            vectors: vectors.ok_or_else(|| wrong("frame_embeddings"))?,
            models: text_column(rows, "embedding_model")?,
        })
    }

    fn row(&self, row: usize) -> Option<SampledRow<'a>> {
        let times_us = self.times_us.is_valid(row).then(|| self.times_us.value(row))?;
        let times_us = times_us.as_primitive_opt::<Int64Type>()?.clone();
        let model = self.models.is_valid(row).then(|| self.models.value(row))?;
        Some(SampledRow { times_us, vectors: self.vectors.row(row)?, model })
    }
}

fn belongs(head: &RegressionHead, encoder: &Encoder, width: Option<usize>) -> Result<(), ModelError> {
    match models::foreign(&head.head, encoder, width) {
        Some(why) => Err(ModelError::new(ErrorKind::Contract, format!("head `{}`: {why}", head.identity)).help(FOREIGN_HELP)),
        None => Ok(()),
    }
}

struct Started {
    settings: Aesthetic,
    scorer: Scorer,
}

impl Started {
    fn measure(&self, span: Span, sampled: Option<SampledRow>, context: &MediaContext) -> Result<(f32, f32), Failure> {
        context.check_cancelled()?;
        let scores = match self.settings.look_at {
            LookAt::SampledFrames => self.scorer.score_sampled(sampled, span, self.settings.frames)?,
            LookAt::Clip => {
                let frames = uniform_frames(span.uri, span.start_us, span.end_us, self.settings.frames, None, context)?;
                if frames.is_empty() {
                    return Err(Problem::new("no_frames", format!("{}: no frame in the span", shown(span.uri))).into());
                }
                self.scorer.score(&frames, context)?
            }
        };
        let lowest = scores.iter().copied().fold(f64::INFINITY, f64::min);
        Ok((mean(scores.iter().copied()) as f32, lowest as f32))
    }

    fn judge(&self, score: f32) -> Verdict {
        match self.settings.min_score {
            Some(min) if score < min as f32 => Verdict::fail(
                "low_aesthetic",
                f64::from(score),
                min,
                format!("aesthetic_score is {score:.3}, at least {min} is kept"),
            ),
            _ => Verdict::Pass,
        }
    }
}

impl Transform for Started {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let spans = Spans::of(rows)?;
        let timeout = Duration::from_secs(self.settings.timeout_seconds);
        let plane = plane_of(task);
        let context = MediaContext { cancelled: task.cancelled, plane: &plane, timeout };
        let sampled = (self.settings.look_at == LookAt::SampledFrames).then(|| Sampled::of(rows)).transpose()?;
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let (mut means, mut lowest, mut model) = (Float32Builder::new(), Float32Builder::new(), StringBuilder::new());
        for row in 0..rows.num_rows() {
            let measured = match spans.row(row).map_err(Failure::Row).and_then(|span| {
                let sampled = sampled.as_ref().and_then(|sampled| sampled.row(row));
                self.measure(span, sampled, &context)
            }) {
                Ok(scores) => Ok(scores),
                Err(Failure::Row(problem)) => Err(problem),
                Err(Failure::Run(e)) => return Err(e),
            };
            means.append_option(measured.as_ref().ok().map(|s| s.0));
            lowest.append_option(measured.as_ref().ok().map(|s| s.1));
            model.append_option(measured.as_ref().ok().map(|_| &self.scorer.name));
            verdicts.push(measured.map_or_else(Verdict::Unmeasured, |s| self.judge(s.0)));
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(means.finish()), Arc::new(lowest.finish()), Arc::new(model.finish())];
        Ok(Processed::rows(verdicts, columns))
    }
}

#[cfg(test)]
#[path = "aesthetic_tests.rs"]
mod tests;
