//! One range of a remote file, over HTTP or from an object store, with bounded attempts and the server's refusals told apart.
//!
//! Codes: `file_missing` (404, 410), `access_denied` (401, 403), `input_changed` (another version than at first), `ranges_refused` (the server
//! answers with the whole file), `fetch_failed` (all else, after [`REMOTE_ATTEMPTS`] attempts where another one may help).

use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderName, IF_MATCH, LAST_MODIFIED, RANGE};

use super::MediaError;
use super::fetch::{open_store, shown};
use super::limits::{REMOTE_ATTEMPTS, REMOTE_IDLE};

/// Pause before the second attempt; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What a server tells of a file, by which one version is told from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// Length in bytes.
    pub len: u64,
    etag: Option<String>,
    modified: Option<String>,
}

impl Version {
    /// The etag, else the time of last change, else nothing.
    pub fn name(&self) -> &str {
        self.etag.as_deref().or(self.modified.as_deref()).unwrap_or_default()
    }

    /// Whether an answer is about another version. What is not told is not held against it.
    fn differs(&self, other: &Version) -> bool {
        let both = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        self.len != other.len || both(&self.etag, &other.etag) || (self.etag.is_none() && both(&self.modified, &other.modified))
    }
}

/// Where a file lies.
pub(crate) enum Place {
    Http(String),
    Store(String, Box<dyn ObjectStore>, object_store::path::Path),
}

/// What became of an attempt.
enum Failure {
    Final(MediaError),
    /// Another attempt may help.
    Again(MediaError),
}

impl Place {
    /// By the scheme of a URL.
    pub fn of(uri: &str) -> Result<Place, MediaError> {
        if uri.starts_with("http://") || uri.starts_with("https://") {
            let url = url::Url::parse(uri);
            let url = url.map_err(|e| MediaError::new("fetch_failed", format!("{} is no URL: {e}", shown(uri))))?;
            return Ok(Place::Http(url.into()));
        }
        let (store, path) = open_store(uri)?;
        Ok(Place::Store(shown(uri), store, path))
    }

    /// The version of the file, and its first `most` bytes where they come with it.
    pub async fn first(&self, most: u64) -> Result<(Version, Vec<u8>), MediaError> {
        match self {
            Place::Http(url) => repeated(url, 0..most, None).await,
            Place::Store(name, store, path) => {
                let meta = store.head(path).await.map_err(|e| of_store(name, e))?;
                Ok((of_meta(&meta), Vec::new()))
            }
        }
    }

    /// Exactly these bytes of this version.
    pub async fn range(&self, range: Range<u64>, version: &Version) -> Result<Vec<u8>, MediaError> {
        match self {
            Place::Http(url) => Ok(repeated(url, range, Some(version)).await?.1),
            Place::Store(name, store, path) => {
                let wanted = range.end - range.start;
                let options =
                    GetOptions { range: Some(GetRange::Bounded(range)), if_match: version.etag.clone(), ..GetOptions::default() };
                let found = store.get_opts(path, options).await.map_err(|e| of_store(name, e))?;
                let now = of_meta(&found.meta);
                if version.differs(&now) {
                    return Err(changed(name, version, &now));
                }
                let bytes = found.bytes().await.map_err(|e| of_store(name, e))?;
                match bytes.len() as u64 == wanted {
                    true => Ok(bytes.to_vec()),
                    false => Err(failed(name, format!("{} of {wanted} bytes came", bytes.len()))),
                }
            }
        }
    }
}

fn failed(name: &str, why: String) -> MediaError {
    MediaError::new("fetch_failed", format!("{name}: {why}"))
}

fn changed(name: &str, before: &Version, now: &Version) -> MediaError {
    let tell = |v: &Version| format!("{} bytes, version `{}`", v.len, v.name());
    let message = format!("{name} changed while it was read: {} then, {} now; run again", tell(before), tell(now));
    MediaError::new("input_changed", message)
}

