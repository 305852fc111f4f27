//! What the captioner's tests share: a real HTTP server on loopback that speaks chat completions and misbehaves on demand, and rows to ask it about.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use curette_engine::operator::{BuildContext, Paths, Task, Transform};
use curette_engine::resources::Resources;
use curette_engine::verdict::{Processed, Verdict};
use serde_json::{Value, json};

use super::captioner::Captioner;
use super::pictures::{Look, Picture};
use super::writer::Writer;

pub const KEY: &str = "sk-very-secret";

/// What the server does with one request.
pub enum Act {
    Say(u16, Option<&'static str>, String),
    Hang,
}

/// A normal answer.
pub fn text(content: &str) -> Act {
    let body = json!({"model": "vlm-2026-01", "choices": [{"finish_reason": "stop", "message": {"content": content}}]});
    Act::Say(200, None, body.to_string())
}

pub fn finish(reason: &str) -> Act {
    Act::Say(200, None, json!({"choices": [{"finish_reason": reason, "message": {"content": "half a"}}]}).to_string())
}

#[derive(Default)]
struct Script {
    acts: Mutex<VecDeque<Act>>,
    requests: Mutex<Vec<(Option<String>, Value)>>,
    paths: Mutex<Vec<String>>,
}

async fn answer(State(script): State<Arc<Script>>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
    let key = header("authorization").or_else(|| header("api-key").map(|key| format!("api-key {key}")));
    script.paths.lock().unwrap().push(uri.path_and_query().unwrap().to_string());
    script.requests.lock().unwrap().push((key.clone(), serde_json::from_str(&body).unwrap()));
    if ![format!("Bearer {KEY}"), format!("api-key {KEY}")].contains(&key.clone().unwrap_or_default()) {
        let body = json!({"error": {"message": format!("Incorrect API key provided: {}", key.unwrap_or_default())}});
        return (StatusCode::UNAUTHORIZED, body.to_string()).into_response();
    }
    let act = script.acts.lock().unwrap().pop_front().expect("one request too many");
    match act {
        Act::Hang => std::future::pending().await,
        Act::Say(status, retry_after, body) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
            if let Some(seconds) = retry_after {
                response.headers_mut().insert("retry-after", seconds.parse().unwrap());
            }
            response
        }
    }
}

pub struct Server {
    script: Arc<Script>,
    pub base_url: String,
    _runtime: tokio::runtime::Runtime,
}

pub fn serve(acts: impl IntoIterator<Item = Act>) -> Server {
    let script = Arc::new(Script { acts: Mutex::new(acts.into_iter().collect()), ..Script::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&script));
    // Eight JPEG frames are larger than axum's default limit.
    let app = app.layer(axum::extract::DefaultBodyLimit::max(64 << 20));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, app).await });
    Server { script, base_url, _runtime: runtime }
}

/// A server that decides by the text of the request, until the runtime is dropped.
pub fn serve_by(decide: fn(&str) -> Act) -> (String, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let said = move |body: String| async move {
        let Act::Say(status, _, body) = decide(&body) else { panic!("it does not hang") };
        (StatusCode::from_u16(status).unwrap(), body).into_response()
    };
    let app = axum::Router::new().fallback(said).layer(axum::extract::DefaultBodyLimit::max(64 << 20));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, app).await });
    (base_url, runtime)
}

impl Server {
    /// What it does after what it was told before.
    pub fn then(&self, acts: impl IntoIterator<Item = Act>) {
        self.script.acts.lock().unwrap().extend(acts);
    }
    pub fn requests(&self) -> Vec<(Option<String>, Value)> {
        self.script.requests.lock().unwrap().clone()
    }
    pub fn paths(&self) -> Vec<String> {
        self.script.paths.lock().unwrap().clone()
    }
    pub fn captioner(&self) -> Captioner {
        captioner(&self.base_url)
    }
}

pub fn captioner(base_url: &str) -> Captioner {
    let mut captioner: Captioner =
        toml::from_str(&format!("backend = \"openai\"\nmodel = \"vlm\"\nbase_url = \"{base_url}\"\napi_key = \"{KEY}\""))
            .unwrap();
    captioner.timeout_seconds = 5.0;
    captioner.retry_initial_seconds = 0.01;
    captioner.cache_location = Some("off".into());
    captioner
}

/// A transform whose frames are `frames` grey pictures, and a count of how often they were asked for.
pub fn writer(captioner: &Captioner, base: &Path) -> (Writer, Arc<AtomicUsize>) {
    let resources = Arc::new(Resources::default());
    let paths = Paths { base: base.to_path_buf() };
    let input = rows(1).schema();
    let context = BuildContext { step: "caption", input, id_column: "clip_id".into(), paths: &paths, resources: &resources };
    let writer = captioner.writer(&context).unwrap();
    let looked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&looked);
    let eyes = move |_: &str, (start, end): (i64, i64), look: &Look, _: &Task| {
        count.fetch_add(1, Ordering::Relaxed);
        let picture = |k: usize| {
            let mut jpeg = Vec::new();
            let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, look.jpeg_quality);
            encoder.encode(&[k as u8 * 20; 16 * 8 * 3], 16, 8, image::ExtendedColorType::Rgb8).unwrap();
            Picture { at_us: start + (end - start) * k as i64 / look.frames as i64, jpeg }
        };
        Ok((0..look.frames).map(picture).collect())
    };
    (writer.with_eyes(Arc::new(eyes)), looked)
}

pub fn rows(n: usize) -> RecordBatch {
    let texts = |s: Option<&str>| Arc::new(StringArray::from(vec![s; n])) as ArrayRef;
    let starts: Vec<i64> = (0..n as i64).map(|k| k * 8_000_000).collect();
    let ends: Vec<i64> = starts.iter().map(|s| s + 8_000_000).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("video_uri", texts(Some("/videos/a.mp4")), true),
        ("content_blake3", texts(Some("c0ffee")), true),
        ("title", texts(Some("Heart {Clip Transcript}")), true),
        ("description", texts(None), true),
        ("start_us", Arc::new(Int64Array::from(starts)), true),
        ("end_us", Arc::new(Int64Array::from(ends)), true),
    ])
    .unwrap()
}

pub fn run(writer: &Writer, rows: &RecordBatch) -> Processed {
    let task = Task { step: "caption", resources: &Arc::new(Resources::default()), cancelled: &AtomicBool::new(false) };
    let out = writer.process(rows, &task).unwrap();
    out.check(rows.num_rows()).unwrap();
    out
}

pub fn problem(out: &Processed) -> (String, String) {
    match &out.verdicts[0] {
        Verdict::Unmeasured(p) => (p.code.to_string(), p.message.clone()),
        other => panic!("{other:?}"),
    }
}

/// Runs one row and gives its code and message; `STOP` for one that ends the run.
pub fn ends_with(captioner: &Captioner) -> (String, String) {
    let task = Task { step: "caption", resources: &Arc::new(Resources::default()), cancelled: &AtomicBool::new(false) };
    match writer(captioner, Path::new(".")).0.process(&rows(1), &task) {
        Ok(out) => problem(&out),
        Err(e) => ("STOP".into(), e.to_string()),
    }
}
