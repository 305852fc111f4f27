//! `camera_motion`: static, pan, tilt, zoom or handheld, by the global motion between frames.
//!
//! Why: MedGen reports how camera motion is spread over its clips (Figure 5) without saying how it was labelled; this is our reading, from pixels
//! alone, with every number that decides in the row. What can go wrong: the camera cannot be told from what it shows, so a table that turns under a
//! fixed camera is a pan, and pictures without common motion (ultrasound, cuts) are unmeasured. Motion faster than the samples can follow is
//! unmeasured, too.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float32Builder, RecordBatch, StringBuilder};
use arrow::datatypes::DataType;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Pool, Runtime, StepCheck, Task, Transform};
use curette_engine::verdict::{Problem, Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::per_clip::{SMALL_PX, median};
use crate::media::{MediaContext, plane_of, problem, shown, uniform_frames};
use crate::pixels::global_motion::{Motion, Parts};
use crate::pixels::luma::Luma;
use crate::span::{OF_PIXELS, Span, Spans};

/// Says how the camera moves: `static`, `pan`, `tilt`, `zoom` or `handheld`. Drops nothing.
///
/// `frames` frames of the clip are taken (index floor(k (N - 1) / (frames - 1)) of its N frames), scaled so that the longest side has 256 pixels;
/// the same number in `freeze` and `jitter` means one decode for all. Between neighbours a similarity (shift, zoom, turn) is fitted to phase
/// correlations of overlapping squares, robustly, so that what moves in less than half of the picture has no say.
///
/// The steady motion is the running median of 5 steps, what is left is shake. With distances in shares of the longest side and times in seconds:
///
/// * `camera_pan`, `camera_tilt`: mean speed of the steady motion, sideways and up or down, without sign;
/// * `camera_zoom`: mean rate of the steady growth, without sign: 0.1 is ten percent in a second;
/// * `camera_shake`: root mean square of a step's shift minus the steady one, per step.
///
/// The label: `handheld` if the shake is above `max_shake` and above half of the steady shift of a step; else the largest of pan, tilt and a
/// quarter of zoom (the mean distance of a picture's points from its middle is about a quarter of its longest side, so that all three are speeds of
/// points) if it is at least `min_speed`; else `static`.
///
/// Unmeasured codes besides those of `probe`: `no_span`, `no_frames`, `format_change`, `too_few_frames` (fewer than 6), `too_small` (a side of less
/// than 32 pixels), `no_global_motion` (fewer than half of the steps show a common motion).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CameraMotion {
    /// Least speed of a moving camera, in shares of the longest side per second (0 to 10).
    #[schemars(range(min = 0.0, max = 10.0))]
    pub min_speed: f64,
    /// Largest shake of a camera on a tripod, in shares of the longest side per step (0 to 1).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_shake: f64,
    /// Frames looked at (6 to 256).
    #[schemars(range(min = 6, max = 256))]
    pub frames: usize,
    /// Time for one row, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

impl Default for CameraMotion {
    fn default() -> Self {
        CameraMotion { min_speed: 0.015, max_shake: 0.004, frames: 32, timeout_seconds: 600 }
    }
}

/// Steps of which the median is steady motion.
const STEADY_STEPS: usize = 5;
/// Fewest frames.
const MIN_FRAMES: usize = 6;
/// Mean distance of a picture's points from its middle, in its longest side.
const MEAN_RADIUS: f32 = 0.25;

/// What decides.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    pan: f32,
    tilt: f32,
    zoom: f32,
    shake: f32,
    /// Length of the steady shift of a step.
    step: f32,
}

impl Operator for CameraMotion {
    const NAME: &'static str = "camera_motion";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.camera]\ntype = \"camera_motion\"\ninputs = [\"clips\"]\n";

    fn columns(&self) -> Columns {
        Columns::none()
            .need("video_uri", &[DataType::Utf8])
            .may_use("content_blake3", &[DataType::Utf8])
            .may_use("start_us", &[DataType::Int64])
            .may_use("end_us", &[DataType::Int64])
            .may_use("duration_us", &[DataType::Int64])
            .add("camera_motion", DataType::Utf8, "static, pan, tilt, zoom or handheld")
            .add("camera_pan", DataType::Float32, "mean steady speed sideways, shares of the longest side per second, 0 and up")
            .add(
                "camera_tilt",
                DataType::Float32,
                "mean steady speed up or down, shares of the longest side per second, 0 and up",
            )
            .add("camera_zoom", DataType::Float32, "mean steady growth or shrinking, per second, 0 and up; 0.1 is ten percent")
            .add("camera_shake", DataType::Float32, "shift of a step beside the steady one, share of the longest side, 0 and up")
    }

    fn pool(&self) -> Pool {
        Pool::Decode
    }

    fn rows_per_task(&self) -> usize {
        1
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        crate::video::report_missing(check);
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["timeout_seconds"]
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        Some(OF_PIXELS.to_vec())
    }

    fn build(&self, _context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(self.clone())))
    }
}

