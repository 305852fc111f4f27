//! The verb `sweep`: what thresholds on stored scores would keep, before anything is run with them.
//!
//! Scores are read once from a table, a batch at a time; nothing is decoded and no model runs. A null or NaN is *unmeasured*: it is counted
//! apart and is in no share, because a filter neither keeps nor drops it. What can go wrong: a table that holds kept rows only; then the
//! shares are of those. Give the table that a sink behind the measuring step wrote (`scores` in `pipelines/medvideocap.toml`).

use std::fmt;
use std::path::Path;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use curette_engine::predicate::{Predicate, referenced_columns};
use serde::Serialize;

use crate::tables::{OpenTable, cast};

/// Rows of a batch.
const BATCH_ROWS: usize = 1 << 14;
/// Tables of more rows are refused: their scores would not fit in memory.
pub const MAX_ROWS: usize = 100_000_000;
/// Thresholds that are shown where none are named: those that keep 100, 95, ... 5 percent.
const STEPS: usize = 20;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Scores to look at.
    pub columns: Vec<String>,
    /// Thresholds to try; none: those that keep 100, 95, ... 5 percent.
    pub at: Vec<f64>,
    /// A score is kept up to its threshold, not from it on.
    pub lower_is_better: bool,
    /// SQL conditions whose joint effect is counted, in the order of their steps.
    pub keep: Vec<String>,
    /// Share of the measured rows to keep: which threshold does it?
    pub share: Option<f64>,
}

/// What a threshold keeps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Kept {
    /// The threshold; a score of exactly this is kept.
    pub threshold: f64,
    /// Rows that are kept.
    pub kept: usize,
    /// Their share of the measured rows.
    pub share: f64,
}

/// What thresholds on one score do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Column {
    /// The score.
    pub column: String,
    /// Rows that have it.
    pub measured: usize,
    /// Rows whose score is null or NaN.
    pub unmeasured: usize,
    /// The smallest.
    pub min: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// What thresholds keep.
    pub thresholds: Vec<Kept>,
    /// The threshold that keeps the wanted share, all conditions together.
    pub target: Option<Target>,
}

/// The answer to a wanted share.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Target {
    /// The share.
    pub wanted: f64,
    /// The threshold, with what is kept by it and by all conditions; nothing if the conditions alone keep less.
    pub found: Option<Kept>,
    /// The share that the conditions alone keep of the rows with this score.
    pub at_most: f64,
}

/// What a condition does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Condition {
    /// SQL.
    pub condition: String,
    /// Rows for which it is true.
    pub kept: usize,
    /// Rows for which it is false.
    pub dropped: usize,
    /// Rows for which it is neither, because a value is missing.
    pub unmeasured: usize,
    /// Rows that every other condition keeps and this one drops.
    pub dropped_by_it_alone: usize,
    /// Rows that it drops when the conditions before it have been applied.
    pub dropped_in_order: usize,
    /// Rows that are left then.
    pub left_in_order: usize,
}

/// What all conditions do together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Joint {
    /// Rows for which all are true.
    pub kept: usize,
    /// Rows for which at least one is false.
    pub dropped: usize,
    /// The others: none is false, but one is neither.
    pub unmeasured: usize,
    /// Each condition.
    pub conditions: Vec<Condition>,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sweep {
    /// Rows of the table.
    pub rows: usize,
    /// Each score.
    pub columns: Vec<Column>,
    /// All conditions, if there are any.
    pub joint: Option<Joint>,
    /// Kept from the threshold down.
    pub lower_is_better: bool,
}

