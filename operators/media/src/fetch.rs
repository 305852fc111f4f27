//! Files on other machines: copied to the temporary folder before decoding, and single objects written back.
//!
//! Why a copy: demuxers seek; a local file makes every format work and every read time bounded. Copies are kept for the next operator on the same
//! video, few and bounded in bytes, and deleted with the plane.
//!
//! What can go wrong: the temporary folder is too small; point `TMPDIR` at a larger disk.

use std::collections::{HashSet, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempPath;

use super::limits::{MAX_REMOTE_BYTES, MAX_REMOTE_COPIES, MAX_REMOTE_COPY_BYTES, POLL, UPLOAD_WAIT};
use super::{MediaContext, MediaError, locked};

/// A file that can be opened here, and what names its content.
pub(crate) struct Local {
    /// Where it lies.
    pub path: PathBuf,
    /// Changes when the content changes.
    pub identity: String,
    _copy: Option<Arc<Copy>>,
}

/// Gives a local path for a path, a `file://` URL, or a URL of any other scheme.
pub(crate) fn localize(uri: &str, deadline: Instant, context: &MediaContext) -> Result<Local, MediaError> {
    let path = match uri.split_once("://") {
        None => PathBuf::from(uri),
        Some(("file", _)) => {
            let path = url::Url::parse(uri).ok().and_then(|u| u.to_file_path().ok());
            path.ok_or_else(|| MediaError::new("file_missing", format!("{} names no local file", shown(uri))))?
        }
        Some(_) => {
            let copy = fetched(uri, deadline, context)?;
            return Ok(Local { path: copy.path.to_path_buf(), identity: copy.identity.clone(), _copy: Some(copy) });
        }
    };
    let identity = match std::fs::metadata(&path) {
        Ok(m) => {
            let modified =
                m.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
            format!("{uri}|{}|{modified}", m.len())
        }
        Err(_) => uri.to_owned(), // sniffing says what is wrong
    };
    Ok(Local { path, identity, _copy: None })
}

/// A fetched file. Its room is given back when the last user drops it.
struct Copy {
    uri: String,
    path: TempPath,
    /// The URI with what the server says of the version; a copy's own times would differ each time.
    identity: String,
    _room: Room,
}

/// All copies of this process: kept, in use, and being fetched.
#[derive(Default)]
pub(crate) struct Copies {
    kept: Mutex<VecDeque<Arc<Copy>>>,
    fetching: Mutex<HashSet<String>>,
    bytes: Arc<Mutex<u64>>,
}

/// Bytes of [`MAX_REMOTE_COPY_BYTES`] that a copy takes or will take.
struct Room {
    bytes: u64,
    all: Arc<Mutex<u64>>,
}

impl Drop for Room {
    fn drop(&mut self) {
        *locked(&self.all) -= self.bytes;
    }
}

/// The right to fetch a URI: one at a time.
struct Turn<'a> {
    copies: &'a Copies,
    uri: &'a str,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        locked(&self.copies.fetching).remove(self.uri);
    }
}

impl Copies {
    fn find(&self, uri: &str) -> Option<Arc<Copy>> {
        locked(&self.kept).iter().find(|c| c.uri == uri).cloned()
    }

    fn turn<'a>(&'a self, uri: &'a str) -> Option<Turn<'a>> {
        let free = locked(&self.fetching).insert(uri.to_owned());
        free.then(|| Turn { copies: self, uri })
    }

    /// Room for `bytes`, if there is some once unused copies are gone. An empty store has room for every file.
    fn room(&self, bytes: u64) -> Option<Room> {
        loop {
            {
                let mut all = locked(&self.bytes);
                if *all == 0 || *all + bytes <= MAX_REMOTE_COPY_BYTES {
                    *all += bytes;
                    return Some(Room { bytes, all: Arc::clone(&self.bytes) });
                }
            }
            let mut kept = locked(&self.kept);
            let idle = kept.iter().position(|c| Arc::strong_count(c) == 1)?;
            let oldest = kept.remove(idle);
            drop(kept);
            drop(oldest);
        }
    }

    fn keep(&self, copy: &Arc<Copy>) {
        let mut kept = locked(&self.kept);
        kept.push_back(Arc::clone(copy));
        let surplus = kept.len().saturating_sub(MAX_REMOTE_COPIES);
        let gone: Vec<_> = kept.drain(..surplus).collect();
        drop(kept);
        drop(gone); // whoever still decodes one holds its own reference
    }
}

fn fetched(uri: &str, deadline: Instant, context: &MediaContext) -> Result<Arc<Copy>, MediaError> {
    let copies = &context.plane.copies;
    let failed = |e: String| MediaError::new("fetch_failed", format!("{}: {e}", shown(uri)));
    let fetch = async {
        // Several rows of one video come at the same time: the first one fetches, the others wait for its copy.
        let _turn = loop {
            if let Some(copy) = copies.find(uri) {
                return Ok(copy);
            }
            match copies.turn(uri) {
                Some(turn) => break turn,
                None => tokio::time::sleep(POLL).await,
            }
        };
        if let Some(copy) = copies.find(uri) {
            return Ok(copy);
        }
        let mut file = context.plane.scratch.file("fetched-", "").map_err(failed)?;
        let (identity, room) = download(uri, file.as_file_mut(), copies).await?;
        let copy = Arc::new(Copy { uri: uri.to_owned(), path: file.into_temp_path(), identity, _room: room });
        copies.keep(&copy);
        Ok(copy)
    };
    runtime().map_err(failed)?.block_on(async {
        tokio::select! {
            done = fetch => done,
            why = interrupted(deadline, context) => Err(why),
        }
    })
}

