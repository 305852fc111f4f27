//! One request until it is answered, final or given up.
//!
//! What an answer means is the caller's business (`judge`); what to do about it is decided here:
//!
//! | judged | what happens |
//! |---|---|
//! | [`Outcome::Answered`], [`Outcome::Final`] | the end |
//! | [`Outcome::Unusable`] | asked again, up to `max_attempts` and the retry budget, to which it adds nothing; the service counts as working |
//! | [`Outcome::Failed`], no connection, no answer in time | the same, and the breaker counts it; costs no attempt while the service answers nobody |
//! | [`Outcome::Throttled`] | the whole service is left alone as long as it wants, then asked again; costs no attempt |
//!
//! Waits between attempts double from `retry_initial` to [`MAX_BACKOFF`], each cut by a random part of up to a half, so that many who failed
//! together do not come back together. What can go wrong: services echo what they were sent, so the key is removed from every message.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use curette_engine::operator::Secret;
use curette_engine::telemetry::names::REMOTE_CALLS;
use curette_engine::verdict::Problem;
use reqwest::header::{HeaderName, HeaderValue};

use super::bill::Bill;
use super::http::Http;
use super::limiter::{Down, Limiter};
use super::purse::{Prices, Purse, Usage};
use super::retry_after;

/// The longest wait between two attempts that the service did not ask for.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The shortest wait after a 429.
pub const MIN_THROTTLED: Duration = Duration::from_millis(10);

/// An answer of more bytes than this is a service error.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// What of a service's own error text is shown.
const MAX_DETAIL_CHARS: usize = 300;

/// The codes of problems that are not in an answer.
#[derive(Debug, Clone, Copy)]
pub struct Codes {
    /// No answer in time.
    pub timeout: &'static str,
    /// No connection, or the service is broken.
    pub service_error: &'static str,
    /// The purse is spent.
    pub budget_spent: &'static str,
    /// The key is not accepted.
    pub auth: &'static str,
    /// The account has nothing left.
    pub quota: &'static str,
}

/// How the key is sent.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Not at all.
    None,
    /// `Authorization: Bearer KEY`.
    Bearer(Secret),
    /// `api-key: KEY`, as Azure wants it.
    ApiKey(Secret),
}

impl Auth {
    /// True if a header can hold the key: a line break at its end, from a file say, is no outage of the service.
    pub fn fits_a_header(&self) -> bool {
        self.secret().is_none_or(|key| HeaderValue::from_str(key.reveal()).is_ok())
    }

    fn secret(&self) -> Option<&Secret> {
        match self {
            Auth::None => None,
            Auth::Bearer(key) | Auth::ApiKey(key) => Some(key),
        }
    }
}

/// A service, how patiently it is asked, and what that may cost.
pub struct Service {
    /// The step, for metrics.
    pub step: String,
    /// The full address.
    pub url: reqwest::Url,
    /// The key.
    pub auth: Auth,
    /// Limit of one attempt.
    pub timeout: Duration,
    /// Attempts in all, at least 1.
    pub max_attempts: u32,
    /// Wait before the second attempt; doubles for each further one.
    pub retry_initial: Duration,
    /// The longest wait that `Retry-After` can ask for.
    pub max_retry_after: Duration,
    /// One request waits at most so long, in all, for a service that says 429.
    pub max_throttled: Duration,
    /// Shared by all that ask this service.
    pub limiter: Arc<Limiter>,
    /// Prices, if known.
    pub prices: Option<Prices>,
    /// What may be spent, if that is limited.
    pub purse: Option<Purse>,
    /// How its problems are called.
    pub codes: Codes,
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its `Content-Type`.
    pub content_type: String,
    /// Its body.
    pub body: bytes::Bytes,
    /// Names the request in the service's logs: the same question has the same name.
    pub id: String,
    /// What it will take, about: more rather than less.
    pub estimate: Usage,
}

/// What came back.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The service's host, for messages.
    pub host: &'a str,
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
    /// To be kept out of what is quoted; see [`Reply::quoted`].
    pub key: Option<&'a Secret>,
}

