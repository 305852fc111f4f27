//! What an answer of a chat-completions service means (OpenAI, Azure, vLLM, llama.cpp, Ollama, ...).
//!
//! Why typed outcomes: a refusal, a cut-off answer and a broken service need different remedies, so each has its own code: `caption_refused`,
//! `caption_truncated`, `caption_empty`, `caption_auth`, `caption_quota`, `caption_service_error`. Services differ in small things, all of which are
//! taken: text as a string or as parts, no `usage`, no `finish_reason`, thoughts beside the text or before it in `<think>`, an error with status 200.
//!
//! What can go wrong: a model that thinks longer than its token limit answers nothing at all; that is `caption_truncated`.

use curette_engine::verdict::Problem;
use serde_json::Value;

use crate::remote::outcome::{Codes, Judged, Outcome, Reply, refused};
use crate::remote::purse::Usage;

/// The codes of what is not an answer.
pub const CODES: Codes = Codes {
    timeout: "caption_timeout",
    service_error: "caption_service_error",
    budget_spent: "caption_budget_spent",
    auth: "caption_auth",
    quota: "caption_quota",
};

/// More tokens than any one request takes.
const MAX_USAGE: u64 = 10_000_000;

/// How the end of a whole answer is called; absent, null and empty count as such an end too. In small letters, as all of these.
const WHOLE: [&str; 5] = ["stop", "eos", "eos_token", "end_turn", "stop_sequence"];
/// How an answer that the token limit cut off is called.
const CUT_OFF: [&str; 3] = ["length", "max_tokens", "model_length"];
/// How an answer is called that a model or its service withholds.
const WITHHELD: [&str; 9] = [
    "content_filter",
    "content_filtered",
    "refusal",
    "safety",
    "image_safety",
    "recitation",
    "blocklist",
    "prohibited_content",
    "spii",
];

/// What the service said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text, trimmed, never empty.
    pub text: String,
    /// The model that it says it used; empty when it does not.
    pub model: String,
    /// What it charged, if it says.
    pub usage: Option<Usage>,
}

/// What a reply means.
pub fn judge(reply: &Reply) -> Judged<Answer> {
    let json: Option<Value> = serde_json::from_slice(reply.body).ok();
    let usage = json.as_ref().and_then(usage);
    Judged { outcome: outcome(reply, json, usage), usage }
}

fn outcome(reply: &Reply, json: Option<Value>, usage: Option<Usage>) -> Outcome<Answer> {
    let host = reply.host;
    if reply.status != 200 {
        return refused_status(reply, reply.status, json.as_ref());
    }
    let Some(json) = json else {
        // A page for people, half an answer: the service's trouble and never the clip's.
        let message = format!("{host} answered with something that is not JSON; does `base_url` end where the API starts?");
        return Outcome::Failed(service(message));
    };
    let Some(choice) = first_choice(&json) else {
        // Routers say in the body what the service behind them answered.
        let code = json.pointer("/error/code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        if let Some(code) = code.filter(|code| *code != 200) {
            return refused_status(reply, code, Some(&json));
        }
        return Outcome::Unusable(service(format!("{host} answered without a choice{}", error_text(&json, reply))));
    };
    let text_at = |path: &str| choice.pointer(path).and_then(Value::as_str).unwrap_or_default().trim();
    let (text, refusal_part) = content(choice);
    let refusal = [text_at("/message/refusal"), &refusal_part].into_iter().find(|r| !r.is_empty()).unwrap_or_default();
    let finish = text_at("/finish_reason").to_ascii_lowercase();
    let finish = finish.as_str();
    if !refusal.is_empty() || WITHHELD.contains(&finish) {
        let said = reply.quoted(if refusal.is_empty() { finish } else { refusal });
        return Outcome::Final(Problem::new("caption_refused", format!("the model refused to describe the clip: {said}")));
    }
    if CUT_OFF.contains(&finish) {
        return Outcome::Final(Problem::new(
            "caption_truncated",
            "the caption was cut off by the token limit; raise `max_tokens` (`brief_max_tokens` if it was the brief one)",
        ));
    }
    if !finish.is_empty() && !WHOLE.contains(&finish) {
        // An error in the middle, a call of a tool, a stopped server: whatever text there is may be half of one.
        return Outcome::Unusable(service(format!(
            "{host} ended its answer with `{}`, which is no end of a caption",
            reply.quoted(finish)
        )));
    }
    let text = without_thoughts(&text);
    if text.is_empty() {
        return Outcome::Unusable(Problem::new("caption_empty", format!("{host} answered with an empty caption ({finish})")));
    }
    let model = json.get("model").and_then(Value::as_str).unwrap_or_default();
    Outcome::Answered(Answer { text: text.to_owned(), model: model.to_owned(), usage })
}

fn service(message: String) -> Problem {
    Problem::new("caption_service_error", message)
}

