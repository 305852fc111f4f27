//! One request until it is answered, final or given up.
//!
//! What an answer means is the caller's business (`judge`); what to do about it is decided here:
//!
//! | judged | what happens |
//! |---|---|
//! | [`Outcome::Answered`], [`Outcome::Final`] | the end |
//! | [`Outcome::Closed`] | asked [`CLOSED_ANSWERS`] times, for a slip of a proxy's, then the service counts as down |
//! | [`Outcome::Unusable`] | asked again, up to `max_attempts` and the retry budget, to which it adds nothing; the service counts as working |
//! | [`Outcome::Failed`], no connection, no answer in time | the same, and the breaker counts it; costs no attempt while the service answers nobody |
//! | [`Outcome::Throttled`] | the whole service is left alone as long as it wants, then asked again; costs no attempt |
//!
//! Waits between attempts double from `retry_initial` to [`MAX_BACKOFF`], each cut by a random part of up to a half, so that many who failed
//! together do not come back together. One attempt is [`super::attempt`], what its answer means [`super::outcome`].

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use curette_engine::operator::Secret;
use curette_engine::telemetry::names::REMOTE_CALLS;
use curette_engine::verdict::Problem;
use reqwest::header::HeaderValue;

use super::attempt::{Attempt, Fate, once};
use super::bill::Bill;
use super::http::Http;
use super::limiter::{Down, Limiter};
use super::outcome::{Codes, Judged, Outcome, Reply, without_key};
use super::purse::{Prices, Purse, Usage};

/// The longest wait between two attempts that the service did not ask for.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The shortest wait after a 429.
pub const MIN_THROTTLED: Duration = Duration::from_millis(10);

/// A key, account, model or address that was refused so often in a row is wrong.
pub const CLOSED_ANSWERS: u32 = 2;

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

/// Why there is no answer.
#[derive(Debug, PartialEq)]
pub enum Failure {
    /// It is about this request.
    Problem(Problem),
    /// No request has a chance: the service answers nobody, refuses the key, or is not there.
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
    let mut closed = 0;
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
            Outcome::Closed(problem) => {
                permit.answered(usage.map(|u| u.total()), false);
                closed += 1;
                if closed >= CLOSED_ANSWERS {
                    count(service, "failed");
                    return Err(Failure::Down(problem));
                }
                count(service, "retry");
                tokio::time::sleep(jittered(backoff)).await;
                continue;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_cut_by_at_most_a_half() {
        let waits: Vec<f64> = (0..1000).map(|_| jittered(Duration::from_secs(8)).as_secs_f64()).collect();
        assert!(waits.iter().all(|w| (4.0..=8.0).contains(w)));
        assert!(waits.iter().any(|w| *w < 5.0) && waits.iter().any(|w| *w > 7.0));
    }
}
