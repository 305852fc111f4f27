//! What services differ in, what they cost, and when they are left alone: the captioner against the misbehaving server of [`super::fixtures`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use curette_engine::operator::{BuildContext, Paths, Task, Transform};
use curette_engine::resources::Resources;
use curette_engine::verdict::Verdict;
use serde_json::json;

use super::answer::ResponseFormat;
use super::captioner::Captioner;
use super::fixtures::*;
use super::keys::{ApiStyle, OnServiceDown};
use super::records::Entry;
use crate::remote::cache::Cache;

/// An answer with a bill.
pub fn billed(content: &str, prompt: u64, completion: u64) -> Act {
    let body = json!({
        "model": "vlm-2026-01", "choices": [{"finish_reason": "stop", "message": {"content": content}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
    });
    Act::Say(200, None, body.to_string())
}

pub fn captioned(captioner: &Captioner, base: &Path, rows: &RecordBatch) -> (Vec<String>, curette_engine::verdict::Processed) {
    let out = run(&writer(captioner, base).0, rows);
    let code = |v: &Verdict| match v {
        Verdict::Unmeasured(p) => p.code.to_string(),
        other => format!("{other:?}"),
    };
    (out.verdicts.iter().map(code).collect(), out)
}

#[test]
fn azure_is_addressed_by_deployment_version_and_api_key() {
    let server = serve([text("d"), text("b")]);
    let azure = Captioner {
        api_style: ApiStyle::Azure,
        azure_deployment: "my vlm".into(),
        azure_api_version: "2024-10-21".into(),
        base_url: server.base_url.trim_end_matches("/v1").into(),
        ..server.captioner()
    };
    assert_eq!(captioned(&azure, Path::new("."), &rows(1)).0, ["Pass"]);
    let paths = server.paths();
    assert_eq!(paths[0], "/openai/deployments/my%20vlm/chat/completions?api-version=2024-10-21");
    assert_eq!(server.requests()[0].0.as_deref(), Some("api-key sk-very-secret"));
}

#[test]
fn both_captions_come_in_one_answer_of_a_schema() {
    let answer = json!({"caption": "A detailed heart.", "brief_caption": "The video shows a heart."}).to_string();
    let server = serve([text("no JSON"), text(&answer)]);
    let one = Captioner { one_answer: true, response_format: ResponseFormat::JsonSchema, ..server.captioner() };
    let (codes, out) = captioned(&one, Path::new("."), &rows(1));
    assert_eq!(codes, ["Pass"]);
    assert_eq!(out.columns[0].as_string::<i32>().value(0), "A detailed heart.");
    assert_eq!(out.columns[1].as_string::<i32>().value(0), "The video shows a heart.");
    let requests = server.requests();
    assert_eq!(requests.len(), 2, "one that was malformed, one that was not");
    let schema = requests[0].1.pointer("/response_format/json_schema").unwrap();
    assert_eq!((&schema["strict"], &schema["schema"]["required"]), (&json!(true), &json!(["caption", "brief_caption"])));
    let prompt = requests[0].1.pointer("/messages/0/content/0/text").unwrap().as_str().unwrap();
    assert!(prompt.ends_with("adds nothing to it."), "{prompt}");
}

#[test]
fn tokens_and_money_are_in_the_row_and_a_cached_answer_says_what_it_did_cost() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve([billed("d", 6_000, 200), billed("b", 250, 50)]);
    let priced = Captioner {
        cache_location: Some("cache".into()),
        usd_per_million_prompt_tokens: Some(2.5),
        usd_per_million_completion_tokens: Some(10.0),
        ..server.captioner()
    };
    for _ in 0..2 {
        let (_, out) = captioned(&priced, dir.path(), &rows(1));
        let tokens = [8, 9].map(|i| out.columns[i].as_primitive::<Int64Type>().value(0));
        assert_eq!(tokens, [6_250, 250]);
        let usd = out.columns[10].as_primitive::<Float64Type>().value(0);
        assert!((usd - (6_250.0 * 2.5 + 250.0 * 10.0) / 1e6).abs() < 1e-12, "{usd}");
    }
    let unpriced = Captioner { usd_per_million_prompt_tokens: None, usd_per_million_completion_tokens: None, ..priced };
    let (_, out) = captioned(&unpriced, dir.path(), &rows(1));
    assert!(out.columns[10].is_null(0) && !out.columns[8].is_null(0));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_service_that_does_not_count_leaves_tokens_unknown() {
    let server = serve([billed("d", 6_000, 200), text("b")]);
    let (codes, out) = captioned(&server.captioner(), Path::new("."), &rows(1));
    assert_eq!(codes, ["Pass"]);
    assert!((8..11).all(|i| out.columns[i].is_null(0)), "half a bill is none");
}

#[test]
fn an_answer_about_other_frames_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve([text("d"), text("b"), text("d2"), text("b2")]);
    let cached = Captioner { cache_location: Some("cache".into()), ..server.captioner() };
    captioned(&cached, dir.path(), &rows(2));
    // The answers of two clips change places in the cache, as no program should do.
    let cache = Cache::new(dir.path().join("cache"), 1 << 30);
    let mut detailed: Vec<Entry> = Vec::new();
    for folder in std::fs::read_dir(dir.path().join("cache")).unwrap().map(|f| f.unwrap().path()).filter(|f| f.is_dir()) {
        for file in std::fs::read_dir(folder).unwrap() {
            let key = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
            detailed.extend(cache.get::<Entry>(&key).filter(|entry| entry.text.starts_with('d')));
        }
    }
    let [one, other] = &detailed[..] else { panic!("{detailed:?}") };
    cache.put(&Entry { key: one.key.clone(), ..other.clone() });
    cache.put(&Entry { key: other.key.clone(), ..one.clone() });
    let (codes, out) = captioned(&cached, dir.path(), &rows(2));
    assert_eq!(codes, ["caption_misbound", "caption_misbound"]);
    assert_eq!((out.columns[0].null_count(), server.requests().len()), (2, 4));
}

#[test]
fn rows_are_sealed_with_their_id_and_frames() {
    let server = serve([text("d"), text("b")]);
    let with_id = |id: &str| {
        let rows = rows(1);
        let mut columns: Vec<_> = rows.schema().fields().iter().map(|f| f.name().clone()).zip(rows.columns().to_vec()).collect();
        columns.push(("clip_id".into(), Arc::new(arrow::array::StringArray::from(vec![id]))));
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let cached = Captioner { cache_location: Some("cache".into()), ..server.captioner() };
    let seal_of = |id: &str| {
        let (_, out) = captioned(&cached, dir.path(), &with_id(id));
        let text = |i: usize| out.columns[i].as_string::<i32>().value(0).to_owned();
        let mut hasher = blake3::Hasher::new();
        for part in [id, &text(6), &text(3), &text(2), &text(0), &text(1)] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        assert_eq!(text(7), hasher.finalize().to_hex().to_string(), "as the documentation says");
        (text(7), text(6))
    };
    let (a, b) = (seal_of("a"), seal_of("b"));
    assert_ne!(a.0, b.0);
    assert_eq!(a.1, b.1, "the same frames");
}

#[test]
fn a_clip_that_comes_twice_at_once_is_paid_for_once() {
    let server = serve([text("d"), text("b")]);
    let dir = tempfile::tempdir().unwrap();
    let cached = Captioner { cache_location: Some("cache".into()), ..server.captioner() };
    let (writer, _) = writer(&cached, dir.path());
    let resources = Arc::new(Resources::default());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let task = Task { step: "caption", resources: &resources, cancelled: &AtomicBool::new(false) };
                assert_eq!(writer.process(&rows(1), &task).unwrap().verdicts, [Verdict::Pass]);
            });
        }
    });
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_service_that_is_down_ends_the_run_or_its_rows_as_the_step_says() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let dead =
        Captioner { give_up_seconds: 1.0, max_failures: 20, max_in_flight: 4, ..captioner(&format!("http://{address}/v1")) };
    let all = |captioner: &Captioner| {
        let (writer, _) = writer(captioner, Path::new("."));
        let resources = Arc::new(Resources::default());
        let started = Instant::now();
        let ended: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let task = Task { step: "caption", resources: &resources, cancelled: &AtomicBool::new(false) };
                        match writer.process(&rows(1), &task) {
                            Ok(out) => problem(&out).1,
                            Err(e) => format!("STOP {e}"),
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
        ended
    };
    let ended = all(&dead);
    assert!(ended.iter().any(|e| e.starts_with("STOP caption_service_error: 127.0.0.1 has answered nothing for")), "{ended:?}");
    assert!(ended.iter().any(|e| e.contains("the same command goes on")), "{ended:?}");
    let ended = all(&Captioner { on_service_down: OnServiceDown::Error, ..dead });
    assert!(ended.iter().all(|e| !e.starts_with("STOP")), "{ended:?}");
    assert!(ended.iter().any(|e| e.contains("has answered nothing")), "{ended:?}");
}

