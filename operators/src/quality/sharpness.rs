//! `sharpness`: how much fine detail a clip's frames have; drops blurred clips.
//!
//! What can go wrong: noise and compression count as detail, and a larger picture of the same scene has less of it per pixel. Smooth pictures (fundus, X-ray) are
//! not blurred pictures: calibrate the limit on clips of the kind that you keep.

use curette_engine::operator::{Kind, Operator};
use curette_engine::verdict::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::per_clip::{Bound, Limit, Measure, Request, median, operator_of_a_measure};
use crate::pixels::luma::Luma;
use crate::pixels::sharpness::{laplacian_variance, tenengrad};

/// Measures sharpness and drops clips that are blurred.
///
/// `frames` frames of the clip are taken (index floor(k (N - 1) / (frames - 1)) of its N frames), in native size. Luma is BT.601 on the video scale (black 16, white 235).
/// Without a limit nothing is dropped; a value of exactly the limit is kept.
///
/// * `sharpness_laplacian`: variance of the 4-neighbour Laplacian (Pech-Pacheco et al., ICPR 2000; `cv2.Laplacian(luma, cv2.CV_64F).var()`);
/// * `sharpness_tenengrad`: mean of gx² + gy² of 3x3 Sobel (Krotkov, IJCV 1, 1988).
///
/// Each is the median over the frames, so that a few blurred ones (fast motion) do not decide.
///
/// Reject code: `blurred` (measured and threshold in the unit of the column). Unmeasured codes besides those of `probe`: `no_span`, `no_frames`, `format_change` (the size changes inside the span).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sharpness {
    /// Drop below this `sharpness_laplacian` (0 to 1000000). Blurred video is often below 20; there is no default.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub min_laplacian: Option<f64>,
    /// Drop below this `sharpness_tenengrad` (0 to 1000000).
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub min_tenengrad: Option<f64>,
    /// Frames looked at (1 to 64). The same number in the other steps of this family means one decode for all.
    #[schemars(range(min = 1, max = 64))]
    pub frames: usize,
    /// Time for one row, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

impl Default for Sharpness {
    fn default() -> Self {
        Sharpness { min_laplacian: None, min_tenengrad: None, frames: 8, timeout_seconds: 600 }
    }
}

impl Operator for Sharpness {
    const NAME: &'static str = "sharpness";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.sharpness]\ntype = \"sharpness\"\ninputs = [\"clips\"]\nmin_laplacian = 10.0\n";

    operator_of_a_measure!();
}

impl Measure for Sharpness {
    const VALUES: &'static [(&'static str, &'static str)] = &[
        ("sharpness_laplacian", "variance of the Laplacian, grey levels squared, median over the frames; larger is sharper"),
        ("sharpness_tenengrad", "mean squared Sobel gradient, grey levels squared, median over the frames; larger is sharper"),
    ];

    fn request(&self) -> Request {
        Request { frames: self.frames, longest_side: None, timeout_seconds: self.timeout_seconds }
    }

    fn measure(&self, frames: &[Luma], _times_ns: &[i64]) -> Result<Vec<Option<f64>>, Problem> {
        let over_frames = |of: fn(&Luma) -> f64| Some(median(frames.iter().map(of).collect()));
        Ok(vec![over_frames(laplacian_variance), over_frames(tenengrad)])
    }

    fn limits(&self) -> Vec<Limit> {
        vec![
            Limit { column: 0, bound: self.min_laplacian.map(Bound::Least), code: "blurred" },
            Limit { column: 1, bound: self.min_tenengrad.map(Bound::Least), code: "blurred" },
        ]
    }
}
