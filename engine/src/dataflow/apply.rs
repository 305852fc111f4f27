//! What becomes of a batch: an operator's answer turned into rows that go on and a ledger entry for the rest. Pure.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;

use super::compile::Compiled;
use super::ledger::{Entry, ErrorRow, RejectRow};
use super::offload::{MAX_TASK_BYTES, bytes_of};
use crate::graph::OnUnmeasured;
use crate::operator::Kind;
use crate::verdict::{Processed, Verdict};

/// Longest message kept in the `rejects` and `errors` tables, in characters.
pub const MAX_MESSAGE_CHARS: usize = 2_000;

/// Which row this is: its own id and the source's.
pub struct RowIds<'a> {
    /// One id per row.
    pub item: &'a dyn Fn(usize) -> String,
    /// One id per row.
    pub root: &'a dyn Fn(usize) -> String,
}

/// The ids of a batch's rows, by the columns that hold them.
pub fn ids_of(rows: &RecordBatch, column: &str, row: usize) -> String {
    rows.column_by_name(column)
        .and_then(|c| c.as_string_opt::<i32>())
        .filter(|c| c.is_valid(row))
        .map(|c| c.value(row).to_string())
        .unwrap_or_default()
}

/// Sorts the verdicts: the entry, and which rows go on.
fn sort(step: &Compiled, split: u32, verdicts: Vec<Verdict>, ids: &RowIds) -> (Entry, Vec<bool>) {
    let mut entry = Entry {
        split,
        step: step.index as u32,
        rows_in: verdicts.len() as u64,
        rows_out: 0,
        rejects: Vec::new(),
        errors: Vec::new(),
        micros: 0,
        reused: 0,
    };
    let mut go_on = Vec::with_capacity(verdicts.len());
    for (row, verdict) in verdicts.into_iter().enumerate() {
        let mut keep = true;
        match verdict {
            Verdict::Pass => {}
            Verdict::Fail(r) => {
                keep = false;
                entry.rejects.push(RejectRow {
                    item_id: (ids.item)(row),
                    root_id: (ids.root)(row),
                    code: r.code.into_owned(),
                    measured: r.measured,
                    threshold: r.threshold,
                    message: shorten(r.message),
                });
            }
            Verdict::Unmeasured(p) => match step.on_unmeasured {
                OnUnmeasured::Reject => {
                    keep = false;
                    entry.rejects.push(RejectRow {
                        item_id: (ids.item)(row),
                        root_id: (ids.root)(row),
                        code: p.code.into_owned(),
                        measured: None,
                        threshold: None,
                        message: shorten(p.message),
                    });
                }
                OnUnmeasured::Error | OnUnmeasured::Keep => {
                    keep = step.on_unmeasured == OnUnmeasured::Keep;
                    entry.errors.push(ErrorRow {
                        item_id: (ids.item)(row),
                        root_id: (ids.root)(row),
                        code: p.code.into_owned(),
                        message: shorten(p.message),
                        kept: keep,
                    });
                }
            },
        }
        go_on.push(keep);
    }
    (entry, go_on)
}

fn shorten(message: String) -> String {
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        None => message,
        Some((at, _)) => format!("{}…", &message[..at]),
    }
}

/// The rows that go on, in batches that are not too large, and the entry. Panics on a bug of the operator: lost rows, wrong types.
pub fn apply(
    step: &Compiled,
    split: u32,
    rows: Option<&RecordBatch>,
    processed: Processed,
    rows_in: usize,
    ids: &RowIds,
) -> (Vec<RecordBatch>, Entry) {
    if let Err(bug) = processed.check(rows_in) {
        panic!("operator `{}` of step `{}` broke its contract: {bug}", step.operator, step.name);
    }
    let Processed { verdicts, columns, parents } = processed;
    if parents.is_some() != (step.kind == Kind::Expand) || columns.len() != step.added.len() {
        panic!(
            "operator `{}` of step `{}` broke its contract: {} new columns (declared: {}), parents: {}",
            step.operator,
            step.name,
            columns.len(),
            step.added.len(),
            parents.is_some()
        );
    }
    let (mut entry, go_on) = sort(step, split, verdicts, ids);
    let out: Vec<RecordBatch> = match parents {
        Some(parents) => children(step, rows, &columns, &parents),
        None if go_on.iter().all(|k| *k) => vec![assemble(step, rows, &columns, &Pick::All)],
        None => vec![assemble(step, rows, &columns, &Pick::Rows(BooleanArray::from(go_on)))],
    };
    entry.rows_out = out.iter().map(|b| b.num_rows() as u64).sum();
    (out.into_iter().filter(|b| b.num_rows() > 0).collect(), entry)
}

/// A child repeats its parent, so children may be much larger than what they come from: they are cut into batches that 32-bit offsets can address.
fn children(step: &Compiled, rows: Option<&RecordBatch>, columns: &[ArrayRef], parents: &[u32]) -> Vec<RecordBatch> {
    let sizes: Vec<u64> = rows.map(|r| (0..r.num_rows()).map(|i| bytes_of(&r.slice(i, 1))).collect()).unwrap_or_default();
    let mut out = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, parent) in parents.iter().enumerate() {
        bytes += sizes.get(*parent as usize).copied().unwrap_or(0);
        if at + 1 == parents.len() || bytes > MAX_TASK_BYTES {
            let part: Vec<ArrayRef> = columns.iter().map(|c| c.slice(from, at + 1 - from)).collect();
            out.push(assemble(step, rows, &part, &Pick::Parents(UInt32Array::from(parents[from..=at].to_vec()))));
            (from, bytes) = (at + 1, 0);
        }
    }
    out
}

enum Pick {
    All,
    Rows(BooleanArray),
    Parents(UInt32Array),
}

fn assemble(step: &Compiled, rows: Option<&RecordBatch>, new: &[ArrayRef], pick: &Pick) -> RecordBatch {
    let bug = |what: &str, e: &dyn std::fmt::Display| -> ! {
        panic!("operator `{}` of step `{}`: {what}: {e}", step.operator, step.name)
    };
    let kept = |array: &ArrayRef, is_new: bool| match pick {
        Pick::All => Ok(Arc::clone(array)),
        Pick::Rows(mask) => arrow::compute::filter(array, mask),
        // New columns of an expanding step have one value per child already.
        Pick::Parents(_) if is_new => Ok(Arc::clone(array)),
        Pick::Parents(parents) => arrow::compute::take(array, parents, None),
    };
    let schema: &SchemaRef = &step.output;
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let added = step.added.iter().position(|name| name == field.name());
            let (array, is_new) = match (added, rows.and_then(|r| r.column_by_name(field.name()))) {
                (Some(i), _) => (&new[i], true),
                (None, Some(array)) => (array, false),
                (None, None) => bug("a column is missing", field.name()),
            };
            kept(array, is_new).unwrap_or_else(|e| bug("cannot pick rows", &e))
        })
        .collect::<Vec<_>>();
    let count = match pick {
        Pick::All => rows.map(|r| r.num_rows()).or_else(|| new.first().map(|a| a.len())).unwrap_or(0),
        Pick::Rows(mask) => mask.true_count(),
        Pick::Parents(parents) => parents.len(),
    };
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .unwrap_or_else(|e| bug("the new columns do not fit", &e))
}
