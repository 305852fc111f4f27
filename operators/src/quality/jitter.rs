//! `jitter`: how irregularly the whole picture moves; drops shaky clips.
//!
//! What can go wrong: the camera cannot be told from what it shows. Flowing speckle (ultrasound) has no common motion: such a clip is unmeasured. A shake that is
//! faster than the samples is still seen as irregular, but its size is that of the samples.

use curette_engine::operator::{Kind, Operator};
use curette_engine::verdict::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::per_clip::{Bound, Limit, Measure, Request, SMALL_PX, operator_of_a_measure};
use crate::pixels::luma::Luma;
use crate::pixels::shift::{Shift, Spectrum};

/// Measures shake and drops shaky clips.
///
/// `frames` frames of the clip are taken (index floor(k (N - 1) / (frames - 1)) of its N frames), scaled so that the longest side has 256 pixels. Luma is BT.601 on the video scale (black 16, white 235).
/// Without a limit nothing is dropped; a value of exactly the limit is kept.
///
/// Phase correlation (Kuglin and Hines, 1975; `cv2.phaseCorrelate` with a Hann window) of the middle square of up to 128 pixels gives the motion v_t between
/// neighbouring frames; motions with a response below 0.1 are left out. In shares of the longest side:
///
/// * `jitter`: root mean square of |v_(t+1) - v_t|, how far the picture lands from where steady motion would have taken it: 0 for a tripod or a steady pan;
/// * `global_motion`: mean of |v_t|.
///
/// Reject code: `shaky`. Unmeasured codes besides those of `probe`: `no_span`, `no_frames`, `format_change` (the size changes inside the span), `too_few_frames` (fewer than 3), `too_small` (a side of less than 16 pixels), `no_global_motion` (fewer than half of the steps
/// show a common motion).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Jitter {
    /// Drop above this `jitter` (0 to 1).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_jitter: Option<f64>,
    /// Frames looked at (3 to 256). The same number in `freeze` means one decode for both.
    #[schemars(range(min = 3, max = 256))]
    pub frames: usize,
    /// Time for one row, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

impl Default for Jitter {
    fn default() -> Self {
        Jitter { max_jitter: None, frames: 32, timeout_seconds: 600 }
    }
}

impl Operator for Jitter {
    const NAME: &'static str = "jitter";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.jitter]\ntype = \"jitter\"\ninputs = [\"clips\"]\nmax_jitter = 0.05\n";

    operator_of_a_measure!();
}

impl Measure for Jitter {
    const VALUES: &'static [(&'static str, &'static str)] = &[
        (
            "jitter",
            "irregularity of the global motion between sampled frames, share of the longest side, 0 and up; larger is shakier",
        ),
        ("global_motion", "mean global motion between sampled frames, share of the longest side, 0 and up"),
    ];

    fn request(&self) -> Request {
        Request { frames: self.frames, longest_side: Some(SMALL_PX), timeout_seconds: self.timeout_seconds }
    }

    fn measure(&self, frames: &[Luma], _times_ns: &[i64]) -> Result<Vec<Option<f64>>, Problem> {
        if frames.len() < 3 {
            return Err(Problem::new("too_few_frames", format!("{} frames show no change of motion, 3 do", frames.len())));
        }
        let spectra: Option<Vec<Spectrum>> = frames.iter().map(Spectrum::of).collect();
        let spectra = spectra.ok_or_else(|| Problem::new("too_small", "a side of less than 16 pixels"))?;
        let side = frames[0].width.max(frames[0].height) as f64;
        let reliable = |shift: Shift| (shift.response >= RELIABLE).then_some((shift.dx / side, shift.dy / side));
        let shifts: Vec<Option<(f64, f64)>> = spectra.windows(2).map(|pair| pair[0].to(&pair[1]).and_then(reliable)).collect();
        let found = shifts.iter().flatten().count();
        let (jitter, motion) = irregularity(&shifts).filter(|_| 2 * found >= shifts.len()).ok_or_else(|| {
            let message = format!("only {found} of {} steps show a common motion of the whole picture", shifts.len());
            Problem::new("no_global_motion", message)
        })?;
        Ok(vec![Some(jitter), Some(motion)])
    }

    fn limits(&self) -> Vec<Limit> {
        vec![Limit { column: 0, bound: self.max_jitter.map(Bound::Most), code: "shaky" }]
    }
}

/// Least response of a motion that has a say. Unrelated pictures stay below it.
const RELIABLE: f64 = 0.1;

/// Root mean square of the change between neighbouring motions, and mean length of all; `None` without two neighbours.
fn irregularity(shifts: &[Option<(f64, f64)>]) -> Option<(f64, f64)> {
    let squares: Vec<f64> = shifts
        .windows(2)
        .filter_map(|pair| Some((pair[0]?, pair[1]?)))
        .map(|(a, b)| (b.0 - a.0).powi(2) + (b.1 - a.1).powi(2))
        .collect();
    let lengths: Vec<f64> = shifts.iter().flatten().map(|v| v.0.hypot(v.1)).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    (!squares.is_empty()).then(|| (mean(&squares).sqrt(), mean(&lengths)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_motion_is_regular_and_gaps_are_not_bridged() {
        assert_eq!(irregularity(&[Some((0.02, 0.0)); 5]), Some((0.0, 0.02)));
        let shaking = [Some((0.03, 0.0)), Some((-0.03, 0.0)), Some((0.03, 0.0))];
        let (jitter, motion) = irregularity(&shaking).unwrap();
        assert!((jitter - 0.06).abs() < 1e-12 && (motion - 0.03).abs() < 1e-12);
        assert_eq!(irregularity(&[Some((0.5, 0.0)), None, Some((0.0, 0.5))]), None);
        assert_eq!(irregularity(&[]), None);
    }
}
