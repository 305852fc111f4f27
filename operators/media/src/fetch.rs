//! Object stores by URL: opening one, and single objects written back; what messages may show of a URL.
//!
//! Reading is in [`super::remote`]. What can go wrong: a store that answers slowly; every request has a time limit.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use object_store::{ObjectStore, ObjectStoreExt};

use super::MediaError;
use super::limits::UPLOAD_WAIT;

/// Threads for transfers; pool threads wait for them.
const TRANSFER_THREADS: usize = 2;

/// The store of a URL and the key in it. The key is what the store calls it: `#`, `?` and `%` stand for themselves.
pub(crate) fn open_store(uri: &str) -> Result<(Box<dyn ObjectStore>, object_store::path::Path), MediaError> {
    let failed = |e: String| MediaError::new("fetch_failed", format!("{}: {e}", shown(uri)));
    let (scheme, rest) = uri.split_once("://").ok_or_else(|| failed("it is no URL".into()))?;
    let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
    let store = curette_stores::open(&format!("{scheme}://{authority}/")).map_err(|e| failed(e.to_string()))?;
    Ok((Box::new(store), object_store::path::Path::parse(key).map_err(|e| failed(e.to_string()))?))
}

/// Writes `bytes` to `folder/name`, atomically; the same content under the same name is left as it is. Gives the path or URL.
pub fn put_object(folder: &str, name: &str, bytes: &[u8]) -> Result<String, MediaError> {
    let failed = |e: String| MediaError::new("write_failed", format!("{}/{name}: {e}", shown(folder)));
    if folder.contains("://") && !folder.starts_with("file://") {
        let uri = format!("{}/{name}", folder.trim_end_matches('/'));
        let (store, path) = open_store(&uri)?;
        let body = object_store::PutPayload::from(bytes.to_vec());
        let put = async { tokio::time::timeout(UPLOAD_WAIT, store.put(&path, body)).await };
        return match runtime().map_err(failed)?.block_on(put) {
            Ok(Ok(_)) => Ok(uri),
            Ok(Err(e)) => Err(failed(curette_stores::words(&e))),
            Err(_) => Err(failed(format!("not written after {} s", UPLOAD_WAIT.as_secs()))),
        };
    }
    let local = match url::Url::parse(folder).ok().filter(|u| u.scheme() == "file").and_then(|u| u.to_file_path().ok()) {
        Some(path) => path,
        None => PathBuf::from(folder),
    };
    put_file(&local, name, bytes).map_err(|e| failed(e.to_string()))?;
    Ok(local.join(name).to_string_lossy().into_owned())
}

fn put_file(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let target = folder.join(name);
    if std::fs::metadata(&target).is_ok_and(|m| m.len() == bytes.len() as u64) {
        return Ok(()); // named by content
    }
    let mut file = tempfile::Builder::new().prefix(".partial-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|e| e.error)?;
    Ok(())
}

/// One small runtime for all transfers.
pub(crate) fn runtime() -> Result<&'static tokio::runtime::Runtime, String> {
    static RUNTIME: OnceLock<Result<tokio::runtime::Runtime, String>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(TRANSFER_THREADS).thread_name("media-fetch").enable_all().build().map_err(|e| e.to_string())
        })
        .as_ref()
        .map_err(Clone::clone)
}

/// A path or URL as messages may show it: of http(s) without query and fragment, of all without user and password; signed URLs carry secrets there.
pub fn shown(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let rest = match scheme {
        "http" | "https" => rest.split(['?', '#']).next().unwrap_or_default(),
        _ => rest, // an object's key may hold any character
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = match (scheme, authority.rsplit_once('@')) {
        ("abfs" | "abfss", _) | (_, None) => authority, // container@account
        (_, Some((_, host))) => host,
    };
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        assert_eq!(shown("https://u:p@host/a.mp4?X-Sig=1#t"), "https://host/a.mp4");
        assert_eq!(shown("https://host?X-Sig=1/2"), "https://host");
        assert_eq!(shown("s3://bucket/what?/a #1.mp4"), "s3://bucket/what?/a #1.mp4");
        assert_eq!(shown("/videos/a?b.mp4"), "/videos/a?b.mp4");
    }

    #[test]
    fn keys_of_objects_are_taken_as_they_are() {
        for key in ["a#1.mp4", "what?.mp4", "100%20.mp4", "with blank/\u{e4}.mp4"] {
            let (_, path) = open_store(&format!("s3://bucket/{key}")).unwrap();
            assert_eq!(path.as_ref(), key);
        }
        assert_eq!(open_store("s3://bucket/a//b").map_err(|e| e.code).err(), Some("fetch_failed"));
    }

    #[test]
    fn an_object_is_written_whole_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new/clips");
        let path = put_object(&folder.to_string_lossy(), "a.mp4", b"bytes").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"bytes");
        assert_eq!(put_object(&folder.to_string_lossy(), "a.mp4", b"bytes").unwrap(), path);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }
}