/// Answers a question about a table.
pub fn sweep(path: &Path, question: &Question) -> Result<Sweep, String> {
    let err = |e: String| format!("{}: {e}", path.display());
    if question.columns.is_empty() && question.keep.is_empty() {
        return Err("nothing is asked: name a score with --column, or a condition with --keep".into());
    }
    if let Some(share) = question.share.filter(|s| !(*s > 0.0 && *s <= 1.0)) {
        return Err(format!("--share is above 0 and at most 1, not {share}"));
    }
    if let Some(bad) = question.at.iter().find(|t| !t.is_finite()) {
        return Err(format!("--at takes finite numbers, not {bad}"));
    }
    let table = OpenTable::open(path).map_err(err)?;
    let mut read: Vec<String> = question.columns.clone();
    for name in &question.columns {
        match table.schema().field_with_name(name) {
            Ok(field) if field.data_type().is_numeric() || *field.data_type() == DataType::Utf8 => {}
            Ok(field) => return Err(err(format!("column `{name}` is {}, not a number", field.data_type()))),
            Err(_) => return Err(err(format!("has no column `{name}`; its number columns are {}", number_columns(&table)))),
        }
    }
    for sql in &question.keep {
        Predicate::compile(sql, table.schema()).map_err(|e| err(format!("`{sql}`: {e}")))?;
        read.extend(referenced_columns(sql).map_err(|e| err(format!("`{sql}`: {e}")))?);
    }
    read.sort();
    read.dedup();
    let read: Vec<&str> = read.iter().map(String::as_str).collect();
    let mut rows = Rows::new(question);
    for batch in table.batches(&read, BATCH_ROWS).map_err(err)? {
        rows.add(&batch.map_err(err)?, question).map_err(err)?;
        if rows.rows > MAX_ROWS {
            return Err(err(format!("has more than {MAX_ROWS} rows; ask about a part of it")));
        }
    }
    // What is equal on paper is equal in the table: thresholds are held against a Float32 column in its precision, as the operator `filter` does.
    let single = |name: &String| table.schema().field_with_name(name).is_ok_and(|f| *f.data_type() == DataType::Float32);
    let columns = question.columns.iter().enumerate().map(|(at, name)| rows.column(at, name, single(name), question)).collect();
    let joint = (!question.keep.is_empty()).then(|| rows.joint());
    Ok(Sweep { rows: rows.rows, columns, joint, lower_is_better: question.lower_is_better })
}

fn number_columns(table: &OpenTable) -> String {
    let names: Vec<&str> =
        table.schema().fields().iter().filter(|f| f.data_type().is_numeric()).map(|f| f.name().as_str()).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// What a row is under a condition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Kept,
    Dropped,
    Unmeasured,
}

/// What is remembered of the rows: for each score its values with what the conditions say together, and the counts of the conditions.
struct Rows {
    rows: usize,
    scores: Vec<Vec<(f64, bool)>>,
    unmeasured: Vec<usize>,
    conditions: Vec<Condition>,
    together: [usize; 3],
    compiled: Option<(SchemaRef, Vec<Predicate>)>,
}

impl Rows {
    fn new(question: &Question) -> Rows {
        let condition = |sql: &String| Condition {
            condition: sql.clone(),
            kept: 0,
            dropped: 0,
            unmeasured: 0,
            dropped_by_it_alone: 0,
            dropped_in_order: 0,
            left_in_order: 0,
        };
        Rows {
            rows: 0,
            scores: vec![Vec::new(); question.columns.len()],
            unmeasured: vec![0; question.columns.len()],
            conditions: question.keep.iter().map(condition).collect(),
            together: [0; 3],
            compiled: None,
        }
    }

    fn add(&mut self, batch: &RecordBatch, question: &Question) -> Result<(), String> {
        self.rows += batch.num_rows();
        let answers = self.answers(batch, question)?;
        let all_true: Vec<bool> = (0..batch.num_rows()).map(|row| answers.iter().all(|a| a[row] == Answer::Kept)).collect();
        for row in 0..batch.num_rows() {
            let of_row: Vec<Answer> = answers.iter().map(|a| a[row]).collect();
            self.count(&of_row);
        }
        for (at, name) in question.columns.iter().enumerate() {
            for (row, value) in values(batch, name)?.into_iter().enumerate() {
                match value.filter(|v| !v.is_nan()) {
                    Some(value) => self.scores[at].push((value, all_true[row])),
                    None => self.unmeasured[at] += 1,
                }
            }
        }
        Ok(())
    }

