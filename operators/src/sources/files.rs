//! Files by URI: absolute local paths and object-store URLs behind one face.
//!
//! Why: the source, its sidecars and its manifest may lie on a disk or in a bucket, and nothing above this file should care. A URI here is an
//! absolute path, or `scheme://authority/key` with the key as the store names it (not percent-encoded).
//!
//! What can go wrong: a folder below the listed one may be closed to us; it is left out with a warning, because one such folder among thousands must
//! not keep the others from being read. A store that answers slowly: requests are bounded by object_store's own retry and timeout defaults (10 tries
//! within 3 minutes, [`curette_stores`]); credentials and endpoint come from the environment, as everywhere.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io::{Read, Seek};
use std::path::Path as LocalPath;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::UNIX_EPOCH;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

/// How an address begins by which a list in a store names a file of this machine. No file is opened by it.
pub(super) const OF_THIS_MACHINE: &str = "local-file://";
/// Folders deeper than this are refused: a loop of links, most likely.
pub const MAX_FOLDER_DEPTH: usize = 64;
/// Folders that could not be read and are named in a warning each; the rest are counted.
const MAX_WARNINGS: usize = 10;
/// Web servers that are asked at the same time when inputs are listed.
const WEB_THREADS: usize = 16;
/// Threads that wait for object stores.
const IO_THREADS: usize = 2;

/// Size and content identity of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStat {
    /// Size in bytes.
    pub bytes: u64,
    /// Changes when the content changes: size and modification time in nanoseconds, or size and etag.
    pub identity: String,
}

/// Why a file could not be looked at or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Nothing is there.
    #[error("{uri} does not exist")]
    Missing {
        /// The file.
        uri: String,
    },
    /// A folder, pipe or device.
    #[error("{uri} is not a regular file")]
    NotAFile {
        /// The file.
        uri: String,
    },
    /// Larger than what it is read for allows.
    #[error("{uri} has {bytes} bytes; the limit for this kind of file is {limit}")]
    TooLarge {
        /// The file.
        uri: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// An address that cannot be one: an unknown kind of store, an impossible key.
    #[error("{uri} is no usable address: {reason}")]
    BadAddress {
        /// The file.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What a web server answered, with its own code.
    #[error("{0}")]
    Web(String, &'static str),
    /// The store or disk refused.
    #[error("{uri} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        uri: String,
        /// What the store or disk said.
        reason: String,
    },
}

impl FileError {
    /// Stable code for a row's problem.
    pub fn code(&self) -> &'static str {
        match self {
            FileError::Missing { .. } => "file_missing",
            FileError::NotAFile { .. } => "not_a_file",
            FileError::TooLarge { .. } => "file_too_large",
            FileError::BadAddress { .. } => "bad_address",
            FileError::Web(_, code) => code,
            FileError::Unreadable { .. } => "file_unreadable",
        }
    }
}

/// True for `scheme://...` other than `file://`.
pub fn is_url(uri: &str) -> bool {
    uri.contains("://") && !uri.starts_with("file://")
}

