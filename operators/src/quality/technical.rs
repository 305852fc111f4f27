//! `technical`: DOVER's two scores of video quality, technical and aesthetic, and both together; drops clips by a scale and a direction that the user names.
//!
//! What can go wrong: DOVER's public code normalises each branch with the other one's constants, and papers quote scores without naming the scale. Every scale is a
//! column, and a limit without a scale is refused. The weights are for non-commercial use only (S-Lab 1.0); none come with curette.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Float32Builder, RecordBatch, StringBuilder};
use arrow::datatypes::DataType;
use curette_engine::diag::Code;
use curette_engine::graph::RuntimeSettings;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, Operator, OperatorError, Paths, Pool, Runtime, StepCheck, Task, Transform,
};
use curette_engine::verdict::{Problem, Processed, Verdict};
use curette_models::image::{MAX_ASPECT, MAX_EDGE};
use curette_models::manifest::{Dim, Dtype};
use curette_models::{ErrorKind, Model, ModelError, Models, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dover_views::{Choice, Constants, FRAMES, Fusion, SEGMENTS, SIDE, Scores, aesthetic_view, sigmoid, tensor};
use super::models::{Failure, one_number_each};
use super::scale;
use crate::media::{Frame, MediaContext, MediaError, chosen_frames, plane_of, shown};
use crate::models;
use crate::models::identity_of;
use crate::span::{Span, Spans, text_column};
use crate::video::report_missing;

/// Scores video quality with DOVER's two networks and drops clips outside of limits.
///
/// Views, after DOVER's configuration `val-l1080p`: the technical network sees 3 segments of 32 frames (every second one) as a 7x7 grid of raw 32x32 patches, the
/// aesthetic one 32 frames over the whole clip, scaled to 224x224. What upstream draws at random is here a hash of the row's id (FNV-1a, then SplitMix64), so that a clip
/// always has the same score. Both networks take `[batch, 3, 32, 224, 224]` and give `[batch]` or `[batch, 1]`; the technical score is the mean of its segments.
///
/// z = (raw - mean) / deviation; normalised = 1 / (1 + e^-z); logit = 0.6104 z_technical + 0.3896 z_aesthetic (numbers of `[score]` in the manifests); overall = 1 / (1 + e^-logit).
/// (H. Wu et al., ICCV 2023, and its public code.) Higher is better on every scale.
///
/// A row costs up to 128 frames of decoding and about 20 seconds of one core for the full networks.
///
/// Reject codes: `low_quality` (below `keep_at_least`), `above_limit` (above `keep_at_most`). Unmeasured codes besides those of `probe`: `no_span`, `no_frames`,
/// `format_change`, `model_output_not_finite`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Technical {
    /// The technical network: a manifest's name, or the path of a manifest (`.toml`) or graph (`.onnx`).
    pub technical_model: String,
    /// The aesthetic network.
    pub aesthetic_model: String,
    /// Constants of the normalisation.
    #[serde(default)]
    pub constants: Constants,
    /// The scale that the limits below are on; needed with a limit.
    #[serde(default)]
    pub score: Option<Scale>,
    /// Drop below this (-1000 to 1000); exactly this is kept.
    #[serde(default)]
    #[schemars(range(min = -1000.0, max = 1000.0))]
    pub keep_at_least: Option<f64>,
    /// Drop above this (-1000 to 1000); exactly this is kept. Good clips score high, so this needs `against_direction = true`: it is for literal readings of papers.
    #[serde(default)]
    #[schemars(range(min = -1000.0, max = 1000.0))]
    pub keep_at_most: Option<f64>,
    /// Says that `keep_at_most` is meant, although it drops the better clips.
    #[serde(default)]
    pub against_direction: bool,
    /// Time for decoding one row, in seconds (1 to 86400).
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

/// See [`Technical::score`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Both together, 0 to 1: column `dover_overall`.
    Overall,
    /// Both together before the sigmoid: `dover_logit`.
    Logit,
    /// The technical network's own number: `dover_technical_raw`.
    TechnicalRaw,
    /// The technical score in deviations from its mean.
    TechnicalZ,
    /// The technical score, 0 to 1: `dover_technical`.
    TechnicalNorm,
    /// The aesthetic network's own number: `dover_aesthetic_raw`.
    AestheticRaw,
    /// The aesthetic score in deviations from its mean.
    AestheticZ,
    /// The aesthetic score, 0 to 1: `dover_aesthetic`.
    AestheticNorm,
}

