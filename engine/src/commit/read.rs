//! Reads a table back: for `why`, the funnel, and the checks at the end of a run.
//!
//! One file is open at a time, in the order of the names, so the order of rows does not depend on who committed first in time. On disk only
//! the wanted columns are read; from other stores a file is fetched whole. What can go wrong: a column that the table does not have.

use std::fs::File;
use std::vec::IntoIter;

use arrow::array::RecordBatch;
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
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
            rows += file.rows.ok_or_else(|| self.rows_unknown(&file.path))?;
        }
        Ok(rows)
    }
}

/// A file of a table, as a version of its log names it. A file never changes under its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableFile {
    /// Its path below the table's folder.
    pub name: String,
    /// Its rows.
    pub rows: u64,
}

impl Table {
    /// The files of the newest version, by name.
    pub fn files(&self) -> Result<Vec<TableFile>, CommitError> {
        let (snapshot, _) = self.load()?;
        let file = |file: LiveFile| {
            let rows = file.rows.ok_or_else(|| self.rows_unknown(&file.path))?;
            Ok(TableFile { name: file.path, rows })
        };
        self.live_files(&snapshot)?.into_iter().map(file).collect()
    }

    /// Rows of one of its files: those of `columns` that it has, in batches of at most `batch_rows`; `rows` picks some (`None`: all).
    pub fn read_file(
        &self,
        name: &str,
        columns: &[&str],
        batch_rows: usize,
        rows: Option<RowSelection>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, CommitError>>, CommitError> {
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let reader = self.open_file(name, Some(&columns), batch_rows, rows)?;
        Ok(reader.map(|batch| batch.map_err(|e| self.delta_error("read rows", &e.into()))))
    }

    fn rows_unknown(&self, file: &str) -> CommitError {
        let reason = format!("it does not say how many rows `{file}` has; another program wrote to the table");
        CommitError::Log { table: self.name.clone(), reason }
    }

    fn open_file(
        &self,
        name: &str,
        columns: Option<&[String]>,
        batch_rows: usize,
        rows: Option<RowSelection>,
    ) -> Result<ParquetRecordBatchReader, CommitError> {
        let error = |reason: String| CommitError::Shard { table: self.name.clone(), file: name.to_owned(), reason };
        let reader = match &self.location.local {
            Some(folder) => {
                let file = File::open(folder.join(name)).map_err(|e| error(e.to_string()))?;
                parquet_reader(file, columns, batch_rows, rows)
            }
            None => {
                let path = self.location.file(name);
                let bytes = block_on(async { self.location.store.get(&path).await?.bytes().await });
                let bytes = bytes.map_err(|e| self.storage_error("read", path.as_ref(), &e))?;
                parquet_reader(bytes, columns, batch_rows, rows)
            }
        };
        reader.map_err(|e| error(e.to_string()))
    }
}

/// Reads a Parquet file: the top-level columns of these names (`None`: all), and just these rows.
pub fn parquet_reader(
    input: impl ChunkReader + 'static,
    columns: Option<&[String]>,
    batch_rows: usize,
    rows: Option<RowSelection>,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let options = ArrowReaderOptions::new().with_page_index_policy(match rows {
        Some(_) => PageIndexPolicy::Optional,
        None => PageIndexPolicy::Skip,
    });
    let mut builder = ParquetRecordBatchReaderBuilder::try_new_with_options(input, options)?.with_batch_size(batch_rows);
    if let Some(names) = columns {
        let fields = builder.schema().fields().iter().enumerate();
        let roots: Vec<usize> = fields.filter(|(_, field)| names.contains(field.name())).map(|(index, _)| index).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        builder = builder.with_projection(mask);
    }
    if let Some(rows) = rows {
        builder = builder.with_row_selection(rows);
    }
    builder.build()
}

impl Batches<'_> {
    /// At most this many rows in a batch: few where rows are large.
    pub fn with_batch_rows(mut self, rows: usize) -> Self {
        self.rows = rows.max(1);
        self
    }

    fn open(&self, file: &LiveFile) -> Result<ParquetRecordBatchReader, CommitError> {
        self.table.open_file(&file.path, self.columns.as_deref(), self.rows, None)
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