async fn repeated(url: &str, range: Range<u64>, version: Option<&Version>) -> Result<(Version, Vec<u8>), MediaError> {
    let mut pause = FIRST_PAUSE;
    let mut tried = 1;
    loop {
        match http(url, range.clone(), version).await {
            Ok(done) => return Ok(done),
            Err(Failure::Final(e)) => return Err(e),
            Err(Failure::Again(e)) if tried >= REMOTE_ATTEMPTS => {
                return Err(MediaError { message: format!("{} (after {tried} attempts)", e.message), ..e });
            }
            Err(Failure::Again(_)) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
                tried += 1;
            }
        }
    }
}

fn client() -> Result<&'static reqwest::Client, String> {
    static CLIENT: OnceLock<Result<reqwest::Client, String>> = OnceLock::new();
    CLIENT
        .get_or_init(|| {
            let builder = reqwest::Client::builder().connect_timeout(REMOTE_IDLE).read_timeout(REMOTE_IDLE);
            builder.user_agent(concat!("curette/", env!("CARGO_PKG_VERSION"))).build().map_err(|e| e.to_string())
        })
        .as_ref()
        .map_err(Clone::clone)
}

/// One attempt. Without a version, the range may reach behind the end.
async fn http(url: &str, range: Range<u64>, version: Option<&Version>) -> Result<(Version, Vec<u8>), Failure> {
    let name = &shown(url);
    let again = |e: reqwest::Error| Failure::Again(failed(name, reasons(&e.without_url())));
    let mut request = client().map_err(|e| Failure::Final(failed(name, e)))?.get(url);
    request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
    // A weak etag never matches; it is compared below.
    if let Some(etag) = version.and_then(|v| v.etag.as_deref()).filter(|e| !e.starts_with("W/")) {
        request = request.header(IF_MATCH, etag);
    }
    let mut response = request.send().await.map_err(again)?;
    let header = |key: HeaderName| response.headers().get(key).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (etag, modified, content_range) = (header(ETAG), header(LAST_MODIFIED), header(CONTENT_RANGE));
    let status = response.status();
    let fatal = |code, message: String| Err(Failure::Final(MediaError::new(code, message)));
    match status {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::OK => {
            let message = format!(
                "{name}: the server answers a request for a range with the whole file; \
                 serve it with support for Range, or download it and give its path"
            );
            return fatal("ranges_refused", message);
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => return fatal("file_missing", format!("{name}: {status}")),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let message = format!("{name}: {status}; a signed URL may have run out");
            return fatal("access_denied", message);
        }
        StatusCode::PRECONDITION_FAILED => {
            return fatal("input_changed", format!("{name} changed while it was read ({status}); run again"));
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let now = content_range.as_deref().and_then(|r| r.strip_prefix("bytes */")).and_then(|n| n.parse::<u64>().ok());
            return match (now, version) {
                (Some(0), None) => Ok((Version { len: 0, etag, modified }, Vec::new())),
                (Some(len), Some(before)) => Err(Failure::Final(changed(name, before, &Version { len, etag, modified }))),
                _ => Err(Failure::Final(failed(name, status.to_string()))),
            };
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Failure::Again(failed(name, status.to_string())));
        }
        status => return Err(Failure::Final(failed(name, status.to_string()))),
    }
    let Some((given, len)) = content_range.as_deref().and_then(parse_content_range) else {
        let message = format!("the server does not say which part of how many bytes it sends (Content-Range: {content_range:?})");
        return Err(Failure::Final(failed(name, message)));
    };
    let now = Version { len, etag, modified };
    if let Some(before) = version.filter(|v| v.differs(&now)) {
        return Err(Failure::Final(changed(name, before, &now)));
    }
    let wanted = range.start..range.end.min(len);
    if given != wanted {
        let message = format!("bytes {wanted:?} were asked for, the server sends {given:?}");
        return Err(Failure::Again(failed(name, message)));
    }
    let most = (wanted.end - wanted.start) as usize;
    let mut body = Vec::with_capacity(most);
    while let Some(chunk) = response.chunk().await.map_err(again)? {
        body.extend_from_slice(&chunk[..chunk.len().min(most + 1 - body.len())]);
        if body.len() > most {
            return Err(Failure::Again(failed(name, format!("more than the {most} promised bytes came"))));
        }
    }
    match body.len() == most {
        true => Ok((now, body)),
        false => Err(Failure::Again(failed(name, format!("{} of {most} bytes came", body.len())))),
    }
}

