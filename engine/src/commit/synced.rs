//! The local file system as an object store whose new files are on disk before they have their name.
//!
//! Why: `object_store`'s local store does not flush. After a power loss a log entry could have its name and no content, and an empty log
//! entry makes the whole table unreadable. So "create if absent" is done here: write aside, flush, link to the final name, flush the folder.
//! Everything else is left to the store. What can go wrong: a file system without hard links (some network mounts): the create fails, with
//! the system's words.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// [`LocalFileSystem`] with a durable create.
#[derive(Debug)]
pub(crate) struct SyncedLocal {
    inner: LocalFileSystem,
}

impl SyncedLocal {
    pub fn new() -> Self {
        SyncedLocal { inner: LocalFileSystem::new() }
    }
}

impl fmt::Display for SyncedLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "local disk")
    }
}

/// A name beside `target` that listings of the local store hide (`#` and digits) and that nobody else in this process uses.
fn aside(target: &FsPath) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = target.as_os_str().to_owned();
    name.push(format!("#{}{:06}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    PathBuf::from(name)
}

/// Flushes a folder, so that the names in it survive a power loss.
pub(crate) fn sync_folder(folder: &FsPath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Writes `payload` to `target` if there is no such file; `AlreadyExists` if there is one.
fn create(target: &FsPath, payload: &PutPayload) -> io::Result<()> {
    let folder = target.parent().unwrap_or(FsPath::new("/"));
    std::fs::create_dir_all(folder)?;
    let aside = aside(target);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&aside)?;
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        std::fs::hard_link(&aside, target)
    })();
    let removed = std::fs::remove_file(&aside);
    written?;
    removed?;
    sync_folder(folder)
}

#[async_trait]
impl ObjectStore for SyncedLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if opts.mode != PutMode::Create {
            return self.inner.put_opts(location, payload, opts).await;
        }
        let target = self.inner.path_to_filesystem(location)?;
        let path = location.to_string();
        let done = tokio::task::spawn_blocking(move || create(&target, &payload)).await?;
        done.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: Box::new(source) },
            _ => Error::Generic { store: "local disk", source: Box::new(source) },
        })?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::commit::location::block_on;

    #[test]
    fn the_first_create_wins_and_leaves_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = SyncedLocal::new();
        let path = Path::from_absolute_path(dir.path()).unwrap().join("log").join("0.json");
        let put = |text: &'static str| block_on(store.put_opts(&path, text.into(), PutMode::Create.into()));
        put("first").unwrap();
        assert!(matches!(put("second"), Err(Error::AlreadyExists { .. })));
        assert_eq!(block_on(async { store.get(&path).await.unwrap().bytes().await.unwrap() }), "first");
        assert_eq!(std::fs::read_dir(dir.path().join("log")).unwrap().count(), 1);
    }
}
