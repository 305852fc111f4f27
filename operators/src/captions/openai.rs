//! One question to a service that speaks OpenAI's chat completions (OpenAI, Azure, vLLM, llama.cpp, ...), with retries.
//!
//! Why typed outcomes: a refusal, a cut-off answer and a broken service need different remedies, so each has its own code: `caption_refused`,
//! `caption_truncated`, `caption_empty`, `caption_auth`, `caption_timeout`, `caption_service_error`. Tried again are 408, 429, 5xx, time-outs and
//! connections that fail, each wait twice the last, never longer than [`MAX_BACKOFF`]; `Retry-After` in seconds is obeyed up to a limit of the step.
//!
//! What can go wrong: services echo what they were sent, so the key is removed from every message; answers are read up to [`MAX_ANSWER_BYTES`].
//! Redirects are not followed: they would carry pictures to another host.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use curette_engine::operator::Secret;
use curette_engine::verdict::Problem;
use serde_json::Value;

/// The longest wait between two attempts that the service did not ask for.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// An answer of more bytes than this is a service error.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// How often a waiting call looks whether the run is being stopped.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// What of a service's own error text is shown.
const MAX_DETAIL_CHARS: usize = 300;

/// The HTTP side of this process: one runtime and one client for all steps.
pub struct Http {
    runtime: Option<tokio::runtime::Runtime>,
    client: reqwest::Client,
    /// For services on this machine: a proxy of the environment is for others.
    local: reqwest::Client,
}

impl Http {
    /// Starts the runtime's two threads.
    pub fn start() -> Result<Http, String> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("curette-http").enable_all().build();
        let client = |builder: reqwest::ClientBuilder| {
            builder.redirect(reqwest::redirect::Policy::none()).build().map_err(|e| e.to_string())
        };
        Ok(Http {
            runtime: Some(runtime.map_err(|e| e.to_string())?),
            client: client(reqwest::Client::builder())?,
            local: client(reqwest::Client::builder().no_proxy())?,
        })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        // Dropping a runtime waits for its tasks, and must not happen inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Where to ask and how patiently.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The full address of `chat/completions`.
    pub url: reqwest::Url,
    /// Sent as a bearer token unless empty.
    pub api_key: Secret,
    /// Limit of one attempt.
    pub timeout: Duration,
    /// Attempts in all, at least 1.
    pub max_attempts: u32,
    /// Wait before the second attempt; doubles for each further one.
    pub retry_initial: Duration,
    /// The longest wait that `Retry-After` can ask for.
    pub max_retry_after: Duration,
}

/// What the service said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text, trimmed, never empty.
    pub text: String,
    /// The model that it says it used; empty when it does not.
    pub model: String,
}

/// What one attempt came to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Answered(Answer),
    /// Asking again would give the same.
    Final(Problem),
    /// Asking again may help, not before the given time.
    Again(Problem, Option<Duration>),
}

