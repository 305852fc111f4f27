//! `shot_split`: each shot of a video becomes a row, found by the differences of neighbouring frames.
//!
//! All frames are decoded and scored in [`crate::pixels::content`]; the decision is in [`super::cuts`]. Why beside `temporal_split`: that one joins samples of one
//! second that look alike, this one finds the frame where a film is cut; it knows nothing of meaning. What can go wrong: dissolves are no cuts to either detector;
//! flashes and fast motion are, where `adaptive` does not see that their neighbours differ as much.

use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Pool, Runtime, StepCheck, Task, Transform};
use curette_engine::verdict::{Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cuts::{Adaptive, Mode};
use super::shot_rows::Builders;
use super::shots::{Detector, Frames, Shot};
use crate::damage::{DamagedVideos, Policy, Usable};
use crate::media::{MediaContext, every_frame, plane_of, problem};
use crate::pixels::content::Comparer;
use crate::span::text_column;
use crate::video::report_missing;

/// Makes one row of each shot of a video, with PySceneDetect's detectors.
///
/// The score of a frame is the weighted mean of how much hue, saturation, luma and edges differ from the frame before (0 to 255 each), on frames whose longer side
/// is scaled to 256 pixels. `content` cuts where it is at least `threshold`; `adaptive` where it is at least `min_content_val` and `adaptive_threshold` times the
/// mean of its neighbours. Parameters and defaults are those of PySceneDetect 0.7.2 (`ContentDetector`, `AdaptiveDetector`, auto-downscale). Scores are equal for
/// 8-bit 4:2:0 video of limited range. For other formats they are up to a few units apart: cuts at the defaults were the same in all files tried, at low
/// thresholds a few were not.
///
/// With `rows = "clips"` the rows are clips, with the columns that `temporal_split` gives, so that everything after that step works after this one. With
/// `rows = "shots"` put `frame_embed`, `frame_classifier` and `temporal_split` behind it: they then look at one shot at a time, and no clip crosses a cut.
///
/// Shots follow one another without a gap: a shot ends where the next one begins, the last one where its last frame ends. Reject codes: `no_shot_long_enough`
/// (measured: the longest shot in seconds), `too_many_shots` (measured: shots), and `truncated` and `damaged` with `damaged_videos = "reject"`. Unmeasured codes are
/// those of `probe`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShotSplit {
    /// What the rows are.
    pub rows: Rows,
    /// Which decision.
    pub detector: DetectorName,
    /// `content`: a frame whose score is at least this begins a shot (0 to 255).
    #[schemars(range(min = 0.0, max = 255.0))]
    pub threshold: f64,
    /// Fewest frames from one cut to the next, at the video's mean frame rate (0 to 100000).
    #[schemars(range(min = 0, max = 100_000))]
    pub min_scene_len: u32,
    /// `content`: what happens to cuts that are nearer.
    pub filter_mode: FilterMode,
    /// How much each component counts.
    pub weights: Weights,
    /// Look at luma alone, whatever `weights` says.
    pub luma_only: bool,
    /// Pixels by which edges are widened, odd, 3 at least; by default from the size of the picture. Of no effect unless `weights.delta_edges` is more than 0.
    #[schemars(range(min = 3, max = 255))]
    pub kernel_size: Option<u32>,
    /// `adaptive`: least ratio of a score to the mean of its neighbours (0 to 255).
    #[schemars(range(min = 0.0, max = 255.0))]
    pub adaptive_threshold: f64,
    /// `adaptive`: neighbours on each side (1 to 1000).
    #[schemars(range(min = 1, max = 1000))]
    pub window_width: u32,
    /// `adaptive`: least score (0 to 255).
    #[schemars(range(min = 0.0, max = 255.0))]
    pub min_content_val: f64,
    /// Shorter shots give no row, in seconds (0 to 86400).
    #[schemars(range(min = 0.0, max = 86_400.0))]
    pub min_shot_seconds: f64,
    /// A video with more shots of that length is rejected (1 to 1000000).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_shots: u32,
    /// What becomes of a video that does not decode whole.
    pub damaged_videos: DamagedVideos,
    /// More errors of the decoder per decoded frame than this are damage (0 to 1000).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub max_errors_per_frame: f64,
    /// Time for one video, fetching included, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

/// See [`ShotSplit::rows`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// Clips: columns `clip_id`, `start_us`, `end_us`, ... In the place of `temporal_split`.
    #[default]
    Clips,
    /// Shots to look for clips in: columns `shot_id`, `shot_start_us`, `shot_end_us`, ... Before `frame_embed`.
    Shots,
}

/// See [`ShotSplit::detector`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DetectorName {
    /// A fixed threshold.
    #[default]
    Content,
    /// A threshold relative to the neighbours: camera motion is no cut.
    Adaptive,
}

