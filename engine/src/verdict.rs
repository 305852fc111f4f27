//! What an operator answers for each row: pass, fail or unmeasured.
//!
//! Why three: a measurement that failed is neither a pass nor a fail. A silent drop loses good rows and a silent pass lets
//! bad ones in, so the step's `on_unmeasured` decides, and the reason is recorded either way.
//!
//! What can go wrong: an operator that returns the wrong number of verdicts has lost or invented rows. The engine treats that
//! as a bug and ends the process (see [`Processed::check`]).

use std::borrow::Cow;

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};

/// Why a row was dropped by a rule: what was measured, against which threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reject {
    /// Stable snake_case reason, such as `below_threshold` or `no_medical_term`. Funnels group by it.
    pub code: Cow<'static, str>,
    /// The measured value, where it is one number.
    pub measured: Option<f64>,
    /// The threshold that it was held against, where it is one number.
    pub threshold: Option<f64>,
    /// One sentence for people.
    pub message: String,
}

/// Why a row could not be measured or read: bad input, a service that failed, a model that returned NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable snake_case code, such as `no_video_stream`.
    pub code: Cow<'static, str>,
    /// One sentence for people: what, why, what to do.
    pub message: String,
}

impl Problem {
    /// A problem with a code from the operator's documentation.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Problem { code: code.into(), message: message.into() }
    }
}

/// The answer for one input row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// The row goes on (for an expanding operator: at least one child does).
    Pass,
    /// The row is dropped by a rule and recorded in the `rejects` table.
    Fail(Reject),
    /// The row could not be measured: the step's `on_unmeasured` decides; recorded in `errors` (or `rejects`).
    Unmeasured(Problem),
}

impl Verdict {
    /// A fail with one measured number and the threshold that it missed.
    pub fn fail(code: &'static str, measured: f64, threshold: f64, message: impl Into<String>) -> Self {
        Verdict::Fail(Reject { code: code.into(), measured: Some(measured), threshold: Some(threshold), message: message.into() })
    }

    /// A fail that has no single measured number.
    pub fn fail_because(code: &'static str, message: impl Into<String>) -> Self {
        Verdict::Fail(Reject { code: code.into(), measured: None, threshold: None, message: message.into() })
    }

    /// A row that could not be measured.
    pub fn unmeasured(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Verdict::Unmeasured(Problem::new(code, message))
    }
}

/// What a transform made of one batch of input rows.
#[derive(Debug, Clone)]
pub struct Processed {
    /// One verdict per input row, in order.
    pub verdicts: Vec<Verdict>,
    /// The new columns, in the order of [`crate::operator::Columns::adds`].
    ///
    /// Without `parents` they have one value per INPUT row (null where the verdict is not pass); the engine drops the rows that do not
    /// go on. With `parents` they have one value per CHILD row.
    pub columns: Vec<ArrayRef>,
    /// Expanding operators only: for each child row the index of the input row that it came from, ascending.
    /// A child repeats all columns of its parent. Children of rows whose verdict is not pass are a bug.
    pub parents: Option<Vec<u32>>,
}

impl Processed {
    /// The result of a measure or filter: one verdict and one value of each new column per input row.
    pub fn rows(verdicts: Vec<Verdict>, columns: Vec<ArrayRef>) -> Self {
        Processed { verdicts, columns, parents: None }
    }

    /// The result of an expanding operator.
    pub fn children(verdicts: Vec<Verdict>, parents: Vec<u32>, columns: Vec<ArrayRef>) -> Self {
        Processed { verdicts, columns, parents: Some(parents) }
    }

    /// Checks that every input row is accounted for exactly once. `Err` holds the sentence that the panic will say: it names a bug
    /// of the operator, never of the data.
    pub fn check(&self, rows_in: usize) -> Result<(), String> {
        if self.verdicts.len() != rows_in {
            return Err(format!("{} verdicts for {rows_in} input rows", self.verdicts.len()));
        }
        let want = match &self.parents {
            None => rows_in,
            Some(parents) => {
                let mut has_child = vec![false; rows_in];
                let mut last = 0;
                for &p in parents {
                    if (p as usize) >= rows_in || p < last {
                        return Err(format!("parent index {p} is out of order or out of range (rows: {rows_in})"));
                    }
                    last = p;
                    has_child[p as usize] = true;
                }
                for (row, (verdict, has)) in self.verdicts.iter().zip(&has_child).enumerate() {
                    if matches!(verdict, Verdict::Pass) != *has {
                        return Err(format!("row {row}: verdict {verdict:?} but has_children={has}"));
                    }
                }
                parents.len()
            }
        };
        for (i, column) in self.columns.iter().enumerate() {
            if column.len() != want {
                return Err(format!("new column {i} has {} values, expected {want}", column.len()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_row_is_noticed() {
        let p = Processed::rows(vec![Verdict::Pass], vec![]);
        assert!(p.check(2).is_err());
        assert!(p.check(1).is_ok());
    }

    #[test]
    fn an_expanded_row_needs_children_exactly_when_it_passes() {
        let fail = Verdict::fail_because("none", "no clip");
        assert!(Processed::children(vec![Verdict::Pass, fail.clone()], vec![0, 0], vec![]).check(2).is_ok());
        assert!(Processed::children(vec![Verdict::Pass, fail.clone()], vec![0, 1], vec![]).check(2).is_err());
        assert!(Processed::children(vec![Verdict::Pass, Verdict::Pass], vec![0], vec![]).check(2).is_err());
        assert!(Processed::children(vec![Verdict::Pass, Verdict::Pass], vec![1, 0], vec![]).check(2).is_err());
    }
}