#[test]
fn an_outage_costs_no_clip_its_attempts() {
    // A service that is away for a while and then comes back.
    let broken = (0..14).map(|_| Act::Say(502, None, String::new()));
    let server = serve(broken.chain((0..40).map(|_| text("answer"))));
    let captioner = Captioner { max_failures: 6, max_in_flight: 12, ..server.captioner() };
    let (writer, _) = writer(&captioner, Path::new("."));
    let resources = Arc::new(Resources::default());
    let passed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..12)
            .map(|_| {
                scope.spawn(|| {
                    let task = Task { step: "caption", resources: &resources, cancelled: &AtomicBool::new(false) };
                    writer.process(&rows(1), &task).unwrap().verdicts == [Verdict::Pass]
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|passed| *passed).count()
    });
    assert_eq!(passed, 12);
}

#[test]
fn steps_share_limits_when_they_ask_one_model_at_one_address() {
    let resources = Arc::new(Resources::default());
    let paths = Paths { base: ".".into() };
    let limiter = |captioner: &Captioner| {
        let input = rows(1).schema();
        let context = BuildContext { step: "c", input, id_column: "clip_id".into(), paths: &paths, resources: &resources };
        captioner.writer(&context).unwrap().describer.unwrap().service.limiter
    };
    let one = captioner("http://h/v1");
    let first = limiter(&one);
    assert!(Arc::ptr_eq(&first, &limiter(&Captioner { frames: 4, ..one.clone() })), "one model with another question");
    assert!(!Arc::ptr_eq(&first, &limiter(&Captioner { model: "other".into(), ..one.clone() })), "services limit by model");
    assert!(!Arc::ptr_eq(&first, &limiter(&captioner("http://h/v2"))));
    let named = |model: &str| Captioner { model: model.into(), limit_group: "account".into(), ..one.clone() };
    assert!(Arc::ptr_eq(&limiter(&named("a")), &limiter(&named("b"))), "unless they say so");
}

