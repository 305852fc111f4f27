//! The `filter`: keeps rows for which a SQL condition over their columns is true.
//!
//! What can go wrong: a missing value. SQL answers null, which is neither true nor false, so the row is unmeasured instead of dropped; write
//! `coalesce(...)` or `... is null or ...` where missing has a meaning. An error of one row (a division by zero) is that row's problem alone.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Runtime, StepCheck, Task, Transform};
use curette_engine::predicate::{self, Predicate, referenced_columns};
use curette_engine::verdict::{Processed, Reject, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps rows for which a SQL condition is true.
///
/// Reject code: `condition_false` (the message shows the values; measured when the condition reads one number). Unmeasured codes: `condition_is_null` (a
/// value that decides is missing or NaN), `condition_failed` (it cannot be evaluated for this row: a division by zero, a failed cast).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// SQL boolean expression over the columns of the input, as after `WHERE`: `fps >= 10 and not (width < 640 or channel = 'x')`.
    pub keep_if: String,
}

impl Operator for Filter {
    const NAME: &'static str = "filter";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 2;
    const EXAMPLE: &'static str =
        "[step.long_enough]\ntype = \"filter\"\ninputs = [\"probe\"]\nkeep_if = \"duration_us >= 6000000 and fps > 5\"\n";

    fn columns(&self) -> Columns {
        // A condition that cannot be read needs nothing here: `check_input` reports what is wrong with it, at its place.
        let names = referenced_columns(&self.keep_if).unwrap_or_default();
        names.iter().fold(Columns::none(), |columns, name| columns.need(name, &[]))
    }

    fn rows_per_task(&self) -> usize {
        4096
    }

    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        predicate::check("keep_if", &self.keep_if, input, check);
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(Condition::compile(context.step, &self.keep_if, &context.input)?)))
    }
}

/// A condition that judges rows: what `keep_if` says.
#[derive(Debug)]
pub struct Condition {
    predicate: Predicate,
    sql: String,
}

impl Transform for Condition {
    fn process(&self, rows: &RecordBatch, _task: &Task) -> Result<Processed, OperatorError> {
        Ok(Processed::rows(self.verdicts(rows), vec![]))
    }
}

impl Condition {
    /// The `keep_if` of a step over rows of this schema.
    pub fn compile(step: &str, sql: &str, schema: &SchemaRef) -> Result<Condition, OperatorError> {
        let predicate = Predicate::compile(sql, schema)
            .map_err(|e| OperatorError { message: format!("step {step}: keep_if: {}", e.message), help: e.help })?;
        Ok(Condition { predicate, sql: sql.to_owned() })
    }

    /// A verdict for each row.
    pub fn verdicts(&self, rows: &RecordBatch) -> Vec<Verdict> {
        self.predicate.answers(rows).into_iter().enumerate().map(|(row, answer)| self.judge(rows, row, answer)).collect()
    }

    /// The columns that it reads.
    pub fn columns(&self) -> Vec<&str> {
        self.predicate.columns()
    }

    fn judge(&self, rows: &RecordBatch, row: usize, answer: Result<Option<bool>, String>) -> Verdict {
        let values = || self.predicate.values(rows, row);
        match answer {
            Ok(Some(true)) => return Verdict::Pass,
            Ok(Some(false)) => {}
            Ok(None) => {
                let missing: Vec<&str> =
                    self.predicate.columns().into_iter().filter(|name| is_missing(rows, name, row)).collect();
                let who = if missing.is_empty() { String::new() } else { format!(" because of {}", missing.join(", ")) };
                let message = format!("`{}` is neither true nor false{who}: {}", self.sql, values());
                return Verdict::unmeasured("condition_is_null", message);
            }
            Err(reason) => {
                let message = format!("`{}` cannot be evaluated ({}): {reason}", self.sql, values());
                return Verdict::unmeasured("condition_failed", message);
            }
        }
        Verdict::Fail(Reject {
            code: "condition_false".into(),
            measured: self.predicate.measured(rows, row),
            threshold: None,
            message: format!("`{}` is false: {}", self.sql, values()),
        })
    }
}

/// Null, or NaN, with which no comparison means anything.
fn is_missing(rows: &RecordBatch, name: &str, row: usize) -> bool {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float32Type, Float64Type};
    let Some(column) = rows.column_by_name(name) else { return false };
    let nan32 = column.as_primitive_opt::<Float32Type>().is_some_and(|c| c.value(row).is_nan());
    let nan64 = column.as_primitive_opt::<Float64Type>().is_some_and(|c| c.value(row).is_nan());
    column.is_null(row) || nan32 || nan64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Int32Array};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::testing;

    fn rows() -> RecordBatch {
        let schema = Schema::new(vec![Field::new("score", DataType::Float32, true), Field::new("n", DataType::Int32, true)]);
        let scores = Float32Array::from(vec![Some(3.0), Some(2.5), None, Some(f32::NAN), Some(9.0)]);
        let numbers = Int32Array::from(vec![Some(1), Some(1), Some(1), Some(1), Some(0)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(scores), Arc::new(numbers)]).unwrap()
    }

    fn messages(sql: &str) -> Vec<String> {
        testing::run(&format!("type = 'filter'\nkeep_if = '{sql}'"), &rows())
            .verdicts
            .iter()
            .map(|v| match v {
                Verdict::Pass => "pass".into(),
                Verdict::Fail(r) => format!("{} {:?}: {}", r.code, r.measured, r.message),
                Verdict::Unmeasured(p) => format!("{}: {}", p.code, p.message),
            })
            .collect()
    }

    #[test]
    fn a_missing_value_is_neither_kept_nor_dropped() {
        insta::assert_snapshot!(messages("score >= 3.0").join("\n"), @r"
        pass
        condition_false Some(2.5): `score >= 3.0` is false: score = 2.5
        condition_is_null: `score >= 3.0` is neither true nor false because of score: score = null
        condition_is_null: `score >= 3.0` is neither true nor false because of score: score = NaN
        pass
        ");
        assert_eq!(messages("score >= 3.0 or n = 1"), vec!["pass"; 5]);
    }

    #[test]
    fn an_error_of_one_row_is_its_own_problem() {
        let found = messages("10 / n > 5");
        assert_eq!(found[..4], vec!["pass"; 4]);
        assert!(found[4].starts_with("condition_failed: `10 / n > 5` cannot be evaluated (n = 0): "), "{}", found[4]);
    }

    #[test]
    fn mistakes_are_found_before_anything_runs() {
        let found =
            |sql: &str| testing::mistakes(&format!("type = 'filter'\nkeep_if = '{sql}'"), &[("score", DataType::Float32)]);
        assert_eq!(found("score > 1"), Vec::<String>::new());
        assert!(found("scoer > 1")[0].contains("E-BadPredicate"), "{:?}", found("scoer > 1"));
        assert!(found("score >")[0].contains("E-BadPredicate"));
        assert!(testing::operator("type = 'filter'").is_err());
        let operator = testing::operator("type = 'filter'\nkeep_if = 'b > 1 and a < b'").unwrap();
        assert_eq!(operator.columns().needs.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    }
}
