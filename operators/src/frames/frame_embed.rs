//! `frame_embed`: one vector per second of video, in one decoding pass, by the built-in descriptor or a CLIP image encoder.
//!
//! Vectors are made once: `frame_classifier`, `temporal_split`, and `aesthetic` with `look_at = "sampled_frames"` read the column.
//!
//! Which frames: see [`crate::media::sample`]. What can go wrong: a file that ends early or decodes with concealed errors still gives
//! frames; [`crate::damage`] has what becomes of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use curette_engine::diag::Code;
use curette_engine::graph::RuntimeSettings;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, MODEL_METADATA, Operator, OperatorError, Paths, Pool, Runtime, StepCheck, Task,
    Transform,
};
use curette_engine::verdict::{Problem, Processed, Verdict};
use curette_models::image::{EDGE, Rgb, resize_and_crop};
use curette_models::{ClipImageEncoder, ModelError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::descriptor::{DIMENSION, NAME, SIDE, describe};
use super::embed_columns::Builders;
use super::vectors::norm;
use crate::damage::{DamagedVideos, Policy, Usable};
use crate::media::{self, Frame, GridSettings, MediaContext, MediaError, WHOLE_NS, plane_of, sample, shown};
use crate::models;
use crate::quality::models::Failure;
use crate::span::text_column;
use crate::video::report_missing;

/// Samples each video on a regular grid and describes every sampled frame by a vector of length 1.
///
/// The frame for time t is the first one at or after t less half a frame period; `sampling` and `within_seconds` trade that for speed. Packets that no
/// wanted frame depends on are not decoded (H.264, HEVC, VP8, VP9, AV1, MPEG-1, MPEG-2, MPEG-4 part 2, where times are unambiguous); the frames are
/// the same as after decoding everything. The built-in descriptor joins a colour histogram, colour layout,
/// gradient orientations and an 8 x 8 thumbnail (272 numbers); it separates shots, it knows nothing of meaning. With `model` a CLIP image encoder makes the vectors; each
/// frame is scaled and cropped as CLIP wants it, and its vector brought to length 1. One frame costs 0.1 s (ViT-B/32) to 1.8 s (ViT-L/14) of one core.
///
/// Behind a `shot_split` or a `temporal_split` only the row's part of the video is looked at, from its first frame on: each part is one pass that begins at the key
/// frame before it in mp4, Matroska and WebM, and at the beginning of the file in other containers.
///
/// A video that ends more than 1 s and 2 % before the end that it promises (code `truncated`) or whose decoder reports more errors than `max_errors_per_frame`
/// allows (code `damaged`) is unmeasured, rejected, or kept up to the damage, as `damaged_videos` says. Unmeasured codes are those of `probe`, `no_span`,
/// `too_long` for too many samples, and with `model` `model_output_not_finite` and `model_input` (a picture that is longer than 16384 pixels or more than 64 times longer than wide).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FrameEmbed {
    /// Frames per second of video (0.1 to 10).
    #[schemars(range(min = 0.1, max = 10.0))]
    pub fps: f64,
    /// Which frame answers a time of the grid.
    pub sampling: Sampling,
    /// With `sampling = "exact"`: take the frame that is cheapest to decode among those at most this far from the time, in seconds (0 to 10; 0: the
    /// exact frame). Where there is none so near, the exact frame. `frame_times_us` has the true times.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub within_seconds: f64,
    /// What describes a frame, where no `model` does. Default: `builtin`.
    pub descriptor: Option<Descriptor>,
    /// A CLIP image encoder instead of the descriptor: a manifest's name, such as `clip-vit-b32`, or the path of a manifest (`.toml`) or graph (`.onnx`).
    pub model: Option<String>,
    /// What becomes of a video that does not decode whole.
    pub damaged_videos: DamagedVideos,
    /// A video whose decoder reports more errors per decoded frame than this is damaged (0 to 1000). Decoders conceal errors
    /// with plausible pixels; their number is in `decode_errors`.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub max_errors_per_frame: f64,
    /// Time for one video, fetching included, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

/// See [`FrameEmbed::sampling`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// The first frame at or after the time less half a frame period.
    #[default]
    Exact,
    /// The nearest key frame, each once: several times cheaper, but a video with few key frames gives few samples, and clips need samples.
    Keyframes,
}

/// See [`FrameEmbed::descriptor`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Descriptor {
    /// Colour, gradient orientation and thumbnail; needs no model.
    #[default]
    Builtin,
}

impl Default for FrameEmbed {
    fn default() -> Self {
        FrameEmbed {
            fps: 1.0,
            sampling: Sampling::Exact,
            within_seconds: 0.0,
            descriptor: None,
            model: None,
            damaged_videos: DamagedVideos::Error,
            max_errors_per_frame: 0.1,
            timeout_seconds: 3600,
        }
    }
}

/// Samples of one video are bounded: 24 hours at 10 per second.
const MAX_SAMPLES: usize = 24 * 3600 * 10;

impl Operator for FrameEmbed {
    const NAME: &'static str = "frame_embed";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 3;
    const EXAMPLE: &'static str =
        "[step.frame_embed]\ntype = \"frame_embed\"\ninputs = [\"probe\"]\nfps = 1.0\ndescriptor = \"builtin\"\n";