/// True for `http://...` and `https://...`: one file, with nothing listed around it.
pub fn is_web(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

/// The folder part of a URI, without the final `/`, and the name.
pub fn split_name(uri: &str) -> (&str, &str) {
    uri.rsplit_once('/').unwrap_or(("", uri))
}

/// The stores of one process: put it into [`curette_engine::resources::Resources`] so that connections are shared.
#[derive(Default)]
pub struct Files {
    stores: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
    store_options: Option<Vec<(String, String)>>,
    runtime: OnceLock<Result<tokio::runtime::Runtime, String>>,
}

impl Drop for Files {
    fn drop(&mut self) {
        // A runtime must not be dropped where blocking is forbidden; its tasks are finished or abandoned either way.
        if let Some(Ok(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Files {
    /// With the given object-store options (such as `aws_endpoint`) instead of those of the environment.
    pub fn with_store_options(options: Vec<(String, String)>) -> Files {
        Files { store_options: Some(options), stores: Mutex::default(), runtime: OnceLock::new() }
    }

    /// Size and identity of a file.
    pub fn stat(&self, uri: &str) -> Result<FileStat, FileError> {
        if is_web(uri) {
            let found = curette_media::remote_file(uri).map_err(|e| FileError::Web(e.message, e.code))?;
            return Ok(FileStat { bytes: found.bytes, identity: format!("{}-{}", found.bytes, found.version) });
        }
        if is_url(uri) {
            let (store, path) = self.store(uri)?;
            let meta = self.wait(uri, async move { store.head(&path).await })?;
            return Ok(stat_of_object(&meta));
        }
        let path = local(uri);
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() => Ok(stat_of_file(&meta)),
            Ok(_) => Err(FileError::NotAFile { uri: uri.into() }),
            Err(error) => Err(io_error(uri, &error)),
        }
    }

    /// [`Files::stat`] of many files, some at the same time.
    pub fn stat_all(&self, uris: &[&str]) -> Vec<Result<FileStat, FileError>> {
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(uris.len())));
        std::thread::scope(|scope| {
            for _ in 0..WEB_THREADS.min(uris.len()) {
                scope.spawn(|| {
                    while let Some((at, uri)) = take(&next, uris) {
                        let stat = self.stat(uri);
                        found.lock().unwrap_or_else(PoisonError::into_inner).push((at, stat));
                    }
                });
            }
        });
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, stat)| stat).collect()
    }

    /// The whole file and what it was when it was read. Never holds more than `limit` bytes.
    pub fn read(&self, uri: &str, limit: u64) -> Result<(Vec<u8>, FileStat), FileError> {
        let too_large = |bytes| FileError::TooLarge { uri: uri.into(), bytes, limit };
        if is_url(uri) {
            let (store, path) = self.store(uri)?;
            let (meta, bytes) = self.wait(uri, async move {
                let found = store.get(&path).await?;
                let meta = found.meta.clone();
                let bytes = if meta.size > limit { None } else { Some(found.bytes().await?) };
                Ok((meta, bytes))
            })?;
            return match bytes {
                Some(bytes) => Ok((bytes.to_vec(), stat_of_object(&meta))),
                None => Err(too_large(meta.size)),
            };
        }
        let stat = self.stat(uri)?;
        if stat.bytes > limit {
            return Err(too_large(stat.bytes));
        }
        let file = std::fs::File::open(local(uri)).map_err(|e| io_error(uri, &e))?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| io_error(uri, &e))?;
        if bytes.len() as u64 > limit {
            return Err(too_large(bytes.len() as u64));
        }
        Ok((bytes, stat))
    }

    /// Bytes `from..to` of a file, fewer where it ends before.
    pub fn read_range(&self, uri: &str, from: u64, to: u64) -> Result<bytes::Bytes, FileError> {
        if is_url(uri) {
            let (store, path) = self.store(uri)?;
            return self.wait(uri, async move { store.get_range(&path, from..to).await });
        }
        let error = |e: std::io::Error| io_error(uri, &e);
        let mut file = std::fs::File::open(local(uri)).map_err(error)?;
        file.seek(std::io::SeekFrom::Start(from)).map_err(error)?;
        let mut bytes = Vec::new();
        file.take(to.saturating_sub(from)).read_to_end(&mut bytes).map_err(error)?;
        Ok(bytes.into())
    }

    /// A file from its start to its end. Of a store it is fetched first, which is refused above `limit` bytes.
    pub fn open(&self, uri: &str, limit: u64) -> Result<Box<dyn Read + Send>, FileError> {
        if is_url(uri) {
            return Ok(Box::new(std::io::Cursor::new(self.read(uri, limit)?.0)));
        }
        let file = std::fs::File::open(local(uri)).map_err(|e| io_error(uri, &e))?;
        Ok(Box::new(std::io::BufReader::with_capacity(1 << 20, file)))
    }

    /// Everything below a folder or URL prefix, down to `depth` levels (1: the folder itself), by name relative to it. Names that start with `.` are
    /// left out. A link that leads nowhere, a pipe and so on are listed with the error that reading them would give. A folder below that cannot be
    /// read is left out with a warning; only the folder itself must be readable.
    pub fn list(&self, folder: &str, depth: usize) -> Result<BTreeMap<String, Result<FileStat, FileError>>, FileError> {
        let mut found = BTreeMap::new();
        if is_url(folder) {
            let (store, prefix) = self.store(folder)?;
            let metas: Vec<ObjectMeta> = self.wait(folder, async move {
                match depth {
                    1 => Ok(store.list_with_delimiter(Some(&prefix)).await?.objects),
                    _ => store.list(Some(&prefix)).try_collect().await,
                }
            })?;
            let (_, prefix) = self.store(folder)?;
            for meta in metas {
                let key = meta.location.as_ref();
                let name = key.strip_prefix(prefix.as_ref()).unwrap_or(key).trim_start_matches('/');
                let hidden = name.split('/').any(|part| part.starts_with('.'));
                if !name.is_empty() && !hidden && name.split('/').count() <= depth {
                    found.insert(name.to_string(), Ok(stat_of_object(&meta)));
                }
            }
            return Ok(found);
        }
        let mut walk = Walk { found, unreadable: Vec::new(), open: |folder: &LocalPath| std::fs::read_dir(folder) };
        walk.folder(local(folder), "", depth, MAX_FOLDER_DEPTH)?;
        for error in walk.unreadable.iter().take(MAX_WARNINGS) {
            tracing::warn!(%error, "A folder is left out");
        }
        if !walk.unreadable.is_empty() {
            tracing::warn!(
                folders = walk.unreadable.len(),
                below = folder,
                "Folders could not be read: their videos are not in the plan"
            );
        }
        Ok(walk.found)
    }

    /// The store of a URL and the object's key in it.
    pub(crate) fn store(&self, uri: &str) -> Result<(Arc<dyn ObjectStore>, Path), FileError> {
        let bad = |reason: String| FileError::Unreadable { uri: uri.into(), reason };
        let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        let path = Path::parse(key).map_err(|e| FileError::BadAddress { uri: uri.into(), reason: e.to_string() })?;
        let root = format!("{scheme}://{authority}");
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(&root) {
            return Ok((Arc::clone(store), path));
        }
        if uri.starts_with(OF_THIS_MACHINE) {
            let reason = "a list in a store cannot name files of this machine; put the file into the store".into();
            return Err(FileError::BadAddress { uri: uri.into(), reason });
        }
        if let Some(problem) = curette_stores::problem(&root) {
            let reason = format!("{problem}; {}, and for single videos http(s)://", curette_stores::KNOWN);
            return Err(FileError::BadAddress { uri: curette_stores::shown(uri), reason });
        }
        let options = self.store_options.clone().unwrap_or_else(curette_stores::environment);
        let store = curette_stores::open_with(&root, &options).map_err(|e| bad(e.to_string()))?;
        stores.insert(root, Arc::clone(&store));
        Ok((store, path))
    }

    /// Runs a request on the I/O threads while this thread waits; right on any thread, also inside an async runtime.
    pub(crate) fn wait<T, F>(&self, uri: &str, future: F) -> Result<T, FileError>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let bad = |reason: String| FileError::Unreadable { uri: uri.into(), reason };
        let runtime = self
            .runtime
            .get_or_init(|| {
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(IO_THREADS)
                    .thread_name("object-store")
                    .enable_all()
                    .build()
                    .map_err(|e| e.to_string())
            })
            .as_ref()
            .map_err(|e| bad(format!("I/O threads cannot be started: {e}")))?;
        let (answer, wait) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            // The receiver only goes away together with its thread.
            let _ = answer.send(future.await);
        });
        match wait.recv() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(object_store::Error::NotFound { .. })) => Err(FileError::Missing { uri: uri.into() }),
            Ok(Err(error)) => Err(bad(curette_stores::words(&error))),
            Err(_) => Err(bad("the request was abandoned".into())),
        }
    }
}