impl CameraMotion {
    fn row(&self, span: Span, context: &MediaContext) -> Result<Measured, Problem> {
        context.check_cancelled().map_err(problem)?;
        let frames =
            uniform_frames(span.uri, span.start_us, span.end_us, self.frames, Some(SMALL_PX), context).map_err(problem)?;
        let named = |code: &'static str, what: &str| Problem::new(code, format!("{}: {what}", shown(span.uri)));
        let Some(first) = frames.first() else { return Err(named("no_frames", "no frame in the span")) };
        if frames.iter().any(|f| (f.width, f.height) != (first.width, first.height)) {
            return Err(named("format_change", "the picture changes its size inside the span"));
        }
        let mut parts = Vec::with_capacity(frames.len());
        for frame in frames.iter() {
            context.check_cancelled().map_err(problem)?;
            parts.push(Parts::of(&Luma::of_rgb(frame.width, frame.height, &frame.rgb)));
        }
        let times: Vec<i64> = frames.iter().map(|f| f.pts_ns).collect();
        let side = f64::from(first.width.max(first.height));
        let parts = parts
            .into_iter()
            .collect::<Option<Vec<Parts>>>()
            .ok_or_else(|| named("too_small", "a side of less than 32 pixels"))?;
        measure(&parts, &times, side).map_err(|(code, what)| named(code, &what))
    }

    /// From the stored 32 bits, so that the stored numbers decide again as they did here.
    fn label(&self, m: &Measured) -> &'static str {
        if m.shake > self.max_shake as f32 && m.shake > m.step / 2.0 {
            return "handheld";
        }
        let speeds = [("pan", m.pan), ("tilt", m.tilt), ("zoom", m.zoom * MEAN_RADIUS)];
        let (name, speed) = speeds.into_iter().fold(("static", 0.0), |best, next| if next.1 > best.1 { next } else { best });
        if speed >= self.min_speed as f32 && speed > 0.0 { name } else { "static" }
    }
}

fn measure(frames: &[Parts], times_ns: &[i64], side: f64) -> Result<Measured, (&'static str, String)> {
    if frames.len() < MIN_FRAMES {
        return Err(("too_few_frames", format!("{} frames show no camera, {MIN_FRAMES} do", frames.len())));
    }
    let steps = frames.windows(2).zip(times_ns.windows(2)).map(|(pair, times)| {
        let seconds = (times[1] - times[0]) as f64 / 1e9;
        Some((pair[0].to(&pair[1])?, seconds)).filter(|_| seconds > 0.0)
    });
    let steps: Vec<Option<(Motion, f64)>> = steps.collect();
    let found = steps.iter().flatten().count();
    if 2 * found < steps.len() || found < STEADY_STEPS {
        let message = format!("only {found} of {} steps show a common motion of the whole picture", steps.len());
        return Err(("no_global_motion", message));
    }
    let mut sums = [0.0f64; 5];
    for (at, step) in steps.iter().enumerate() {
        let Some((motion, seconds)) = step else { continue };
        let from = at.saturating_sub(STEADY_STEPS / 2).min(steps.len() - STEADY_STEPS);
        let around: Vec<&(Motion, f64)> = steps[from..from + STEADY_STEPS].iter().flatten().collect();
        // Speeds, since frames need not be evenly spaced.
        let steady = |f: fn(&Motion) -> f64| median(around.iter().map(|(m, s)| f(m) / s).collect());
        let (x, y, zoom) = (steady(|m| m.dx), steady(|m| m.dy), steady(|m| m.zoom));
        let shake = (motion.dx - x * seconds).hypot(motion.dy - y * seconds);
        let values = [x.abs() / side, y.abs() / side, zoom.abs(), (shake / side).powi(2), x.hypot(y) * seconds / side];
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    let [pan, tilt, zoom, shake, step] = sums.map(|sum| sum / found as f64);
    Ok(Measured { pan: pan as f32, tilt: tilt as f32, zoom: zoom as f32, shake: shake.sqrt() as f32, step: step as f32 })
}

impl Transform for CameraMotion {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let spans = Spans::of(rows)?;
        let plane = plane_of(task);
        let context =
            MediaContext { cancelled: task.cancelled, plane: &plane, timeout: Duration::from_secs(self.timeout_seconds) };
        let mut labels = StringBuilder::new();
        let mut numbers: [Float32Builder; 4] = Default::default();
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let measured = spans.row(row).and_then(|span| self.row(span, &context));
            let found = measured.as_ref().ok();
            labels.append_option(found.map(|m| self.label(m)));
            let values = found.map(|m| [m.pan, m.tilt, m.zoom, m.shake]);
            numbers.iter_mut().enumerate().for_each(|(i, builder)| builder.append_option(values.map(|v| v[i])));
            verdicts.push(measured.map_or_else(Verdict::Unmeasured, |_| Verdict::Pass));
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(labels.finish())];
        columns.extend(numbers.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef));
        Ok(Processed::rows(verdicts, columns))
    }
}

#[cfg(test)]
#[path = "camera_motion_tests.rs"]
mod tests;
