//! What may be spent: the captioner against the misbehaving server of [`super::fixtures`], with a purse.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::Array;
use curette_engine::operator::{BuildContext, Paths, Task, Transform};
use curette_engine::resources::Resources;
use curette_engine::verdict::Verdict;

use super::captioner::Captioner;
use super::fixtures::*;
use super::keys::OnServiceDown;
use super::service_tests::{billed, captioned};
use crate::remote::purse::{Most, Purse, now_seconds};

/// A captioner whose estimates are 9,400 tokens a clip, or a little more, and whose rows fail when the budget is spent.
fn limited(server: &Server, max_total_tokens: u64) -> Captioner {
    Captioner {
        cache_location: Some("cache".into()),
        max_total_tokens: Some(max_total_tokens),
        max_tokens: 300,
        brief_max_tokens: 100,
        on_service_down: OnServiceDown::Error,
        ..server.captioner()
    }
}

#[test]
fn a_spent_budget_sends_no_request_and_is_remembered_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let script = || (0..3).flat_map(|n| [billed(&format!("d{n}"), 6_000, 200), billed("b", 250, 50)]);
    let server = serve(script());
    let limited = limited(&server, 25_000);
    // 6,500 tokens each: the fourth detailed question could exceed what is left.
    let (writer, looked) = writer(&limited, dir.path());
    let out = run(&writer, &rows(5));
    let spent = |v: &Verdict| matches!(v, Verdict::Unmeasured(p) if p.code == "caption_budget_spent");
    assert_eq!(out.verdicts.iter().map(spent).collect::<Vec<_>>(), [false, false, false, true, true]);
    assert_eq!((server.requests().len(), looked.load(Ordering::Relaxed)), (6, 3), "nothing is decoded that cannot be paid");
    let (codes, out) = captioned(&limited, dir.path(), &rows(5));
    assert_eq!(codes[2..], ["Pass", "caption_budget_spent", "caption_budget_spent"], "what is cached costs nothing");
    assert!(out.columns[0].is_null(3));
    assert_eq!(server.requests().len(), 6, "after a restart nothing more is sent");

    let other = serve(script());
    let named = |name: &str| Captioner { budget_name: name.into(), base_url: other.base_url.clone(), ..limited.clone() };
    assert_eq!(captioned(&named("more"), dir.path(), &rows(1)).0, ["Pass"], "another budget");
    assert!(std::fs::read_to_string(dir.path().join("cache/budgets/more.purse")).unwrap().contains("\"tokens\":6500"));
    std::fs::write(dir.path().join("cache/budgets/more.purse"), "nonsense").unwrap();
    let resources = Arc::new(Resources::default());
    let paths = Paths { base: dir.path().into() };
    let context =
        BuildContext { step: "c", input: rows(1).schema(), id_column: "clip_id".into(), paths: &paths, resources: &resources };
    let refused = named("more").writer(&context).err().unwrap().to_string();
    assert!(refused.contains("more.purse") && refused.contains("delete it to begin at zero"), "{refused}");
}

#[test]
fn failed_attempts_are_paid_from_the_budget_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve([billed(" ", 6_000, 0), billed(" ", 6_000, 0), billed("d", 6_000, 200)]);
    let (codes, _) = captioned(&limited(&server, 18_400), dir.path(), &rows(1));
    assert_eq!(codes, ["caption_budget_spent"], "two answers without a caption took 12,000, a third may take 9,000");
    assert_eq!(server.requests().len(), 2);
}