fn take<'a>(next: &AtomicUsize, uris: &[&'a str]) -> Option<(usize, &'a str)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    uris.get(at).map(|uri| (at, *uri))
}

fn local(uri: &str) -> &LocalPath {
    LocalPath::new(uri.strip_prefix("file://").unwrap_or(uri))
}

/// Names are text everywhere behind the listing: in ids, in the plan and in tables.
fn not_utf8(shown: &str) -> FileError {
    let reason =
        "the file's name is not UTF-8 (`\u{fffd}` stands for what is not), and only such files can be read; rename it".into();
    FileError::BadAddress { uri: shown.into(), reason }
}

fn io_error(uri: &str, error: &std::io::Error) -> FileError {
    match error.kind() {
        // The listing's way to write a name that is not UTF-8 is the name of no file.
        std::io::ErrorKind::NotFound if uri.contains(char::REPLACEMENT_CHARACTER) => not_utf8(uri),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => FileError::Missing { uri: uri.into() },
        _ => FileError::Unreadable { uri: uri.into(), reason: error.to_string() },
    }
}

fn stat_of_file(meta: &std::fs::Metadata) -> FileStat {
    let modified = meta.modified().ok();
    let nanos = modified.map_or(0, |time| match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    });
    FileStat { bytes: meta.len(), identity: format!("{}-{nanos}", meta.len()) }
}

