//! Reads a table back: for `why`, the funnel, and the checks at the end of a run.
//!
//! One file is open at a time, in the order of the names, so the order of rows does not depend on who committed first in time. Only the end of a
//! file and the wanted columns are read; from a store a row group's at a time, in few requests. What can go wrong: a column that the table does
//! not have.

use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::vec::IntoIter;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use futures::{Stream, StreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderBuilder, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::ChunkReader;

use super::error::CommitError;
use super::generation::LiveFile;
use super::location::block_on;
use super::store_file::StoreFile;
use super::table::Table;

/// Rows per batch that is read, unless the reader asks for another number.
const BATCH_ROWS: usize = 1024;

/// The rows of one version of a table, batch by batch.
pub struct Batches<'a> {
    table: &'a Table,
    columns: Option<Vec<String>>,
    files: IntoIter<LiveFile>,
    open: Option<Rows>,
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
    ) -> Result<Rows, CommitError> {
        let error = |reason: String| CommitError::Shard { table: self.name.clone(), file: name.to_owned(), reason };
        let reader = match &self.location.local {
            Some(folder) => {
                let file = File::open(folder.join(name)).map_err(|e| error(e.to_string()))?;
                parquet_reader(file, columns, batch_rows, rows).map(Rows::OnDisk)
            }
            None => {
                let file = StoreFile::find(Arc::clone(&self.location.store), self.location.file(name));
                block_on(async { rows_in_store(file.await?, columns, batch_rows, rows).await }).map(Rows::InStore)
            }
        };
        reader.map_err(|e| error(e.to_string()))
    }
}

/// Rows of a file.
enum Rows {
    OnDisk(ParquetRecordBatchReader),
    InStore(Pin<Box<dyn Stream<Item = Result<RecordBatch, ParquetError>> + Send>>),
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Rows::OnDisk(reader) => reader.next(),
            Rows::InStore(stream) => block_on(stream.next()).map(|batch| batch.map_err(ArrowError::from)),
        }
    }
}

async fn rows_in_store(
    reader: StoreFile,
    columns: Option<&[String]>,
    batch_rows: usize,
    rows: Option<RowSelection>,
) -> Result<Pin<Box<dyn Stream<Item = Result<RecordBatch, ParquetError>> + Send>>, ParquetError> {
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options(&rows)).await?.with_batch_size(batch_rows);
    Ok(Box::pin(narrowed(builder, columns, rows).build()?))
}

/// An index of pages is of use where rows are picked.
fn options(rows: &Option<RowSelection>) -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_page_index_policy(match rows {
        Some(_) => PageIndexPolicy::Optional,
        None => PageIndexPolicy::Skip,
    })
}

/// Reads a Parquet file: the top-level columns of these names (`None`: all), and just these rows.
pub fn parquet_reader(
    input: impl ChunkReader + 'static,
    columns: Option<&[String]>,
    batch_rows: usize,
    rows: Option<RowSelection>,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(input, options(&rows))?.with_batch_size(batch_rows);
    narrowed(builder, columns, rows).build()
}

/// The top-level columns of these names (`None`: all), and just these rows, wherever the file lies.
fn narrowed<T>(
    mut builder: ArrowReaderBuilder<T>,
    columns: Option<&[String]>,
    rows: Option<RowSelection>,
) -> ArrowReaderBuilder<T> {
    if let Some(names) = columns {
        let fields = builder.schema().fields().iter().enumerate();
        let roots: Vec<usize> = fields.filter(|(_, field)| names.contains(field.name())).map(|(index, _)| index).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        builder = builder.with_projection(mask);
    }
    if let Some(rows) = rows {
        builder = builder.with_row_selection(rows);
    }
    builder
}

impl Batches<'_> {
    /// At most this many rows in a batch: few where rows are large.
    pub fn with_batch_rows(mut self, rows: usize) -> Self {
        self.rows = rows.max(1);
        self
    }

    fn open(&self, file: &LiveFile) -> Result<Rows, CommitError> {
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
