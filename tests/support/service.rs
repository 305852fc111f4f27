//! A captioning service on loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{DefaultBodyLimit, State};
use serde_json::{Value, json};

/// Pictures of a request are far larger than axum's own limit.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// Answers until it is dropped.
pub struct Service {
    /// What captioner calls `base_url`.
    pub url: String,
    asked: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Service {
    /// Starts it; each answer says that it took so many tokens of prompt and of text.
    pub fn start(tokens: (u32, u32)) -> Service {
        let asked = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let app = axum::Router::new().fallback(answer).with_state((Arc::clone(&asked), tokens));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app.layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))).await });
        Service { url, asked, _runtime: runtime }
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Counts and answers; the answer names the pictures, so that no two clips get the same.
async fn answer(State((asked, (prompt, text))): State<(Arc<AtomicUsize>, (u32, u32))>, body: String) -> String {
    asked.fetch_add(1, Ordering::SeqCst);
    let request: Value = serde_json::from_str(&body).unwrap();
    let content = request.pointer("/messages/0/content").unwrap();
    let caption = format!("caption {}", &blake3::hash(content.to_string().as_bytes()).to_hex()[..16]);
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": text});
    json!({"model": "seer", "choices": [{"message": {"content": caption}}], "usage": usage}).to_string()
}