impl Reply<'_> {
    /// One line of a service's words. The key goes before the cut: half a key would no longer be recognised.
    pub fn quoted(&self, text: &str) -> String {
        without_key(text, self.key).split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_DETAIL_CHARS).collect()
    }
}

/// What a status other than 200 means for services that speak OpenAI's API. `code`: the error code in the body, or nothing.
pub fn refused<T>(codes: &Codes, status: u16, code: &str, message: String) -> Outcome<T> {
    let service = |message| Problem::new(codes.service_error, message);
    match (status, code) {
        (401 | 403, _) => Outcome::Final(Problem::new(codes.auth, format!("{message}; check `api_key`, and what it may use"))),
        (402, _) | (429, "insufficient_quota" | "billing_hard_limit_reached") => {
            Outcome::Final(Problem::new(codes.quota, format!("{message}; the account has nothing left to spend")))
        }
        (429, _) => Outcome::Throttled(service(message)),
        (408 | 409 | 425 | 500..=599, _) => Outcome::Failed(service(message)),
        _ => Outcome::Final(service(message)),
    }
}

/// What an answer means.
#[derive(Debug, PartialEq)]
pub enum Outcome<T> {
    /// What was asked for.
    Answered(T),
    /// Asking again would give the same.
    Final(Problem),
    /// The service works, but this is no answer; asking again may give one.
    Unusable(Problem),
    /// The service is broken; asking again later may help.
    Failed(Problem),
    /// The service has too much to do.
    Throttled(Problem),
}

/// An outcome and what the service charged for it, if it says.
#[derive(Debug, PartialEq)]
pub struct Judged<T> {
    /// What it means.
    pub outcome: Outcome<T>,
    /// What it took.
    pub usage: Option<Usage>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq)]
pub enum Failure {
    /// It is about this request.
    Problem(Problem),
    /// The service has answered nobody for a long time: no request has a chance.
    Down(Problem),
}

/// Asks until there is an answer, a final problem, or no attempt left. Blocks; not for threads of an async runtime.
pub fn call<T>(
    http: &Http,
    service: &Service,
    request: &Request,
    cancelled: &AtomicBool,
    judge: impl Fn(&Reply) -> Judged<T>,
) -> Result<T, Failure> {
    let stopped = || Failure::Problem(Problem::new("cancelled", "the run is being stopped"));
    let answer = http.wait(cancelled, attempts(http, service, request, &judge)).unwrap_or_else(|| Err(stopped()));
    let clean = |p: Problem| Problem::new(p.code, without_key(&p.message, service.auth.secret()));
    answer.map_err(|failure| match failure {
        Failure::Problem(p) => Failure::Problem(clean(p)),
        Failure::Down(p) => Failure::Down(clean(p)),
    })
}

