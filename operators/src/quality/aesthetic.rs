//! `aesthetic`: how pleasing a clip looks, by a CLIP image encoder and a linear head on top of it; drops clips that score too low.
//!
//! What can go wrong: a head belongs to one encoder (LAION's to OpenAI's ViT-L/14, 768 numbers). A head of the same width for another encoder gives plausible nonsense, so
//! the hash of the encoder in the head's file is compared when the step starts, and the row names both models.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float32Builder, RecordBatch, StringBuilder};
use arrow::datatypes::DataType;
use curette_engine::diag::Code;
use curette_engine::graph::RuntimeSettings;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, Operator, OperatorError, Paths, Pool, Runtime, StepCheck, Task, Transform,
};
use curette_engine::verdict::{Problem, Processed, Verdict};
use curette_models::image::Rgb;
use curette_models::{ClipImageEncoder, ErrorKind, ModelError, Models};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::models::Failure;
use super::per_clip::mean;
use super::regression_head::RegressionHead;
use crate::media::{Frame, MediaContext, shown, uniform_frames};
use crate::models;
use crate::models::{FOREIGN_HELP, identity_of};
use crate::span::{Span, Spans};
use crate::video::report_missing;

/// Scores how pleasing clips look and drops those that score too low.
///
/// `frames` frames of the clip are taken (index floor(k (N - 1) / (frames - 1)) of its N frames). Each is scaled and cropped as CLIP wants it, embedded by `encoder`,
/// its embedding scaled to length 1, and scored by `head`; `aesthetic_score` is the mean. For LAION's improved predictor (C. Schuhmann, 2022: an affine map of
/// OpenAI's ViT-L/14 embedding) scores lie in about 1 to 10; MedGen drops clips below 3.0.
///
/// `encoder` is a manifest's name, or the path of a manifest (`.toml`) or graph (`.onnx`) that takes `[batch, 3, 224, 224]` and gives `[batch, D]`. `head` is a manifest's name
/// or path, or a `.safetensors` file of kind `regression` as `curette head import-laion` makes it.
///
/// Reject code: `low_aesthetic`. Unmeasured codes besides those of `probe`: `no_span`, `no_frames`, `model_output_not_finite` (NaN or infinity),
/// `model_input` (a picture that is longer than 16384 pixels or more than 64 times longer than wide).
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
    /// Time for decoding one row, in seconds (1 to 86400).
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
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
        Columns::none()
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
        Pool::Decode
    }

    fn rows_per_task(&self) -> usize {
        1
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        report_missing(check);
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
            (Ok(head), Some(located)) => {
                let foreign = models::encoder_of_located(&located)
                    .ok()
                    .and_then(|encoder| models::foreign(&head.head, &encoder, models::width_of_located(&located)));
                if let Some(why) = foreign {
                    check.error(Some("head"), Code::BadModel, why, Some(FOREIGN_HELP.into()));
                }
            }
            (Ok(_), None) => {}
        }
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["timeout_seconds"]
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        Some(crate::span::OF_PIXELS.to_vec())
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let scorer =
            Scorer::open(&models::of(context.resources), &self.encoder, &self.head, context.paths).map_err(models::broken)?;
        Ok(Runtime::Transform(Box::new(Started { settings: self.clone(), scorer })))
    }
}

/// Encoder and head.
struct Scorer {
    encoder: ClipImageEncoder,
    head: RegressionHead,
}

impl Scorer {
    fn open(models: &Models, encoder: &str, head: &str, paths: &Paths) -> Result<Scorer, ModelError> {
        let head = RegressionHead::open(models, head, &paths.base)?;
        let encoder = models.image_encoder(&models::reference(encoder, paths))?;
        match models::foreign(&head.head, &models::encoder_of(encoder.model()), Some(encoder.width())) {
            Some(why) => Err(ModelError::new(ErrorKind::Contract, format!("head `{}`: {why}", head.identity)).help(FOREIGN_HELP)),
            None => Ok(Scorer { encoder, head }),
        }
    }

    /// One score per frame.
    fn score(&self, frames: &[Frame], context: &MediaContext) -> Result<Vec<f64>, Failure> {
        let pictures: Vec<Rgb> = frames.iter().map(|f| Rgb { pixels: &f.rgb, width: f.width, height: f.height }).collect();
        let vectors = self.encoder.embed_until(&pictures, Some(context.cancelled))?;
        Ok(vectors.iter().map(|vector| f64::from(self.head.head.score(vector))).collect())
    }
}

