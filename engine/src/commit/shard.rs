//! Rows to one Parquet file.
//!
//! Rows here may hold megabytes of video each, so nothing is counted in rows: a batch is cut into slices of about a megabyte before it is
//! encoded (which bounds a page), and a row group closes at a number of bytes. A shard in the making thus holds about one row group in
//! memory, whatever the rows are. Dictionaries are for short strings only: they would keep a second copy of every video.
//!
//! The file name has the attempt in it, so a half-made file of a killed attempt can never be mistaken for this one. What can go wrong: the
//! store (told as [`CommitError::Shard`]); rows that do not have the table's columns.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, LogicalType, Type, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde::{Deserialize, Serialize};

use super::error::CommitError;
use super::killpoint::kill_point;
use super::location::Location;
use super::schema::to_table;
use super::stats::Collector;
use super::upload::Upload;

/// How much of a batch is encoded at a time.
const SLICE_BYTES: usize = 1 << 20;

/// A string column whose first rows are on average at most this long gets a dictionary.
const SHORT_STRING_BYTES: usize = 64;

/// How a table's shards are made.
#[derive(Debug, Clone)]
pub(crate) struct ShardOptions {
    pub target_shard_bytes: u64,
    pub row_group_bytes: u64,
    pub zstd_level: i32,
    pub dictionary_columns: Vec<String>,
    pub page_rows: Option<usize>,
}

/// A complete Parquet file that no log entry names yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// File name, in the table's folder.
    pub file: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// When it was finished, in milliseconds since 1970, by the store's clock.
    pub modified_ms: i64,
    /// Statistics as JSON, for the log.
    pub stats: Option<String>,
}

/// Writes one shard. Blocking; memory is bounded by about one row group.
pub struct ShardWriter {
    table: String,
    file: String,
    location: Location,
    schema: SchemaRef,
    options: ShardOptions,
    /// Made when the first rows are there: they decide which strings are short.
    writer: Option<ArrowWriter<Upload>>,
    stats: Collector,
    rows: u64,
    /// See [`super::table::Table::give_up`].
    closed: Arc<RwLock<bool>>,
}

impl ShardWriter {
    pub(crate) fn new(
        table: &str,
        file: String,
        location: Location,
        schema: SchemaRef,
        options: ShardOptions,
        closed: Arc<RwLock<bool>>,
    ) -> Self {
        let stats = Collector::new(&schema);
        ShardWriter { table: table.to_owned(), file, location, schema, options, writer: None, stats, rows: 0, closed }
    }

    /// The file name that the shard will have.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Size of the file so far, with the row group in the making as it is estimated.
    pub fn bytes_written(&self) -> u64 {
        self.writer.as_ref().map_or(0, |w| (w.bytes_written() + w.in_progress_size()) as u64)
    }

    /// True if the shard has reached its target size and should be finished.
    pub fn is_full(&self) -> bool {
        self.bytes_written() >= self.options.target_shard_bytes
    }

