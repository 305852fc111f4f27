//! `freeze`: how much of a clip stands still; drops frozen clips.
//!
//! What can go wrong: a still picture can be what is meant (an X-ray that is explained). Slow motion below `noise` between samples counts as still only until it
//! has added up, because every frame is compared with the one where the stillness began.

use curette_engine::operator::{Kind, Operator};
use curette_engine::verdict::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::per_clip::{Bound, Limit, Measure, Request, SMALL_PX, operator_of_a_measure};
use crate::pixels::luma::Luma;

/// Measures how long the picture stands still and drops clips that hardly move.
///
/// `frames` frames of the clip are taken (index floor(k (N - 1) / (frames - 1)) of its N frames), scaled so that the longest side has 256 pixels. Luma is BT.601 on the video scale (black 16, white 235).
/// Without a limit nothing is dropped; a value of exactly the limit is kept.
///
/// A frame is the same as an earlier one if the mean absolute difference of luma, scaled to 0 to 1, is at most `noise` (the rule of ffmpeg's `freezedetect`). Each
/// frame is compared with the first frame of the current run; a frame that differs begins the next run. With n frames and r runs, `freeze_share` = (n - r) / (n - 1):
/// 1 for a still picture, 0 if every frame differs from the one before. `freeze_longest_seconds` is the longest time from the first to the last frame of a run.
///
/// Reject code: `frozen` (measured and threshold in the unit of the column). Unmeasured codes besides those of `probe`: `no_span`, `no_frames`, `format_change` (the size changes inside the span), `too_few_frames` (a clip of one frame).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Freeze {
    /// Drop above this `freeze_share` (0 to 1).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_share: Option<f64>,
    /// Drop above this `freeze_longest_seconds` (0 to 86400).
    #[schemars(range(min = 0.0, max = 86_400.0))]
    pub max_longest_seconds: Option<f64>,
    /// Mean absolute difference up to which two frames are the same (0 to 1).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub noise: f64,
    /// Frames looked at (2 to 256). The same number in `jitter` means one decode for both.
    #[schemars(range(min = 2, max = 256))]
    pub frames: usize,
    /// Time for one row, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

impl Default for Freeze {
    fn default() -> Self {
        Freeze { max_share: None, max_longest_seconds: None, noise: 0.001, frames: 32, timeout_seconds: 600 }
    }
}

impl Operator for Freeze {
    const NAME: &'static str = "freeze";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.freeze]\ntype = \"freeze\"\ninputs = [\"clips\"]\nmax_share = 0.9\n";

    operator_of_a_measure!();
}

impl Measure for Freeze {
    const VALUES: &'static [(&'static str, &'static str)] = &[
        ("freeze_share", "share of steps between sampled frames without change, 0 (always moves) to 1 (a still picture)"),
        ("freeze_longest_seconds", "longest time without change, seconds"),
    ];

    fn request(&self) -> Request {
        Request { frames: self.frames, longest_side: Some(SMALL_PX), timeout_seconds: self.timeout_seconds }
    }

    fn measure(&self, frames: &[Luma], times_ns: &[i64]) -> Result<Vec<Option<f64>>, Problem> {
        if frames.len() < 2 {
            return Err(Problem::new("too_few_frames", "a clip of one frame neither moves nor stands still"));
        }
        let runs = runs(frames, self.noise);
        let share = (frames.len() - runs.len()) as f64 / (frames.len() - 1) as f64;
        let longest = runs.iter().map(|run| times_ns[run.end - 1] - times_ns[run.start]).max().unwrap_or(0);
        Ok(vec![Some(share), Some(longest as f64 / 1e9)])
    }

    fn limits(&self) -> Vec<Limit> {
        vec![
            Limit { column: 0, bound: self.max_share.map(Bound::Most), code: "frozen" },
            Limit { column: 1, bound: self.max_longest_seconds.map(Bound::Most), code: "frozen" },
        ]
    }
}

/// Stretches of frames that are the same as their first one.
fn runs(frames: &[Luma], noise: f64) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if frames[run.start].mean_difference(frame).is_some_and(|d| d <= noise) => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grey(level: u8) -> Luma {
        Luma { width: 4, height: 4, data: vec![level; 16] }
    }

    #[test]
    fn a_still_picture_is_one_and_a_moving_one_is_zero() {
        let measure = |levels: &[u8]| {
            let frames: Vec<Luma> = levels.iter().map(|l| grey(*l)).collect();
            let times: Vec<i64> = (0..levels.len() as i64).map(|i| i * 500_000_000).collect();
            Freeze::default().measure(&frames, &times).map(|v| (v[0].unwrap(), v[1].unwrap())).map_err(|p| p.code.to_string())
        };
        assert_eq!(measure(&[90; 5]), Ok((1.0, 2.0)));
        assert_eq!(measure(&[90, 91, 92, 93, 94]), Ok((0.0, 0.0)));
        assert_eq!(measure(&[90, 90, 90, 200, 90]), Ok((0.5, 1.0)));
        assert_eq!(measure(&[90]), Err("too_few_frames".into()));
    }

    proptest! {
        /// Slow: compare every frame with every earlier one of its run.
        #[test]
        fn runs_are_those_of_the_definition(levels in prop::collection::vec(0u8..12, 1..30), limit in 0u32..6) {
            let frames: Vec<Luma> = levels.iter().map(|l| grey(*l)).collect();
            let noise = (f64::from(limit) + 0.5) / 219.0;
            let mut begins = vec![0];
            for i in 1..levels.len() {
                let start = *begins.last().unwrap();
                if u32::from(levels[i].abs_diff(levels[start])) > limit {
                    begins.push(i);
                }
            }
            let got: Vec<usize> = runs(&frames, noise).iter().map(|r| r.start).collect();
            prop_assert_eq!(got, begins);
        }
    }
}
