//! Files on a disk and in a bucket. The bucket is a small S3 on loopback: list in pages, head, get.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use curette_engine::operator::{BuildContext, Paths, Runtime, Source};
use curette_engine::resources::Resources;

use super::*;
use crate::testing;

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;
/// Sizes of the bodies that went out.
type Served = Arc<Mutex<Vec<usize>>>;

/// A bucket `corpus` on loopback that answers two keys per list page.
pub struct FakeS3 {
    objects: Objects,
    served: Served,
    endpoint: String,
    _runtime: tokio::runtime::Runtime,
}

impl FakeS3 {
    pub fn start() -> FakeS3 {
        let (objects, served) = (Objects::default(), Served::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let app = axum::Router::new().fallback(answer).with_state((Arc::clone(&objects), Arc::clone(&served)));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        FakeS3 { objects, served, endpoint, _runtime: runtime }
    }
    /// Bytes of objects that went out since the last call, and in how many answers.
    pub fn served(&self) -> (usize, usize) {
        let served = std::mem::take(&mut *self.served.lock().unwrap());
        (served.iter().sum(), served.len())
    }
    pub fn put(&self, key: &str, body: &str) {
        self.objects.lock().unwrap().insert(key.into(), body.as_bytes().to_vec());
    }
    pub fn put_bytes(&self, key: &str, body: &[u8]) {
        self.objects.lock().unwrap().insert(key.into(), body.to_vec());
    }
    pub fn remove(&self, key: &str) {
        self.objects.lock().unwrap().remove(key);
    }
    pub fn files(&self) -> Files {
        let options = [
            ("aws_endpoint", self.endpoint.as_str()),
            ("aws_allow_http", "true"),
            ("aws_skip_signature", "true"),
            ("aws_region", "x"),
        ];
        Files::with_store_options(options.map(|(k, v)| (k.to_string(), v.to_string())).to_vec())
    }
    pub fn source(&self, toml: &str) -> Box<dyn Source> {
        self.source_of(&format!("type = 'videos'\n{toml}"))
    }
    pub fn source_of(&self, toml: &str) -> Box<dyn Source> {
        let resources = Arc::new(Resources::default());
        resources.get(|| self.files());
        let operator = testing::operator(toml).unwrap();
        let context = BuildContext {
            step: "test",
            input: Arc::new(arrow::datatypes::Schema::empty()),
            id_column: String::new(),
            paths: &Paths { base: ".".into() },
            resources: &resources,
        };
        match operator.build(&context).unwrap() {
            Runtime::Source(source) => source,
            _ => panic!("not a source"),
        }
    }
}

async fn answer(State((objects, served)): State<(Objects, Served)>, request: Request) -> Response {
    const PAGE: usize = 2;
    let objects = objects.lock().unwrap().clone();
    let path = decode(request.uri().path());
    let reply = |status, body: Vec<u8>| Response::builder().status(status).body(Body::from(body)).unwrap();
    let Some(key) = path.strip_prefix("/corpus").map(|k| k.trim_start_matches('/')) else {
        return reply(StatusCode::NOT_FOUND, Vec::new());
    };
    if key.is_empty() && request.method() == Method::GET {
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes()).into_owned().collect();
        let get = |name: &str| query.get(name).cloned().unwrap_or_default();
        let (prefix, after, flat) = (get("prefix"), get("continuation-token"), get("delimiter").is_empty());
        let wanted: Vec<_> = objects
            .iter()
            .filter(|(k, _)| k.starts_with(&prefix) && **k > after && (flat || !k[prefix.len()..].contains('/')))
            .collect();
        let mut xml = format!("<ListBucketResult><IsTruncated>{}</IsTruncated>", wanted.len() > PAGE);
        for (key, body) in wanted.iter().take(PAGE) {
            let shown = key.replace('&', "&amp;");
            xml += &format!(
                "<Contents><Key>{shown}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                etag(body),
                body.len()
            );
        }
        if wanted.len() > PAGE {
            xml += &format!("<NextContinuationToken>{}</NextContinuationToken>", wanted[PAGE - 1].0.replace('&', "&amp;"));
        }
        return reply(StatusCode::OK, (xml + "</ListBucketResult>").into_bytes());
    }
    let Some(body) = objects.get(key) else { return reply(StatusCode::NOT_FOUND, Vec::new()) };
    let all = body;
    let range = request.headers().get("range").and_then(|r| r.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let range = range.map(|(from, to)| (from.parse::<usize>().unwrap(), (to.parse::<usize>().unwrap() + 1).min(all.len())));
    let body = &range.map_or(all.clone(), |(from, to)| all[from..to].to_vec());
    if request.method() == Method::GET {
        served.lock().unwrap().push(body.len());
    }
    let mut response = Response::builder();
    if let Some((from, to)) = range {
        let part = format!("bytes {from}-{}/{}", to - 1, all.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header("content-range", part);
    }
    response
        .header("etag", etag(all))
        .header("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        .header("content-length", body.len())
        .body(if request.method() == Method::HEAD { Body::empty() } else { Body::from(body.clone()) })
        .unwrap()
}

fn etag(body: &[u8]) -> String {
    format!("\"{}\"", &blake3::hash(body).to_hex()[..8])
}

fn decode(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn files_above_their_limit_are_refused_without_reading_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let uri = path.to_str().unwrap();
    let files = Files::default();
    let error = files.read(uri, 1000).unwrap_err();
    assert_eq!(error, FileError::TooLarge { uri: uri.into(), bytes: 1 << 40, limit: 1000 });
    assert_eq!(files.stat(dir.path().to_str().unwrap()).unwrap_err().code(), "not_a_file");
    let bucket = FakeS3::start();
    bucket.put("big", "0123456789");
    assert_eq!(bucket.files().read("s3://corpus/big", 5).unwrap_err().code(), "file_too_large");
    assert_eq!(bucket.files().read("s3://corpus/big", 10).unwrap().0, b"0123456789");
    assert_eq!(bucket.files().stat("s3://corpus/none").unwrap_err().code(), "file_missing");
    assert_eq!(bucket.files().stat("ftp://corpus/none").unwrap_err().code(), "bad_address");
}

#[test]
fn stores_can_be_asked_from_inside_an_async_runtime() {
    let bucket = FakeS3::start();
    bucket.put("a", "1");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stat = runtime.block_on(async { bucket.files().stat("s3://corpus/a") }).unwrap();
    assert_eq!(stat.bytes, 1);
}

#[test]
fn a_folder_that_cannot_be_read_is_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a/x.mp4", "closed/y.mp4", "closed/deep/z.mp4", "c/w.mp4"] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "v").unwrap();
    }
    // Permissions bind nobody who runs tests as root, so the refusal is made here.
    let open = |folder: &LocalPath| match folder.ends_with("closed") {
        true => Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied)),
        false => std::fs::read_dir(folder),
    };
    let mut walk = Walk { found: BTreeMap::new(), unreadable: Vec::new(), open };
    walk.folder(dir.path(), "", usize::MAX, MAX_FOLDER_DEPTH).unwrap();
    assert_eq!(walk.found.keys().collect::<Vec<_>>(), ["a/x.mp4", "c/w.mp4"]);
    assert_eq!(walk.unreadable.iter().map(FileError::code).collect::<Vec<_>>(), ["file_unreadable"]);
    let error = walk.folder(&dir.path().join("closed"), "", usize::MAX, MAX_FOLDER_DEPTH).unwrap_err();
    assert_eq!(error.code(), "file_unreadable", "the listed folder itself must be readable");
}