    fn columns(&self) -> Columns {
        let list = |t| DataType::new_list(t, true);
        // The width of a model's vectors is known when it is open; `check` takes it from the manifest.
        let vector = match self.model {
            Some(_) => list(DataType::Float32),
            None => DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, true)), DIMENSION as i32),
        };
        Columns::none()
            .need("video_uri", &[DataType::Utf8])
            .may_use("content_blake3", &[DataType::Utf8])
            .may_use("shot_start_us", &[DataType::Int64])
            .may_use("shot_end_us", &[DataType::Int64])
            .may_use("start_us", &[DataType::Int64])
            .may_use("end_us", &[DataType::Int64])
            .add("frame_times_us", list(DataType::Int64), "times of the sampled frames, microseconds of stream time")
            .add("frame_pts", list(DataType::Int64), "the same times in ticks of `pts_timescale` per second")
            .add("pts_timescale", DataType::Int64, "ticks per second of `frame_pts`")
            .add("frame_embeddings", list(vector), "one vector of length 1 per sampled frame")
            .note(MODEL_METADATA, self.model.as_deref().unwrap_or(NAME))
            .add("embedding_model", DataType::Utf8, "what made the vectors")
            .add("decoded_duration_us", DataType::Int64, "end of the last frame that was decoded and may be used, microseconds")
            .add(
                "truncated",
                DataType::Boolean,
                "true if that is more than 1 s and 2 % before the end that the file promises, or what follows it is damaged",
            )
            .add(
                "decode_errors",
                DataType::Int64,
                "errors that the decoder reported in what was decoded: concealed by libavcodec, left out by others",
            )
    }

    fn pool(&self) -> Pool {
        Pool::Decode
    }

    fn rows_per_task(&self) -> usize {
        1
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if self.descriptor.is_some() && self.model.is_some() {
            let help = Some("remove one of them".to_string());
            check.error(Some("descriptor"), Code::Contradiction, "`descriptor` and `model` both describe frames".into(), help);
        }
        if self.sampling == Sampling::Keyframes && self.within_seconds > 0.0 {
            let message = "`within_seconds` has no meaning with `sampling = \"keyframes\"`".into();
            check.error(
                Some("within_seconds"),
                Code::Contradiction,
                message,
                Some("remove it, or set sampling = \"exact\"".into()),
            );
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        report_missing(check);
    }

    fn model_files(&self, paths: &Paths, runtime: &RuntimeSettings) -> Vec<FileRef> {
        self.model.iter().flat_map(|model| models::files("model", model, paths, runtime)).collect()
    }

    fn check_models(&self, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
        if let Some(model) = &self.model {
            models::check("model", model, runtime, check);
        }
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["timeout_seconds"]
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        Some(vec!["content_blake3"])
    }

    fn also_decided_by(&self) -> Vec<String> {
        ["shot_start_us", "shot_end_us", "start_us", "end_us"].map(String::from).into()
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let open = |model: &String| {
            models::of(context.resources).image_encoder(&models::reference(model, context.paths)).map_err(models::broken)
        };
        let encoder = self.model.as_ref().map(open).transpose()?;
        Ok(Runtime::Transform(Box::new(Started::new(self.clone(), encoder))))
    }
}

/// The operator at work.
pub(crate) struct Started {
    settings: FrameEmbed,
    encoder: Option<ClipImageEncoder>,
    /// What made the vectors, as the column has it.
    name: String,
}

/// What was found in a row's part of a video.
pub(super) struct Described {
    pub times_ns: Vec<i64>,
    pub vectors: Vec<f32>,
    pub usable: Usable,
    pub decode_errors: u64,
}

/// Why there is no description.
enum Undescribed {
    /// The row's verdict.
    Row(Verdict),
    /// Ends the run.
    Run(OperatorError),
}

impl From<Failure> for Undescribed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Row(problem) => Undescribed::Row(Verdict::Unmeasured(problem)),
            Failure::Run(e) => Undescribed::Run(e),
        }
    }
}

/// What part of its video a row is, in nanoseconds: a shot, a clip, or all of it.
fn span_ns(rows: &RecordBatch, row: usize) -> Result<(i64, i64), Problem> {
    let number = |name: &str| rows.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let pairs = [("shot_start_us", "shot_end_us"), ("start_us", "end_us")];
    let Some((start, end)) = pairs.into_iter().find_map(|(start, end)| number(start).zip(number(end))) else {
        return Ok(WHOLE_NS);
    };
    if start.is_null(row) || end.is_null(row) {
        return Err(Problem::new("no_span", "start or end of the row's part of the video is null"));
    }
    let (start_us, end_us) = (start.value(row), end.value(row));
    if start_us < 0 || end_us <= start_us || end_us > i64::MAX / 1000 {
        return Err(Problem::new("no_span", format!("[{start_us}, {end_us}) microseconds is no span")));
    }
    Ok((start_us * 1000, end_us * 1000))
}

