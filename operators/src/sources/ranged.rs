//! Parquet wherever it lies: the end of a file, and then the bytes of the columns that are wanted and no others.
//!
//! On a disk a reader asks for bytes as it goes. From a store each request costs some hundredths of a second, so there the ranges of a row group are
//! known first and asked for together; those that lie close to each other are one request.
//!
//! What can go wrong: see [`super::files`]. A file that is shorter than it was when it was listed ends early, which is an error here.

use std::io::{Cursor, Read};
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use curette_engine::commit::StoreFile;
use futures::{Stream, StreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::files::Files;

/// Headers are read so, a few bytes each.
const HEADER_BYTES: u64 = 64 << 10;

/// Bytes of a file.
pub struct Ranged {
    files: Arc<Files>,
    uri: String,
    bytes: u64,
}

impl Ranged {
    /// A file of `bytes` bytes.
    pub fn new(files: &Arc<Files>, uri: &str, bytes: u64) -> Ranged {
        Ranged { files: Arc::clone(files), uri: uri.into(), bytes }
    }

    /// Bytes `from..to`, fewer where the file ends before.
    pub fn range(&self, from: u64, to: u64) -> parquet::errors::Result<Bytes> {
        self.files.read_range(&self.uri, from, to.min(self.bytes)).map_err(|e| ParquetError::External(Box::new(e)))
    }
}

impl Length for Ranged {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Ranged {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Box<dyn Read>> {
        Ok(Box::new(Cursor::new(self.range(start, start + HEADER_BYTES)?)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.range(start, start + length as u64)?;
        match bytes.len() == length {
            true => Ok(bytes),
            false => Err(ParquetError::EOF(format!("{length} bytes at {start} were wanted, {} are there", bytes.len()))),
        }
    }
}

/// Which rows and columns of a file are read.
pub struct Ask<'a> {
    /// Keeps a top-level column of this name.
    pub column: &'a dyn Fn(&str) -> bool,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Just these rows of the file, or of the row group.
    pub rows: Option<RowSelection>,
    /// Just this row group.
    pub group: Option<usize>,
    /// How the end of the file is read.
    pub options: ArrowReaderOptions,
}

type Batches = Pin<Box<dyn Stream<Item = Result<RecordBatch, ParquetError>> + Send>>;

/// Rows of a file in a store.
pub struct InStore {
    files: Arc<Files>,
    uri: String,
    /// `None`: it is at its end, or broken.
    stream: Option<Batches>,
}

impl InStore {
    /// Reads the end of a file of `bytes` bytes.
    pub fn open(files: &Arc<Files>, uri: &str, bytes: u64, ask: Ask) -> Result<InStore, String> {
        let (store, path) = files.store(uri).map_err(|e| e.to_string())?;
        let reader = StoreFile::new(store, path, bytes);
        let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, ask.options);
        let builder = files.wait(uri, async move { Ok(builder.await) }).map_err(|e| e.to_string())?;
        let mut builder = builder.map_err(|e| e.to_string())?.with_batch_size(ask.batch_rows);
        let fields = builder.schema().fields().iter().enumerate();
        let roots: Vec<usize> = fields.filter(|(_, field)| (ask.column)(field.name())).map(|(at, _)| at).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        builder = builder.with_projection(mask);
        if let Some(group) = ask.group {
            builder = builder.with_row_groups(vec![group]);
        }
        if let Some(rows) = ask.rows {
            builder = builder.with_row_selection(rows);
        }
        let stream: Batches = Box::pin(builder.build().map_err(|e| e.to_string())?);
        Ok(InStore { files: Arc::clone(files), uri: uri.into(), stream: Some(stream) })
    }
}

impl Iterator for InStore {
    type Item = Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut stream = self.stream.take()?;
        let next = self.files.wait(&self.uri, async move {
            let batch = stream.next().await;
            Ok((batch, stream))
        });
        match next {
            Ok((Some(Ok(batch)), stream)) => {
                self.stream = Some(stream);
                Some(Ok(batch))
            }
            Ok((Some(Err(e)), _)) => Some(Err(e.to_string())),
            Ok((None, _)) => None,
            Err(e) => Some(Err(e.to_string())),
        }
    }
}