/// See [`ShotSplit::filter_mode`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FilterMode {
    /// A burst of cuts becomes one, at its end.
    #[default]
    Merge,
    /// Cuts that come too soon are passed over.
    Suppress,
}

/// See [`ShotSplit::weights`]. Divided by the sum of their absolute values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// Of hue (-100 to 100).
    #[schemars(range(min = -100.0, max = 100.0))]
    pub delta_hue: f64,
    /// Of saturation (-100 to 100).
    #[schemars(range(min = -100.0, max = 100.0))]
    pub delta_sat: f64,
    /// Of luma (-100 to 100).
    #[schemars(range(min = -100.0, max = 100.0))]
    pub delta_lum: f64,
    /// Of edges (-100 to 100); they are looked for only if this is more than 0.
    #[schemars(range(min = -100.0, max = 100.0))]
    pub delta_edges: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { delta_hue: 1.0, delta_sat: 1.0, delta_lum: 1.0, delta_edges: 0.0 }
    }
}

impl Default for ShotSplit {
    fn default() -> Self {
        ShotSplit {
            rows: Rows::Clips,
            detector: DetectorName::Content,
            threshold: 27.0,
            min_scene_len: 15,
            filter_mode: FilterMode::Merge,
            weights: Weights::default(),
            luma_only: false,
            kernel_size: None,
            adaptive_threshold: 3.0,
            window_width: 2,
            min_content_val: 15.0,
            min_shot_seconds: 0.0,
            max_shots: 10_000,
            damaged_videos: DamagedVideos::Error,
            max_errors_per_frame: 0.1,
            timeout_seconds: 3600,
        }
    }
}

impl Operator for ShotSplit {
    const NAME: &'static str = "shot_split";
    const KIND: Kind = Kind::Expand;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = r#"[step.shots]
type = "shot_split"
inputs = ["probe"]
detector = "adaptive"
min_shot_seconds = 2.0
"#;

    fn columns(&self) -> Columns {
        let needs = Columns::none()
            .need("video_uri", &[DataType::Utf8])
            .may_use("content_blake3", &[DataType::Utf8])
            .may_use("video_id", &[DataType::Utf8]);
        let spans = match self.rows {
            Rows::Clips => needs
                .add_id("clip_id", "`{video id}#{start_us}-{end_us}`.")
                .add("clip_index", DataType::Int32, "Number of the shot in its video, from 0; shots that are too short count.")
                .add("start_us", DataType::Int64, "Time of the first frame in the video, in microseconds of stream time.")
                .add(
                    "end_us",
                    DataType::Int64,
                    "Where the shot ends in the video, in microseconds of stream time: the next one begins there.",
                )
                .add("start_pts", DataType::Int64, "Time of the first frame in nanoseconds of stream time.")
                .add("end_pts", DataType::Int64, "Where the shot ends in nanoseconds of stream time.")
                .add("clip_frame_count", DataType::Int32, "Frames in the shot."),
            Rows::Shots => needs
                .add_id("shot_id", "`{video id}#{shot_start_us}-{shot_end_us}`.")
                .add("shot_index", DataType::Int32, "Number of the shot in its video, from 0; shots that are too short count.")
                .add("shot_start_us", DataType::Int64, "Time of the first frame in the video, in microseconds of stream time.")
                .add(
                    "shot_end_us",
                    DataType::Int64,
                    "Where the shot ends in the video, in microseconds of stream time: the next one begins there.",
                )
                .add("shot_frame_count", DataType::Int32, "Frames in the shot."),
        };
        spans
            .add("shot_cut_score", DataType::Float32, "Score of the first frame, 0 to 255; null where the shot begins the video.")
            .add("shot_max_inner_score", DataType::Float32, "Largest score after the first frame, 0 to 255; null for one frame.")
            .add("shot_decoded_duration_us", DataType::Int64, "End of the last frame of the video that was used, microseconds.")
            .add(
                "shot_truncated",
                DataType::Boolean,
                "True if that is before the end that the file promises: by more than 1 s and 2 %, or by damage.",
            )
            .add("shot_decode_errors", DataType::Int64, "Errors that the decoder reported in the whole video.")
    }

    fn pool(&self) -> Pool {
        Pool::Decode
    }

    fn rows_per_task(&self) -> usize {
        1
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if self.kernel_size.is_some_and(|k| k % 2 == 0) {
            check.error(
                Some("kernel_size"),
                Code::Contradiction,
                "`kernel_size` is even".into(),
                Some("take an odd number".into()),
            );
        }
        if !self.luma_only && self.weights_in_order().iter().all(|w| *w == 0.0) {
            let help = Some("give one of them a weight, or set luma_only = true".into());
            check.error(Some("weights"), Code::Contradiction, "all weights are 0".into(), help);
        }
    }

    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        if let Some(name) = ["start_us", "shot_start_us"].into_iter().find(|name| input.field_with_name(name).is_ok()) {
            let message = format!("the rows are parts of videos already: they have a column `{name}`");
            check.error(None, Code::Contradiction, message, Some("put it before the other split, or leave one out".into()));
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        report_missing(check);
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["timeout_seconds"]
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        // The id goes into the ids of the shots.
        Some(vec!["content_blake3", "video_id"])
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(Finder { settings: self.clone(), id_column: context.id_column.clone() })))
    }
}

