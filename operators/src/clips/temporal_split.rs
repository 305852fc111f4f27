//! `temporal_split`: each unbroken medical shot of a video becomes a clip row.
//!
//! The decision is in [`super::runs`], which has the formula; here are its inputs and the clip columns. Why similarities of neighbours and not of the
//! clip's ends: a camera that moves slowly stays one clip, a cut ends it. What can go wrong: columns of one row that contradict each other; such a row is
//! unmeasured, never guessed.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Runtime, StepCheck, Task, Transform};
use curette_engine::verdict::{Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::runs::Rule;
use super::similarity;
use super::split_decision::Splitter;
use super::split_input::Inputs;
use crate::frames::vectors::width_of;

/// Cuts a video into clips where every sampled frame is positive and every two neighbouring samples look alike.
///
/// A stretch from sample i to sample j is a clip when it spans at least `min_length_seconds`, has the steps that this takes at `samples_per_second`, all its frames
/// are positive (`frame_labels`) and the cosine of each two neighbouring embeddings is strictly above `min_similarity` (MedGen, section 3: j - i >= 6 at one
/// sample per second, so seven samples). The span of a clip is from its first to its last sample, in the stream time of the video.
///
/// Samples further apart than 1.5 times the video's own sampling period (the mean of its regular gaps) are not neighbours: frames are missing between them. A video
/// with fewer frames than `samples_per_second` has a longer period of its own, so its samples are neighbours, but it needs as many of them.
///
/// Reject codes: `too_few_frames` (measured: samples), `no_positive_frame` (measured: the highest score), `no_run_long_enough` (measured: the longest run in
/// seconds, or in steps where its seconds would do). Unmeasured codes: `no_frames` (a column is null), `columns_disagree`, `times_not_ascending`,
/// `bad_embedding`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TemporalSplit {
    /// Neighbouring samples belong together when the cosine of their embeddings is more than this (-1 to 1). The paper does not publish its value; `curette
    /// calibrate-tau` chooses one from labelled cuts.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub min_similarity: f64,
    /// Shortest clip in seconds (0.001 to 86400), counted in whole samples: frames may lie up to a quarter of a sampling period off.
    #[schemars(range(min = 0.001, max = 86_400.0))]
    pub min_length_seconds: f64,
    /// Longest clip in seconds; 0 = any length. A longer run is cut into equal pieces that are not shorter than `min_length_seconds`; where no such cut exists
    /// (11 s with limits of 6 and 10), the end of a piece is left out.
    #[schemars(range(min = 0.0, max = 86_400.0))]
    pub max_length_seconds: f64,
    /// Samples per second that the video was asked for: `fps` of the `frame_embed` step (0.1 to 10). It sets how many samples a clip needs.
    #[schemars(range(min = 0.1, max = 10.0))]
    pub samples_per_second: f64,
    /// End a clip at the sample after its last one, where there is one without a gap. The content between the two was not checked: a cut may lie there.
    pub extend_to_next_sample: bool,
    /// How far, in seconds, each end of a clip may move inward to a key frame (0 to 60; 0: not at all), so that `clip_cut` can copy packets there
    /// (`mode = "smart"`) or copies the clip exactly (`mode = "keyframe"`). Ends move only as far as leaves `min_length_seconds`; if that allows one
    /// of them, it is the start. Needs `key_frames = true` in the `probe` step. Scores and counts remain those of the samples that made it a clip.
    #[schemars(range(min = 0.0, max = 60.0))]
    pub keyframe_tolerance_seconds: f64,
    /// What is compared with `min_similarity`.
    pub comparison: Comparison,
    /// Samples on each side of `comparison = "window"` (2 to 16); of no effect with `adjacent`.
    #[schemars(range(min = 2, max = 16))]
    pub window_samples: usize,
}

/// See [`TemporalSplit::comparison`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Each sample with the one before, as the paper has it.
    #[default]
    Adjacent,
    /// The mean of the `window_samples` samples up to the one before with the mean of as many from the sample on: a flash of one frame is no cut, a
    /// dissolve over seconds is one. Around a cut, samples whose windows reach over it may be left out of both clips.
    Window,
}

impl Default for TemporalSplit {
    fn default() -> Self {
        TemporalSplit {
            min_similarity: 0.85,
            min_length_seconds: 6.0,
            max_length_seconds: 0.0,
            samples_per_second: 1.0,
            extend_to_next_sample: false,
            keyframe_tolerance_seconds: 0.0,
            comparison: Comparison::Adjacent,
            window_samples: 3,
        }
    }
}

impl Operator for TemporalSplit {
    const NAME: &'static str = "temporal_split";
    const KIND: Kind = Kind::Expand;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = r#"[step.split]
type = "temporal_split"
inputs = ["medical_frames"]
min_similarity = 0.85
min_length_seconds = 6.0
max_length_seconds = 10.0
"#;