/// Asks until there is an answer, a final problem, or no attempt left. Blocks; not for threads of an async runtime.
pub fn ask(http: &Http, endpoint: &Endpoint, body: &Value, cancelled: &AtomicBool) -> Result<Answer, Problem> {
    let Some(runtime) = &http.runtime else { return Err(Problem::new("caption_service_error", "the HTTP client is shut down")) };
    let local =
        endpoint.url.host_str().is_some_and(|h| h == "localhost" || h.trim_matches(['[', ']']).parse().is_ok_and(is_loopback));
    let client = if local { &http.local } else { &http.client };
    let body = bytes::Bytes::from(body.to_string());
    let work = async {
        let mut backoff = endpoint.retry_initial;
        for attempt in 1.. {
            let (problem, wanted) = match once(client, endpoint, body.clone()).await {
                Outcome::Answered(answer) => return Ok(answer),
                Outcome::Final(problem) => return Err(problem),
                Outcome::Again(problem, wanted) => (problem, wanted),
            };
            if attempt >= endpoint.max_attempts {
                return Err(Problem::new(problem.code, format!("{} (attempt {attempt} of {attempt})", problem.message)));
            }
            tokio::time::sleep(wanted.map_or(backoff.min(MAX_BACKOFF), |w| w.min(endpoint.max_retry_after))).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
        unreachable!("the loop ends by its attempts")
    };
    let stopped = async {
        while !cancelled.load(Ordering::Relaxed) {
            tokio::time::sleep(CANCEL_POLL).await;
        }
    };
    let answer = runtime.block_on(async {
        tokio::select! {
            answer = work => answer,
            () = stopped => Err(Problem::new("cancelled", "the run is being stopped")),
        }
    });
    answer.map_err(|p| Problem::new(p.code, without_key(&p.message, &endpoint.api_key)))
}

fn is_loopback(ip: std::net::IpAddr) -> bool {
    ip.is_loopback()
}

fn without_key(message: &str, key: &Secret) -> String {
    if key.is_empty() { message.to_owned() } else { message.replace(key.reveal(), "***") }
}

async fn once(client: &reqwest::Client, endpoint: &Endpoint, body: bytes::Bytes) -> Outcome {
    let mut request =
        client.post(endpoint.url.clone()).header("content-type", "application/json").timeout(endpoint.timeout).body(body);
    if !endpoint.api_key.is_empty() {
        request = request.bearer_auth(endpoint.api_key.reveal());
    }
    let host = endpoint.url.host_str().unwrap_or_default();
    let lost = |e: reqwest::Error| {
        if e.is_timeout() {
            let message =
                format!("{host} did not answer within {:?}; raise `timeout_seconds` or ask a faster service", endpoint.timeout);
            Outcome::Again(Problem::new("caption_timeout", message), None)
        } else {
            Outcome::Again(
                Problem::new("caption_service_error", format!("{host} cannot be reached: {}", causes(&e.without_url()))),
                None,
            )
        }
    };
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(e) => return lost(e),
    };
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(seconds);
    let mut text = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if text.len() + chunk.len() > MAX_ANSWER_BYTES => {
                let message = format!("{host} answered with more than {MAX_ANSWER_BYTES} bytes");
                return Outcome::Final(Problem::new("caption_service_error", message));
            }
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(e) => return lost(e),
        }
    }
    judge(host, status, retry_after, &text, &endpoint.api_key)
}

/// Seconds of a `Retry-After`; its other form, a date, would need a clock that both sides agree on and is not used by these services.
fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0).map(|s| Duration::from_secs_f64(s.min(86_400.0)))
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

/// What an answer means. `key` is kept out of what is quoted from it.
fn judge(host: &str, status: u16, retry_after: Option<Duration>, body: &[u8], key: &Secret) -> Outcome {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let service = |message: String| Problem::new("caption_service_error", message);
    if status != 200 {
        let detail = json.as_ref().map(|j| error_text(j, key)).unwrap_or_default();
        let refused = json
            .as_ref()
            .and_then(|j| j.pointer("/error/code")?.as_str())
            .is_some_and(|c| ["content_filter", "content_policy_violation"].contains(&c));
        let message = format!("{host} answered {status}{detail}");
        return match status {
            401 | 403 => Outcome::Final(Problem::new("caption_auth", format!("{message}; check `api_key`, and what it may use"))),
            400 if refused => Outcome::Final(Problem::new("caption_refused", message)),
            408 | 429 | 500..=599 => Outcome::Again(service(message), retry_after),
            _ => Outcome::Final(service(message)),
        };
    }
    let Some(json) = json else {
        return Outcome::Final(service(format!(
            "{host} answered with something that is not JSON; does `base_url` end where the API starts?"
        )));
    };
    let Some(choice) = json.pointer("/choices/0") else {
        return Outcome::Final(service(format!("{host} answered without a choice{}", error_text(&json, key))));
    };
    let text_at = |path: &str| choice.pointer(path).and_then(Value::as_str).unwrap_or_default().trim();
    let refusal = text_at("/message/refusal");
    let finish = text_at("/finish_reason");
    let text = text_at("/message/content");
    if !refusal.is_empty() || ["content_filter", "refusal"].contains(&finish) {
        let said = quoted(if refusal.is_empty() { finish } else { refusal }, key);
        return Outcome::Final(Problem::new("caption_refused", format!("the model refused to describe the clip: {said}")));
    }
    if finish == "length" {
        return Outcome::Final(Problem::new(
            "caption_truncated",
            "the caption was cut off by the token limit; raise `max_tokens`",
        ));
    }
    if text.is_empty() {
        return Outcome::Final(Problem::new("caption_empty", format!("{host} answered with an empty caption ({finish})")));
    }
    let model = json.get("model").and_then(Value::as_str).unwrap_or_default();
    Outcome::Answered(Answer { text: text.to_owned(), model: model.to_owned() })
}

