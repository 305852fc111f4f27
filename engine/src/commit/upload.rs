//! The bytes of one new file, on their way to its final place, with bounded memory.
//!
//! On disk they go to `NAME.tmp`, are flushed and renamed, so that a program which reads all `*.parquet` files never meets half a file.
//! In other stores they are a multipart upload (one put, if small), which becomes visible as a whole. What can go wrong: a process that is
//! killed leaves a `.tmp` file, which the orphan collection deletes, or an incomplete multipart upload, which a bucket's lifecycle rule must.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;

use super::location::{Location, block_on};
use super::synced::sync_folder;

/// Ending of a file on disk that is not complete.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Size of one part of a multipart upload. S3 allows 10,000 parts: a shard may have 80 GB.
const PART_BYTES: usize = 8 << 20;

/// Parts in flight at once; with the one being filled, an upload holds at most this many plus one in memory.
const PARTS_IN_FLIGHT: usize = 4;

/// A file being written.
pub(crate) enum Upload {
    Disk { file: File, temporary: PathBuf, path: PathBuf, finished: bool },
    Store { writer: Box<BufWriter>, store: Arc<dyn ObjectStore>, path: Path },
}

/// A complete file.
pub(crate) struct Uploaded {
    pub bytes: u64,
    /// Time of its last change, milliseconds since 1970, by the store's clock.
    pub modified_ms: i64,
}

impl Upload {
    /// Starts a file of this name in the folder.
    pub fn start(location: &Location, name: &str) -> io::Result<Self> {
        Upload::start_aside(location, name, &format!("{name}{TEMPORARY}"))
    }

    /// As `start`, with the name that the file has on disk until it is complete; it must be unique.
    pub fn start_aside(location: &Location, name: &str, aside: &str) -> io::Result<Self> {
        if let Some(folder) = &location.local {
            let temporary = folder.join(aside);
            // Never another attempt's file: a file that is there already is a bug and must not be overwritten.
            let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
            return Ok(Upload::Disk { file, temporary, path: folder.join(name), finished: false });
        }
        let (store, path) = (Arc::clone(&location.store), location.file(name));
        let writer = BufWriter::with_capacity(Arc::clone(&store), path.clone(), PART_BYTES).with_max_concurrency(PARTS_IN_FLIGHT);
        Ok(Upload::Store { writer: Box::new(writer), store, path })
    }

    /// Makes the file durable and visible under its name.
    pub fn finish(&mut self) -> io::Result<Uploaded> {
        match self {
            Upload::Disk { file, temporary, path, finished } => {
                file.sync_all()?;
                std::fs::rename(&*temporary, &*path)?;
                *finished = true;
                if let Some(folder) = path.parent() {
                    sync_folder(folder)?;
                }
                let about = std::fs::metadata(&*path)?;
                let modified = about.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Ok(Uploaded { bytes: about.len(), modified_ms: modified.as_millis().try_into().unwrap_or(i64::MAX) })
            }
            Upload::Store { writer, store, path } => block_on(async {
                writer.shutdown().await.map_err(in_words)?;
                let about = store.head(path).await.map_err(|e| in_words(e.into()))?;
                Ok(Uploaded { bytes: about.size, modified_ms: about.last_modified.timestamp_millis() })
            }),
        }
    }

    /// Gives the file up and removes what can be removed.
    pub fn abort(&mut self) -> io::Result<()> {
        match self {
            Upload::Disk { temporary, finished, .. } => {
                *finished = true;
                std::fs::remove_file(temporary)
            }
            Upload::Store { writer, .. } => block_on(writer.abort()).map_err(io::Error::from),
        }
    }
}

/// A store's error as people read it.
fn in_words(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<object_store::Error>()) {
        Some(inner) => io::Error::new(error.kind(), curette_stores::words(inner)),
        None => error,
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A writer that was dropped after an error: best effort, the orphan collection is the net below.
        if let Upload::Disk { temporary, finished: false, .. } = self {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Upload::Disk { file, .. } => file.write(bytes),
            Upload::Store { writer, .. } => block_on(writer.write(bytes)).map_err(in_words),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Parquet flushes after each row group; a part of an upload is only sent when it is full.
        Ok(())
    }
}
