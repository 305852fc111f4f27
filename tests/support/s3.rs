//! An S3 server on loopback: objects in memory, with what inputs and tables ask of a store (conditional put, ranges, lists in pages, many deletes in one
//! request, multipart uploads), and faults on demand. It knows enough of Google's dialect for `gs://` too.
//!
//! It checks the name of the key that signed a request, not the signature.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use futures::stream;

/// The key that requests must be signed by.
pub const KEY: &str = "CURETTETESTKEY";
/// Its secret, which must appear nowhere.
pub const SECRET: &str = "store-secret-canary-7f3a91";
/// Entries of one page of a list.
const PAGE: usize = 50;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It is not done; this status is answered.
    Status(u16),
    /// It is done, and this status is answered.
    DoneThen(u16),
    /// Half of the answer is sent, then the connection breaks.
    Cut,
    /// It is answered after a while.
    Slow(Duration),
}

/// Which requests it befalls.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub method: &'static str,
    /// Part of `bucket/key`.
    pub part: &'static str,
    /// So many are spared first.
    pub skip: usize,
    /// So many meet it.
    pub times: usize,
    pub fault: Fault,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// `bucket/key`.
    pub path: String,
    pub query: String,
    pub ranged: bool,
}

#[derive(Clone)]
struct Object {
    body: Bytes,
    etag: String,
    modified: SystemTime,
    generation: u64,
}

#[derive(Default)]
struct Disk {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    numbers: u64,
}

#[derive(Default)]
struct Shared {
    disk: Mutex<Disk>,
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<Asked>>,
    ignores_conditions: AtomicBool,
    anonymous: AtomicBool,
    ahead_seconds: AtomicU64,
}

/// Ends when dropped.
pub struct S3 {
    pub endpoint: String,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

impl S3 {
    pub fn start() -> S3 {
        let shared = Arc::new(Shared::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        S3 { endpoint, shared, _runtime: runtime }
    }

    /// Lets a command use this store, and no other.
    pub fn lend<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let given = [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
            ("GOOGLE_BASE_URL", self.endpoint.as_str()),
            ("GOOGLE_SKIP_SIGNATURE", "true"),
            ("GOOGLE_ALLOW_HTTP", "true"),
            ("NO_PROXY", "127.0.0.1"),
        ];
        command.envs(given)
    }

    /// Writes the files directly in a folder to `bucket/prefix/NAME`.
    pub fn upload(&self, folder: &Path, to: &str) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
            let key = format!("{to}/{}", entry.file_name().to_str().unwrap());
            let body = Bytes::from(std::fs::read(entry.path()).unwrap());
            self.shared.disk.lock().unwrap().write(&key, body, SystemTime::now());
        }
    }

    /// Writes everything below `bucket/prefix` to a folder.
    pub fn download(&self, from: &str, folder: &Path) {
        for (key, object) in &self.shared.disk.lock().unwrap().objects {
            let Some(name) = key.strip_prefix(from).and_then(|rest| rest.strip_prefix('/')) else { continue };
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &object.body).unwrap();
        }
    }

    /// `bucket/key` of all objects that begin so.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.shared.disk.lock().unwrap().objects.keys().filter(|k| k.starts_with(prefix)).cloned().collect()
    }

    /// The bytes of all objects, one behind the other.
    pub fn all_bytes(&self) -> Vec<u8> {
        self.shared.disk.lock().unwrap().objects.iter().flat_map(|(k, o)| [k.as_bytes(), &o.body].concat()).collect()
    }

    /// Creations of what is there already are taken, as stores do that do not know `If-None-Match`.
    pub fn ignore_conditions(&self, yes: bool) {
        self.shared.ignores_conditions.store(yes, Ordering::SeqCst);
    }

    /// Requests need no signature.
    pub fn allow_anybody(&self) {
        self.shared.anonymous.store(true, Ordering::SeqCst);
    }

    /// Sets the server's clock forward.
    pub fn set_clock_ahead(&self, seconds: u64) {
        self.shared.ahead_seconds.store(seconds, Ordering::SeqCst);
    }

    pub fn befall(&self, rules: &[Rule]) {
        self.shared.rules.lock().unwrap().extend(rules);
    }

    /// Rules that have not befallen as many requests as they should.
    pub fn spared(&self) -> Vec<Rule> {
        self.shared.rules.lock().unwrap().iter().filter(|rule| rule.times > 0).copied().collect()
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.shared.asked.lock().unwrap())
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else { return error(400, "IncompleteBody") };
    let path = decoded(head.uri.path(), false).trim_start_matches('/').to_owned();
    let fault = shared.fault(head.method.as_str(), &path);
    match fault {
        Some(Fault::Status(status)) => return error(status, "SlowDown"),
        Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
        Some(Fault::DoneThen(_) | Fault::Cut) | None => {}
    }
    let response = shared.serve(&head, &path, body);
    match fault {
        Some(Fault::DoneThen(status)) => error(status, "InternalError"),
        Some(Fault::Cut) => {
            let (mut head, body) = response.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            head.headers.insert("content-length", body.len().into());
            let half: Result<Bytes, std::io::Error> = Ok(body.slice(..body.len() / 2));
            Response::from_parts(head, Body::from_stream(stream::iter([half, Err(std::io::Error::other("cut"))])))
        }
        Some(Fault::Status(_) | Fault::Slow(_)) | None => response,
    }
}

