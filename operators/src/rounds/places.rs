//! Rows by their places: what a plan's item says, and the rows that are read for it.
//!
//! An item is one video; its record may stand in several rows, from several crawls. The row that is taken is the one whose carried columns, written
//! as JSON, sort first: a rule that knows neither the order of crawls nor the names of files.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::Schema;
use curette_engine::operator::{InputItem, OperatorError, Task};
use curette_engine::verdict::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::columns::{Carried, blank, carry};
use super::ids::FirstOf;
use crate::sources::files::Files;
use crate::tables::parts::Parts;

/// A row of a table: which table, the file's name and identity, and the row in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place(pub usize, pub String, pub String, pub u64);

/// A row that was read: batch and row in it.
type At = (usize, usize);

/// The rows that items stand for.
pub struct Found {
    /// The carried columns, one value per item; null for those with a problem.
    pub columns: Vec<ArrayRef>,
    /// The first of the channel columns, per item.
    pub channels: Vec<Option<String>>,
    /// Why an item has no row.
    pub problems: Vec<Option<Problem>>,
}

/// Tables that places point into, by number.
pub struct Reader<'a> {
    /// The tables.
    pub tables: &'a [Result<Parts, String>],
    /// The stores.
    pub files: &'a Arc<Files>,
    /// What is carried over.
    pub carried: &'a Carried,
    /// Names of the column with the channel.
    pub channel_columns: &'a [String],
}

/// Table, name and identity of a file.
type FileOf<'a> = (usize, &'a str, &'a str);

impl Reader<'_> {
    /// Reads the rows of items, each given by its places.
    pub fn read(&self, places: &[Vec<Place>], task: &Task) -> Result<Found, OperatorError> {
        let mut by_file: BTreeMap<FileOf, Vec<(u64, usize)>> = BTreeMap::new();
        for (item, places) in places.iter().enumerate() {
            for Place(table, name, identity, row) in places {
                by_file.entry((*table, name, identity)).or_default().push((*row, item));
            }
        }
        let mut batches = vec![blank(self.carried)];
        let mut channels: Vec<Vec<Option<String>>> = vec![vec![None]];
        let mut candidates: Vec<Vec<At>> = vec![Vec::new(); places.len()];
        let mut problems: Vec<Option<Problem>> = vec![None; places.len()];
        for ((table, name, identity), mut wanted) in by_file {
            wanted.sort_unstable();
            let read = if task.is_cancelled() {
                Err(Problem::new("cancelled", "the run is being stopped"))
            } else {
                self.rows_of(table, (name, identity), &wanted)
            };
            match read {
                Ok((columns, names)) => {
                    for (at, (_, item)) in wanted.iter().enumerate() {
                        candidates[*item].push((batches.len(), at));
                    }
                    batches.push(columns);
                    channels.push(names);
                }
                Err(problem) => wanted.iter().for_each(|(_, item)| problems[*item] = Some(problem.clone())),
            }
        }
        let chosen: Vec<At> = candidates.iter().map(|at| self.first(&batches, at)).collect();
        for (item, at) in chosen.iter().enumerate() {
            if problems[item].is_none() && at.0 == 0 {
                problems[item] = Some(Problem::new("file_missing", "no row of it is there any more; plan again"));
            }
        }
        let pick = |problem: &Option<Problem>, at: At| if problem.is_some() { (0, 0) } else { at };
        let chosen: Vec<At> = problems.iter().zip(chosen).map(|(p, at)| pick(p, at)).collect();
        let column = |n: usize| {
            let arrays: Vec<&dyn arrow::array::Array> = batches.iter().map(|b| b[n].as_ref()).collect();
            interleave(&arrays, &chosen).map_err(|e| OperatorError::new(format!("rows of a table cannot be put together: {e}")))
        };
        let columns = (0..self.carried.len()).map(column).collect::<Result<_, _>>()?;
        let channels = chosen.iter().map(|(batch, row)| channels[*batch][*row].clone()).collect();
        Ok(Found { columns, channels, problems })
    }

    fn rows_of(
        &self,
        table: usize,
        part: (&str, &str),
        wanted: &[(u64, usize)],
    ) -> Result<(Vec<ArrayRef>, Vec<Option<String>>), Problem> {
        let parts = match self.tables.get(table) {
            Some(Ok(parts)) => parts,
            Some(Err(message)) => return Err(Problem::new("file_missing", message.clone())),
            None => return Err(Problem::new("file_missing", "the plan names a table that the step does not have; plan again")),
        };
        let names: Vec<&str> = self.carried.keys().chain(self.channel_columns).map(String::as_str).collect();
        // A row may stand for two items only if two ids meet in it, which cannot be.
        let rows: Vec<u64> = wanted.iter().map(|(row, _)| *row).collect();
        let batch = parts.rows(self.files, part, &names, &rows).map_err(|e| Problem::from(&e))?;
        let channel = FirstOf::of(&batch, self.channel_columns).map_err(|e| Problem::new("file_unreadable", e))?;
        let channels = (0..batch.num_rows()).map(|row| channel.get(row).map(str::to_owned)).collect();
        Ok((carry(self.carried, &batch), channels))
    }

    /// The candidate that sorts first; `(0, 0)`, the blank row, if there is none.
    fn first(&self, batches: &[Vec<ArrayRef>], candidates: &[At]) -> At {
        match candidates {
            [] => (0, 0),
            [one] => *one,
            many => many.iter().copied().min_by_key(|at| (self.json(&batches[at.0], at.1), *at)).unwrap_or((0, 0)),
        }
    }

    /// A row of carried columns as text.
    pub fn json(&self, columns: &[ArrayRef], row: usize) -> Vec<u8> {
        let fields: Vec<_> =
            self.carried.keys().zip(columns).map(|(n, c)| arrow::datatypes::Field::new(n, c.data_type().clone(), true)).collect();
        let slices: Vec<ArrayRef> = columns.iter().map(|c| c.slice(row, 1)).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
        let mut out = Vec::new();
        if let Ok(batch) = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), slices, &options) {
            let mut writer = arrow_json::LineDelimitedWriter::new(&mut out);
            drop(writer.write(&batch).and_then(|()| writer.finish()));
        }
        out
    }
}

/// What an item of the plan says beside its key.
pub fn payload<T: for<'a> Deserialize<'a>>(step: &str, item: &InputItem) -> Result<T, OperatorError> {
    serde_json::from_str(&item.payload)
        .map_err(|e| OperatorError::new(format!("step {step}: the plan's entry for `{}` is damaged: {e}", item.key)))
}
