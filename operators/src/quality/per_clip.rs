//! What the measures of this family share: frames of a row's span in, float columns and a verdict out.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float32Builder, RecordBatch};
use arrow::datatypes::DataType;
use curette_engine::operator::{Columns, OperatorError, Task, Transform};
use curette_engine::verdict::{Problem, Processed, Verdict};

use crate::media::{Frame, MediaContext, plane_of, problem, shown, uniform_frames};
use crate::pixels::luma::Luma;
use crate::span::{Span, Spans};

/// Longest side of the frames that motion is looked for in, in pixels.
pub const SMALL_PX: u32 = 256;

/// Which frames of a span a measure looks at.
pub struct Request {
    /// How many, uniformly spaced.
    pub frames: usize,
    /// Longest side in pixels; `None`: native.
    pub longest_side: Option<u32>,
    /// Time for one row.
    pub timeout_seconds: u64,
}

/// A bound that a measured value must keep.
pub struct Limit {
    /// Which of the measured values.
    pub column: usize,
    /// The bound, if the user set one.
    pub bound: Option<Bound>,
    /// Reject code.
    pub code: &'static str,
}

/// See [`Limit::bound`]. The bound itself is kept.
#[derive(Clone, Copy)]
pub enum Bound {
    /// No less.
    Least(f64),
    /// No more.
    Most(f64),
}

/// One measure.
pub trait Measure: Send + Sync {
    /// Names and documentation of the measured values.
    const VALUES: &'static [(&'static str, &'static str)];
    /// The frames to look at.
    fn request(&self) -> Request;
    /// Measures a clip's frames (one at least, all of one size); one value per entry of [`Measure::VALUES`].
    fn measure(&self, frames: &[Luma], times_ns: &[i64]) -> Result<Vec<Option<f64>>, Problem>;
    /// Bounds in the order in which they are tried.
    fn limits(&self) -> Vec<Limit>;
}

/// The columns of a measure.
pub fn columns<M: Measure>() -> Columns {
    let needs = Columns::none()
        .need("video_uri", &[DataType::Utf8])
        .may_use("content_blake3", &[DataType::Utf8])
        .may_use("start_us", &[DataType::Int64])
        .may_use("end_us", &[DataType::Int64])
        .may_use("duration_us", &[DataType::Int64]);
    M::VALUES.iter().fold(needs, |columns, (name, doc)| columns.add(name, DataType::Float32, doc))
}

/// What `impl Operator` of every measure has in common: its columns, where it runs, what decides its answer. To be written inside of it.
macro_rules! operator_of_a_measure {
    () => {
        fn columns(&self) -> curette_engine::operator::Columns {
            super::per_clip::columns::<Self>()
        }

        fn pool(&self) -> curette_engine::operator::Pool {
            curette_engine::operator::Pool::Decode
        }

        fn rows_per_task(&self) -> usize {
            1
        }

        fn check_environment(&self, check: &mut dyn curette_engine::operator::StepCheck) {
            crate::video::report_missing(check);
        }

        fn cosmetic_keys(&self) -> &'static [&'static str] {
            &["timeout_seconds"]
        }

        fn decided_by(&self) -> Option<Vec<&'static str>> {
            Some(crate::span::OF_PIXELS.to_vec())
        }

        fn build(
            &self,
            _context: &curette_engine::operator::BuildContext,
        ) -> Result<curette_engine::operator::Runtime, curette_engine::operator::OperatorError> {
            Ok(curette_engine::operator::Runtime::Transform(Box::new(super::per_clip::PerClip(self.clone()))))
        }
    };
}
pub(super) use operator_of_a_measure;

/// Runs a measure on rows.
pub struct PerClip<M>(pub M);

impl<M: Measure> PerClip<M> {
    fn row(&self, span: Span, context: &MediaContext) -> Result<Vec<Option<f32>>, Problem> {
        context.check_cancelled().map_err(problem)?;
        let request = self.0.request();
        let frames = uniform_frames(span.uri, span.start_us, span.end_us, request.frames, request.longest_side, context)
            .map_err(problem)?;
        let size = |f: &Frame| (f.width, f.height);
        let Some(first) = frames.first().map(size) else {
            return Err(Problem::new("no_frames", format!("{}: no frame in the span", shown(span.uri))));
        };
        if frames.iter().any(|f| size(f) != first) {
            let message = format!("{}: the picture changes its size inside the span", shown(span.uri));
            return Err(Problem::new("format_change", message));
        }
        let lumas: Vec<Luma> = frames.iter().map(|f| Luma::of_rgb(f.width, f.height, &f.rgb)).collect();
        let times: Vec<i64> = frames.iter().map(|f| f.pts_ns).collect();
        let values =
            self.0.measure(&lumas, &times).map_err(|p| Problem::new(p.code, format!("{}: {}", shown(span.uri), p.message)))?;
        Ok(values.into_iter().map(|v| v.map(|v| v as f32)).collect())
    }
}

/// Holds values against limits. Both are rounded to the column's type, so that a stored value decides again as it did here.
pub fn judge<M: Measure>(limits: &[Limit], values: &[Option<f32>]) -> Verdict {
    for Limit { column, bound, code } in limits {
        let Some(bound) = bound else { continue };
        let name = M::VALUES.get(*column).map_or("value", |v| v.0);
        let Some(value) = values.get(*column).copied().flatten() else {
            return Verdict::unmeasured(
                "no_value",
                format!("{name} has no value for this clip, so that {code} cannot be decided"),
            );
        };
        let (broken, limit, rule) = match *bound {
            Bound::Least(least) => (value < least as f32, least, "at least"),
            Bound::Most(most) => (value > most as f32, most, "at most"),
        };
        if broken {
            return Verdict::fail(code, f64::from(value), limit, format!("{name} is {value:.4}, {rule} {limit} is kept"));
        }
    }
    Verdict::Pass
}

impl<M: Measure> Transform for PerClip<M> {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let spans = Spans::of(rows)?;
        let timeout = Duration::from_secs(self.0.request().timeout_seconds);
        let plane = plane_of(task);
        let context = MediaContext { cancelled: task.cancelled, plane: &plane, timeout };
        let limits = self.0.limits();
        let mut builders: Vec<Float32Builder> = M::VALUES.iter().map(|_| Float32Builder::new()).collect();
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let measured = spans.row(row).and_then(|span| self.row(span, &context));
            for (i, builder) in builders.iter_mut().enumerate() {
                builder.append_option(measured.as_ref().ok().and_then(|values| values.get(i).copied().flatten()));
            }
            verdicts.push(measured.map_or_else(Verdict::Unmeasured, |values| judge::<M>(&limits, &values)));
        }
        Ok(Processed::rows(verdicts, builders.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef).collect()))
    }
}

/// The value in the middle; the mean of two for an even number. `values` must not be empty.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

/// The mean; `values` must not be empty.
pub fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}