/// What a status other than 200 means.
fn refused_status(reply: &Reply, status: u16, json: Option<&Value>) -> Outcome<Answer> {
    let detail = json.map(|j| error_text(j, reply)).unwrap_or_default();
    let message = format!("{} answered {status}{detail}", reply.host);
    let code = json.and_then(|j| j.pointer("/error/code")?.as_str().map(str::to_owned)).unwrap_or_default();
    let flagged = json.is_some_and(|j| j.pointer("/error/metadata/flagged_input").is_some());
    match (status, code.as_str()) {
        (400, "content_filter" | "content_policy_violation") => Outcome::Final(Problem::new("caption_refused", message)),
        // A router's moderation speaks of one clip; any other 403 speaks of the key.
        (403, _) if flagged => Outcome::Final(Problem::new("caption_refused", message)),
        (status, code) => refused(&CODES, reply, status, code, message),
    }
}

/// The choice of the lowest index: services may give them in any order.
fn first_choice(json: &Value) -> Option<&Value> {
    let choices = json.get("choices")?.as_array()?;
    choices.iter().min_by_key(|choice| choice.get("index").and_then(Value::as_u64).unwrap_or(0))
}

/// The text of a message, which may come in parts, and what its parts refuse.
fn content(choice: &Value) -> (String, String) {
    let Some(content) = choice.pointer("/message/content") else { return Default::default() };
    if let Some(text) = content.as_str() {
        return (text.to_owned(), String::new());
    }
    let parts = content.as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |kinds: &[&str], field: &str| -> String {
        let wanted = |p: &&Value| p.get("type").and_then(Value::as_str).is_none_or(|t| kinds.contains(&t));
        parts.iter().filter(wanted).filter_map(|p| p.get(field)?.as_str()).collect()
    };
    (of(&["text", "output_text"], "text"), of(&["refusal"], "refusal").trim().to_owned())
}

/// The text behind a leading `<think>...</think>`, which servers without a parser for thoughts leave in.
fn without_thoughts(text: &str) -> &str {
    let text = text.trim();
    match text.strip_prefix("<think>") {
        Some(thoughts) => thoughts.split_once("</think>").map_or("", |(_, rest)| rest.trim()),
        // Some chat templates open the tag in the prompt.
        None => text.split_once("</think>").map_or(text, |(_, rest)| rest.trim()),
    }
}

/// `usage`, if it is there and makes sense.
fn usage(json: &Value) -> Option<Usage> {
    let usage = json.get("usage")?;
    // More than any request takes is a mistake of the service, which must not reach the estimates of others.
    let number = |names: [&str; 2]| names.iter().find_map(|name| usage.get(*name)?.as_u64()).filter(|n| *n <= MAX_USAGE);
    Some(Usage {
        prompt_tokens: number(["prompt_tokens", "input_tokens"])?,
        completion_tokens: number(["completion_tokens", "output_tokens"])?,
    })
}