/// Waits for room; the caller's deadline ends the wait.
async fn room(copies: &Copies, bytes: u64) -> Room {
    loop {
        match copies.room(bytes) {
            Some(room) => return room,
            None => tokio::time::sleep(POLL).await,
        }
    }
}

async fn interrupted(deadline: Instant, context: &MediaContext<'_>) -> MediaError {
    loop {
        if let Err(e) = context.check_cancelled() {
            return e;
        }
        if Instant::now() > deadline {
            return MediaError::new(
                "timeout",
                format!("not fetched after {} s; raise timeout_seconds", context.timeout.as_secs()),
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Copies the file; gives its identity and its room.
async fn download(uri: &str, out: &mut std::fs::File, copies: &Copies) -> Result<(String, Room), MediaError> {
    let name = shown(uri);
    let failed = |e: String| MediaError::new("fetch_failed", format!("{name}: {e}"));
    let too_large = || MediaError::new("too_large", format!("{name} is larger than {MAX_REMOTE_BYTES} bytes"));
    let mut total = 0u64;
    let mut keep = |chunk: &[u8], promised: u64| {
        total += chunk.len() as u64;
        match total {
            n if n > MAX_REMOTE_BYTES => Err(too_large()),
            n if n > promised => Err(failed(format!("more than the {promised} promised bytes came"))),
            _ => out.write_all(chunk).map_err(|e| failed(format!("the temporary file cannot be written: {e}"))),
        }
    };
    let (promised, version, room) = if uri.starts_with("http://") || uri.starts_with("https://") {
        let mut response = reqwest::get(uri).await.map_err(|e| failed(e.without_url().to_string()))?;
        match response.status() {
            status if status == reqwest::StatusCode::NOT_FOUND => {
                return Err(MediaError::new("file_missing", format!("{name}: {status}")));
            }
            status if !status.is_success() => return Err(failed(status.to_string())),
            _ => {}
        }
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let version = header(reqwest::header::ETAG).or_else(|| header(reqwest::header::LAST_MODIFIED)).unwrap_or_default();
        let promised = response.content_length();
        let most = promised.unwrap_or(MAX_REMOTE_BYTES);
        if most > MAX_REMOTE_BYTES {
            return Err(too_large());
        }
        let room = room(copies, most).await;
        while let Some(chunk) = response.chunk().await.map_err(|e| failed(e.without_url().to_string()))? {
            keep(&chunk, most)?;
        }
        (promised, version, room)
    } else {
        let (store, path) = open_store(uri)?;
        let found = store.get(&path).await.map_err(|e| match e {
            object_store::Error::NotFound { .. } => MediaError::new("file_missing", format!("{name} does not exist")),
            e => failed(e.to_string()),
        })?;
        let most = found.meta.size;
        if most > MAX_REMOTE_BYTES {
            return Err(too_large());
        }
        let version = found.meta.e_tag.clone().unwrap_or_else(|| found.meta.last_modified.to_rfc3339());
        let room = room(copies, most).await;
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.next().await {
            keep(&chunk.map_err(|e| failed(e.to_string()))?, most)?;
        }
        (Some(most), version, room)
    };
    match promised {
        Some(promised) if promised != total => Err(failed(format!("{total} bytes came, {promised} were promised"))),
        Some(_) | None => Ok((format!("{uri}|{total}|{version}"), room)),
    }
}

/// The store of a URL and the key in it. The key is what the store calls it: `#`, `?` and `%` stand for themselves.
pub(crate) fn open_store(uri: &str) -> Result<(Box<dyn ObjectStore>, object_store::path::Path), MediaError> {
    let failed = |e: String| MediaError::new("fetch_failed", format!("{}: {e}", shown(uri)));
    let (scheme, rest) = uri.split_once("://").ok_or_else(|| failed("it is no URL".into()))?;
    let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
    let url = url::Url::parse(&format!("{scheme}://{authority}/")).map_err(|e| failed(e.to_string()))?;
    let (store, _) = object_store::parse_url_opts(&url, store_options()).map_err(|e| failed(e.to_string()))?;
    Ok((store, object_store::path::Path::parse(key).map_err(|e| failed(e.to_string()))?))
}

/// Credentials and endpoints from the environment, under the names that the vendors' own tools use.
fn store_options() -> Vec<(String, String)> {
    const VENDORS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];
    std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .filter(|(k, _)| VENDORS.iter().any(|v| k.starts_with(v)))
        .map(|(k, v)| (k.to_ascii_lowercase(), v))
        .collect()
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
            Ok(Err(e)) => Err(failed(e.to_string())),
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

/// One small runtime for all transfers; pool threads wait in `block_on`.
fn runtime() -> Result<&'static tokio::runtime::Runtime, String> {
    static RUNTIME: OnceLock<Result<tokio::runtime::Runtime, String>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(1).thread_name("media-fetch").enable_all().build().map_err(|e| e.to_string())
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
    fn copies_that_are_in_use_or_being_fetched_count_against_the_bound() {
        let copies = Copies::default();
        let whole = copies.room(MAX_REMOTE_COPY_BYTES).unwrap();
        assert!(copies.room(1).is_none());
        drop(whole);
        let half = copies.room(MAX_REMOTE_COPY_BYTES / 2).unwrap();
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let copy = Arc::new(Copy { uri: "x://a".into(), path, identity: String::new(), _room: half });
        copies.keep(&copy);
        assert!(copies.room(MAX_REMOTE_COPY_BYTES).is_none(), "in use");
        drop(copy);
        assert!(copies.room(MAX_REMOTE_COPY_BYTES).is_some(), "an unused copy makes room");
        assert!(copies.find("x://a").is_none());
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