impl Scale {
    /// Smallest and largest value, and the name; none where there are no bounds.
    fn bounds(self) -> Option<(&'static str, [f64; 2])> {
        let name = match self {
            Scale::Overall => "overall",
            Scale::TechnicalNorm => "technical_norm",
            Scale::AestheticNorm => "aesthetic_norm",
            Scale::Logit | Scale::TechnicalRaw | Scale::TechnicalZ | Scale::AestheticRaw | Scale::AestheticZ => return None,
        };
        Some((name, [0.0, 1.0]))
    }

    fn of(self, s: &Scores) -> f64 {
        match self {
            Scale::Overall => s.overall(),
            Scale::Logit => s.logit,
            Scale::TechnicalRaw => s.technical_raw,
            Scale::TechnicalZ => s.technical_z,
            Scale::TechnicalNorm => sigmoid(s.technical_z),
            Scale::AestheticRaw => s.aesthetic_raw,
            Scale::AestheticZ => s.aesthetic_z,
            Scale::AestheticNorm => sigmoid(s.aesthetic_z),
        }
    }
}

fn ten_minutes() -> u64 {
    600
}

impl Technical {
    /// The limits that are set, with their keys.
    fn limits(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let both = [("keep_at_least", self.keep_at_least), ("keep_at_most", self.keep_at_most)];
        both.into_iter().filter_map(|(key, limit)| Some((key, limit?)))
    }

    fn judge(&self, scores: &Scores) -> Verdict {
        let Some(scale) = self.score else { return Verdict::Pass };
        let value = scale.of(scores) as f32;
        let fail = |code, limit: f64, rule: &str| {
            Verdict::fail(code, f64::from(value), limit, format!("{scale:?} is {value:.4}, {rule} {limit} is kept"))
        };
        match (self.keep_at_least, self.keep_at_most) {
            (Some(least), _) if value < least as f32 => fail("low_quality", least, "at least"),
            (_, Some(most)) if value > most as f32 => fail("above_limit", most, "at most"),
            _ => Verdict::Pass,
        }
    }
}

impl Operator for Technical {
    const NAME: &'static str = "technical";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = r#"
[step.technical]
type = "technical"
inputs = ["clips"]
technical_model = "dover-technical"
aesthetic_model = "dover-aesthetic"
score = "overall"
keep_at_least = 0.1
"#;

    fn columns(&self) -> Columns {
        Columns::none()
            .need("video_uri", &[DataType::Utf8])
            .may_use("content_blake3", &[DataType::Utf8])
            .may_use("clip_id", &[DataType::Utf8])
            .may_use("start_us", &[DataType::Int64])
            .may_use("end_us", &[DataType::Int64])
            .may_use("duration_us", &[DataType::Int64])
            .add(
                "dover_technical_raw",
                DataType::Float32,
                "the technical network's number, mean over 3 segments, about -0.3 to 0",
            )
            .add("dover_aesthetic_raw", DataType::Float32, "the aesthetic network's number, about -0.3 to 0.35")
            .add("dover_technical", DataType::Float32, "technical score, 0 to 1, larger is better")
            .add("dover_aesthetic", DataType::Float32, "aesthetic score, 0 to 1, larger is better")
            .add("dover_logit", DataType::Float32, "both scores together before the sigmoid")
            .add("dover_overall", DataType::Float32, "both scores together, 0 to 1, larger is better")
            .add("dover_model", DataType::Utf8, "both networks with version and the start of the SHA-256, and the constants")
    }

