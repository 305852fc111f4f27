//! One task: an operator called on some rows, on whatever thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use arrow::array::RecordBatch;

use super::apply::{RowIds, apply, ids_of};
use super::compile::{Compiled, Work};
use super::ledger::Entry;
use crate::operator::{InputItem, Kind, OperatorError, Task};
use crate::resources::Resources;
use crate::reuse::Kept;
use crate::telemetry::names;

/// What tasks share.
#[derive(Clone)]
pub struct TaskContext {
    /// Shared things of this process.
    pub resources: Arc<Resources>,
    /// True when the run is being stopped.
    pub cancelled: Arc<AtomicBool>,
    /// Answers of earlier runs, unless that is switched off.
    pub kept: Option<Arc<Kept>>,
}

/// Rows that go on, in one or more batches, and what became of the rest.
pub type Done = (Vec<RecordBatch>, Entry);

/// Calls a measure, filter or expanding operator.
pub fn transform(step: &Compiled, split: u32, rows: &RecordBatch, context: &TaskContext) -> Result<Done, OperatorError> {
    let Work::Transform(operator) = &step.work else { panic!("step `{}` is not a transform", step.name) };
    let task = Task { step: &step.name, resources: &context.resources, cancelled: &context.cancelled };
    let started = Instant::now();
    let work = |rows: &RecordBatch| operator.process(rows, &task).map_err(|e| named(step, e));
    let (processed, reused) = match (&step.reuse, &context.kept) {
        (Some(recipe), Some(kept)) => kept.answer(recipe, rows, step.kind == Kind::Expand, work)?,
        _ => (work(rows)?, 0),
    };
    let micros = started.elapsed().as_micros() as u64;
    let (item, root) = step.id.clone().unwrap_or_default();
    let ids = RowIds { item: &|row| ids_of(rows, &item, row), root: &|row| ids_of(rows, &root, row) };
    let (out, mut entry) = apply(step, split, Some(rows), processed, rows.num_rows(), &ids);
    entry.micros = micros;
    entry.reused = reused;
    measure(step, &entry);
    Ok((out, entry))
}

/// Reads inputs of a source.
pub fn read(step: &Compiled, split: u32, items: &[InputItem], context: &TaskContext) -> Result<Done, OperatorError> {
    let Work::Source(operator) = &step.work else { panic!("step `{}` is not a source", step.name) };
    let task = Task { step: &step.name, resources: &context.resources, cancelled: &context.cancelled };
    let started = Instant::now();
    let processed = operator.read(items, &task).map_err(|e| named(step, e))?;
    let micros = started.elapsed().as_micros() as u64;
    let ids = processed.columns.first().cloned();
    let id = |row: usize| {
        use arrow::array::{Array, AsArray};
        let text = ids
            .as_ref()
            .and_then(|c| c.as_string_opt::<i32>())
            .filter(|c| row < c.len() && c.is_valid(row))
            .map(|c| c.value(row).to_string());
        text.unwrap_or_else(|| items.get(row).map(|i| i.key.clone()).unwrap_or_default())
    };
    let rows = if step.records { processed.verdicts.len() } else { items.len() };
    let (out, mut entry) = apply(step, split, None, processed, rows, &RowIds { item: &id, root: &id });
    entry.micros = micros;
    measure(step, &entry);
    Ok((out, entry))
}

fn named(step: &Compiled, e: OperatorError) -> OperatorError {
    OperatorError { message: format!("step `{}` ({}): {}", step.name, step.operator, e.message), help: e.help }
}

fn by_code<'a>(codes: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, u64> {
    let mut sums = BTreeMap::new();
    codes.for_each(|code| *sums.entry(code).or_default() += 1);
    sums
}

fn measure(step: &Compiled, entry: &Entry) {
    let name = step.name.to_string();
    metrics::counter!(names::ROWS_IN, "step" => name.clone()).increment(entry.rows_in);
    metrics::counter!(names::ROWS_OUT, "step" => name.clone()).increment(entry.rows_out);
    for (code, rows) in by_code(entry.rejects.iter().map(|r| r.code.as_str())) {
        metrics::counter!(names::ROWS_REJECTED, "step" => name.clone(), "code" => code.to_string()).increment(rows);
    }
    for (code, rows) in by_code(entry.errors.iter().map(|e| e.code.as_str())) {
        metrics::counter!(names::ROWS_ERRORS, "step" => name.clone(), "code" => code.to_string()).increment(rows);
    }
    metrics::counter!(names::ROWS_REUSED, "step" => name.clone()).increment(entry.reused);
    metrics::histogram!(names::JOB_SECONDS, "step" => name).record(entry.micros as f64 / 1e6);
    tracing::debug!(step = %step.name, operator = step.operator, split = entry.split, rows_in = entry.rows_in, rows_out = entry.rows_out, micros = entry.micros, "Task done");
}