impl Shared {
    fn fault(&self, method: &str, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let mine = |rule: &&mut Rule| rule.method == method && path.contains(rule.part) && rule.times > 0;
        let rule = rules.iter_mut().find(mine)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault)
    }

    fn serve(&self, head: &Parts, path: &str, body: Bytes) -> Response {
        let text = head.uri.query().unwrap_or_default();
        let query: BTreeMap<String, String> = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decoded(name, true), decoded(value, true)))
            .collect();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let method = head.method.as_str();
        let ranged = header("range").is_some();
        let asked = Asked { method: method.into(), path: path.into(), query: text.into(), ranged };
        self.asked.lock().unwrap().push(asked);
        let signed = header("authorization").is_some_and(|a| a.contains(&format!("Credential={KEY}/")));
        if !signed && !self.anonymous.load(Ordering::SeqCst) {
            return error(403, "InvalidAccessKeyId");
        }
        let now = SystemTime::now() + Duration::from_secs(self.ahead_seconds.load(Ordering::SeqCst));
        let mut disk = self.disk.lock().unwrap();
        let bucket = path.trim_end_matches('/');
        match (method, bucket.contains('/')) {
            ("GET", false) => disk.list(bucket, &query),
            ("POST", false) if query.contains_key("delete") => disk.delete_many(bucket, &body),
            ("POST", true) if query.contains_key("uploads") => {
                disk.numbers += 1;
                let id = format!("upload-{}", disk.numbers);
                disk.uploads.insert(id.clone(), BTreeMap::new());
                xml(&format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
            }
            (_, true) if query.contains_key("uploadId") => disk.upload(method, path, &query, body, now),
            ("PUT", true) => {
                let create = header("if-none-match") == Some("*") || header("x-goog-if-generation-match") == Some("0");
                let there = disk.objects.get(path);
                let other = header("if-match").is_some_and(|etag| there.is_none_or(|object| object.etag != etag));
                if ((create && there.is_some()) || other) && !self.ignores_conditions.load(Ordering::SeqCst) {
                    return error(412, "PreconditionFailed");
                }
                let (etag, generation) = disk.write(path, body, now);
                told(200, &[("etag", etag), ("x-goog-generation", generation.to_string())], Bytes::new())
            }
            ("GET" | "HEAD", true) => match disk.objects.get(path) {
                Some(object) => read(object, method == "HEAD", header("range"), header("if-match")),
                None => error(404, "NoSuchKey"),
            },
            ("DELETE", true) => match disk.objects.remove(path) {
                Some(_) => told(204, &[], Bytes::new()),
                // As Google does; S3 deletes many at once.
                None => error(404, "NoSuchKey"),
            },
            _ => error(405, "MethodNotAllowed"),
        }
    }
}

fn read(object: &Object, head: bool, range: Option<&str>, if_match: Option<&str>) -> Response {
    if if_match.is_some_and(|etag| etag != object.etag) {
        return error(412, "PreconditionFailed");
    }
    let all = object.body.len();
    let (status, part) = match range.and_then(|r| r.strip_prefix("bytes=")?.split_once('-')) {
        None => (200, 0..all),
        Some(("", last)) => (206, all.saturating_sub(last.parse().unwrap())..all),
        Some((from, to)) => {
            let from: usize = from.parse().unwrap();
            if from >= all {
                return error(416, "InvalidRange");
            }
            (206, from..to.parse::<usize>().map_or(all, |to| (to + 1).min(all)))
        }
    };
    let mut headers = vec![
        ("etag", object.etag.clone()),
        ("last-modified", date(object.modified, false)),
        ("x-goog-generation", object.generation.to_string()),
        ("content-length", part.len().to_string()),
    ];
    if status == 206 {
        headers.push(("content-range", format!("bytes {}-{}/{all}", part.start, part.end - 1)));
    }
    told(status, &headers, if head { Bytes::new() } else { object.body.slice(part) })
}