    /// What each condition says of each row. An error of one row (a division by zero) is that row's alone, which is unmeasured then.
    fn answers(&mut self, batch: &RecordBatch, question: &Question) -> Result<Vec<Vec<Answer>>, String> {
        let schema = batch.schema();
        if self.compiled.as_ref().is_none_or(|(before, _)| *before != schema) {
            let compile = |sql: &String| Predicate::compile(sql, &schema).map_err(|e| format!("`{sql}`: {e}"));
            let predicates = question.keep.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
            self.compiled = Some((schema, predicates));
        }
        let predicates = self.compiled.as_ref().map(|(_, p)| p.as_slice()).unwrap_or_default();
        let read = |answer: Result<Option<bool>, String>| match answer {
            Ok(Some(true)) => Answer::Kept,
            Ok(Some(false)) => Answer::Dropped,
            Ok(None) | Err(_) => Answer::Unmeasured,
        };
        let one = |predicate: &Predicate| predicate.answers(batch).into_iter().map(read).collect();
        Ok(predicates.iter().map(one).collect())
    }

    fn count(&mut self, answers: &[Answer]) {
        if answers.is_empty() {
            return;
        }
        let not_kept: Vec<usize> = (0..answers.len()).filter(|&at| answers[at] != Answer::Kept).collect();
        self.together[match () {
            () if not_kept.is_empty() => 0,
            () if answers.contains(&Answer::Dropped) => 1,
            () => 2,
        }] += 1;
        for (at, (condition, answer)) in self.conditions.iter_mut().zip(answers).enumerate() {
            match answer {
                Answer::Kept => condition.kept += 1,
                Answer::Dropped => condition.dropped += 1,
                Answer::Unmeasured => condition.unmeasured += 1,
            }
            condition.dropped_by_it_alone += usize::from(*answer == Answer::Dropped && not_kept.len() == 1);
            let came_here = not_kept.first().is_none_or(|first| *first >= at);
            condition.dropped_in_order += usize::from(came_here && *answer == Answer::Dropped);
            condition.left_in_order += usize::from(came_here && *answer == Answer::Kept);
        }
    }

    fn joint(&self) -> Joint {
        let [kept, dropped, unmeasured] = self.together;
        Joint { kept, dropped, unmeasured, conditions: self.conditions.clone() }
    }