    fn pool(&self) -> Pool {
        Pool::Decode
    }

    fn rows_per_task(&self) -> usize {
        1
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if self.score.is_none() && (self.keep_at_least.is_some() || self.keep_at_most.is_some()) {
            let help = "add score = \"overall\", or another scale of `curette ops technical`";
            check.error(
                Some("score"),
                Code::Contradiction,
                "a limit is set, but not the scale that it is on".into(),
                Some(help.into()),
            );
        }
        if let (Some(least), Some(most)) = (self.keep_at_least, self.keep_at_most)
            && least > most
        {
            let message = format!("keep_at_least is {least} and keep_at_most is {most}: no clip can be kept");
            check.error(Some("keep_at_least"), Code::Contradiction, message, None);
        }
        for (key, limit) in self.limits() {
            let outside = self.score.and_then(Scale::bounds).and_then(|(name, bounds)| scale::outside(limit, name, bounds));
            if let Some(why) = outside {
                check.error(Some(key), Code::Contradiction, why, Some("name the scale that the limit is on with `score`".into()));
            }
        }
        if let (Some(most), false) = (self.keep_at_most, self.against_direction) {
            let message =
                format!("at most {most} is kept, but higher is better on every scale of DOVER: it would keep the worse");
            let help = "use keep_at_least; if the paper is to be followed to the letter, add against_direction = true";
            check.error(Some("keep_at_most"), Code::Contradiction, message, Some(help.into()));
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        report_missing(check);
    }

    fn model_files(&self, paths: &Paths, runtime: &RuntimeSettings) -> Vec<FileRef> {
        let mut files = models::files("technical_model", &self.technical_model, paths, runtime);
        files.extend(models::files("aesthetic_model", &self.aesthetic_model, paths, runtime));
        files
    }

    fn check_models(&self, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
        let technical = models::check("technical_model", &self.technical_model, runtime, check);
        match Models::new(models::settings(runtime)).find(&models::reference(&self.aesthetic_model, check.paths())) {
            Err(e) => check.error(Some("aesthetic_model"), Code::MissingFile, e.message, e.help),
            Ok(aesthetic) => {
                let raw = match self.score {
                    Some(Scale::TechnicalRaw) => technical.as_ref().and_then(|t| t.manifest.score.as_ref()),
                    Some(Scale::AestheticRaw) => aesthetic.manifest.score.as_ref(),
                    _ => None,
                };
                if let Some(range) = raw.and_then(scale::range) {
                    for (key, limit) in self.limits() {
                        if let Some(why) = scale::outside(limit, "raw", range) {
                            check.error(Some(key), Code::Contradiction, why, None);
                        }
                    }
                }
                let fusion = technical.map(|t| Fusion::of(&t.manifest, &aesthetic.manifest, self.constants));
                if let Some(Err(e)) = fusion {
                    check.error(None, Code::BadModel, e.message, e.help);
                }
            }
        }
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["timeout_seconds"]
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        // The places of DOVER's patches follow from the id.
        Some([crate::span::OF_PIXELS.as_slice(), &["clip_id"]].concat())
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let names = (self.technical_model.as_str(), self.aesthetic_model.as_str());
        let networks =
            Networks::open(&models::of(context.resources), names, self.constants, context.paths).map_err(models::broken)?;
        Ok(Runtime::Transform(Box::new(Started { settings: self.clone(), networks, id_column: context.id_column.clone() })))
    }
}

/// Both networks.
struct Networks {
    fusion: Fusion,
    technical: Arc<Model>,
    aesthetic: Arc<Model>,
}

/// What is kept of one frame.
struct Look {
    index: usize,
    /// By segment, where the frame belongs to it.
    technical: [Option<Vec<u8>>; SEGMENTS],
    aesthetic: Option<Vec<u8>>,
}

/// The frames that any view needs, ascending, each once.
fn wanted(choice: Choice, frames: usize) -> Vec<usize> {
    if frames == 0 {
        return Vec::new();
    }
    let mut all: Vec<usize> = (0..SEGMENTS).flat_map(|s| choice.technical_frames(s, frames)).collect();
    all.extend(choice.aesthetic_frames(frames));
    all.sort_unstable();
    all.dedup();
    all
}

fn look(choice: Choice, frames: usize, index: usize, frame: &Frame) -> Look {
    let segment = |s: usize| choice.technical_frames(s, frames).contains(&index).then(|| choice.technical_view(s, frame));
    let aesthetic = choice.aesthetic_frames(frames).contains(&index).then(|| aesthetic_view(frame));
    Look { index, technical: std::array::from_fn(segment), aesthetic }
}

impl Networks {
    fn open(
        models: &Models,
        (technical, aesthetic): (&str, &str),
        constants: Constants,
        paths: &Paths,
    ) -> Result<Networks, ModelError> {
        let open = |name: &str| {
            let model = models.open_default(&models::reference(name, paths))?;
            takes_views(&model)?;
            Ok(model)
        };
        let (technical, aesthetic) = (open(technical)?, open(aesthetic)?);
        let fusion = Fusion::of(technical.manifest(), aesthetic.manifest(), constants)?;
        Ok(Networks { fusion, technical, aesthetic })
    }

