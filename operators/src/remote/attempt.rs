//! One attempt: a request goes out, and what came back is judged. What is done about it is decided in [`super::call`].

use std::time::{Duration, Instant};

use curette_engine::verdict::Problem;
use reqwest::header::HeaderName;

use super::call::{Auth, Request, Service};
use super::outcome::{Judged, Outcome, Reply};
use super::retry_after;

/// An answer of more bytes than this is a service error.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// What became of a request, besides what its answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It never reached the service.
    Unsent,
    /// It may have reached it, and no whole answer came back.
    Lost,
    /// It was answered with this status.
    Replied(u16),
}

/// One attempt and what came of it.
pub struct Attempt<T> {
    /// What the answer means.
    pub judged: Judged<T>,
    /// How long the service wants to be left alone.
    pub wanted: Option<Duration>,
    /// What became of the request.
    pub fate: Fate,
}

/// One attempt.
pub async fn once<T>(
    client: &reqwest::Client,
    service: &Service,
    request: &Request,
    judge: &impl Fn(&Reply) -> Judged<T>,
) -> Attempt<T> {
    let started = Instant::now();
    let host = service.url.host_str().unwrap_or_default();
    let failed = |code: &'static str, message: String, fate| Attempt {
        judged: Judged { outcome: Outcome::Failed(Problem::new(code, message)), usage: None },
        wanted: None,
        fate,
    };
    let lost = |e: reqwest::Error| match e.is_timeout() && !e.is_connect() {
        true => {
            let message =
                format!("{host} did not answer within {:?}; raise `timeout_seconds` or ask a faster service", service.timeout);
            failed(service.codes.timeout, message, Fate::Lost)
        }
        false => {
            let fate = if e.is_connect() || e.is_builder() { Fate::Unsent } else { Fate::Lost };
            failed(service.codes.service_error, format!("{host} cannot be reached: {}", causes(&e.without_url())), fate)
        }
    };
    let mut post = client
        .post(service.url.clone())
        .header("content-type", &request.content_type)
        .header("x-client-request-id", &request.id)
        .timeout(service.timeout)
        .body(request.body.clone());
    match &service.auth {
        Auth::None => {}
        Auth::Bearer(key) => post = post.bearer_auth(key.reveal()),
        Auth::ApiKey(key) => post = post.header(HeaderName::from_static("api-key"), key.reveal()),
    }
    let mut response = match post.send().await {
        Ok(response) => response,
        Err(e) => return lost(e),
    };
    let wanted = retry_after::wanted(response.headers());
    let status = response.status().as_u16();
    let location = response.headers().get("location").and_then(|l| l.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_ANSWER_BYTES => {
                let message = format!("{host} answered with more than {MAX_ANSWER_BYTES} bytes");
                return failed(service.codes.service_error, message, Fate::Replied(status));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(e) => return lost(e),
        }
    }
    tracing::trace!(step = %service.step, status, id = request.id, seconds = started.elapsed().as_secs_f64(), "Answered");
    let judged = judge(&Reply { host, status, location: location.as_deref(), body: &body, key: service.auth.secret() });
    Attempt { judged, wanted, fate: Fate::Replied(status) }
}

/// An error and what is behind it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        out = format!("{out}: {cause}");
        next = cause.source();
    }
    out
}
