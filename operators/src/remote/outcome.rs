//! What an answer of a service means, and what a status other than 200 does.
//!
//! Why so many outcomes: whose trouble it is decides who pays. A refusal is about one request; a wrong key, an empty account or a wrong address is
//! about all of them, and must never cost rows ([`Outcome::Closed`]). What can go wrong: services echo what they were sent, so the key is removed
//! from every message.

use curette_engine::operator::Secret;
use curette_engine::verdict::Problem;

use super::purse::Usage;

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

/// What came back.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The service's host, for messages.
    pub host: &'a str,
    /// HTTP status.
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<&'a str>,
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

/// A text without the key.
pub fn without_key(message: &str, key: Option<&Secret>) -> String {
    match key.filter(|key| !key.is_empty()) {
        Some(key) => message.replace(key.reveal(), "***"),
        None => message.to_owned(),
    }
}

/// What an answer means.
#[derive(Debug, PartialEq)]
pub enum Outcome<T> {
    /// What was asked for.
    Answered(T),
    /// Asking again would give the same; it is about this request.
    Final(Problem),
    /// Nobody will be answered as things are: the key, the account, the model or the address is wrong.
    Closed(Problem),
    /// The service works, but this is no answer; asking again may give one.
    Unusable(Problem),
    /// The service is broken; asking again later may help.
    Failed(Problem),
    /// The service has too much to do.
    Throttled(Problem),
}

impl<T> Outcome<T> {
    /// Looks more closely at what was answered.
    pub fn and_then<U>(self, look: impl FnOnce(T) -> Outcome<U>) -> Outcome<U> {
        match self {
            Outcome::Answered(answer) => look(answer),
            Outcome::Final(p) => Outcome::Final(p),
            Outcome::Closed(p) => Outcome::Closed(p),
            Outcome::Unusable(p) => Outcome::Unusable(p),
            Outcome::Failed(p) => Outcome::Failed(p),
            Outcome::Throttled(p) => Outcome::Throttled(p),
        }
    }
}

/// An outcome and what the service charged for it, if it says.
#[derive(Debug, PartialEq)]
pub struct Judged<T> {
    /// What it means.
    pub outcome: Outcome<T>,
    /// What it took.
    pub usage: Option<Usage>,
}

/// Codes in a body that say the same whatever the status is.
const KEY_CODES: [&str; 3] = ["invalid_api_key", "account_deactivated", "permission_denied"];
const QUOTA_CODES: [&str; 3] = ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"];
const ADDRESS_CODES: [&str; 5] =
    ["model_not_found", "invalid_model", "unknown_model", "DeploymentNotFound", "deployment_not_found"];
const PARAMETER_CODES: [&str; 3] = ["unsupported_parameter", "unsupported_value", "unknown_parameter"];

/// What a status other than 200 means for services that speak OpenAI's API. `code`: the error code in the body, or nothing.
pub fn refused<T>(codes: &Codes, reply: &Reply, status: u16, code: &str, message: String) -> Outcome<T> {
    let closed = |kind: &'static str, remedy: &str| Outcome::Closed(Problem::new(kind, format!("{message}; {remedy}")));
    if QUOTA_CODES.contains(&code) || status == 402 {
        return closed(codes.quota, "the account has nothing left to spend");
    }
    if KEY_CODES.contains(&code) || [401, 403].contains(&status) {
        return closed(codes.auth, "check `api_key`, and what it may use");
    }
    if ADDRESS_CODES.contains(&code) || [404, 405, 410].contains(&status) {
        return closed(codes.service_error, "check `base_url` and `model`: nothing is served there under this name");
    }
    if PARAMETER_CODES.contains(&code) {
        return closed(codes.service_error, "the model does not take what the step's keys ask for");
    }
    let problem = Problem::new(codes.service_error, message.clone());
    match status {
        300..=399 => {
            let leads = reply.location.map(|l| format!(" to {}", reply.quoted(l))).unwrap_or_default();
            closed(codes.service_error, &format!("it redirects{leads}, which is not followed; give the right `base_url`"))
        }
        429 => Outcome::Throttled(problem),
        408 | 409 | 425 | 500..=599 => Outcome::Failed(problem),
        _ => Outcome::Final(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_at_the_cut_is_removed_whole() {
        let key: Secret = serde_json::from_value(serde_json::json!("sk-very-secret")).unwrap();
        let reply = Reply { host: "h", status: 400, location: None, body: b"", key: Some(&key) };
        for before in MAX_DETAIL_CHARS - 14..=MAX_DETAIL_CHARS {
            let shown = reply.quoted(&format!("{}sk-very-secret", "x".repeat(before)));
            assert!(!shown.contains("sk"), "{shown}");
        }
    }

    #[test]
    fn what_concerns_all_requests_is_not_about_one() {
        let codes = Codes { timeout: "t", service_error: "s", budget_spent: "b", auth: "auth", quota: "quota" };
        let of = |status: u16, code: &str| {
            let reply = Reply { host: "h", status, location: Some("https://other/v1"), body: b"", key: None };
            match refused::<()>(&codes, &reply, status, code, format!("h answered {status}")) {
                Outcome::Closed(p) => format!("closed {}: {}", p.code, p.message),
                Outcome::Final(_) => "final".into(),
                Outcome::Failed(_) => "failed".into(),
                other => format!("{other:?}"),
            }
        };
        for (status, code, kind) in [
            (401, "", "auth"),
            (403, "", "auth"),
            (400, "invalid_api_key", "auth"),
            (402, "", "quota"),
            (429, "insufficient_quota", "quota"),
            (403, "billing_not_active", "quota"),
            (404, "", "s"),
            (400, "model_not_found", "s"),
            (400, "unsupported_parameter", "s"),
            (301, "", "s"),
        ] {
            assert!(of(status, code).starts_with(&format!("closed {kind}: h answered {status}; ")), "{status} {code}");
        }
        assert!(of(308, "").contains("redirects to https://other/v1"), "{}", of(308, ""));
        assert_eq!([of(400, ""), of(413, ""), of(503, ""), of(409, "")], ["final", "final", "failed", "failed"]);
    }
}