fn stat_of_object(meta: &ObjectMeta) -> FileStat {
    let version = match &meta.e_tag {
        Some(etag) => etag.trim_matches('"').to_string(),
        None => meta.last_modified.timestamp_nanos_opt().unwrap_or_default().to_string(),
    };
    FileStat { bytes: meta.size, identity: format!("{}-{version}", meta.size) }
}

/// A walk over folders. Links are followed, except those that lead back to a folder above.
struct Walk<O> {
    found: BTreeMap<String, Result<FileStat, FileError>>,
    /// Folders below the first that could not be read, or not to their end.
    unreadable: Vec<FileError>,
    open: O,
}

impl<O: Fn(&LocalPath) -> std::io::Result<std::fs::ReadDir>> Walk<O> {
    /// Adds the files of a folder, `depth` levels down. An error is about this folder, or about folders that have no end.
    fn folder(&mut self, folder: &LocalPath, prefix: &str, depth: usize, allowed: usize) -> Result<(), FileError> {
        let uri = folder.to_string_lossy();
        if allowed == 0 {
            let reason = format!("it is more than {MAX_FOLDER_DEPTH} folders deep");
            return Err(FileError::BadAddress { uri: uri.into(), reason });
        }
        for entry in (self.open)(folder).map_err(|e| io_error(&uri, &e))? {
            let entry = entry.map_err(|e| io_error(&uri, &e))?;
            let path = entry.path();
            let shown = path.to_string_lossy().into_owned();
            let os_name = entry.file_name();
            let name = os_name.to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            let key = format!("{prefix}{name}");
            if os_name.to_str().is_none() {
                self.found.insert(key, Err(not_utf8(&shown)));
                continue;
            }
            match std::fs::metadata(&path) {
                Ok(meta) if meta.is_file() => {
                    self.found.insert(key, Ok(stat_of_file(&meta)));
                }
                Ok(meta) if meta.is_dir() => {
                    if depth > 1 && !leads_back(&entry, &path) {
                        match self.folder(&path, &format!("{key}/"), depth - 1, allowed - 1) {
                            Err(error @ (FileError::Unreadable { .. } | FileError::Missing { .. })) => {
                                self.unreadable.push(error)
                            }
                            other => other?,
                        }
                    }
                }
                Ok(_) => {
                    self.found.insert(key, Err(FileError::NotAFile { uri: shown }));
                }
                Err(error) => {
                    self.found.insert(key, Err(io_error(&shown, &error)));
                }
            }
        }
        Ok(())
    }
}

/// A link to a folder that contains it: following it would never end.
fn leads_back(entry: &std::fs::DirEntry, path: &LocalPath) -> bool {
    let is_link = entry.file_type().is_ok_and(|t| t.is_symlink());
    is_link
        && match (std::fs::canonicalize(path), path.parent().map(std::fs::canonicalize)) {
            (Ok(target), Some(Ok(here))) => here.starts_with(target),
            _ => false,
        }
}

#[cfg(test)]
#[path = "files_tests.rs"]
pub(crate) mod tests;