impl Disk {
    fn write(&mut self, path: &str, body: Bytes, modified: SystemTime) -> (String, u64) {
        self.numbers += 1;
        let (etag, generation) = (format!("\"{}\"", &blake3::hash(&body).to_hex()[..16]), self.numbers);
        self.objects.insert(path.to_owned(), Object { body, etag: etag.clone(), modified, generation });
        (etag, generation)
    }

    fn upload(&mut self, method: &str, path: &str, query: &BTreeMap<String, String>, body: Bytes, now: SystemTime) -> Response {
        let id = &query["uploadId"];
        let Some(parts) = self.uploads.get_mut(id) else { return error(404, "NoSuchUpload") };
        match method {
            "PUT" => {
                let etag = format!("\"{}\"", &blake3::hash(&body).to_hex()[..16]);
                parts.insert(query["partNumber"].parse().unwrap(), body);
                told(200, &[("etag", etag)], Bytes::new())
            }
            "POST" => {
                let whole: Vec<u8> = std::mem::take(parts).into_values().flatten().collect();
                self.uploads.remove(id);
                let (etag, _) = self.write(path, whole.into(), now);
                xml(&format!("<CompleteMultipartUploadResult><ETag>{}</ETag></CompleteMultipartUploadResult>", escaped(&etag)))
            }
            "DELETE" => {
                self.uploads.remove(id);
                told(204, &[], Bytes::new())
            }
            _ => error(405, "MethodNotAllowed"),
        }
    }

    fn delete_many(&mut self, bucket: &str, body: &[u8]) -> Response {
        let text = String::from_utf8_lossy(body);
        let mut deleted = String::new();
        for key in text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
            let plain = key
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&apos;", "'")
                .replace("&amp;", "&");
            self.objects.remove(&format!("{bucket}/{plain}"));
            deleted += &format!("<Deleted><Key>{key}</Key></Deleted>");
        }
        xml(&format!("<DeleteResult>{deleted}</DeleteResult>"))
    }

    fn list(&self, bucket: &str, query: &BTreeMap<String, String>) -> Response {
        let get = |name: &str| query.get(name).map_or("", String::as_str);
        let (prefix, delimiter) = (get("prefix"), get("delimiter"));
        let after = get("continuation-token").max(get("start-after"));
        let (mut out, mut entries, mut last, mut more) = (String::new(), 0, String::new(), false);
        for (path, object) in &self.objects {
            let Some(key) = path.strip_prefix(bucket).and_then(|rest| rest.strip_prefix('/')) else { continue };
            if !key.starts_with(prefix) || key <= after || (!last.is_empty() && *key <= *last) {
                continue;
            }
            if entries == PAGE {
                more = true;
                break;
            }
            entries += 1;
            let folder = key[prefix.len()..].find(delimiter).filter(|_| !delimiter.is_empty());
            if let Some(end) = folder.map(|at| prefix.len() + at + delimiter.len()) {
                out += &format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(&key[..end]));
                // Behind everything in the folder.
                last = format!("{}\u{10FFFF}", &key[..end]);
            } else {
                out += &format!(
                    "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                    escaped(key),
                    date(object.modified, true),
                    escaped(&object.etag),
                    object.body.len()
                );
                last = key.to_owned();
            }
        }
        if more {
            out += &format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(&last));
        }
        xml(&format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>{out}</ListBucketResult>"))
    }
}

fn told(status: u16, headers: &[(&'static str, String)], body: Bytes) -> Response {
    let built = headers.iter().fold(Response::builder().status(status), |built, (name, value)| built.header(*name, value));
    built.body(Body::from(body)).unwrap()
}

fn xml(text: &str) -> Response {
    told(200, &[("content-type", "application/xml".into())], format!("<?xml version=\"1.0\"?>{text}").into())
}

fn error(status: u16, code: &str) -> Response {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Told by the test server.</Message></Error>");
    told(status, &[("content-type", "application/xml".into())], text.into())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn decoded(text: &str, form: bool) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b'%' => {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
                rest = &tail[2..];
            }
            _ => {
                bytes.push(if form && byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// `2026-11-28T08:00:00.000Z`, or as HTTP has it.
fn date(time: SystemTime, iso: bool) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (days, left) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (left / 3600, left / 60 % 60, left % 60);
    if iso {
        return format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z");
    }
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let name = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month as usize - 1];
    format!("{weekday}, {day:02} {name} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}
