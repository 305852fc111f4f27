//! Where a table or a folder of files is: an absolute local path or a URL, and the object store behind it.
//!
//! How a store is opened, with which credentials and how patiently: [`curette_stores`]. What can go wrong: a relative path, or a URL of a store that
//! is not known; both are told here.

use std::future::Future;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, OnceLock};

use object_store::ObjectStore;
use object_store::path::Path;
use tokio::runtime::{Handle, Runtime};
use url::Url;

use super::error::CommitError;
use super::synced::SyncedLocal;

/// Threads of the runtime that serves every blocking call of this module.
const RUNTIME_THREADS: usize = 2;

/// A folder in an object store.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// Ends with `/`.
    pub url: Url,
    /// The store; its root is the file system's or the bucket's root.
    pub store: Arc<dyn ObjectStore>,
    /// The folder as a path of the store.
    pub base: Path,
    /// The folder on disk, if it is local.
    pub local: Option<PathBuf>,
}

impl Location {
    /// Understands an absolute path or a URL. Makes the folder if it is local.
    pub fn parse(text: &str) -> Result<Self, CommitError> {
        let error =
            |reason: String, help: &str| CommitError::Location { location: curette_stores::shown(text), reason, help: help.to_owned() };
        let local = match text.contains("://") {
            false => Some(PathBuf::from(text)),
            true => {
                let url =
                    Url::parse(text).map_err(|e| error(format!("it is not a URL: {e}"), "write it as s3://bucket/folder"))?;
                match url.scheme() {
                    "file" => Some(
                        url.to_file_path()
                            .map_err(|()| error("it names no local folder".into(), "write it as file:///folder"))?,
                    ),
                    _ => None,
                }
            }
        };
        match local {
            Some(path) => {
                Location::local(&path).map_err(|reason| error(reason, "give an absolute path to a folder that can be written"))
            }
            None => Location::remote(text).map_err(|reason| error(reason, curette_stores::KNOWN)),
        }
    }

    fn local(path: &FsPath) -> Result<Self, String> {
        if !path.is_absolute() {
            return Err("the path is not absolute".into());
        }
        std::fs::create_dir_all(path).map_err(|e| format!("the folder cannot be made: {e}"))?;
        // Without symbolic links and `..`, so that one folder has one name.
        let path = path.canonicalize().map_err(|e| format!("the folder cannot be opened: {e}"))?;
        let url = Url::from_directory_path(&path).map_err(|()| "the path cannot be written as a URL".to_owned())?;
        let base = Path::from_absolute_path(&path).map_err(|e| e.to_string())?;
        Ok(Location { url, store: Arc::new(SyncedLocal::new()), base, local: Some(path) })
    }

    fn remote(text: &str) -> Result<Self, String> {
        let text = if text.ends_with('/') { text.to_owned() } else { format!("{text}/") };
        let url = Url::parse(&text).map_err(|e| e.to_string())?;
        let store = curette_stores::open(&text).map_err(|e| e.to_string())?;
        let base = Path::from_url_path(url.path()).map_err(|e| e.to_string())?;
        Ok(Location { url, store, base, local: None })
    }

    /// A file of the folder, as a path of the store. `name` may have slashes.
    pub fn file(&self, name: &str) -> Path {
        name.split('/').fold(self.base.clone(), |path, part| path.join(part))
    }
}

/// The runtime of this module.
pub(crate) fn runtime() -> &'static Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            let built = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(RUNTIME_THREADS)
                .thread_name("curette-store")
                .enable_all()
                .build();
            match built {
                Ok(runtime) => runtime,
                // The system gives no threads or no epoll: nothing of the engine can work.
                Err(error) => panic!("cannot start the storage runtime: {error}"),
            }
        })
        .handle()
}

/// Runs a future to its end on the calling thread, which must not be inside an async context.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_of_folders_survive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b%20ü#1");
        let location = Location::parse(path.to_str().unwrap()).unwrap();
        assert!(location.url.as_str().ends_with('/'));
        assert_eq!(Path::from_url_path(location.url.path()).unwrap(), location.base);
        let again = Location::parse(location.url.as_str()).unwrap();
        assert_eq!(again.local, location.local);
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let text = |location: &str| Location::parse(location).unwrap_err().to_string();
        insta::assert_snapshot!(text("out/clips"), @"table location `out/clips`: the path is not absolute (give an absolute path to a folder that can be written)");
        let unknown = text("ftp://host/clips");
        assert!(
            unknown.starts_with("table location `ftp://host/clips`: ") && unknown.contains("known are local paths"),
            "{unknown}"
        );
    }

    #[test]
    fn a_bucket_is_a_location() {
        let location = Location::parse("s3://bucket/some/folder").unwrap();
        assert_eq!(location.url.as_str(), "s3://bucket/some/folder/");
        assert_eq!(location.file("_delta_log/0.json").as_ref(), "some/folder/_delta_log/0.json");
        assert!(location.local.is_none());
    }
}