/// Frames that wait for the encoder, scaled and cropped.
struct Waiting<'a> {
    encoder: &'a ClipImageEncoder,
    cancelled: &'a AtomicBool,
    crops: Vec<Vec<u8>>,
}

impl Waiting<'_> {
    fn add(&mut self, frame: &Frame, vectors: &mut Vec<f32>) -> Result<(), ModelError> {
        self.crops.push(resize_and_crop(&frame.rgb, frame.width, frame.height)?);
        if self.crops.len() >= self.encoder.batch() { self.embed(vectors) } else { Ok(()) }
    }

    fn embed(&mut self, vectors: &mut Vec<f32>) -> Result<(), ModelError> {
        let pictures: Vec<Rgb> = self.crops.iter().map(|c| Rgb { pixels: c, width: EDGE, height: EDGE }).collect();
        for vector in self.encoder.embed_until(&pictures, Some(self.cancelled))? {
            let length = norm(&vector);
            let scale = if length > 0.0 { 1.0 / length } else { 1.0 };
            vectors.extend(vector.iter().map(|v| (f64::from(*v) * scale) as f32));
        }
        self.crops.clear();
        Ok(())
    }
}

impl FrameEmbed {
    fn rule(&self) -> media::Sampling {
        match self.sampling {
            Sampling::Exact if self.within_seconds > 0.0 => media::Sampling::Within((self.within_seconds * 1e9).round() as i64),
            Sampling::Exact => media::Sampling::Exact,
            Sampling::Keyframes => media::Sampling::Keyframes,
        }
    }
}

impl Started {
    /// Without an encoder the built-in descriptor.
    pub(crate) fn new(settings: FrameEmbed, encoder: Option<ClipImageEncoder>) -> Started {
        let name = encoder.as_ref().map_or_else(|| NAME.to_owned(), |e| models::encoder_of(e.model()).to_string());
        Started { settings, encoder, name }
    }

    fn width(&self) -> usize {
        self.encoder.as_ref().map_or(DIMENSION, ClipImageEncoder::width)
    }

    fn describe(&self, uri: &str, span_ns: (i64, i64), context: &MediaContext) -> Result<Described, Undescribed> {
        let (mut times_ns, mut vectors) = (Vec::new(), Vec::new());
        let mut waiting =
            self.encoder.as_ref().map(|encoder| Waiting { encoder, cancelled: context.cancelled, crops: Vec::new() });
        // A model's error stops the pass; what it means is told afterwards.
        let mut failed = None;
        let size = (SIDE as u32, SIDE as u32);
        let size = waiting.is_none().then_some(size);
        let settings = GridSettings { fps: self.settings.fps, size, sampling: self.settings.rule(), span_ns };
        let stats = sample(uri, &settings, context, &mut |frame| {
            if times_ns.len() >= MAX_SAMPLES {
                return Err(MediaError { code: "too_long", message: format!("{}: more than {MAX_SAMPLES} samples", shown(uri)) });
            }
            times_ns.push(frame.pts_ns);
            match &mut waiting {
                None => vectors.extend(describe(&frame.rgb)),
                Some(waiting) => waiting.add(&frame, &mut vectors).map_err(|e| {
                    failed = Some(e);
                    MediaError { code: "cancelled", message: "the encoder failed".into() }
                })?,
            }
            Ok(())
        });
        if let Some(e) = failed {
            return Err(Failure::from(e).into());
        }
        let stats = stats.map_err(Failure::from)?;
        if let Some(waiting) = waiting.as_mut().filter(|w| !w.crops.is_empty()) {
            waiting.embed(&mut vectors).map_err(Failure::from)?;
        }
        let policy = Policy { damaged: self.settings.damaged_videos, max_errors_per_frame: self.settings.max_errors_per_frame };
        let usable = policy.judge(uri, &stats).map_err(Undescribed::Row)?;
        let kept = times_ns.partition_point(|t| t / 1000 < usable.until_us);
        times_ns.truncate(kept);
        vectors.truncate(kept * self.width());
        Ok(Described { times_ns, vectors, usable, decode_errors: stats.decode_errors })
    }
}

impl Transform for Started {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let uris = text_column(rows, "video_uri")?;
        let plane = plane_of(task);
        let timeout = Duration::from_secs(self.settings.timeout_seconds);
        let context = MediaContext { cancelled: task.cancelled, plane: &plane, timeout };
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let mut out = Builders::new(&self.name, self.width(), self.encoder.is_some());
        for (row, uri) in uris.iter().enumerate() {
            let described = match span_ns(rows, row) {
                Ok(span) => self.describe(uri.unwrap_or_default(), span, &context),
                Err(problem) => Err(Undescribed::Row(Verdict::Unmeasured(problem))),
            };
            match described {
                Ok(found) => {
                    out.append(Some(&found));
                    verdicts.push(Verdict::Pass);
                }
                Err(Undescribed::Row(verdict)) => {
                    out.append(None);
                    verdicts.push(verdict);
                }
                Err(Undescribed::Run(e)) => return Err(e),
            }
        }
        Ok(Processed::rows(verdicts, out.finish()))
    }
}

#[cfg(test)]
#[path = "frame_embed_tests.rs"]
mod tests;
