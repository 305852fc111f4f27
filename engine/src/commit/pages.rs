//! Where in a file the values of a column may be: for readers that want few rows of a sorted table.
//!
//! Each page says the smallest and the largest value in it, by the file's index of pages; where a file has none, each row group does. What can go
//! wrong: another writer's file without any bounds; then a value may be anywhere in it.

use std::fs::File;
use std::sync::Arc;

use arrow::array::ArrayRef;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

use super::error::CommitError;
use super::location::block_on;
use super::store_file::StoreFile;
use super::table::Table;

/// Stretches of a file's rows, one behind the other, with the bounds of a column in each.
#[derive(Debug, Clone)]
pub struct Pages {
    /// Rows of each.
    pub rows: Vec<u64>,
    /// The smallest value, null where it is not known.
    pub mins: ArrayRef,
    /// The largest value, null where it is not known.
    pub maxes: ArrayRef,
}

impl Pages {
    /// The rows of those stretches that are wanted, and how many rows that are.
    pub fn select(&self, mut wanted: impl FnMut(usize) -> bool) -> (RowSelection, u64) {
        let mut all: Vec<RowSelector> = Vec::new();
        let mut selected = 0;
        for (at, rows) in self.rows.iter().enumerate() {
            let take = wanted(at);
            selected += if take { *rows } else { 0 };
            match all.last_mut().filter(|last| last.skip != take) {
                Some(last) => last.row_count += *rows as usize,
                None if take => all.push(RowSelector::select(*rows as usize)),
                None => all.push(RowSelector::skip(*rows as usize)),
            }
        }
        (all.into(), selected)
    }
}

impl Table {
    /// The bounds of a column in one of the table's files.
    pub fn pages(&self, name: &str, column: &str) -> Result<Pages, CommitError> {
        let error = |reason: String| CommitError::Shard { table: self.name.clone(), file: name.to_owned(), reason };
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = match &self.location.local {
            Some(folder) => File::open(folder.join(name))
                .map_err(|e| error(e.to_string()))
                .and_then(|file| ArrowReaderMetadata::load(&file, options).map_err(|e| error(e.to_string())))?,
            None => {
                let loaded = async {
                    let mut file = StoreFile::find(Arc::clone(&self.location.store), self.location.file(name)).await?;
                    ArrowReaderMetadata::load_async(&mut file, options).await
                };
                block_on(loaded).map_err(|e| error(e.to_string()))?
            }
        };
        pages_of(&metadata, column).map_err(|e| error(e.to_string()))
    }
}

fn pages_of(metadata: &ArrowReaderMetadata, column: &str) -> Result<Pages, ParquetError> {
    let bounds = StatisticsConverter::try_new(column, metadata.schema(), metadata.parquet_schema())?;
    let file = metadata.metadata();
    let groups: Vec<usize> = (0..file.num_row_groups()).collect();
    if let (Some(index), Some(offsets)) = (file.column_index(), file.offset_index())
        && let Some(rows) = bounds.data_page_row_counts(offsets, file.row_groups(), &groups)?
    {
        let mins = bounds.data_page_mins(index, offsets, &groups)?;
        let maxes = bounds.data_page_maxes(index, offsets, &groups)?;
        return Ok(Pages { rows: rows.values().to_vec(), mins, maxes });
    }
    let rows = file.row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or_default()).collect();
    Ok(Pages { rows, mins: bounds.row_group_mins(file.row_groups())?, maxes: bounds.row_group_maxes(file.row_groups())? })
}