    fn one(model: &Arc<Model>, views: &[&[u8]], context: &MediaContext) -> Result<f64, Failure> {
        let input = Tensor::f32(&[1, 3, FRAMES, SIDE, SIDE], tensor(views))?;
        let outputs = model.run_until(&[input], Some(context.cancelled))?;
        Ok(one_number_each(model, &outputs, 1)?[0])
    }

    /// Both raw scores of a clip of `frames` frames. One segment at a time: 19 MB of input instead of 58.
    fn raw(&self, choice: Choice, frames: usize, looks: &[Look], context: &MediaContext) -> Result<(f64, f64), Failure> {
        let view = |indexes: [usize; FRAMES], of: &dyn Fn(&Look) -> Option<&[u8]>| -> Result<Vec<&[u8]>, Failure> {
            let found =
                indexes.iter().map(|i| looks.binary_search_by_key(i, |l| l.index).ok().and_then(|at| find(looks, at, of)));
            let all: Option<Vec<&[u8]>> = found.collect();
            all.ok_or_else(|| Problem::new("no_frames", "a frame of the clip was not decoded").into())
        };
        let mut technical = 0.0;
        for s in 0..SEGMENTS {
            let views = view(choice.technical_frames(s, frames), &|l| l.technical[s].as_deref())?;
            technical += Self::one(&self.technical, &views, context)? / SEGMENTS as f64;
        }
        let views = view(choice.aesthetic_frames(frames), &|l| l.aesthetic.as_deref())?;
        Ok((technical, Self::one(&self.aesthetic, &views, context)?))
    }
}

/// One input f32 `[batch, 3, 32, 224, 224]`, one output `[batch]` or `[batch, 1]`: another form would fail on every row, after its decoding.
fn takes_views(model: &Model) -> Result<(), ModelError> {
    let name = &model.identity().name;
    let wrong = |what: &str| {
        Err(ModelError::new(ErrorKind::Contract, format!("model `{name}` is no branch of DOVER: {what}"))
            .help("export it with a free batch size and its score averaged: scripts/convert/dover.py"))
    };
    let fixed = |n: usize| Dim::Fixed(n as u64);
    let [input] = model.contract().inputs.as_slice() else { return wrong("it has not one input") };
    let view = [fixed(3), fixed(FRAMES), fixed(SIDE), fixed(SIDE)];
    match input.shape.as_slice() {
        [Dim::Symbol(_), rest @ ..] if *rest == view && input.dtype == Dtype::F32 => {}
        _ => return wrong("its input is not f32 [batch, 3, 32, 224, 224]"),
    }
    match model.contract().outputs.first().map(|output| output.shape.as_slice()) {
        Some([_] | [_, Dim::Fixed(1)]) => Ok(()),
        _ => wrong("its first output is not [batch]"),
    }
}

fn find<'a>(looks: &'a [Look], at: usize, of: &dyn Fn(&'a Look) -> Option<&'a [u8]>) -> Option<&'a [u8]> {
    looks.get(at).and_then(of)
}

