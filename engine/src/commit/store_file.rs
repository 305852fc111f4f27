//! A Parquet file in a store, as its asynchronous reader wants it: its end first, then the ranges of the columns that are read.
//!
//! Ranges of a row group are asked for together, and the store's client makes one request of those that lie close to each other. What can go wrong:
//! the store; a file that is shorter than it was said to be.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

/// A file of a known size.
#[derive(Debug, Clone)]
pub struct StoreFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
}

impl StoreFile {
    /// A file of `bytes` bytes.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, bytes: u64) -> StoreFile {
        StoreFile { store, path, bytes }
    }

    /// Asks for its size.
    pub(crate) async fn find(store: Arc<dyn ObjectStore>, path: Path) -> Result<StoreFile> {
        let bytes = store.head(&path).await.map_err(failed)?.size;
        Ok(StoreFile { store, path, bytes })
    }
}

fn failed(e: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(e))
}

impl AsyncFileReader for StoreFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { self.store.get_range(&self.path, range).await.map_err(failed) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(failed) }.boxed()
    }

    fn get_metadata<'a>(&'a mut self, options: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let (columns, offsets) = match options {
                Some(options) => (options.column_index_policy(), options.offset_index_policy()),
                None => (PageIndexPolicy::Skip, PageIndexPolicy::Skip),
            };
            let bytes = self.bytes;
            let reader = ParquetMetaDataReader::new().with_column_index_policy(columns).with_offset_index_policy(offsets);
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}
