//! `temporal_split`: each unbroken medical shot of a video becomes a clip row.
//!
//! The decision is in [`super::runs`], which has the formula; here are its inputs and the clip columns. Why similarities of neighbours and not of the
//! clip's ends: a camera that moves slowly stays one clip, a cut ends it. What can go wrong: columns of one row that contradict each other; such a row is
//! unmeasured, never guessed.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Builder, Int32Builder, Int64Builder, ListArray, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Float32Type, Int64Type, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Runtime, StepCheck, Task, Transform};
use curette_engine::verdict::{Problem, Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::runs::{MAX_GAP_PERIODS, Rule, Samples, long_enough, min_steps, period_us, pieces, runs};
use crate::frames::vectors::{RowVectors, Vectors, dot, norm, width_of};

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
    /// Neighbouring samples belong together when the cosine of their embeddings is more than this (-1 to 1). The paper does not publish its value.
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
}

impl Default for TemporalSplit {
    fn default() -> Self {
        TemporalSplit {
            min_similarity: 0.85,
            min_length_seconds: 6.0,
            max_length_seconds: 0.0,
            samples_per_second: 1.0,
            extend_to_next_sample: false,
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
        Columns::none()
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
            .add("mean_frame_score", DataType::Float32, "Mean of the clip's `frame_scores`, 0 to 1; null without them.")
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
            extend: self.extend_to_next_sample,
            id_column: context.id_column.clone(),
        })))
    }
}

struct Splitter {
    rule: Rule,
    extend: bool,
    id_column: String,
}

/// One clip of a video.
#[derive(Debug, PartialEq)]
struct Clip {
    start_us: i64,
    end_us: i64,
    start_pts: i64,
    end_pts: i64,
    frames: i32,
    min_similarity: f32,
    mean_similarity: f32,
    mean_score: Option<f32>,
}

/// The columns of one video.
struct Video<'a> {
    times: &'a [i64],
    pts: &'a [i64],
    positive: Vec<bool>,
    vectors: RowVectors<'a>,
    scores: Option<&'a [f32]>,
}

impl Splitter {
    fn clips(&self, video: &Video) -> Result<Vec<Clip>, Verdict> {
        let similarity = similarities(video.vectors).map_err(Verdict::Unmeasured)?;
        let samples = Samples { times_us: video.times, positive: &video.positive, similarity: &similarity };
        let n = video.times.len();
        let Some(period) = period_us(video.times) else {
            return Err(Verdict::fail(
                "too_few_frames",
                n as f64,
                2.0,
                format!("{n} sampled frame(s): no clip has fewer than two"),
            ));
        };
        let steps = min_steps(period, &self.rule);
        let min_seconds = self.rule.min_length_us as f64 / 1e6;
        if n < steps + 1 {
            let message = format!("{n} sampled frames, a clip of {min_seconds} s needs {}", steps + 1);
            return Err(Verdict::fail("too_few_frames", n as f64, (steps + 1) as f64, message));
        }
        let runs = runs(&samples, period, &self.rule);
        if runs.is_empty() {
            let mut verdict = Verdict::fail_because("no_positive_frame", format!("none of {n} sampled frames is positive"));
            if let Verdict::Fail(reject) = &mut verdict {
                reject.measured = video.scores.and_then(|s| s.iter().copied().reduce(f32::max)).map(f64::from);
            }
            return Err(verdict);
        }
        let seconds = |(i, j): (usize, usize)| video.times[j].saturating_sub(video.times[i]) as f64 / 1e6;
        let longest = runs.iter().map(|r| seconds(*r)).fold(0.0, f64::max);
        let mut clips = Vec::new();
        let fits = |run: &(usize, usize)| long_enough(video.times, *run, period, &self.rule);
        for run in runs.iter().copied().filter(fits) {
            for piece in pieces(run, period, &self.rule).into_iter().filter(fits) {
                clips.push(self.clip(video, &similarity, piece, piece.1 == run.1, period));
            }
        }
        if clips.is_empty() {
            let most = runs.iter().map(|(i, j)| j - i).max().unwrap_or(0);
            let message = format!(
                "the longest unbroken positive stretch has {longest:.3} s in {most} steps, a clip needs {min_seconds} s in {steps} steps"
            );
            let (measured, wanted) = if longest < min_seconds { (longest, min_seconds) } else { (most as f64, steps as f64) };
            return Err(Verdict::fail("no_run_long_enough", measured, wanted, message));
        }
        Ok(clips)
    }

