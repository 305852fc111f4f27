//! `labels.csv`: the table that a human fills in. All columns are text, the last one is `label`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};

use super::{LabelError, failed};
use crate::train_head::labels::batches;

/// Its name in the folder.
pub const SHEET: &str = "labels.csv";

/// Header and rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sheet {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// One text per column.
    pub rows: Vec<Vec<String>>,
}

impl Sheet {
    /// Reads the sheet of a folder; `None` when there is none.
    pub fn read(folder: &Path) -> Result<Option<Sheet>, LabelError> {
        let path = folder.join(SHEET);
        if !path.exists() {
            return Ok(None);
        }
        let mut sheet = Sheet::default();
        for batch in batches(&path).map_err(|e| failed(&path, e))? {
            if sheet.columns.is_empty() {
                sheet.columns = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
            }
            for row in 0..batch.num_rows() {
                let cell = |column: &ArrayRef| {
                    let text = column.as_string::<i32>();
                    if text.is_valid(row) { text.value(row).trim().to_owned() } else { String::new() }
                };
                sheet.rows.push(batch.columns().iter().map(cell).collect());
            }
        }
        Ok(Some(sheet))
    }

    /// Writes it as a whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<(), LabelError> {
        let (path, unfinished) = (folder.join(SHEET), folder.join("labels.tmp"));
        let columns = self.columns.iter().enumerate().map(|(i, name)| {
            let values: StringArray = self.rows.iter().map(|row| Some(row[i].as_str())).collect();
            (name.as_str(), Arc::new(values) as ArrayRef)
        });
        let batch = RecordBatch::try_from_iter(columns).map_err(|e| failed(&path, e))?;
        let file = File::create(&unfinished).map_err(|e| failed(&path, e))?;
        let mut writer = arrow_csv::WriterBuilder::new().with_header(true).build(file);
        writer.write(&batch).map_err(|e| failed(&path, e))?;
        drop(writer);
        std::fs::rename(&unfinished, &path).map_err(|e| failed(&path, e))
    }

    /// Where a column is.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c == name)
    }
}