#[test]
fn a_429_costs_no_attempt_and_a_long_one_costs_no_row() {
    let busy = |n: usize, after: &'static str| {
        let said = json!({"error": {"message": "slow down"}}).to_string();
        (0..n).map(move |_| Act::Say(429, Some(after), said.clone()))
    };
    let server = serve(busy(5, "0.01").chain([text("d"), text("b")]));
    let pressed = Captioner { max_attempts: 1, max_failures: 1, ..server.captioner() };
    assert_eq!(captioned(&pressed, Path::new("."), &rows(1)).0, ["Pass"]);

    let server = serve(busy(40, "3600"));
    let tired = Captioner { max_throttled_seconds: 0.2, max_retry_after_seconds: 0.02, ..server.captioner() };
    let (code, message) = ends_with(&tired);
    assert!(
        code == "STOP" && message.starts_with("caption_service_error: 127.0.0.1 answered 429: slow down"),
        "{code} {message}"
    );
    for part in ["nothing but 429", "max_throttled_seconds", "3600 s (`Retry-After`)"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let server = serve(busy(40, "0.02"));
    let (code, _) = ends_with(&Captioner { on_service_down: OnServiceDown::Error, base_url: server.base_url.clone(), ..tired });
    assert_eq!(code, "caption_service_error");
}

#[test]
fn a_question_that_alone_is_answered_429_is_no_outage() {
    // Too large for the service's limits, say.
    let (url, _runtime) =
        serve_by(|body| if body.contains("Clip A") { Act::Say(429, None, "{}".into()) } else { text("answer") });
    let (writer, _) = writer(&Captioner { max_throttled_seconds: 0.3, ..captioner(&url) }, Path::new("."));
    let titled = |title: &str| {
        let rows = rows(1);
        let mut columns = rows.columns().to_vec();
        columns[2] = Arc::new(arrow::array::StringArray::from(vec![title]));
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    };
    let resources = Arc::new(Resources::default());
    let ask = |title: &str| {
        let task = Task { step: "caption", resources: &resources, cancelled: &AtomicBool::new(false) };
        writer.process(&titled(title), &task)
    };
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| ask("Clip A"));
        while !refused.is_finished() {
            assert_eq!(ask("Clip B").unwrap().verdicts, [Verdict::Pass]);
        }
        let (code, message) = problem(&refused.join().unwrap().unwrap());
        assert!(code == "caption_service_error" && message.contains("while others were answered"), "{code} {message}");
    });
}