impl ShotSplit {
    fn weights_in_order(&self) -> [f64; 4] {
        let w = &self.weights;
        if self.luma_only { [0.0, 0.0, 1.0, 0.0] } else { [w.delta_hue, w.delta_sat, w.delta_lum, w.delta_edges] }
    }

    fn rule(&self) -> Detector {
        let min_frames = i64::from(self.min_scene_len);
        match self.detector {
            DetectorName::Content => {
                let mode = if self.filter_mode == FilterMode::Merge { Mode::Merge } else { Mode::Suppress };
                Detector::Content { threshold: self.threshold, min_frames, mode }
            }
            DetectorName::Adaptive => Detector::Adaptive(Adaptive {
                ratio: self.adaptive_threshold,
                window: self.window_width as usize,
                min_score: self.min_content_val,
                min_frames,
            }),
        }
    }
}

struct Finder {
    settings: ShotSplit,
    id_column: String,
}

/// The shots of a video and what is known of it.
struct Found {
    shots: Vec<(usize, Shot)>,
    usable: Usable,
    decode_errors: u64,
}

impl Finder {
    fn find(&self, uri: &str, context: &MediaContext) -> Result<Found, Verdict> {
        let settings = &self.settings;
        let weights = settings.weights_in_order();
        let mut comparer = Comparer::new(weights[3] > 0.0, settings.kernel_size.map(|k| k as usize));
        let mut frames = Frames::default();
        let stats = every_frame(uri, context, &mut |frame| {
            if let Some(components) = comparer.next(frame.width, frame.height, &frame.rgb) {
                frames.times_ns.push(frame.pts_ns);
                frames.scores.push(components.weighted(weights));
            }
            Ok(())
        })
        .map_err(|e| Verdict::Unmeasured(problem(e)))?;
        let policy = Policy { damaged: settings.damaged_videos, max_errors_per_frame: settings.max_errors_per_frame };
        let usable = policy.judge(uri, &stats)?;
        frames.keep_until(usable.until_us);
        let end_ns = usable.decoded_duration_us.saturating_mul(1000);
        let shots: Vec<(usize, Shot)> = frames.shots(&settings.rule(), end_ns).into_iter().enumerate().collect();
        Ok(Found { shots: self.choose(shots)?, usable, decode_errors: stats.decode_errors })
    }

    fn choose(&self, mut shots: Vec<(usize, Shot)>) -> Result<Vec<(usize, Shot)>, Verdict> {
        let seconds = |shot: &Shot| (shot.end_ns - shot.start_ns) as f64 / 1e9;
        let longest = shots.iter().map(|(_, shot)| seconds(shot)).fold(0.0, f64::max);
        let least = self.settings.min_shot_seconds;
        // Frame times are whole microseconds in tables: what they say decides.
        shots.retain(|(_, shot)| (shot.end_ns / 1000 - shot.start_ns / 1000) as f64 >= least * 1e6);
        let most = self.settings.max_shots as usize;
        if shots.is_empty() {
            let message = format!("the longest shot has {longest:.3} s, min_shot_seconds is {least}");
            return Err(Verdict::fail("no_shot_long_enough", longest, least, message));
        }
        if shots.len() > most {
            let message = format!("{} shots, max_shots is {most}", shots.len());
            return Err(Verdict::fail("too_many_shots", shots.len() as f64, most as f64, message));
        }
        Ok(shots)
    }
}

impl Transform for Finder {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let (uris, ids) = (text_column(rows, "video_uri")?, text_column(rows, &self.id_column)?);
        let plane = plane_of(task);
        let timeout = Duration::from_secs(self.settings.timeout_seconds);
        let context = MediaContext { cancelled: task.cancelled, plane: &plane, timeout };
        let (mut verdicts, mut parents, mut out) = (Vec::new(), Vec::new(), Builders::default());
        for row in 0..rows.num_rows() {
            let uri = if uris.is_null(row) { "" } else { uris.value(row) };
            match self.find(uri, &context) {
                Ok(found) => {
                    parents.extend(std::iter::repeat_n(row as u32, found.shots.len()));
                    found
                        .shots
                        .iter()
                        .for_each(|(index, shot)| out.append(ids.value(row), *index, shot, &found.usable, found.decode_errors));
                    verdicts.push(Verdict::Pass);
                }
                Err(verdict) => verdicts.push(verdict),
            }
        }
        Ok(Processed::children(verdicts, parents, out.finish(self.settings.rows)))
    }
}

#[cfg(test)]
#[path = "shot_split_tests.rs"]
mod tests;