/// Captions each row in a thread of its own; gives codes, or what ended the run.
fn at_once(captioner: &Captioner, base: &Path, n: usize) -> Vec<String> {
    let (writer, _) = writer(captioner, base);
    let (all, resources) = (rows(n), Arc::new(Resources::default()));
    std::thread::scope(|scope| {
        let one = |k: usize| {
            let task = Task { step: "caption", resources: &resources, cancelled: &AtomicBool::new(false) };
            match writer.process(&all.slice(k, 1), &task) {
                Ok(out) if out.verdicts == [Verdict::Pass] => "Pass".to_owned(),
                Ok(out) => problem(&out).0,
                Err(e) => format!("STOP {e}"),
            }
        };
        let threads: Vec<_> = (0..n).map(|k| scope.spawn(move || one(k))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

#[test]
fn money_that_is_only_reserved_refuses_nobody() {
    let dir = tempfile::tempdir().unwrap();
    // 24 clips (and one brief caption, the same for all) take 25 x 350 = 8,750 of 30,000 tokens; but each reserves 9,400, so that only three go at a time.
    let server = serve((0..48).map(|_| billed("t", 300, 50)));
    let codes = at_once(&limited(&server, 30_000), dir.path(), 24);
    assert_eq!(codes, ["Pass"; 24]);
    let purse = std::fs::read_dir(dir.path().join("cache/budgets")).unwrap().next().unwrap().unwrap().path();
    let spent = std::fs::read_to_string(purse).unwrap();
    assert!(spent.contains("\"tokens\":8750,") && spent.contains("\"reserved_tokens\":0"), "{spent}");
}

#[test]
fn a_spent_budget_ends_the_run_at_once_and_uses_no_rate() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve((0..2).map(|_| billed("t", 6_000, 50)));
    let captioner = Captioner { on_service_down: OnServiceDown::Stop, ..limited(&server, 13_000) };
    assert_eq!(at_once(&captioner, dir.path(), 1), ["Pass"]);
    // At one token a second a question of this size would wait for hours.
    let started = Instant::now();
    for captioner in [
        Captioner { tokens_per_minute: Some(60.0), ..captioner.clone() },
        Captioner { tokens_per_minute: Some(60.0), on_service_down: OnServiceDown::Error, ..captioner },
    ] {
        let stop = captioner.on_service_down == OnServiceDown::Stop;
        for ended in &at_once(&captioner, dir.path(), 9)[1..] {
            match stop {
                true => {
                    assert!(ended.starts_with("STOP caption_budget_spent: no more requests are sent: 12100 of 13000"), "{ended}")
                }
                false => assert_eq!(ended, "caption_budget_spent"),
            }
        }
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn money_that_a_killed_process_reserved_is_waited_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve([]);
    let captioner = Captioner { timeout_seconds: 0.1, budget_name: "b".into(), ..limited(&server, 10_000) };
    std::fs::create_dir_all(dir.path().join("cache/budgets")).unwrap();
    let left = "{\"requests\":1,\"tokens\":9000,\"nano_usd\":0,\"reserved_tokens\":9000,\"reserved_nano_usd\":0}";
    std::fs::write(dir.path().join("cache/budgets/b.purse"), left).unwrap();
    let started = Instant::now();
    let (codes, _) = captioned(&captioner, dir.path(), &rows(20));
    assert_eq!(codes, ["caption_budget_spent"; 20]);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(15), "{waited:?}");
    assert_eq!(server.requests().len(), 0);
}

/// A purse of which another step has reserved 9,000 tokens until then.
fn reserved(folder: &Path, until: u64) -> Purse {
    std::fs::create_dir_all(folder.join("cache/budgets")).unwrap();
    let path = folder.join("cache/budgets/b.purse");
    let left = format!(
        "{{\"requests\":1,\"tokens\":9000,\"nano_usd\":0,\"reserved_tokens\":9000,\"reserved_nano_usd\":0,\"reserved_until\":{until}}}"
    );
    std::fs::write(&path, left).unwrap();
    Purse::new(path, Most::default())
}

#[test]
fn reserved_money_is_waited_for_as_long_as_the_one_who_reserved_it_can_take() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve([billed("d", 300, 50), billed("b", 300, 50)]);
    let captioner = Captioner { timeout_seconds: 1.0, budget_name: "b".into(), ..limited(&server, 12_000) };
    let purse = reserved(dir.path(), now_seconds() + 120);
    let answered = std::thread::spawn(move || {
        // Far longer than a request of the one who waits may take, and its grace.
        std::thread::sleep(Duration::from_secs(9));
        purse.settle((9_000, 0), (350, 0)).unwrap();
    });
    let (codes, _) = captioned(&captioner, dir.path(), &rows(1));
    assert_eq!(codes, ["Pass"], "no clip is lost to another step's slow request");
    answered.join().unwrap();
}

#[test]
fn money_whose_time_is_over_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve([]);
    let captioner = Captioner { timeout_seconds: 600.0, budget_name: "b".into(), ..limited(&server, 10_000) };
    reserved(dir.path(), now_seconds() - 60);
    let started = Instant::now();
    assert_eq!(captioned(&captioner, dir.path(), &rows(3)).0, ["caption_budget_spent"; 3]);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn until_the_first_answer_says_what_pictures_take_nobody_else_asks() {
    let dir = tempfile::tempdir().unwrap();
    // Pictures take ten times the guess: asked at once, eight questions would take 8 x 90,000 of 200,000 tokens.
    let (url, _runtime) =
        serve_by(|body| if body.contains("image_url") { billed("d", 89_950, 50) } else { billed("b", 200, 50) });
    let captioner = Captioner { base_url: url, ..limited(&serve([]), 200_000) };
    let codes = at_once(&captioner, dir.path(), 8);
    let of = |code: &str| codes.iter().filter(|c| *c == code).count();
    assert_eq!((of("Pass"), of("caption_budget_spent")), (2, 6), "{codes:?}");
    let purse = std::fs::read_dir(dir.path().join("cache/budgets")).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::read_to_string(purse).unwrap().contains("\"tokens\":180250,"));
}

#[test]
fn tokens_of_a_picture_can_be_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve([billed("d", 6_000, 200), billed("b", 250, 50)]);
    let dear = Captioner { tokens_per_image: 14_000, ..limited(&server, 100_000) };
    assert_eq!(captioned(&dear, dir.path(), &rows(1)).0, ["caption_budget_spent"], "8 x 14,000 could exceed it");
    assert_eq!(captioned(&Captioner { tokens_per_image: 1_000, ..dear }, dir.path(), &rows(1)).0, ["Pass"]);
}
