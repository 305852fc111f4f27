//! Reads a table back: for `why`, the funnel, and the checks at the end of a run.
//!
//! One file is open at a time, in the order of the names, so the order of rows does not depend on who committed first in time. On disk only
//! the wanted columns are read; from other stores a file is fetched whole. What can go wrong: a column that the table does not have.

use std::fs::File;
use std::vec::IntoIter;

use arrow::array::RecordBatch;
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::ChunkReader;

use super::error::CommitError;
use super::generation::LiveFile;
use super::location::block_on;
use super::table::Table;

/// Rows per batch that is read, unless the reader asks for another number.
const BATCH_ROWS: usize = 1024;

/// The rows of one version of a table, batch by batch.
pub struct Batches<'a> {
    table: &'a Table,
    columns: Option<Vec<String>>,
    files: IntoIter<LiveFile>,
    open: Option<ParquetRecordBatchReader>,
    rows: usize,
}

impl Table {
    /// The rows of the newest version, with these columns (`None`: all), in the table's order of columns.
    pub fn read_batches(&self, columns: Option<&[&str]>) -> Result<Batches<'_>, CommitError> {
        let (snapshot, _) = self.load()?;
        let schema = self.schema_of(&snapshot)?;
        if let Some(missing) = columns.into_iter().flatten().find(|name| schema.field_with_name(name).is_err()) {
            let reason = format!("it has no column `{missing}`");
            return Err(CommitError::Log { table: self.name.clone(), reason });
        }
        let columns = columns.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Ok(Batches { table: self, columns, files: self.live_files(&snapshot)?.into_iter(), open: None, rows: BATCH_ROWS })
    }
}

impl Table {
    /// How many rows the newest version holds, by the log.
    pub fn row_count(&self) -> Result<u64, CommitError> {
        let (snapshot, _) = self.load()?;
        let mut rows = 0;
        for file in self.live_files(&snapshot)? {
            rows += file.rows.ok_or_else(|| CommitError::Log {
                table: self.name.clone(),
                reason: format!("it does not say how many rows `{}` has; another program wrote to the table", file.path),
            })?;
        }
        Ok(rows)
    }
}

impl Batches<'_> {
    /// At most this many rows in a batch: few where rows are large.
    pub fn with_batch_rows(mut self, rows: usize) -> Self {
        self.rows = rows.max(1);
        self
    }

    fn open(&self, file: &LiveFile) -> Result<ParquetRecordBatchReader, CommitError> {
        let location = &self.table.location;
        let error = |reason: String| CommitError::Shard { table: self.table.name.clone(), file: file.path.clone(), reason };
        let reader = match &location.local {
            Some(folder) => self.reader(File::open(folder.join(&file.path)).map_err(|e| error(e.to_string()))?),
            None => {
                let path = location.file(&file.path);
                let bytes = block_on(async { location.store.get(&path).await?.bytes().await });
                self.reader(bytes.map_err(|e| self.table.storage_error("read", path.as_ref(), &e))?)
            }
        };
        reader.map_err(|e| error(e.to_string()))
    }

    fn reader(&self, input: impl ChunkReader + 'static) -> Result<ParquetRecordBatchReader, ParquetError> {
        let mut builder = ParquetRecordBatchReaderBuilder::try_new(input)?.with_batch_size(self.rows);
        if let Some(names) = &self.columns {
            let fields = builder.schema().fields().iter().enumerate();
            let roots: Vec<usize> = fields.filter(|(_, field)| names.contains(field.name())).map(|(index, _)| index).collect();
            let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
            builder = builder.with_projection(mask);
        }
        builder.build()
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch, CommitError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.open.as_mut().and_then(Iterator::next) {
                return Some(batch.map_err(|e| self.table.delta_error("read rows", &e.into())));
            }
            let file = self.files.next()?;
            match self.open(&file) {
                Ok(reader) => self.open = Some(reader),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