    /// Adds rows. Columns are taken by name; columns that the table does not have are left out.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), CommitError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let rows = to_table(batch, &self.schema).map_err(|reason| self.error(reason))?;
        let slice_rows = slice_rows(&rows);
        let mut from = 0;
        while from < rows.num_rows() {
            let slice = rows.slice(from, slice_rows.min(rows.num_rows() - from));
            from += slice.num_rows();
            let written = self.writer(&slice)?.write(&slice);
            written.map_err(|e| self.error(e.to_string()))?;
            self.stats.add(&slice);
            self.rows += slice.num_rows() as u64;
        }
        Ok(())
    }

    /// Completes the file. It becomes part of the table when a commit names it.
    pub fn finish(mut self) -> Result<Shard, CommitError> {
        kill_point("before_shard_finish");
        let empty = RecordBatch::new_empty(SchemaRef::clone(&self.schema));
        self.writer(&empty)?;
        let closed = Arc::clone(&self.closed);
        let _until_it_is_there = self.open(&closed)?;
        // Made above: it is not opened, and the lock not taken, a second time.
        let writer = self.writer(&empty)?;
        let finished = writer.finish().map_err(|e| e.to_string());
        let finished = finished.and_then(|_| writer.inner_mut().finish().map_err(|e| e.to_string()));
        let uploaded = finished.map_err(|reason| self.error(reason))?;
        kill_point("after_shard_finish");
        Ok(Shard {
            file: std::mem::take(&mut self.file),
            rows: self.rows,
            bytes: uploaded.bytes,
            modified_ms: uploaded.modified_ms,
            stats: Some(self.stats.to_json()),
        })
    }

    /// Gives the shard up and removes what it can of it.
    pub fn abort(mut self) {
        if let Some(Err(error)) = self.writer.as_mut().map(|w| w.inner_mut().abort()) {
            tracing::warn!(table = self.table, file = self.file, %error, "An unfinished shard could not be removed; it will be collected later");
        }
    }

    fn writer(&mut self, first: &RecordBatch) -> Result<&mut ArrowWriter<Upload>, CommitError> {
        if self.writer.is_none() {
            let closed = Arc::clone(&self.closed);
            let _until_it_is_there = self.open(&closed)?;
            let upload = Upload::start(&self.location, &self.file).map_err(|e| self.error(e.to_string()))?;
            let properties = properties(&self.schema, &self.options, first).map_err(|e| self.error(e.to_string()))?;
            let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
            let made = ArrowWriter::try_new_with_options(upload, SchemaRef::clone(&self.schema), options);
            self.writer = Some(made.map_err(|e| self.error(e.to_string()))?);
        }
        match &mut self.writer {
            Some(writer) => Ok(writer),
            None => unreachable!("made above"),
        }
    }

    /// Held while a file appears: none may after [`super::table::Table::give_up`] has looked.
    fn open<'a>(&self, closed: &'a RwLock<bool>) -> Result<RwLockReadGuard<'a, bool>, CommitError> {
        let guard = closed.read().unwrap_or_else(PoisonError::into_inner);
        if *guard { Err(self.error("another run was faster".into())) } else { Ok(guard) }
    }

    fn error(&self, reason: String) -> CommitError {
        CommitError::Shard { table: self.table.clone(), file: self.file.clone(), reason }
    }
}

/// How many rows of this batch make about a slice.
fn slice_rows(batch: &RecordBatch) -> usize {
    let bytes: usize =
        batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or_else(|_| c.get_array_memory_size())).sum();
    (SLICE_BYTES * batch.num_rows()).checked_div(bytes).unwrap_or(batch.num_rows()).max(1)
}

fn properties(
    schema: &SchemaRef,
    options: &ShardOptions,
    first: &RecordBatch,
) -> Result<WriterProperties, parquet::errors::ParquetError> {
    let row_group_bytes = usize::try_from(options.row_group_bytes).unwrap_or(usize::MAX).max(1);
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(options.zstd_level)?))
        .set_max_row_group_bytes(Some(row_group_bytes))
        .set_dictionary_enabled(false);
    if let Some(rows) = options.page_rows {
        builder = builder.set_data_page_row_count_limit(rows.max(1));
    }
    let wanted: HashSet<&str> = options.dictionary_columns.iter().map(String::as_str).collect();
    for leaf in ArrowSchemaConverter::new().convert(schema)?.columns() {
        if leaf.physical_type() != Type::BYTE_ARRAY {
            continue;
        }
        let column = leaf.path().parts().first().map_or("", String::as_str);
        if leaf.logical_type_ref() != Some(&LogicalType::String) {
            // Bounds of videos help nobody.
            builder = builder.set_column_statistics_enabled(leaf.path().clone(), EnabledStatistics::None);
        } else if wanted.contains(column) || is_short(first, column) {
            builder = builder.set_column_dictionary_enabled(leaf.path().clone(), true);
        }
    }
    Ok(builder.build())
}

/// Short top-level strings, and strings inside lists of strings (tags).
fn is_short(rows: &RecordBatch, column: &str) -> bool {
    let Some(array) = rows.column_by_name(column) else { return false };
    let strings = match array.data_type() {
        DataType::Utf8 => array.clone(),
        DataType::List(item) if *item.data_type() == DataType::Utf8 => array.as_list::<i32>().values().clone(),
        _ => return false,
    };
    let strings = strings.as_string::<i32>();
    let bytes: usize = strings.iter().flatten().map(str::len).sum();
    bytes <= SHORT_STRING_BYTES * strings.len().max(1)
}