/// `bytes 0-99/1000` as the range and the length of the whole.
fn parse_content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, len) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to, len): (u64, u64, u64) = (from.trim().parse().ok()?, to.trim().parse().ok()?, len.trim().parse().ok()?);
    (from <= to && to < len).then_some((from..to + 1, len))
}

/// An error with what caused it: reqwest's own text ends before the reason.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

fn of_meta(meta: &object_store::ObjectMeta) -> Version {
    Version { len: meta.size, etag: meta.e_tag.clone(), modified: Some(meta.last_modified.to_rfc3339()) }
}

/// The store has made its own attempts by then.
fn of_store(name: &str, error: object_store::Error) -> MediaError {
    match error {
        object_store::Error::NotFound { .. } => MediaError::new("file_missing", format!("{name} does not exist")),
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            MediaError::new("access_denied", format!("{name}: {}", curette_stores::words(&error)))
        }
        object_store::Error::Precondition { .. } | object_store::Error::NotModified { .. } => {
            MediaError::new("input_changed", format!("{name} changed while it was read; run again"))
        }
        other => failed(name, curette_stores::words(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_or_refused() {
        assert_eq!(parse_content_range("bytes 0-99/1000"), Some((0..100, 1000)));
        assert_eq!(parse_content_range("bytes 5-5/6"), Some((5..6, 6)));
        for bad in ["bytes 0-99/*", "bytes 9-5/10", "bytes 0-10/10", "0-9/10", "bytes */10", "bytes a-b/c", ""] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_what_is_told_tells_versions_apart() {
        let of = |len, etag: &str, modified: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Version { len, etag: some(etag), modified: some(modified) }
        };
        let first = of(10, "a", "mon");
        assert!(!first.differs(&first) && !first.differs(&of(10, "", "")) && !first.differs(&of(10, "a", "tue")));
        assert!(first.differs(&of(11, "a", "mon")) && first.differs(&of(10, "b", "mon")));
        assert!(of(10, "", "mon").differs(&of(10, "", "tue")));
        assert_eq!((first.name(), of(1, "", "mon").name(), of(1, "", "").name()), ("a", "mon", ""));
    }

    #[test]
    fn an_object_is_one_version_of_it() {
        let path = object_store::path::Path::from("in/a.mp4");
        let store = std::sync::Arc::new(object_store::memory::InMemory::new());
        let place = Place::Store("s3://b/in/a.mp4".into(), Box::new(std::sync::Arc::clone(&store)), path.clone());
        let put = |bytes: &'static [u8]| {
            let put = store.put(&path, bytes.into());
            crate::fetch::runtime().unwrap().block_on(put).unwrap();
        };
        let wait = |future: std::pin::Pin<Box<dyn Future<Output = Result<Vec<u8>, MediaError>> + '_>>| {
            crate::fetch::runtime().unwrap().block_on(future).map_err(|e| e.code)
        };
        assert_eq!(wait(Box::pin(async { Ok(place.first(1).await?.1) })), Err("file_missing"));
        put(b"0123456789");
        let (version, head) = crate::fetch::runtime().unwrap().block_on(place.first(1)).unwrap();
        assert_eq!((version.len, head.len()), (10, 0));
        assert_eq!(wait(Box::pin(place.range(2..5, &version))), Ok(b"234".to_vec()));
        put(b"9876543210");
        assert_eq!(wait(Box::pin(place.range(2..5, &version))), Err("input_changed"));
    }
}
