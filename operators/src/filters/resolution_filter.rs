//! The `resolution_filter`: drops rows whose picture is too small.
//!
//! Why the short side: "480p" counts the shorter side, so a portrait video of 480 x 854 is as sharp as a landscape one of 854 x 480.
//!
//! What can go wrong: sizes are as displayed (after rotation and pixel aspect), so an anamorphic 720 x 480 video may count as 480 although it has more
//! pixels in one direction.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type};
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Runtime, Task, Transform};
use curette_engine::verdict::{Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps rows whose shorter side has at least `min_short_side_px` pixels.
///
/// Reads `width` and `height` as displayed. MedGen keeps clips "above 480p" while its released clips are 720x480, so the threshold itself is kept by default.
///
/// Reject code: `below_min_resolution` (measured: shorter side in pixels; threshold: `min_short_side_px`). Unmeasured code: `no_resolution` (width or height is
/// null or not positive).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolutionFilter {
    /// Pixels of the shorter side.
    #[serde(default = "four_eighty")]
    #[schemars(range(min = 1, max = 65_536))]
    pub min_short_side_px: i32,
    /// Keep rows of exactly `min_short_side_px` (`>=`); false drops them (`>`).
    #[serde(default = "yes")]
    pub inclusive: bool,
}

fn four_eighty() -> i32 {
    480
}
fn yes() -> bool {
    true
}

impl Operator for ResolutionFilter {
    const NAME: &'static str = "resolution_filter";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.large]\ntype = \"resolution_filter\"\ninputs = [\"probe\"]\nmin_short_side_px = 480\n";

    fn columns(&self) -> Columns {
        Columns::none().need("width", &[DataType::Int32]).need("height", &[DataType::Int32])
    }

    fn rows_per_task(&self) -> usize {
        4096
    }

    fn build(&self, _context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(self.clone())))
    }
}

impl Transform for ResolutionFilter {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let column = |name: &str| {
            rows.column_by_name(name)
                .and_then(|c| c.as_primitive_opt::<Int32Type>())
                .ok_or_else(|| OperatorError::new(format!("step {}: there is no int32 column `{name}`", task.step)))
        };
        let (widths, heights) = (column("width")?, column("height")?);
        let sizes = widths.iter().zip(heights.iter());
        Ok(Processed::rows(sizes.map(|(width, height)| self.judge(width, height)).collect(), vec![]))
    }
}

impl ResolutionFilter {
    fn judge(&self, width: Option<i32>, height: Option<i32>) -> Verdict {
        let (Some(width), Some(height)) = (width.filter(|w| *w > 0), height.filter(|h| *h > 0)) else {
            return Verdict::unmeasured("no_resolution", format!("width is {}, height is {}", shown(width), shown(height)));
        };
        let short = width.min(height);
        if short > self.min_short_side_px || (self.inclusive && short == self.min_short_side_px) {
            return Verdict::Pass;
        }
        let rule = if self.inclusive { "at least" } else { "more than" };
        let message = format!("{width}x{height}: the shorter side has {short} px, {rule} {} are needed", self.min_short_side_px);
        Verdict::fail("below_min_resolution", f64::from(short), f64::from(self.min_short_side_px), message)
    }
}

fn shown(size: Option<i32>) -> String {
    size.map_or("null".into(), |s| s.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int32Array;
    use arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::testing;

    fn rows(sizes: &[(Option<i32>, Option<i32>)]) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("width", DataType::Int32, true), Field::new("height", DataType::Int32, true)]);
        let widths: Int32Array = sizes.iter().map(|s| s.0).collect();
        let heights: Int32Array = sizes.iter().map(|s| s.1).collect();
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(widths), Arc::new(heights)]).unwrap()
    }

    #[test]
    fn the_shorter_side_counts_and_the_threshold_is_kept_unless_told() {
        let batch = rows(&[
            (Some(854), Some(480)),
            (Some(480), Some(854)),
            (Some(1920), Some(479)),
            (None, Some(480)),
            (Some(0), Some(0)),
            (Some(854), Some(481)),
        ]);
        let kept = testing::run("type = 'resolution_filter'", &batch);
        let (low, odd) = ("below_min_resolution", "unmeasured no_resolution");
        assert_eq!(testing::codes(&kept), ["pass", "pass", low, odd, odd, "pass"]);
        let Verdict::Fail(reject) = &kept.verdicts[2] else { panic!() };
        assert_eq!((reject.measured, reject.threshold), (Some(479.0), Some(480.0)));
        assert_eq!(reject.message, "1920x479: the shorter side has 479 px, at least 480 are needed");
        let strict = testing::run("type = 'resolution_filter'\ninclusive = false", &batch);
        assert_eq!(testing::codes(&strict), [low, low, low, odd, odd, "pass"]);
    }
}