    fn clip(&self, video: &Video, similarity: &[f32], (i, j): (usize, usize), ends_run: bool, period: f64) -> Clip {
        let next_is_near =
            |k: usize| k < video.times.len() && video.times[k].saturating_sub(video.times[j]) as f64 <= MAX_GAP_PERIODS * period;
        let end = if self.extend && ends_run && next_is_near(j + 1) { j + 1 } else { j };
        let mean = |values: &[f32]| (values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64) as f32;
        let inner = &similarity[i..j];
        Clip {
            start_us: video.times[i],
            end_us: video.times[end],
            start_pts: video.pts[i],
            end_pts: video.pts[end],
            frames: (j - i + 1) as i32,
            min_similarity: inner.iter().copied().fold(f32::INFINITY, f32::min),
            mean_similarity: mean(inner),
            mean_score: video.scores.map(|s| mean(&s[i..=j])),
        }
    }
}

/// Cosine of each vector and the one before, rounded to the 32 bits that are stored, so that the stored value decides the same again. A zero vector is like
/// nothing: 0.
fn similarities(vectors: RowVectors) -> Result<Vec<f32>, Problem> {
    let get = |i| vectors.get(i).map_err(|what| Problem::new("bad_embedding", format!("the embedding of frame {i} {what}")));
    let mut out = Vec::with_capacity(vectors.len());
    let mut previous: Option<(&[f32], f64)> = None;
    for i in 0..vectors.len() {
        let vector = get(i)?;
        let length = norm(vector);
        if let Some((before, before_length)) = previous {
            if before.len() != vector.len() {
                let message = format!("frame {i} has {} dimensions, the one before {}", vector.len(), before.len());
                return Err(Problem::new("bad_embedding", message));
            }
            let product = length * before_length;
            out.push(if product > 0.0 { (dot(before, vector) / product).clamp(-1.0, 1.0) as f32 } else { 0.0 });
        }
        previous = Some((vector, length));
    }
    Ok(out)
}

/// The values of a list column, or why they are not there.
fn list<'a>(column: &'a ListArray, row: usize, name: &str) -> Result<(usize, usize, &'a ArrayRef), Problem> {
    if column.is_null(row) {
        return Err(Problem::new(
            "no_frames",
            format!("`{name}` is null: the video has no sampled frames; see what came before"),
        ));
    }
    let (from, to) = (column.value_offsets()[row] as usize, column.value_offsets()[row + 1] as usize);
    let values = column.values();
    if values.null_count() > 0 && (from..to).any(|i| values.is_null(i)) {
        return Err(Problem::new("columns_disagree", format!("`{name}` has a null in it")));
    }
    Ok((from, to, values))
}

struct Inputs<'a> {
    ids: &'a arrow::array::StringArray,
    times: &'a ListArray,
    pts: &'a ListArray,
    labels: &'a ListArray,
    scores: Option<&'a ListArray>,
    vectors: Vectors<'a>,
}

impl<'a> Inputs<'a> {
    fn of(rows: &'a RecordBatch, id_column: &str) -> Result<Self, String> {
        let column = |name: &str| rows.column_by_name(name).ok_or(format!("column `{name}` is missing"));
        let lists = |name: &str| column(name)?.as_list_opt::<i32>().ok_or(format!("column `{name}` is not a list"));
        Ok(Inputs {
            ids: column(id_column)?.as_string_opt().ok_or(format!("column `{id_column}` is not text"))?,
            times: lists("frame_times_us")?,
            pts: lists("frame_pts")?,
            labels: lists("frame_labels")?,
            scores: rows.column_by_name("frame_scores").and_then(|c| c.as_list_opt()),
            vectors: Vectors::of(column("frame_embeddings")?)
                .ok_or("column `frame_embeddings` is not a list of Float32 vectors")?,
        })
    }