/// `: what the service says about it`, one line, or nothing.
fn error_text(json: &Value, reply: &Reply) -> String {
    let text = json.pointer("/error/message").or_else(|| json.get("message")).or_else(|| json.get("error"));
    text.and_then(Value::as_str).map(|text| format!(": {}", reply.quoted(text))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(status: u16, body: &str) -> Judged<Answer> {
        judge(&Reply { host: "host", status, location: None, body: body.as_bytes(), key: None })
    }

    fn said(status: u16, body: Value) -> String {
        match judged(status, &body.to_string()).outcome {
            Outcome::Answered(answer) => format!("answered: {} ({})", answer.text, answer.model),
            Outcome::Closed(p) => format!("closed: {}: {}", p.code, p.message),
            Outcome::Final(p) => format!("final: {}: {}", p.code, p.message),
            Outcome::Unusable(p) => format!("unusable: {}: {}", p.code, p.message),
            Outcome::Failed(p) => format!("failed: {}: {}", p.code, p.message),
            Outcome::Throttled(p) => format!("throttled: {}: {}", p.code, p.message),
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
            said(200, json!({"error": {"code": 502, "message": "behind me"}})),
            said(400, json!({"error": {"code": "content_policy_violation", "message": "no"}})),
            said(400, json!({"error": {"message": "bad image"}})),
            said(401, json!({"error": {"message": "Incorrect API key"}})),
            said(403, json!({"error": {"code": 403, "message": "flagged", "metadata": {"flagged_input": "..."}}})),
            said(402, json!({"error": {"message": "Top up"}})),
            said(404, json!({})),
            said(307, json!({})),
            said(408, json!({})),
            said(429, json!({"error": "slow\ndown"})),
            said(429, json!({"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}})),
            said(503, json!("?")),
        ];
        insta::assert_snapshot!(all.join("\n"), @r#"
        answered: A heart. (m-1)
        final: caption_truncated: the caption was cut off by the token limit; raise `max_tokens` (`brief_max_tokens` if it was the brief one)
        final: caption_refused: the model refused to describe the clip: content_filter
        final: caption_refused: the model refused to describe the clip: I can't help
        unusable: caption_empty: host answered with an empty caption (stop)
        unusable: caption_empty: host answered with an empty caption (stop)
        unusable: caption_service_error: host answered without a choice: overloaded
        failed: caption_service_error: host answered 502: behind me
        final: caption_refused: host answered 400: no
        final: caption_service_error: host answered 400: bad image
        closed: caption_auth: host answered 401: Incorrect API key; check `api_key`, and what it may use
        final: caption_refused: host answered 403: flagged
        closed: caption_quota: host answered 402: Top up; the account has nothing left to spend
        closed: caption_service_error: host answered 404; check `base_url` and `model`: nothing is served there under this name
        closed: caption_service_error: host answered 307; it redirects, which is not followed; give the right `base_url`
        failed: caption_service_error: host answered 408
        throttled: caption_service_error: host answered 429: slow down
        closed: caption_quota: host answered 429: You exceeded your current quota; the account has nothing left to spend
        failed: caption_service_error: host answered 503
        "#);
    }

    #[test]
    fn only_an_answer_that_is_known_to_be_whole_is_one() {
        let ended = |finish: Value| {
            let said = said(200, json!({"choices": [{"finish_reason": finish, "message": {"content": "A heart."}}]}));
            said.split(':').take(2).collect::<Vec<_>>().join(":")
        };
        for whole in ["stop", "STOP", "eos", "end_turn", "stop_sequence", "", " "] {
            assert!(ended(json!(whole)).starts_with("answered"), "{whole}");
        }
        assert!(ended(Value::Null).starts_with("answered"));
        for cut in ["length", "LENGTH", "max_tokens", "MAX_TOKENS", "model_length"] {
            assert_eq!(ended(json!(cut)), "final: caption_truncated");
        }
        for withheld in ["content_filter", "SAFETY", "RECITATION", "refusal", "PROHIBITED_CONTENT"] {
            assert_eq!(ended(json!(withheld)), "final: caption_refused");
        }
        for odd in ["error", "tool_calls", "abort", "insufficient_system_resource", "OTHER", "?"] {
            assert_eq!(ended(json!(odd)), "unusable: caption_service_error", "{odd}");
        }
    }

    #[test]
    fn what_services_do_differently_is_understood() {
        let message = |message: Value| json!({"choices": [{"message": message}]});
        let parts =
            json!([{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "A "}, {"type": "text", "text": "heart."}]);
        let refused = json!([{"type": "refusal", "refusal": "No."}]);
        let all = [
            said(200, message(json!({"content": parts}))),
            said(200, message(json!({"content": refused}))),
            said(200, message(json!({"content": "A heart.", "reasoning_content": "hm", "tool_calls": null}))),
            said(200, message(json!({"content": null, "reasoning_content": "thought too long"}))),
            said(200, message(json!({"content": "<think>\nA kidney? No.\n</think>\n\nA heart."}))),
            said(200, message(json!({"content": "A kidney? No.</think>A heart."}))),
            said(200, message(json!({"content": "<think>never ends"}))),
            said(
                200,
                json!({"choices": [{"index": 1, "message": {"content": "second"}}, {"index": 0, "message": {"content": "first"}}]}),
            ),
            said(200, json!({"choices": [{"finish_reason": null, "message": {"content": "A heart."}}], "timings": {"x": 1}})),
            said(200, json!({"choices": "none"})),
            said(200, json!([])),
        ];
        insta::assert_snapshot!(all.join("\n"), @r#"
        answered: A heart. ()
        final: caption_refused: the model refused to describe the clip: No.
        answered: A heart. ()
        unusable: caption_empty: host answered with an empty caption ()
        answered: A heart. ()
        answered: A heart. ()
        unusable: caption_empty: host answered with an empty caption ()
        answered: first ()
        answered: A heart. ()
        unusable: caption_service_error: host answered without a choice
        unusable: caption_service_error: host answered without a choice
        "#);
    }

    #[test]
    fn what_was_charged_is_known_also_for_answers_that_are_none() {
        let with = |usage: Value| json!({"choices": [{"message": {"content": ""}}], "usage": usage}).to_string();
        let of = |usage: Value| judged(200, &with(usage)).usage;
        let usage = Some(Usage { prompt_tokens: 6_000, completion_tokens: 12 });
        assert_eq!(of(json!({"prompt_tokens": 6000, "completion_tokens": 12, "total_tokens": 1, "details": {}})), usage);
        assert_eq!(of(json!({"input_tokens": 6000, "output_tokens": 12})), usage);
        for nothing in [json!(null), json!({}), json!({"prompt_tokens": -1, "completion_tokens": 1}), json!("many")] {
            assert_eq!(of(nothing), None);
        }
    }
}