/// `: what the service says about it`, one line, or nothing.
fn error_text(json: &Value, key: &Secret) -> String {
    let text = json.pointer("/error/message").or_else(|| json.get("message")).or_else(|| json.get("error"));
    text.and_then(Value::as_str).map(|text| format!(": {}", quoted(text, key))).unwrap_or_default()
}

/// One line of a service's words. The key goes before the cut: half a key would no longer be recognised.
fn quoted(text: &str, key: &Secret) -> String {
    without_key(text, key).split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_DETAIL_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(status: u16, body: Value) -> String {
        match judge("host", status, None, body.to_string().as_bytes(), &Secret::default()) {
            Outcome::Answered(answer) => format!("answered: {} ({})", answer.text, answer.model),
            Outcome::Final(p) => format!("final: {}: {}", p.code, p.message),
            Outcome::Again(p, _) => format!("again: {}: {}", p.code, p.message),
        }
    }

    #[test]
    fn each_answer_has_one_meaning() {
        let choice = |finish: &str, content: Value| json!({"model": "m-1", "choices": [{"finish_reason": finish, "message": {"content": content}}]});
        let all = [
            said(200, choice("stop", json!(" A heart. \n"))),
            said(200, choice("length", json!("A hea"))),
            said(200, choice("content_filter", json!(null))),
            said(200, json!({"choices": [{"finish_reason": "stop", "message": {"refusal": "I can't help"}}]})),
            said(200, choice("stop", json!("  "))),
            said(200, choice("stop", json!([1]))),
            said(200, json!({"error": {"message": "overloaded"}})),
            said(400, json!({"error": {"code": "content_policy_violation", "message": "no"}})),
            said(400, json!({"error": {"message": "bad image"}})),
            said(401, json!({"error": {"message": "Incorrect API key"}})),
            said(404, json!({})),
            said(307, json!({})),
            said(408, json!({})),
            said(429, json!({"error": "slow\ndown"})),
            said(503, json!("?")),
        ];
        insta::assert_snapshot!(all.join("\n"), @r#"
        answered: A heart. (m-1)
        final: caption_truncated: the caption was cut off by the token limit; raise `max_tokens`
        final: caption_refused: the model refused to describe the clip: content_filter
        final: caption_refused: the model refused to describe the clip: I can't help
        final: caption_empty: host answered with an empty caption (stop)
        final: caption_empty: host answered with an empty caption (stop)
        final: caption_service_error: host answered without a choice: overloaded
        final: caption_refused: host answered 400: no
        final: caption_service_error: host answered 400: bad image
        final: caption_auth: host answered 401: Incorrect API key; check `api_key`, and what it may use
        final: caption_service_error: host answered 404
        final: caption_service_error: host answered 307
        again: caption_service_error: host answered 408
        again: caption_service_error: host answered 429: slow down
        again: caption_service_error: host answered 503
        "#);
    }

    #[test]
    fn a_key_at_the_cut_is_removed_whole() {
        let key: Secret = serde_json::from_value(json!("sk-very-secret")).unwrap();
        for before in MAX_DETAIL_CHARS - 14..=MAX_DETAIL_CHARS {
            let echo = format!("{}sk-very-secret", "x".repeat(before));
            for body in [json!({"error": {"message": echo}}), json!({"choices": [{"message": {"refusal": echo}}]})] {
                let status = if body.get("error").is_some() { 400 } else { 200 };
                let Outcome::Final(problem) = judge("host", status, None, body.to_string().as_bytes(), &key) else { panic!() };
                assert!(!problem.message.contains("sk"), "{}", problem.message);
            }
        }
    }

    #[test]
    fn only_sane_waits_are_obeyed() {
        assert_eq!(seconds(" 2 "), Some(Duration::from_secs(2)));
        assert_eq!(seconds("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(seconds("1e300"), Some(Duration::from_secs(86_400)));
        assert_eq!(["-1", "NaN", "Wed, 21 Oct 2026 07:28:00 GMT"].map(seconds), [None; 3]);
    }
}
