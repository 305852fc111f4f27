//! `blockiness`: how much the 8x8 blocks of a codec show; drops clips that were compressed too far.
//!
//! What can go wrong: see [`crate::pixels::blocks`]; blocks of a picture that was scaled after it was compressed are not found.

use curette_engine::operator::{Kind, Operator};
use curette_engine::verdict::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::per_clip::{Bound, Limit, Measure, Request, operator_of_a_measure};
use crate::pixels::blocks::{Blocks, MIN_SIDE, blocks};
use crate::pixels::luma::Luma;

/// Measures the blocks of JPEG-like compression and drops clips that show them.
///
/// `frames` frames of the clip are taken (index floor(k (N - 1) / (frames - 1)) of its N frames), in native size. Luma is BT.601 on the video scale (black 16, white 235).
/// Without a limit nothing is dropped; a value of exactly the limit is kept.
///
/// After Wang, Sheikh and Bovik (ICIP 2002), means over all frames and both directions: B is the mean absolute step across the boundaries of the 8x8 grid, A the
/// mean absolute step inside of blocks, Z the share of neighbouring steps of opposite sign, in grey levels of 0 to 255.
///
/// * `blockiness` = (B + 0.1) / (A + 0.1): 1 where nothing shows, about 1.3 where a careful eye sees blocks, 2 and more for heavy ones;
/// * `blockiness_quality` = -245.8909 + 261.9373 B^-0.02398886 A^0.01601664 Z^0.00642859, the paper's score, about 1 (bad) to 10 (excellent); null for flat clips.
///
/// Reject codes: `blocky`, `low_block_quality`. Unmeasured codes besides those of `probe`: `no_span`, `no_frames`, `format_change` (the size changes inside the span), `too_small` (a side of less than 16 pixels), `no_value` (`min_quality` on a flat clip).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Blockiness {
    /// Drop above this `blockiness` (0 to 1000).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub max_blockiness: Option<f64>,
    /// Drop below this `blockiness_quality` (-300 to 300).
    #[schemars(range(min = -300.0, max = 300.0))]
    pub min_quality: Option<f64>,
    /// Frames looked at (1 to 64). The same number in the other steps of this family means one decode for all.
    #[schemars(range(min = 1, max = 64))]
    pub frames: usize,
    /// Time for one row, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

impl Default for Blockiness {
    fn default() -> Self {
        Blockiness { max_blockiness: None, min_quality: None, frames: 8, timeout_seconds: 600 }
    }
}

impl Operator for Blockiness {
    const NAME: &'static str = "blockiness";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.blockiness]\ntype = \"blockiness\"\ninputs = [\"clips\"]\nmax_blockiness = 2.0\n";

    operator_of_a_measure!();
}

impl Measure for Blockiness {
    const VALUES: &'static [(&'static str, &'static str)] = &[
        ("blockiness", "step across 8x8 block boundaries relative to the steps inside, 1 = no blocks; larger is worse"),
        ("blockiness_quality", "Wang-Sheikh-Bovik score of perceived quality, about 1 (bad) to 10 (excellent)"),
    ];

    fn request(&self) -> Request {
        Request { frames: self.frames, longest_side: None, timeout_seconds: self.timeout_seconds }
    }

    fn measure(&self, frames: &[Luma], _times_ns: &[i64]) -> Result<Vec<Option<f64>>, Problem> {
        let all: Option<Vec<Blocks>> = frames.iter().map(blocks).collect();
        let message = || format!("a picture with a side of less than {MIN_SIDE} pixels has no blocks to compare");
        let all = Blocks::mean(&all.ok_or_else(|| Problem::new("too_small", message()))?);
        Ok(vec![Some(all.ratio()), all.quality()])
    }

    fn limits(&self) -> Vec<Limit> {
        vec![
            Limit { column: 0, bound: self.max_blockiness.map(Bound::Most), code: "blocky" },
            Limit { column: 1, bound: self.min_quality.map(Bound::Least), code: "low_block_quality" },
        ]
    }
}
