//! `exposure`: how light is spread over a clip's frames; drops clips that are too dark, too bright, washed out or clipped.
//!
//! What can go wrong: medical pictures often stand on black (ultrasound, scopes, X-ray), so a dark mean or a large dark share is no fault by itself.

use curette_engine::diag::Code;
use curette_engine::operator::{Kind, Operator, StepCheck};
use curette_engine::verdict::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::per_clip::{Bound, Limit, Measure, Request, mean, operator_of_a_measure};
use crate::pixels::light::{Light, light};
use crate::pixels::luma::Luma;

/// Measures brightness, contrast and clipping.
///
/// `frames` frames of the clip are taken (index floor(k (N - 1) / (frames - 1)) of its N frames), in native size. Luma is BT.601 on the video scale (black 16, white 235).
/// Without a limit nothing is dropped; a value of exactly the limit is kept.
///
/// With luma scaled to 0 (black) to 1 (white), over all frames: `exposure_mean` is its mean, `exposure_contrast` the mean of the frames' standard deviations (RMS
/// contrast, Peli, JOSA A 7, 1990), `exposure_dark_share` and `exposure_bright_share` the shares of pixels with luma of at most 18 and at least 233.
///
/// Reject codes: `too_dark` (mean), `too_bright` (mean), `low_contrast`, `dark_clipping`, `bright_clipping`. Unmeasured codes besides those of `probe`: `no_span`, `no_frames`, `format_change` (the size changes inside the span).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Exposure {
    /// Drop below this `exposure_mean` (0 to 1).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_mean: Option<f64>,
    /// Drop above this `exposure_mean` (0 to 1).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_mean: Option<f64>,
    /// Drop below this `exposure_contrast` (0 to 0.5).
    #[schemars(range(min = 0.0, max = 0.5))]
    pub min_contrast: Option<f64>,
    /// Drop above this `exposure_dark_share` (0 to 1).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_dark_share: Option<f64>,
    /// Drop above this `exposure_bright_share` (0 to 1).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_bright_share: Option<f64>,
    /// Frames looked at (1 to 64). The same number in the other steps of this family means one decode for all.
    #[schemars(range(min = 1, max = 64))]
    pub frames: usize,
    /// Time for one row, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

impl Default for Exposure {
    fn default() -> Self {
        Exposure {
            min_mean: None,
            max_mean: None,
            min_contrast: None,
            max_dark_share: None,
            max_bright_share: None,
            frames: 8,
            timeout_seconds: 600,
        }
    }
}

impl Operator for Exposure {
    const NAME: &'static str = "exposure";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str =
        "[step.exposure]\ntype = \"exposure\"\ninputs = [\"clips\"]\nmin_mean = 0.03\nmin_contrast = 0.02\n";

    fn validate(&self, check: &mut dyn StepCheck) {
        if let (Some(min), Some(max)) = (self.min_mean, self.max_mean)
            && min > max
        {
            let message = format!("min_mean is {min} and max_mean is {max}: no clip can be kept");
            check.error(Some("min_mean"), Code::Contradiction, message, Some("set min_mean below max_mean".into()));
        }
    }

    operator_of_a_measure!();
}

impl Measure for Exposure {
    const VALUES: &'static [(&'static str, &'static str)] = &[
        ("exposure_mean", "mean luma, 0 (black) to 1 (white)"),
        ("exposure_contrast", "standard deviation of luma within a frame, mean over the frames, 0 to 0.5"),
        ("exposure_dark_share", "share of pixels that are black, 0 to 1"),
        ("exposure_bright_share", "share of pixels that are white, 0 to 1"),
    ];

    fn request(&self) -> Request {
        Request { frames: self.frames, longest_side: None, timeout_seconds: self.timeout_seconds }
    }

    fn measure(&self, frames: &[Luma], _times_ns: &[i64]) -> Result<Vec<Option<f64>>, Problem> {
        let all: Option<Vec<Light>> = frames.iter().map(light).collect();
        let all = all.ok_or_else(|| Problem::new("no_frames", "a frame without pixels"))?;
        let over_frames = |of: fn(&Light) -> f64| Some(mean(all.iter().map(of)));
        Ok(vec![
            over_frames(|l| l.mean),
            over_frames(|l| l.contrast),
            over_frames(|l| l.dark_share),
            over_frames(|l| l.bright_share),
        ])
    }

    fn limits(&self) -> Vec<Limit> {
        vec![
            Limit { column: 0, bound: self.min_mean.map(Bound::Least), code: "too_dark" },
            Limit { column: 0, bound: self.max_mean.map(Bound::Most), code: "too_bright" },
            Limit { column: 1, bound: self.min_contrast.map(Bound::Least), code: "low_contrast" },
            Limit { column: 2, bound: self.max_dark_share.map(Bound::Most), code: "dark_clipping" },
            Limit { column: 3, bound: self.max_bright_share.map(Bound::Most), code: "bright_clipping" },
        ]
    }
}