    fn column(&mut self, at: usize, name: &str, single: bool, question: &Question) -> Column {
        // Better ones first: a threshold keeps a beginning of the list.
        let sign = if question.lower_is_better { -1.0 } else { 1.0 };
        let mut scores = std::mem::take(&mut self.scores[at]);
        scores.sort_by(|a, b| (sign * b.0).total_cmp(&(sign * a.0)));
        let measured = scores.len();
        let all: Vec<f64> = scores.iter().map(|s| s.0).collect();
        let joint: Vec<f64> = scores.iter().filter(|s| s.1).map(|s| s.0).collect();
        let kept = |list: &[f64], threshold: f64| {
            let kept = list.partition_point(|v| sign * v >= sign * threshold);
            Kept { threshold, kept, share: kept as f64 / measured as f64 }
        };
        // The threshold that keeps at least so many: the score of the last of them.
        let for_share = |list: &[f64], share: f64| {
            // 0.95 x 20 may be a little more than 19 in binary.
            let wanted = ((share * measured as f64 - 1e-9).ceil() as usize).max(1);
            list.get(wanted - 1).map(|threshold| kept(list, *threshold))
        };
        let mut thresholds: Vec<Kept> = match (measured, question.at.as_slice()) {
            (0, _) => Vec::new(),
            (_, []) => (1..=STEPS).rev().filter_map(|step| for_share(&all, step as f64 / STEPS as f64)).collect(),
            (_, named) => named.iter().map(|t| kept(&all, if single { in_single_precision(*t) } else { *t })).collect(),
        };
        // One value of many rows is the answer to several shares.
        thresholds.dedup();
        let target = question.share.filter(|_| measured > 0).map(|wanted| Target {
            wanted,
            found: for_share(&joint, wanted),
            at_most: joint.len() as f64 / measured as f64,
        });
        let (best, worst) = (all.first().copied(), all.last().copied());
        let (min, max) = if question.lower_is_better { (best, worst) } else { (worst, best) };
        Column { column: name.to_owned(), measured, unmeasured: self.unmeasured[at], min, max, thresholds, target }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is the point")]
fn in_single_precision(value: f64) -> f64 {
    f64::from(value as f32)
}

/// The scores of a batch. Of text (CSV) a blank cell is unmeasured.
fn values(batch: &RecordBatch, name: &str) -> Result<Vec<Option<f64>>, String> {
    let column = batch.column_by_name(name).ok_or_else(|| format!("has no column `{name}`"))?;
    if *column.data_type() != DataType::Utf8 {
        let numbers = cast::numbers(batch, name)?.ok_or_else(|| format!("has no column `{name}`"))?;
        return Ok(numbers.iter().collect());
    }
    let text = cast::need_text(batch, name)?;
    let one = |row| match cast::cell(&text, row) {
        None => Ok(None),
        Some(cell) => cell.parse().map(Some).map_err(|_| format!("column `{name}` says `{cell}`, which is not a number")),
    };
    (0..batch.num_rows()).map(one).collect()
}

/// The shortest decimal number that gives the score again, in the precision that it has.
#[expect(clippy::cast_possible_truncation, reason = "only where nothing is lost")]
fn shown(value: f64) -> String {
    let single = value as f32;
    if f64::from(single) == value { single.to_string() } else { value.to_string() }
}

fn percent(part: usize, of: usize) -> String {
    if of == 0 { "-".into() } else { format!("{:.2} %", 100.0 * part as f64 / of as f64) }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rows", self.rows)?;
        let sign = if self.lower_is_better { "<=" } else { ">=" };
        for c in &self.columns {
            let range = c.min.zip(c.max).map(|(min, max)| format!(", from {} to {}", shown(min), shown(max)));
            let measured = format!("{} measured{}, {} unmeasured", c.measured, range.unwrap_or_default(), c.unmeasured);
            writeln!(f, "\n{}: {measured}", c.column)?;
            for kept in &c.thresholds {
                let (limit, share) = (shown(kept.threshold), percent(kept.kept, c.measured));
                writeln!(f, "  {sign} {limit:<14} keeps {:>10}  {share:>9}", kept.kept)?;
            }
            if let Some(target) = &c.target {
                match target.found {
                    Some(found) => writeln!(
                        f,
                        "  to keep {:.2} %: {} {sign} {} keeps {} of {} ({})",
                        100.0 * target.wanted,
                        c.column,
                        shown(found.threshold),
                        found.kept,
                        c.measured,
                        percent(found.kept, c.measured)
                    )?,
                    None => writeln!(
                        f,
                        "  to keep {:.2} %: no threshold does, since the conditions alone keep {:.2} %",
                        100.0 * target.wanted,
                        100.0 * target.at_most
                    )?,
                }
            }
        }
        if let Some(joint) = &self.joint {
            let rows = self.rows;
            writeln!(
                f,
                "\nall conditions: {} kept ({}), {} dropped, {} unmeasured",
                joint.kept,
                percent(joint.kept, rows),
                joint.dropped,
                joint.unmeasured
            )?;
            for c in &joint.conditions {
                writeln!(f, "  {}", c.condition)?;
                writeln!(
                    f,
                    "    by itself:   {} kept ({}), {} dropped, {} unmeasured",
                    c.kept,
                    percent(c.kept, rows),
                    c.dropped,
                    c.unmeasured
                )?;
                writeln!(f, "    in order:    {} dropped, {} left", c.dropped_in_order, c.left_in_order)?;
                writeln!(f, "    it alone:    {} dropped that all others keep", c.dropped_by_it_alone)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
