//! One request until it is answered, final or given up.
//!
//! What an answer means is the caller's business (`judge`); what to do about it is decided here:
//!
//! | judged | what happens |
//! |---|---|
//! | [`Outcome::Answered`], [`Outcome::Final`] | the end |
//! | [`Outcome::Closed`] | asked [`super::patience::CLOSED_ANSWERS`] times, for a slip of a proxy's; then the service is down, or, where others are served, the question failed |
//! | [`Outcome::Unusable`] | asked again, up to `max_attempts` and the retry budget, to which it adds nothing; the service counts as working |
//! | [`Outcome::Failed`], no connection, no answer in time | asked again, up to `max_failures` and the retry budget; the breaker counts it |
//! | [`Outcome::Throttled`] | the whole service is left alone as long as it wants, then asked again |
//!
//! Failures cost nothing while the service answers nobody at all (the breaker bounds that), a 429 costs nothing; when nobody gets anything but 429 for
//! `max_throttled` the service is down.
//!
//! Bad answers and failures have budgets of their own: the first say something about the question, the second hardly anything. Waits between
//! attempts double from `retry_initial` to [`super::patience::MAX_BACKOFF`], each cut by a random part of up to a half, so that many who failed
//! together do not come back together.
//!
//! One attempt is [`super::attempt`], what its answer means [`super::outcome`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use curette_engine::operator::Secret;
use curette_engine::telemetry::names::REMOTE_CALLS;
use curette_engine::verdict::Problem;
use reqwest::header::HeaderValue;

use super::address::ApiStyle;
use super::attempt::{Attempt, Fate, once};
use super::bill::{Bill, affordable, money};
use super::http::Http;
use super::limiter::{Down, Limiter, Permit};
use super::outcome::{Codes, Judged, Outcome, Reply, without_key};
use super::patience::{MIN_THROTTLED, Patience};
use super::purse::{Prices, Purse, Usage};

/// How often one who waits for his turn looks whether there is still money.
const PURSE_POLL: Duration = Duration::from_secs(1);

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
    /// How a service of this style takes a key. One that no header can hold, from a file with a line break say, is no outage of the service.
    pub fn of(style: ApiStyle, key: &Secret) -> Result<Auth, String> {
        if HeaderValue::from_str(key.reveal()).is_err() {
            return Err("`api_key` has characters that no header can hold; is there a line break at its end?".into());
        }
        Ok(match style {
            _ if key.is_empty() => Auth::None,
            ApiStyle::Openai => Auth::Bearer(key.clone()),
            ApiStyle::Azure => Auth::ApiKey(key.clone()),
        })
    }

    /// The key, if there is one.
    pub fn secret(&self) -> Option<&Secret> {
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
    /// Answers without what was asked for that one question may get, at least 1.
    pub max_attempts: u32,
    /// Failures of the service that one question may meet, at least 1.
    pub max_failures: u32,
    /// Wait before the second attempt; doubles for each further one.
    pub retry_initial: Duration,
    /// The longest wait that `Retry-After` can ask for.
    pub max_retry_after: Duration,
    /// A service that says nothing but 429 for so long is down; one question waits at most so long where others are answered.
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
    /// What it costs besides its tokens, in billionths of a dollar: sound is paid by the minute.
    pub fee_nano_usd: u64,
}

impl Request {
    /// A request that is not made yet, but will take so much.
    pub fn of_size(estimate: Usage) -> Request {
        Request { content_type: String::new(), body: bytes::Bytes::new(), id: String::new(), estimate, fee_nano_usd: 0 }
    }
}

/// Why there is no answer.
#[derive(Debug, PartialEq)]
pub enum Failure {
    /// It is about this request.
    Problem(Problem),
    /// No request has a chance: the service answers nobody, refuses the key, is not there, or there is no money left.
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
    let mut patience = Patience::of(service);
    loop {
        let (permit, bill) = admitted(service, request).await?;
        let Attempt { judged, wanted, fate } = once(http.client(&service.url), service, request, judge).await;
        bill.close(&judged, fate);
        let tokens = judged.usage.map(|u| u.total());
        let wait = match judged.outcome {
            Outcome::Answered(answer) => {
                permit.answered(tokens, true);
                count(service, "ok");
                return Ok(answer);
            }
            Outcome::Final(problem) => {
                permit.answered(tokens, true);
                Err(Failure::Problem(problem))
            }
            Outcome::Closed(problem) => {
                permit.answered(tokens, false);
                patience.closed(problem)
            }
            Outcome::Throttled(problem) => {
                let wait = patience.throttled(problem, wanted);
                // Who is told to come back at once would ask for ever.
                permit.throttled(wanted.map(|w| w.min(service.max_retry_after)).filter(|w| *w >= MIN_THROTTLED));
                wait
            }
            Outcome::Unusable(problem) => {
                permit.answered(tokens, false);
                patience.unusable(problem)
            }
            Outcome::Failed(problem) => {
                let outage = permit.failed((fate != Fate::Unsent).then(|| name_of(&request.id)));
                if let Some(wanted) = wanted {
                    service.limiter.pause(wanted.min(service.max_retry_after));
                }
                // An outage is bounded by the breaker, which says when the service is down.
                if outage { Ok(Duration::ZERO) } else { patience.failed(problem) }
            }
        };
        count(service, if wait.is_ok() { "retry" } else { "failed" });
        let wait = wait?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Waits for money, and for the right to ask. Money first: who cannot pay must not use up a rate that others wait for.
async fn admitted<'a>(service: &'a Service, request: &'a Request) -> Result<(Permit<'a>, Bill<'a>), Failure> {
    loop {
        money(service, request).await?;
        let mut permit = std::pin::pin!(service.limiter.permit(request.estimate.total()));
        let permit = loop {
            if service.purse.is_none() {
                break permit.as_mut().await;
            }
            match tokio::time::timeout(PURSE_POLL, permit.as_mut()).await {
                Ok(permit) => break permit,
                // Waiting for a rate can take minutes, in which others spend the rest.
                Err(_) => affordable(service, request)?,
            }
        };
        let mut permit = permit.map_err(|down| nothing_answered(service, down))?;
        if let Some(bill) = Bill::open(service, request)? {
            permit.used();
            return Ok((permit, bill));
        }
    }
}

fn nothing_answered(service: &Service, Down(after): Down) -> Failure {
    let host = service.url.host_str().unwrap_or_default();
    let message = format!(
        "{host} has answered nothing for {} s; see to it and run again, or let rows fail (`on_service_down = \"error\"`)",
        after.as_secs()
    );
    Failure::Down(Problem::new(service.codes.service_error, message))
}

/// A number that is the same for the same question.
fn name_of(id: &str) -> u64 {
    let hash = blake3::hash(id.as_bytes());
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn count(service: &Service, outcome: &'static str) {
    metrics::counter!(REMOTE_CALLS, "step" => service.step.clone(), "outcome" => outcome).increment(1);
}
