//! Records of which only some go on: what decides is read first, the rest only of those that go on.
//!
//! Why: a condition on a length or a language drops most records, and titles and descriptions are most of the bytes.
//!
//! What can go wrong: little here. A record that has no id stays what it is, whatever the condition says.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{Field, Schema};
use curette_engine::verdict::Verdict;
use parquet::arrow::arrow_reader::RowSelection;

use super::record_columns::Wanted;
use crate::filters::filter::Condition;

/// Judges the records that nothing is wrong with.
pub fn judge(condition: &Condition, wanted: &Wanted, columns: &[ArrayRef], verdicts: &mut [Verdict]) {
    let read = wanted.columns().zip(columns).filter(|((_, read), _)| *read);
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
        read.map(|((column, _), array)| (Field::new(column.name, array.data_type().clone(), true), Arc::clone(array))).unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(verdicts.len()));
    let Ok(rows) = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options) else {
        unreachable!("columns of one length, of their own types")
    };
    for (verdict, answer) in verdicts.iter_mut().zip(condition.verdicts(&rows)) {
        if matches!(verdict, Verdict::Pass) {
            *verdict = answer;
        }
    }
}

/// These rows (ascending) of a row group, counted from `from`.
pub fn selection(from: usize, rows: &[usize]) -> RowSelection {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows.iter().map(|row| from + row) {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => ranges.push(row..row + 1),
        }
    }
    let end = ranges.last().map_or(from, |last| last.end);
    RowSelection::from_consecutive_ranges(ranges.into_iter(), end)
}

/// Arrays with a value for each of the rows `going` (ascending), with one for each of `rows`: nothing where a row does not go on.
pub fn spread(arrays: &[ArrayRef], going: &[usize], rows: usize) -> Vec<ArrayRef> {
    if going.len() == rows {
        return arrays.to_vec();
    }
    let mut places: Vec<Option<u32>> = vec![None; rows];
    for (place, &row) in (0..).zip(going) {
        places[row] = Some(place);
    }
    let places = UInt32Array::from(places);
    let take = |array: &ArrayRef| arrow::compute::take(array, &places, None).unwrap_or_else(|e| unreachable!("{e}"));
    arrays.iter().map(take).collect()
}
