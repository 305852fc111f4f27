//! Video and channel of each row of a table, by the names that its columns may have.

use arrow::array::{RecordBatch, StringArray};

use crate::tables::cast;

/// The first of some columns that says something, row by row.
pub struct FirstOf(Vec<StringArray>);

impl FirstOf {
    /// Of those that a batch has.
    pub fn of(batch: &RecordBatch, names: &[String]) -> Result<FirstOf, String> {
        let columns = names.iter().map(|name| cast::text(batch, name)).collect::<Result<Vec<_>, _>>()?;
        Ok(FirstOf(columns.into_iter().flatten().collect()))
    }

    /// The batch has none of the columns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a row, unless all are null or blank.
    pub fn get(&self, row: usize) -> Option<&str> {
        self.0.iter().find_map(|column| cast::cell(column, row))
    }
}

/// Default names of the column with the video's id.
pub fn video_columns() -> Vec<String> {
    ["video_id", "id"].map(String::from).into()
}

/// Default names of the column with the channel's id.
pub fn channel_columns() -> Vec<String> {
    ["channel_id", "uploader_id"].map(String::from).into()
}