struct Started {
    settings: Aesthetic,
    scorer: Scorer,
}

impl Started {
    fn measure(&self, span: Span, context: &MediaContext) -> Result<(f32, f32), Failure> {
        context.check_cancelled()?;
        let frames = uniform_frames(span.uri, span.start_us, span.end_us, self.settings.frames, None, context)?;
        if frames.is_empty() {
            return Err(Problem::new("no_frames", format!("{}: no frame in the span", shown(span.uri))).into());
        }
        let scores = self.scorer.score(&frames, context)?;
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
        let context = MediaContext { cancelled: task.cancelled, resources: task.resources, timeout };
        let name = format!("{} + {}", identity_of(self.scorer.encoder.model()), self.scorer.head.identity);
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let (mut means, mut lowest, mut model) = (Float32Builder::new(), Float32Builder::new(), StringBuilder::new());
        for row in 0..rows.num_rows() {
            let measured = match spans.row(row).map_err(Failure::Row).and_then(|span| self.measure(span, &context)) {
                Ok(scores) => Ok(scores),
                Err(Failure::Row(problem)) => Err(problem),
                Err(Failure::Run(e)) => return Err(e),
            };
            means.append_option(measured.as_ref().ok().map(|s| s.0));
            lowest.append_option(measured.as_ref().ok().map(|s| s.1));
            model.append_option(measured.as_ref().ok().map(|_| &name));
            verdicts.push(measured.map_or_else(Verdict::Unmeasured, |s| self.judge(s.0)));
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(means.finish()), Arc::new(lowest.finish()), Arc::new(model.finish())];
        Ok(Processed::rows(verdicts, columns))
    }
}

#[cfg(test)]
mod tests {
    use super::super::model_tests::{Goldens, drawn, goldens};
    use super::*;

    fn open(goldens: &Goldens, head: &str) -> Result<Scorer, ModelError> {
        let paths = Paths { base: super::super::model_tests::folder() };
        Scorer::open(&goldens.models(), "clip.onnx", head, &paths)
    }

    #[test]
    fn scores_are_those_of_onnxruntime_behind_pillow() {
        let Some(goldens) = goldens() else { return };
        let scorer = open(&goldens, "head.safetensors").unwrap_or_else(|e| panic!("{}", e.full()));
        for one in goldens.golden["aesthetic"].as_array().unwrap() {
            let number = |key: &str| one[key].as_u64().unwrap() as u32;
            let frames: Vec<Frame> = (0..number("frames")).map(|t| drawn(number("width"), number("height"), t)).collect();
            let Ok(scores) = scorer.score(&frames, &goldens.bench.context()) else { panic!("{one}") };
            for (got, want) in scores.iter().zip(one["scores"].as_array().unwrap()) {
                // Pillow and the resize library differ by one grey level here and there.
                assert!((got - want.as_f64().unwrap()).abs() < 2e-3, "{one}: {scores:?}");
            }
        }
    }

    #[test]
    fn a_head_of_another_encoder_is_refused() {
        let Some(goldens) = goldens() else { return };
        for (head, said) in [
            ("narrow-head.safetensors", "it reads 5 numbers, the encoder gives 8"),
            ("foreign-head.safetensors", "it was trained on graph 00"),
        ] {
            let refused = open(&goldens, head).err().unwrap();
            assert_eq!(refused.kind, ErrorKind::Contract);
            assert!(refused.message.contains(said), "{}", refused.message);
        }
    }

    #[test]
    fn exactly_the_limit_is_kept() {
        let Some(goldens) = goldens() else { return };
        let scorer = open(&goldens, "head.safetensors").unwrap_or_else(|e| panic!("{}", e.full()));
        let settings: Aesthetic = toml::from_str("encoder = 'a'\nhead = 'b'\nmin_score = 3.1").unwrap();
        let started = Started { settings, scorer };
        assert_eq!(started.judge(3.1), Verdict::Pass);
        let Verdict::Fail(reject) = started.judge(3.0999) else { panic!() };
        assert_eq!((reject.code.as_ref(), reject.threshold), ("low_aesthetic", Some(3.1)));
    }
}
