//! A captioning service that sees: it reads in the frames which clip it is shown, and says so. It can also be slow, and fall over in every known way.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use base64::Engine;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// What begins a frame of this service's world; the clip's name follows.
pub const FRAME: &[u8] = b"\xff\xd8clip=";

/// How the service behaves: shares of requests, each 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The connection is closed without a byte.
    pub dropped: f64,
    /// The answer ends in the middle.
    pub cut: f64,
    /// 429, half of them with `Retry-After`.
    pub busy: f64,
    /// 500.
    pub broken: f64,
    /// 200 with something that is not JSON.
    pub invalid: f64,
    /// 200 without text.
    pub empty: f64,
    /// Two choices, the second first and about nothing.
    pub swapped: f64,
}

/// What the service saw.
#[derive(Default)]
pub struct Seen {
    /// Requests of any fate.
    pub requests: AtomicUsize,
    /// Fates by name.
    pub fates: Mutex<HashMap<&'static str, usize>>,
    /// When each request that was answered began and ended since the start, and whether it showed frames.
    pub served: Mutex<Vec<(Duration, Duration, bool)>>,
    /// Requests now.
    pub now: AtomicUsize,
    /// The most at once.
    pub most: AtomicUsize,
}

struct World {
    faults: Faults,
    latency: Box<dyn Fn(u64) -> Duration + Send + Sync>,
    seen: Arc<Seen>,
    number: AtomicU64,
    start: Instant,
}

/// A running service.
pub struct Server {
    /// Where its API starts.
    pub base_url: String,
    /// What it saw.
    pub seen: Arc<Seen>,
    _runtime: tokio::runtime::Runtime,
}

/// Starts a service; `latency` gives the time of the n-th request.
pub fn serve(faults: Faults, latency: impl Fn(u64) -> Duration + Send + Sync + 'static) -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let seen = Arc::new(Seen::default());
    let start = Instant::now();
    let world = World { faults, latency: Box::new(latency), seen: Arc::clone(&seen), number: AtomicU64::new(0), start };
    let app = axum::Router::new()
        .route("/v1/chat/completions", axum::routing::post(answer))
        .with_state(Arc::new(world))
        .layer(DefaultBodyLimit::max(64 << 20));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let app = app.into_make_service_with_connect_info::<Line>();
    runtime.spawn(async move { axum::serve(Fragile(listener), app).await });
    Server { base_url, seen, _runtime: runtime }
}

/// A number from 0 to 1 that depends on n alone.
pub fn chance(n: u64) -> f64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

async fn answer(State(world): State<Arc<World>>, ConnectInfo(line): ConnectInfo<Line>, body: Bytes) -> Response {
    let seen = &world.seen;
    let began = world.start.elapsed();
    let n = world.number.fetch_add(1, Ordering::Relaxed);
    seen.requests.fetch_add(1, Ordering::Relaxed);
    seen.most.fetch_max(seen.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    tokio::time::sleep((world.latency)(n)).await;
    let f = world.faults;
    let fates = [
        ("dropped", f.dropped),
        ("cut", f.cut),
        ("busy", f.busy),
        ("broken", f.broken),
        ("invalid", f.invalid),
        ("empty", f.empty),
        ("swapped", f.swapped),
    ];
    let mut dice = chance(n);
    let fate = fates.iter().find(|(_, share)| {
        dice -= share;
        dice < 0.0
    });
    let fate = fate.map_or("answered", |(name, _)| name);
    *seen.fates.lock().unwrap().entry(fate).or_default() += 1;
    seen.now.fetch_sub(1, Ordering::SeqCst);
    let request = std::str::from_utf8(&body).unwrap();
    let (text, shows) = describe(request);
    let choice = |index: usize, text: &str| json!({"index": index, "finish_reason": "stop", "message": {"content": text}});
    let say = |choices: Value| {
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 10});
        json!({"model": "seer", "choices": choices, "usage": usage}).to_string().into_response()
    };
    let response = match fate {
        "dropped" => {
            line.0.store(true, Ordering::SeqCst);
            "".into_response()
        }
        "cut" => {
            let pieces = vec![Ok("{\"choices\": [{\"mess"), Err(std::io::Error::other("cut"))];
            axum::body::Body::from_stream(futures::stream::iter(pieces)).into_response()
        }
        "busy" if n % 2 == 0 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0.005")], "{}").into_response(),
        "busy" => (StatusCode::TOO_MANY_REQUESTS, "{}").into_response(),
        "broken" => (StatusCode::INTERNAL_SERVER_ERROR, "out of memory").into_response(),
        "invalid" => "{\"choices\": [{".into_response(),
        "empty" => say(json!([choice(0, " ")])),
        "swapped" => say(json!([choice(1, "nothing of this clip"), choice(0, &text)])),
        _ => say(json!([choice(0, &text)])),
    };
    seen.served.lock().unwrap().push((began, world.start.elapsed(), shows));
    response
}

/// Requests with larger frames are searched and not parsed: what the server does with them must not be what a measurement measures.
const PARSED_BYTES: usize = 64 << 10;
/// Where the bytes of a frame begin.
const DATA: &str = "data:image/jpeg;base64,";
/// So many digits of base64 hold a clip's name.
const NAME_DIGITS: usize = 64;

/// What is shown, or what is said in a text about what is shown; and which of the two.
fn describe(request: &str) -> (String, bool) {
    let names: Vec<String> = request.match_indices(DATA).map(|(at, _)| name_in(&request[at + DATA.len()..])).collect();
    let parsed = (request.len() <= PARSED_BYTES).then(|| serde_json::from_str::<Value>(request).unwrap());
    if names.is_empty() {
        let request = parsed.unwrap();
        let text = request.pointer("/messages/0/content").unwrap().as_str().unwrap();
        let name = text.split_once('<').unwrap().1.split_once('>').unwrap().0;
        return (format!("brief caption of <{name}>"), false);
    }
    if let Some(request) = parsed {
        let parts = request.pointer("/messages/0/content").unwrap().as_array().unwrap();
        assert_eq!(parts.iter().filter(|part| part.pointer("/image_url/url").is_some()).count(), names.len());
    }
    assert!(names.iter().all(|n| *n == names[0]), "the frames are of several clips: {names:?}");
    (format!("detailed caption of <{}> with {} frames", names[0], names.len()), true)
}

fn name_in(data: &str) -> String {
    let digits = data.get(..NAME_DIGITS).unwrap_or(data).split('"').next().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(digits).unwrap();
    let name = bytes.strip_prefix(FRAME).unwrap();
    String::from_utf8_lossy(name.split(|b| *b == b'|').next().unwrap()).into_owned()
}

/// A listener whose connections can be broken by whoever answers.
struct Fragile(TcpListener);

/// Set: the connection breaks at its next byte.
#[derive(Clone)]
struct Line(Arc<AtomicBool>);

struct Wire(TcpStream, Line);

impl axum::serve::Listener for Fragile {
    type Io = Wire;
    type Addr = std::net::SocketAddr;
    async fn accept(&mut self) -> (Wire, Self::Addr) {
        loop {
            if let Ok((stream, address)) = self.0.accept().await {
                let _ = stream.set_nodelay(true);
                return (Wire(stream, Line(Arc::default())), address);
            }
        }
    }
    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Fragile>> for Line {
    fn connect_info(stream: IncomingStream<'_, Fragile>) -> Line {
        stream.io().1.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.1.0.load(Ordering::SeqCst) {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
