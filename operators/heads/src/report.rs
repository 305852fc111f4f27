//! What training came to, as numbers and as text.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::{Metrics, wilson};

/// The paper's check of a stage: this share of [`PAPER_ROWS`] must be right (MedGen, section 3).
const PAPER_SHARE: f64 = 0.95;
/// See [`PAPER_SHARE`].
const PAPER_ROWS: usize = 200;

/// One part of the samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartReport {
    /// Groups in it.
    pub groups: usize,
    /// How good the head is on it.
    pub metrics: Metrics,
}

/// One value of C.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// C.
    pub c: f64,
    /// Mean log loss on the validation rows, before calibration.
    pub validation_log_loss: f64,
}

/// What training came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The encoder that the head reads.
    pub encoder: String,
    /// Width of its embeddings.
    pub dim: usize,
    /// Names of the classes, negative first.
    pub classes: [String; 2],
    /// The chosen regularisation.
    pub c: f64,
    /// All that were tried.
    pub tried: Vec<Tried>,
    /// Steps of the optimiser in the chosen fit.
    pub iterations: usize,
    /// Its final loss, regularisation included.
    pub loss: f64,
    /// As the head file has it.
    pub calibration: String,
    /// The head's threshold.
    pub threshold: f64,
    /// How it was chosen.
    pub threshold_rule: String,
    /// On the rows that the weights were fitted on.
    pub training: PartReport,
    /// On the rows that C, calibration and threshold were chosen on.
    pub validation: PartReport,
    /// On rows that nothing was chosen on; absent when there are none.
    pub test: Option<PartReport>,
    /// Hash of embeddings, labels and groups.
    pub training_data_blake3: String,
    /// What dealt out the groups.
    pub seed: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "encoder     {} ({} dimensions)", self.encoder, self.dim)?;
        writeln!(
            f,
            "chosen      C = {} of {} by validation log loss; calibration {}",
            self.c,
            self.tried.len(),
            self.calibration
        )?;
        writeln!(f, "threshold   {:.4} ({}); `{}` from there on", self.threshold, self.threshold_rule, self.classes[1])?;
        writeln!(f, "training    {} groups, {}", self.training.groups, self.training.metrics)?;
        writeln!(f, "validation  {} groups, {}", self.validation.groups, self.validation.metrics)?;
        let Some(test) = &self.test else {
            return writeln!(f, "test        none: no number here says how the head does on rows that nothing was chosen on");
        };
        writeln!(f, "test        {} groups, {}", test.groups, test.metrics)?;
        let m = &test.metrics;
        let (right, kept) = (m.true_positives + m.true_negatives, m.true_positives + m.false_positives);
        let rows = [
            ("accuracy", right, m.rows),
            ("precision", m.true_positives, kept),
            ("recall", m.true_positives, m.true_positives + m.false_negatives),
        ];
        for (name, hits, of) in rows {
            match wilson(hits, of) {
                Some((low, high)) => {
                    writeln!(
                        f,
                        "            {name} {hits}/{of} = {:.4}, 95 % interval {low:.4} to {high:.4}",
                        hits as f64 / of as f64
                    )?;
                }
                None => writeln!(f, "            {name} cannot be said: no row to divide by")?,
            }
        }
        // Whole numbers: 190 of 200 is 95 %, whatever 0.95 is in binary.
        let met = 100 * m.true_positives >= (100.0 * PAPER_SHARE).round() as usize * kept;
        let verdict = match (kept >= PAPER_ROWS, met) {
            (false, _) => format!("not decided: {kept} kept test rows, {PAPER_ROWS} are needed"),
            (true, true) => "met".into(),
            (true, false) => "NOT met".into(),
        };
        writeln!(f, "check       at least {PAPER_SHARE} of {PAPER_ROWS} kept rows are right: {verdict}")
    }
}