async fn attempts<T>(
    http: &Http,
    service: &Service,
    request: &Request,
    judge: &impl Fn(&Reply) -> Judged<T>,
) -> Result<T, Failure> {
    let host = service.url.host_str().unwrap_or_default();
    let mut backoff = service.retry_initial;
    let mut throttled: Option<Instant> = None;
    let mut attempt = 1;
    loop {
        let permit = service.limiter.permit(request.estimate.total()).await.map_err(|Down(after)| {
            let message = format!(
                "{host} has answered nothing for {} s; see to it and run again, or let rows fail (`on_service_down = \"error\"`)",
                after.as_secs()
            );
            Failure::Down(Problem::new(service.codes.service_error, message))
        })?;
        let bill = Bill::open(service, request.estimate)?;
        let Attempt { judged, wanted, fate } = once(http.client(&service.url), service, request, judge).await;
        bill.close(&judged, fate);
        let usage = judged.usage;
        let problem = match judged.outcome {
            Outcome::Answered(answer) => {
                permit.answered(usage.map(|u| u.total()), true);
                count(service, "ok");
                return Ok(answer);
            }
            Outcome::Final(problem) => {
                permit.answered(usage.map(|u| u.total()), true);
                count(service, "failed");
                return Err(Failure::Problem(problem));
            }
            Outcome::Throttled(problem) => {
                // Who is told to come back at once would ask for ever.
                let wanted = wanted.map(|w| w.min(service.max_retry_after)).filter(|w| *w >= MIN_THROTTLED);
                let first = *throttled.get_or_insert_with(Instant::now);
                permit.throttled(wanted);
                count(service, "retry");
                // A wait that was asked for is the whole limiter's, and is kept there; whoever is told so again and again waits longer by himself.
                let again = wanted.is_none() || backoff > service.retry_initial;
                let wait = if again { jittered(backoff).max(MIN_THROTTLED) } else { Duration::ZERO };
                let waited = first.elapsed() + wait.max(wanted.unwrap_or_default());
                if waited > service.max_throttled {
                    let message =
                        format!("{} (after {} s of waiting for it; `max_throttled_seconds`)", problem.message, waited.as_secs());
                    return Err(Failure::Problem(Problem::new(problem.code, message)));
                }
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                backoff = (backoff * 2).min(MAX_BACKOFF);
                continue;
            }
            Outcome::Unusable(problem) => {
                permit.answered(usage.map(|u| u.total()), false);
                problem
            }
            Outcome::Failed(problem) => {
                let outage = permit.failed((fate != Fate::Unsent).then(|| name_of(&request.id)));
                if let Some(wanted) = wanted {
                    service.limiter.pause(wanted.min(service.max_retry_after));
                }
                if outage {
                    // Bounded by the breaker, which says when the service is down.
                    count(service, "retry");
                    continue;
                }
                problem
            }
        };
        let give_up = |why: String| Failure::Problem(Problem::new(problem.code.clone(), format!("{} ({why})", problem.message)));
        if attempt >= service.max_attempts {
            count(service, "failed");
            return Err(give_up(format!("attempt {attempt} of {attempt}")));
        }
        if !service.limiter.may_repeat() {
            count(service, "failed");
            return Err(give_up(format!("attempt {attempt}; too many requests fail to repeat each, see `retry_share`")));
        }
        count(service, "retry");
        tokio::time::sleep(jittered(backoff)).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
        attempt += 1;
    }
}

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

struct Attempt<T> {
    judged: Judged<T>,
    /// How long the service wants to be left alone.
    wanted: Option<Duration>,
    fate: Fate,
}

/// A number that is the same for the same question.
fn name_of(id: &str) -> u64 {
    let hash = blake3::hash(id.as_bytes());
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn count(service: &Service, outcome: &'static str) {
    metrics::counter!(REMOTE_CALLS, "step" => service.step.clone(), "outcome" => outcome).increment(1);
}

/// Between a half and the whole of a wait.
fn jittered(wait: Duration) -> Duration {
    // The standard library's hash keys are random; only waits depend on them, never output.
    let random = std::hash::RandomState::new().build_hasher().finish();
    wait.mul_f64(0.5 + (random >> 11) as f64 / (1u64 << 54) as f64)
}

fn without_key(message: &str, key: Option<&Secret>) -> String {
    match key.filter(|key| !key.is_empty()) {
        Some(key) => message.replace(key.reveal(), "***"),
        None => message.to_owned(),
    }
}

/// One attempt.
async fn once<T>(
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
    let judged = judge(&Reply { host, status, body: &body, key: service.auth.secret() });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_cut_by_at_most_a_half() {
        let waits: Vec<f64> = (0..1000).map(|_| jittered(Duration::from_secs(8)).as_secs_f64()).collect();
        assert!(waits.iter().all(|w| (4.0..=8.0).contains(w)));
        assert!(waits.iter().any(|w| *w < 5.0) && waits.iter().any(|w| *w > 7.0));
    }

    #[test]
    fn a_key_at_the_cut_is_removed_whole() {
        let key: Secret = serde_json::from_value(serde_json::json!("sk-very-secret")).unwrap();
        let reply = Reply { host: "h", status: 400, body: b"", key: Some(&key) };
        for before in MAX_DETAIL_CHARS - 14..=MAX_DETAIL_CHARS {
            let shown = reply.quoted(&format!("{}sk-very-secret", "x".repeat(before)));
            assert!(!shown.contains("sk"), "{shown}");
        }
    }
}