    fn video(&self, row: usize) -> Result<Video<'a>, Problem> {
        let wrong_type = |name: &str| Problem::new("columns_disagree", format!("`{name}` has values of another type"));
        let int64s = |column: &'a ListArray, name: &str| -> Result<&'a [i64], Problem> {
            let (from, to, values) = list(column, row, name)?;
            Ok(&values.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(name))?.values()[from..to])
        };
        let (from, to, values) = list(self.labels, row, "frame_labels")?;
        let labels = values.as_boolean_opt().ok_or_else(|| wrong_type("frame_labels"))?;
        let scores = match self.scores.filter(|s| s.is_valid(row)) {
            None => None,
            Some(column) => {
                let (from, to, values) = list(column, row, "frame_scores")?;
                Some(&values.as_primitive_opt::<Float32Type>().ok_or_else(|| wrong_type("frame_scores"))?.values()[from..to])
            }
        };
        let video = Video {
            times: int64s(self.times, "frame_times_us")?,
            pts: int64s(self.pts, "frame_pts")?,
            positive: (from..to).map(|i| labels.value(i)).collect(),
            vectors: self.vectors.row(row).ok_or_else(|| Problem::new("no_frames", "`frame_embeddings` is null"))?,
            scores,
        };
        let n = video.times.len();
        let others = [
            ("frame_pts", video.pts.len()),
            ("frame_labels", video.positive.len()),
            ("frame_embeddings", video.vectors.len()),
            ("frame_scores", scores.map_or(n, <[f32]>::len)),
        ];
        if let Some((name, len)) = others.into_iter().find(|(_, len)| *len != n) {
            let message = format!("`frame_times_us` has {n} frames but `{name}` has {len}");
            return Err(Problem::new("columns_disagree", message));
        }
        if let Some(k) = (1..n).find(|&k| video.times[k] <= video.times[k - 1]) {
            let message = format!("frame {k} is at {} us, the one before at {} us", video.times[k], video.times[k - 1]);
            return Err(Problem::new("times_not_ascending", message));
        }
        Ok(video)
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
                for (b, v) in numbers.iter_mut().zip([Some(clip.min_similarity), Some(clip.mean_similarity), clip.mean_score]) {
                    b.append_option(v);
                }
            }
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(ids.finish()), Arc::new(index.finish())];
        columns.extend(spans.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef));
        columns.push(Arc::new(frames.finish()));
        columns.extend(numbers.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef));
        Ok(Processed::children(verdicts, parents, columns))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::frames::fixtures::{Frames, batch, codes, run};

    fn clips(operator: &TemporalSplit, videos: &[Option<Frames>]) -> (Vec<String>, Vec<String>, Processed) {
        let out = run(operator, &batch(videos), Path::new("."));
        let ids = out.columns[0].as_string::<i32>().iter().map(|i| i.unwrap().to_owned()).collect();
        (codes(&out), ids, out)
    }

    fn steady(n: usize) -> Frames {
        Frames::at(&vec![0.0; n], &vec![true; n])
    }

    #[test]
    fn each_shot_of_positive_frames_becomes_a_clip() {
        // 8 frames of one shot, a cut, 7 of another, 3 negative frames, 9 positive ones.
        let mut angles = vec![0.0; 8];
        angles.extend([90.0; 19]);
        let mut labels = vec![true; 15];
        labels.extend([false; 3]);
        labels.extend([true; 9]);
        let (codes, ids, out) = clips(&TemporalSplit::default(), &[Some(Frames::at(&angles, &labels)), Some(steady(7))]);
        assert_eq!(codes, ["pass", "pass"]);
        assert_eq!(ids, ["v0#0-7000000", "v0#8000000-14000000", "v0#18000000-26000000", "v1#0-6000000"]);
        assert_eq!(out.parents, Some(vec![0, 0, 0, 1]));
        let column = |i: usize| out.columns[i].as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(column(4), [0, 8_000_000_000, 18_000_000_000, 0], "start_pts");
        assert_eq!(column(5), [7_000_000_000, 14_000_000_000, 26_000_000_000, 6_000_000_000], "end_pts");
        assert_eq!(out.columns[9].as_primitive::<Float32Type>().values().to_vec(), [0.75; 4]);
        assert_eq!(out.columns[7].as_primitive::<Float32Type>().values().to_vec(), [1.0; 4]);
    }

    #[test]
    fn a_video_without_a_clip_says_why() {
        let (codes, _, out) = clips(
            &TemporalSplit::default(),
            &[
                Some(steady(6)),
                Some(Frames::at(&[0.0; 9], &[false; 9])),
                Some(Frames::at(&[0., 0., 0., 0., 90., 90., 90., 90.], &[true; 8])),
                Some(steady(1)),
                Some(steady(0)),
                None,
            ],
        );
        assert_eq!(
            codes,
            ["too_few_frames", "no_positive_frame", "no_run_long_enough", "too_few_frames", "too_few_frames", "no_frames"]
        );
        let rejects: Vec<String> = out
            .verdicts
            .iter()
            .filter_map(|v| match v {
                Verdict::Fail(r) => Some(format!("{:?} {:?} {}", r.measured, r.threshold, r.message)),
                Verdict::Pass | Verdict::Unmeasured(_) => None,
            })
            .collect();
        insta::assert_snapshot!(rejects.join("\n"), @r#"
        Some(6.0) Some(7.0) 6 sampled frames, a clip of 6 s needs 7
        Some(0.25) None none of 9 sampled frames is positive
        Some(3.0) Some(6.0) the longest unbroken positive stretch has 3.000 s in 3 steps, a clip needs 6 s in 6 steps
        Some(1.0) Some(2.0) 1 sampled frame(s): no clip has fewer than two
        Some(0.0) Some(2.0) 0 sampled frame(s): no clip has fewer than two
        "#);
    }

    #[test]
    fn rows_that_contradict_themselves_are_unmeasured() {
        let mut short = steady(8);
        short.labels.pop();
        let mut backwards = steady(8);
        backwards.times_us[4] = 3_000_000;
        let mut nan = steady(8);
        nan.vectors[2] = [f32::NAN, 0.0];
        let mut far = steady(2);
        far.times_us = vec![i64::MIN, i64::MAX];
        let (codes, _, _) = clips(&TemporalSplit::default(), &[Some(short), Some(backwards), Some(nan), Some(far)]);
        assert_eq!(codes[..3], ["columns_disagree", "times_not_ascending", "bad_embedding"]);
    }

    #[test]
    fn black_frames_are_like_nothing() {
        let mut frames = steady(8);
        frames.vectors = vec![[0.0, 0.0]; 8];
        let (codes, _, _) = clips(&TemporalSplit::default(), &[Some(frames)]);
        assert_eq!(codes, ["no_run_long_enough"]);
    }

    #[test]
    fn a_video_of_few_frames_needs_as_many_samples() {
        let sparse = |n: usize| {
            let mut frames = steady(n);
            frames.times_us = (0..n as i64).map(|k| k * 2_500_000).collect();
            Some(frames)
        };
        let (codes, ids, out) = clips(&TemporalSplit::default(), &[sparse(6), sparse(7)]);
        assert_eq!((codes[0].as_str(), ids), ("too_few_frames", vec!["v1#0-15000000".to_owned()]));
        assert!(matches!(&out.verdicts[0], Verdict::Fail(r) if r.threshold == Some(7.0)));
        let asked = TemporalSplit { samples_per_second: 0.4, ..TemporalSplit::default() };
        assert_eq!(clips(&asked, &[sparse(4)]).1, ["v0#0-7500000"]);
    }

    #[test]
    fn options_bound_and_extend_clips() {
        let long = TemporalSplit { max_length_seconds: 10.0, ..TemporalSplit::default() };
        assert_eq!(clips(&long, &[Some(steady(25))]).1, ["v0#0-8000000", "v0#8000000-16000000", "v0#16000000-24000000"]);

        let mut labels = vec![true; 8];
        labels.push(false);
        let frames = || Some(Frames::at(&[0.0; 9], &labels));
        let extended = TemporalSplit { extend_to_next_sample: true, ..TemporalSplit::default() };
        assert_eq!(clips(&TemporalSplit::default(), &[frames()]).1, ["v0#0-7000000"]);
        assert_eq!(clips(&extended, &[frames()]).1, ["v0#0-8000000"]);
        assert_eq!(clips(&extended, &[Some(steady(8))]).1, ["v0#0-7000000"], "nothing follows");
    }
}
