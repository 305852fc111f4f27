//! The limit of a score that drops a given share of rows: for rules that a paper states by what they removed, not by their threshold.
//!
//! Of N rows (those that `among` names, if given) the lowest round(share N) are to be dropped, counting only rows for which `droppable` holds: a joint rule such as
//! "dover < x and aesthetic < 4.0" can drop no others. The limit is the smallest value that is kept. What can go wrong: many rows of one value; all of them are
//! kept then, and the report says how many the limit really drops.

use std::path::Path;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use curette_engine::predicate::{Predicate, referenced_columns};
use serde::Serialize;

use crate::tables::cast::numbers;
use crate::tables::{BATCH_ROWS, OpenTable};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The column with the score.
    pub column: &'a str,
    /// Share of the rows to drop, 0 to 1.
    pub share: f64,
    /// SQL condition: the rows that count; all if not given.
    pub among: Option<&'a str>,
    /// SQL condition: the rows that may be dropped; all if not given.
    pub droppable: Option<&'a str>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cut {
    /// Rows below this are dropped, if they may be.
    pub limit: f64,
    /// Rows that count.
    pub rows: usize,
    /// How many of them the limit drops.
    pub dropped: usize,
    /// Rows without a score, which do not count.
    pub without_score: usize,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = self.dropped as f64 / self.rows.max(1) as f64;
        writeln!(f, "limit          {}", self.limit)?;
        writeln!(f, "drops          {} of {} rows, a share of {share:.4}", self.dropped, self.rows)?;
        writeln!(f, "without score  {}", self.without_score)
    }
}

/// Reads a table, as [`OpenTable`] does, and answers.
pub fn of_table(path: &Path, question: &Question) -> Result<Cut, String> {
    let err = |e: String| format!("{}: {e}", path.display());
    let table = OpenTable::open(path).map_err(err)?;
    if !table.has(question.column) && !table.schema().fields().is_empty() {
        return Err(err(format!("there is no column `{}`", question.column)));
    }
    let mut columns = vec![question.column.to_owned()];
    for sql in question.among.iter().chain(&question.droppable) {
        // Against all columns first: its mistakes are told with what there is.
        Predicate::compile(sql, table.schema()).map_err(|e| err(format!("`{sql}`: {}", e.message)))?;
        columns.extend(referenced_columns(sql).map_err(|e| err(format!("`{sql}`: {}", e.message)))?);
    }
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut all = Rows::default();
    let (mut among, mut droppable) = (Condition::of(question.among), Condition::of(question.droppable));
    for batch in table.batches(&columns, BATCH_ROWS).map_err(err)? {
        all.add(&batch.map_err(err)?, question.column, &mut among, &mut droppable).map_err(err)?;
    }
    all.cut(question.share).map_err(err)
}

#[derive(Default)]
struct Rows {
    droppable: Vec<f64>,
    counted: usize,
    without_score: usize,
}

impl Rows {
    fn add(&mut self, batch: &RecordBatch, column: &str, among: &mut Condition, droppable: &mut Condition) -> Result<(), String> {
        let numbers = numbers(batch, column)?.ok_or_else(|| format!("there is no column `{column}`"))?;
        let (among, droppable) = (among.answers(batch)?, droppable.answers(batch)?);
        for row in 0..batch.num_rows() {
            if !among(row) {
                continue;
            }
            if numbers.is_null(row) || numbers.value(row).is_nan() {
                self.without_score += 1;
                continue;
            }
            self.counted += 1;
            if droppable(row) {
                self.droppable.push(numbers.value(row));
            }
        }
        Ok(())
    }

    fn cut(mut self, share: f64) -> Result<Cut, String> {
        let wanted = (share * self.counted as f64).round() as usize;
        self.droppable.sort_by(f64::total_cmp);
        let Some(limit) = self.droppable.get(wanted).copied() else {
            return Err(format!(
                "{wanted} of {} rows are to be dropped, which leaves none of the {} that may be: ask for a smaller share",
                self.counted,
                self.droppable.len()
            ));
        };
        let dropped = self.droppable.partition_point(|v| *v < limit);
        Ok(Cut { limit, rows: self.counted, dropped, without_score: self.without_score })
    }
}

/// A condition, compiled once for all batches of the same columns.
struct Condition<'a> {
    sql: Option<&'a str>,
    compiled: Option<(SchemaRef, Predicate)>,
}

impl<'a> Condition<'a> {
    fn of(sql: Option<&'a str>) -> Self {
        Condition { sql, compiled: None }
    }

    /// Whether it holds for a row of a batch; what is unknown does not.
    fn answers(&mut self, batch: &RecordBatch) -> Result<impl Fn(usize) -> bool + use<>, String> {
        let schema = batch.schema();
        let found = match self.sql {
            None => None,
            Some(sql) => {
                if self.compiled.as_ref().is_none_or(|(before, _)| *before != schema) {
                    let predicate = Predicate::compile(sql, &schema).map_err(|e| format!("`{sql}`: {}", e.message))?;
                    self.compiled = Some((schema, predicate));
                }
                self.compiled.as_ref().map(|(_, predicate)| predicate.evaluate(batch)).transpose()?
            }
        };
        Ok(move |row: usize| found.as_ref().is_none_or(|found| found.is_valid(row) && found.value(row)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(rows: &[(Option<f64>, f64)], share: f64, droppable: Option<&str>) -> Result<Cut, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.jsonl");
        let lines: Vec<String> =
            rows.iter().map(|(score, other)| serde_json::json!({"score": score, "other": other}).to_string()).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        of_table(&file, &Question { column: "score", share, among: Some("other < 100.5"), droppable })
    }

    #[test]
    fn the_papers_second_rule_drops_its_share_of_all_rows() {
        // 100 rows, of which 50 may be dropped; 19 of 100 are wanted.
        let rows: Vec<(Option<f64>, f64)> = (0..100).map(|i| (Some(f64::from(i) + 0.5), f64::from(i % 2) * 4.5)).collect();
        let cut = ask(&rows, 0.1918, Some("other < 4.0")).unwrap();
        assert_eq!((cut.rows, cut.dropped, cut.limit), (100, 19, 38.5));
        let some = [(Some(1.5), 1.5), (None, 1.5), (Some(2.5), 200.5)];
        let cut = ask(&some, 0.0, None).unwrap();
        assert_eq!((cut.rows, cut.dropped, cut.without_score, cut.limit), (1, 0, 1, 1.5));
        assert!(ask(&some, 1.0, None).unwrap_err().contains("ask for a smaller share"));
        assert!(ask(&some, 0.5, Some("nothing < 1")).unwrap_err().contains("nothing"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Against the obvious: try every value as the limit.
        #[test]
        fn no_other_limit_drops_a_number_nearer_from_below(values in prop::collection::vec(0u8..20, 1..60), share in 0.0f64..0.9) {
            let rows: Vec<(Option<f64>, f64)> = values.iter().map(|v| (Some(f64::from(*v) + 0.5), 0.5)).collect();
            let wanted = (share * rows.len() as f64).round() as usize;
            let dropped = |limit: f64| values.iter().filter(|v| f64::from(**v) + 0.5 < limit).count();
            let best = values.iter().map(|v| dropped(f64::from(*v) + 0.5)).filter(|d| *d <= wanted).max();
            match ask(&rows, share, None) {
                Ok(cut) => {
                    prop_assert_eq!(Some(cut.dropped), best);
                    prop_assert_eq!(cut.dropped, dropped(cut.limit));
                }
                Err(_) => prop_assert!(wanted >= rows.len()),
            }
        }
    }
}