struct Started {
    settings: Technical,
    networks: Networks,
    id_column: String,
}

impl Started {
    fn measure(&self, id: &str, span: Span, context: &MediaContext) -> Result<Scores, Failure> {
        context.check_cancelled()?;
        let choice = Choice::of(id);
        let (total, size) = (Cell::new(0), Cell::new(None));
        let choose = |frames: usize| {
            total.set(frames);
            size.set(None);
            wanted(choice, frames)
        };
        let mut make = |index: usize, frame: Frame| {
            let now = (frame.width, frame.height);
            if size.replace(Some(now)).is_some_and(|before| before != now) {
                let message = format!("{}: the picture changes its size inside the span", shown(span.uri));
                return Err(MediaError { code: "format_change", message });
            }
            // A pixel aspect can make any frame a thousand times wider than high, and its views are enlarged to the shorter side.
            let (short, long) = (now.0.min(now.1), now.0.max(now.1));
            if short == 0 || long > MAX_EDGE || long > short.saturating_mul(MAX_ASPECT) {
                let message = format!("{}: a picture of {}x{} has no view for DOVER", shown(span.uri), now.0, now.1);
                return Err(MediaError { code: "model_input", message });
            }
            Ok(look(choice, total.get(), index, &frame))
        };
        let looks = chosen_frames(span.uri, (span.start_us, span.end_us), &choose, &mut make, context)?;
        let (technical, aesthetic) = self.networks.raw(choice, total.get(), &looks, context)?;
        Ok(Scores::of(technical, aesthetic, &self.networks.fusion))
    }
}

impl Transform for Started {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let spans = Spans::of(rows)?;
        let ids = text_column(rows, &self.id_column)?;
        let timeout = Duration::from_secs(self.settings.timeout_seconds);
        let plane = plane_of(task);
        let context = MediaContext { cancelled: task.cancelled, plane: &plane, timeout };
        let constants = if self.settings.constants == Constants::Upstream { "upstream" } else { "corrected" };
        let [technical, aesthetic] = [&self.networks.technical, &self.networks.aesthetic].map(|m| identity_of(m));
        let name = format!("{technical} + {aesthetic}, {constants} constants");
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let mut numbers: [Float32Builder; 6] = Default::default();
        let mut model = StringBuilder::new();
        for row in 0..rows.num_rows() {
            let id = if ids.is_valid(row) { ids.value(row) } else { "" };
            let measured = match spans.row(row).map_err(Failure::Row).and_then(|span| self.measure(id, span, &context)) {
                Ok(scores) => Ok(scores),
                Err(Failure::Row(problem)) => Err(problem),
                Err(Failure::Run(e)) => return Err(e),
            };
            let scales = [
                Scale::TechnicalRaw,
                Scale::AestheticRaw,
                Scale::TechnicalNorm,
                Scale::AestheticNorm,
                Scale::Logit,
                Scale::Overall,
            ];
            for (builder, scale) in numbers.iter_mut().zip(scales) {
                builder.append_option(measured.as_ref().ok().map(|s| scale.of(s) as f32));
            }
            model.append_option(measured.as_ref().ok().map(|_| &name));
            verdicts.push(measured.map_or_else(Verdict::Unmeasured, |s| self.settings.judge(&s)));
        }
        let mut columns: Vec<ArrayRef> = numbers.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef).collect();
        columns.push(Arc::new(model.finish()));
        Ok(Processed::rows(verdicts, columns))
    }
}

#[cfg(test)]
#[path = "technical_tests.rs"]
mod tests;
