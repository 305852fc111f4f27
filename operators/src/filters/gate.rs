//! The `gate`: rows wait until people have found a sample of them good enough.
//!
//! Why: a threshold that is wrong ruins a dataset in silence, and what stands behind it (captions that cost money, clips that take a day) is spent on rubbish.
//! The engine asks once for each version of the tables and keeps the answer ([`curette_engine::gate`]); here is only the rule. What can go wrong: ratings of
//! another plan; they do not count, because they are about other rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use curette_engine::diag::Code;
use curette_engine::gate::{Answer, GatePlace, Gates, HELD_BACK};
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Pool, Runtime, StepCheck, Task, Transform};
use curette_engine::verdict::{Processed, Verdict};
use curette_review::audit::{Rule, Standing, Verdict as Audit};
use curette_review::ledger;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lets rows pass when an audit of a stage has passed, and holds all of them back until then.
///
/// People rate a sample with `curette review OUTPUT --stage STEP`; the audit passes when every clip of it is rated and at least `min_share` of them are clean or
/// slightly noisy. It counts for the plan whose rows were looked at: with other inputs or parameters it is asked for again. While it is missing, everything before
/// the gate is committed, rows at it are rejects, and the run ends with exit code 5. When it has passed, the same command goes on in a new version of the
/// tables; answers that were kept are used. `curette audit status OUTPUT` says what is missing; `curette run --accept-unaudited` goes on without it, which the
/// column says of each row. Put a `parquet` sink before the gate, with what the review shows (`clip_id`, `video_uri`, `start_us`, `end_us`, scores).
/// Reject code: `held_back`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// The step whose kept rows are audited. Default: the one that the gate reads from.
    pub stage: Option<String>,
    /// Smallest share of acceptable rows, 0 to 1. The paper: 0.95.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_share: f64,
    /// With 0.95, say, it must be that certain that the share of all rows is at least `min_share` (Wilson's lower bound, one-sided; above 0.5, below 1). Without it the
    /// share of the sample counts, as in the paper.
    #[schemars(range(min = 0.5, max = 0.999999))]
    pub confidence: Option<f64>,
    /// Rows that must be rated, 1 to 100000; all of them where the stage has fewer. The paper: 200.
    #[schemars(range(min = 1, max = 100_000))]
    pub sample: u64,
    /// Raters that each row of the sample needs, 1 to 100; most of them must find it acceptable.
    #[schemars(range(min = 1, max = 100))]
    pub raters: u64,
    /// Name of the column that says why the row was let pass: `passed`, or, with `--accept-unaudited`, `unaudited` or `failed`.
    pub column: String,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { stage: None, min_share: 0.95, confidence: None, sample: 200, raters: 1, column: "audit".into() }
    }
}

impl Gate {
    fn answer(&self, place: &GatePlace) -> Result<Answer, OperatorError> {
        let ratings = ledger::read(place.output).map_err(|e| OperatorError::new(e.to_string()))?;
        let stage = self.stage.as_deref().unwrap_or(place.input);
        let rule = self.rule();
        let standing = Standing::of(&ratings, stage, place.plan_hash, rule.raters);
        let (open, code, message) = match rule.judge(&standing) {
            Audit::Passed(why) => (true, "passed", why),
            Audit::Failed(why) => (false, "failed", why),
            Audit::Missing(why) => (false, "unaudited", why),
        };
        let rule = serde_json::to_value(&rule).unwrap_or_default();
        Ok(Answer { open, code: code.into(), message, rule })
    }

    /// When an audit has passed.
    pub fn rule(&self) -> Rule {
        Rule { min_share: self.min_share, confidence: self.confidence, sample: self.sample, raters: self.raters }
    }
}

impl Operator for Gate {
    const NAME: &'static str = "gate";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str =
        "[step.audited]\ntype = \"gate\"\ninputs = [\"no_subtitles\"]\nmin_share = 0.95\nsample = 200\n";

    fn columns(&self) -> Columns {
        let doc = "why the gate let the row pass: passed, unaudited or failed (the last two with --accept-unaudited)";
        Columns::none().add(&self.column, DataType::Utf8, doc)
    }

    fn pool(&self) -> Pool {
        Pool::Inline
    }

    fn rows_per_task(&self) -> usize {
        4096
    }

    /// What must be found out about the rows, not what the rows are: another limit needs no other audit.
    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["min_share", "confidence", "sample", "raters"]
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if self.column.is_empty() {
            let help = Some("column = \"audit\"".into());
            check.error(Some("column"), Code::OutOfRange, "the column needs a name".into(), help);
        }
    }

    fn gate(&self, place: &GatePlace) -> Option<Result<Answer, OperatorError>> {
        Some(self.answer(place))
    }

    fn build(&self, _context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(Wait)))
    }
}

struct Wait;

impl Transform for Wait {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let n = rows.num_rows();
        let decision = task.resources.get(Gates::default).of(task.step);
        let (verdict, said) = match &decision {
            Some(decision) if decision.open => (Verdict::Pass, Some(decision.code.as_str())),
            Some(decision) => (Verdict::fail_because(HELD_BACK, format!("waits for an audit: {}", decision.message)), None),
            None => (Verdict::fail_because(HELD_BACK, "nobody has decided whether rows may pass"), None),
        };
        let column: ArrayRef = Arc::new(StringArray::from(vec![said; n]));
        Ok(Processed::rows(vec![verdict; n], vec![column]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn without_a_decision_nothing_passes_and_without_ratings_the_answer_is_no() {
        let rows = RecordBatch::try_from_iter([("video_id", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef)]).unwrap();
        let processed = testing::run("type = 'gate'", &rows);
        assert_eq!(testing::codes(&processed), ["held_back", "held_back"]);
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().to_string_lossy();
        let place = GatePlace { output: &output, plan_hash: "p", step: "gate", input: "clean" };
        let answer = Gate::default().answer(&place).unwrap();
        assert!(!answer.open && answer.code == "unaudited", "{answer:?}");
        let want = "0 of 200 rows that `clean` kept are rated; rate them with: curette review OUTPUT --stage clean --n 200";
        assert_eq!(answer.message, want);
    }

    #[test]
    fn mistakes_are_found() {
        assert!(testing::operator("type = 'gate'\nunknown = 1").is_err());
        assert_eq!(testing::mistakes("type = 'gate'\ncolumn = ''", &[]).len(), 1);
    }
}
