//! The clips of one video: the decision of `temporal_split` with its numbers and its reasons.

use curette_engine::verdict::Verdict;

use super::boundaries::{Limits, inward};
use super::runs::{MAX_GAP_PERIODS, Rule, Samples, long_enough, min_steps, period_us, pieces, runs};
use super::similarity::{Comparison, similarities};
use super::split_input::Video;

/// Ticks of `pts_timescale` in a microsecond.
const TICKS_PER_US: i64 = crate::media::PTS_TIMESCALE / 1_000_000;

/// Rule and options.
pub(super) struct Splitter {
    /// See [`Rule`].
    pub rule: Rule,
    /// What is compared.
    pub comparison: Comparison,
    /// End clips at the sample after their last one.
    pub extend: bool,
    /// How far ends may move to key frames; 0: not at all.
    pub tolerance_us: i64,
    /// Column of the video's id.
    pub id_column: String,
}

/// One clip of a video.
#[derive(Debug, PartialEq)]
pub(super) struct Clip {
    pub start_us: i64,
    pub end_us: i64,
    pub start_pts: i64,
    pub end_pts: i64,
    pub start_moved_us: i64,
    pub end_moved_us: i64,
    pub frames: i32,
    pub min_similarity: f32,
    pub mean_similarity: f32,
    pub mean_score: Option<f32>,
}

impl Splitter {
    /// The clips of a video, or why it has none.
    pub fn clips(&self, video: &Video) -> Result<Vec<Clip>, Verdict> {
        let similarity = similarities(video.vectors, self.comparison).map_err(Verdict::Unmeasured)?;
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
        let found = (video.times[i], video.times[end]);
        let limits = Limits { tolerance_us: self.tolerance_us, min_length_us: self.rule.min_length_us };
        let (start_us, end_us) = if self.tolerance_us > 0 { inward(found, video.key_frames, limits) } else { found };
        let ticks = |us: i64, known: i64, moved: i64| if moved == 0 { known } else { us.saturating_mul(TICKS_PER_US) };
        let (start_moved_us, end_moved_us) = (start_us - found.0, found.1 - end_us);
        Clip {
            start_us,
            end_us,
            start_pts: ticks(start_us, video.pts[i], start_moved_us),
            end_pts: ticks(end_us, video.pts[end], end_moved_us),
            start_moved_us,
            end_moved_us,
            frames: (j - i + 1) as i32,
            min_similarity: inner.iter().copied().fold(f32::INFINITY, f32::min),
            mean_similarity: mean(inner),
            mean_score: video.scores.map(|s| mean(&s[i..=j])),
        }
    }
}