    fn columns(&self) -> Columns {
        let list = |t| DataType::new_list(t, true);
        let columns = Columns::none()
            .need("frame_times_us", &[list(DataType::Int64)])
            .need("frame_pts", &[list(DataType::Int64)])
            .need("frame_embeddings", &[])
            .need("frame_labels", &[list(DataType::Boolean)])
            .may_use("frame_scores", &[list(DataType::Float32)])
            .add_id("clip_id", "`{video id}#{start_us}-{end_us}`.")
            .add("clip_index", DataType::Int32, "Number of the clip in its video, from 0.")
            .add("start_us", DataType::Int64, "Time of the first frame in the video, in microseconds of stream time.")
            .add(
                "end_us",
                DataType::Int64,
                "Time of the last sampled frame in the video, in microseconds of stream time; the clip ends before it.",
            )
            .add(
                "start_pts",
                DataType::Int64,
                "Time of the first frame in ticks of `pts_timescale` per second: stream time exact to 1 ns, not the container's own time base.",
            )
            .add(
                "end_pts",
                DataType::Int64,
                "Time of the last frame in ticks of `pts_timescale` per second: stream time exact to 1 ns, not the container's own time base.",
            )
            .add("clip_frame_count", DataType::Int32, "Sampled frames in the clip, first and last included.")
            .add("min_similarity", DataType::Float32, "Smallest cosine of two neighbouring samples of the clip, -1 to 1.")
            .add("mean_similarity", DataType::Float32, "Mean cosine of neighbouring samples of the clip, -1 to 1.")
            .add("mean_frame_score", DataType::Float32, "Mean of the clip's `frame_scores`, 0 to 1; null without them.");
        if !self.prefers_key_frames() {
            return columns;
        }
        columns
            .may_use("key_frame_times_us", &[list(DataType::Int64)])
            .add("start_moved_us", DataType::Int64, "How far the start was moved to a later key frame, in microseconds; 0: not.")
            .add("end_moved_us", DataType::Int64, "How far the end was moved to an earlier key frame, in microseconds; 0: not.")
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if self.max_length_seconds > 0.0 && self.max_length_seconds < self.min_length_seconds {
            let message = format!(
                "`max_length_seconds` = {} is less than `min_length_seconds` = {}",
                self.max_length_seconds, self.min_length_seconds
            );
            check.error(Some("max_length_seconds"), Code::Contradiction, message, Some("use 0 for no longest length".into()));
        }
    }

    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        if self.prefers_key_frames() && input.field_with_name("key_frame_times_us").is_err() {
            let message = "`keyframe_tolerance_seconds` needs the column `key_frame_times_us`".to_owned();
            let help = Some("set key_frames = true in the `probe` step before this one".into());
            check.error(Some("keyframe_tolerance_seconds"), Code::MissingColumn, message, help);
        }
        if let Ok(field) = input.field_with_name("frame_embeddings")
            && width_of(field.data_type()).is_none()
        {
            let message = format!("column `frame_embeddings` is {}, expected a list of vectors of Float32", field.data_type());
            check.error(None, Code::WrongColumnType, message, Some("put a `frame_embed` step before this one".into()));
        }
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let us = |seconds: f64| (seconds * 1e6).round() as i64;
        let rule = Rule {
            min_similarity: self.min_similarity,
            min_length_us: us(self.min_length_seconds),
            max_length_us: us(self.max_length_seconds),
            nominal_period_us: 1e6 / self.samples_per_second,
        };
        Ok(Runtime::Transform(Box::new(Splitter {
            rule,
            comparison: match self.comparison {
                Comparison::Adjacent => similarity::Comparison::Adjacent,
                Comparison::Window => similarity::Comparison::Window(self.window_samples),
            },
            extend: self.extend_to_next_sample,
            tolerance_us: us(self.keyframe_tolerance_seconds),
            id_column: context.id_column.clone(),
        })))
    }
}

impl TemporalSplit {
    fn prefers_key_frames(&self) -> bool {
        self.keyframe_tolerance_seconds > 0.0
    }
}

impl Transform for Splitter {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let inputs = Inputs::of(rows, &self.id_column).map_err(|e| OperatorError::new(format!("step {}: {e}", task.step)))?;
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let mut parents = Vec::new();
        let mut ids = StringBuilder::new();
        let (mut index, mut frames) = (Int32Builder::new(), Int32Builder::new());
        let mut spans: [Int64Builder; 4] = std::array::from_fn(|_| Int64Builder::new());
        let mut numbers: [Float32Builder; 3] = std::array::from_fn(|_| Float32Builder::new());
        let mut moves: [Int64Builder; 2] = std::array::from_fn(|_| Int64Builder::new());
        for row in 0..rows.num_rows() {
            let answer = if task.is_cancelled() {
                Err(Verdict::unmeasured("cancelled", "the run is being stopped"))
            } else {
                inputs.video(row).map_err(Verdict::Unmeasured).and_then(|video| self.clips(&video))
            };
            let clips = match answer {
                Ok(clips) => clips,
                Err(verdict) => {
                    verdicts.push(verdict);
                    continue;
                }
            };
            verdicts.push(Verdict::Pass);
            for (k, clip) in clips.iter().enumerate() {
                parents.push(row as u32);
                ids.append_value(format!("{}#{}-{}", inputs.ids.value(row), clip.start_us, clip.end_us));
                index.append_value(k as i32);
                frames.append_value(clip.frames);
                for (b, v) in spans.iter_mut().zip([clip.start_us, clip.end_us, clip.start_pts, clip.end_pts]) {
                    b.append_value(v);
                }
                for (b, v) in moves.iter_mut().zip([clip.start_moved_us, clip.end_moved_us]) {
                    b.append_value(v);
                }
                for (b, v) in numbers.iter_mut().zip([Some(clip.min_similarity), Some(clip.mean_similarity), clip.mean_score]) {
                    b.append_option(v);
                }
            }
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(ids.finish()), Arc::new(index.finish())];
        columns.extend(spans.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef));
        columns.push(Arc::new(frames.finish()));
        columns.extend(numbers.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef));
        if self.tolerance_us > 0 {
            columns.extend(moves.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef));
        }
        Ok(Processed::children(verdicts, parents, columns))
    }
}

#[cfg(test)]
#[path = "temporal_split_tests.rs"]
mod tests;
