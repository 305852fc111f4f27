//! The captioner against the server of [`super::fixtures`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use base64::Engine;
use curette_engine::operator::{BuildContext, Operator, Paths, Runtime, Secret, Task, Transform};
use curette_engine::resources::Resources;
use curette_engine::verdict::Verdict;
use serde_json::json;

use super::captioner::Captioner;
use super::fixtures::*;
use super::keys::OnServiceDown;
use super::pictures::Picture;

#[test]
fn a_clip_is_shown_with_its_metadata_and_then_summarised() {
    let server = serve([text("A detailed heart."), text("The video shows a heart.")]);
    let mut captioner = server.captioner();
    captioner.temperature = Some(0.0);
    let out = run(&writer(&captioner, Path::new(".")).0, &rows(1));
    assert_eq!(out.verdicts, [Verdict::Pass]);
    let value = |i: usize| out.columns[i].as_string::<i32>().value(0).to_owned();
    assert_eq!([value(0), value(1), value(2)], ["A detailed heart.", "The video shows a heart.", "vlm-2026-01"]);
    assert_eq!(value(3).len(), 64);
    let times = out.columns[4].as_list::<i32>().value(0);
    assert_eq!(times.as_primitive::<Int64Type>().values()[..2], [0, 1_000_000]);
    assert!(out.columns[5].is_null(0), "no transcript column");

    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let (key, first) = &requests[0];
    assert_eq!(key.as_deref(), Some("Bearer sk-very-secret"));
    assert_eq!((&first["model"], &first["max_tokens"], &first["temperature"]), (&json!("vlm"), &json!(1024), &json!(0.0)));
    let content = first.pointer("/messages/0/content").unwrap().as_array().unwrap();
    insta::assert_snapshot!(content[0]["text"].as_str().unwrap(), @r"
    The provided images are sampled from a medical video clip (8 evenly spaced frames). This clip is taken from a video with the following metadata:
    Video Title: Heart {Clip Transcript}
    Video Description: None
    The transcript of this medical clip is as follows: None
    Using the visual content of the clip, along with the title, description, and transcript, please generate a clear, detailed, and accurate description of what is shown in this clip. Focus on visible scenes, actions, and medical elements, including any procedures, instruments, or clinical interactions shown.
    ");
    assert_eq!(content.len(), 9);
    for (k, part) in content[1..].iter().enumerate() {
        assert_eq!(part["image_url"]["detail"], "auto");
        let data = part["image_url"]["url"].as_str().unwrap().strip_prefix("data:image/jpeg;base64,").unwrap();
        let jpeg = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        let picture = image::load_from_memory_with_format(&jpeg, image::ImageFormat::Jpeg).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (16, 8));
        assert!(picture.get_pixel(3, 3).0[0].abs_diff(k as u8 * 20) < 4);
    }
    let brief = requests[1].1.pointer("/messages/0/content").unwrap().as_str().unwrap();
    assert!(brief.contains("\nA detailed heart.\n"), "{brief}");
}

/// Eight seconds at 854x480, 10 frames per second.
fn video(path: &Path) {
    use gstreamer::prelude::*;
    gstreamer::init().unwrap();
    let text = format!(
        "videotestsrc num-buffers=80 ! video/x-raw,width=854,height=480,framerate=10/1 ! \
         x264enc speed-preset=ultrafast key-int-max=20 ! mp4mux ! filesink location=\"{}\"",
        path.display()
    );
    let pipeline = gstreamer::parse::launch(&text).unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let end = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gstreamer::ClockTime::from_seconds(60), &end).unwrap();
    pipeline.set_state(gstreamer::State::Null).unwrap();
    assert_eq!(message.type_(), gstreamer::MessageType::Eos);
}

#[test]
fn the_frames_of_a_real_video_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.mp4");
    video(&path);
    let server = serve([text("d"), text("b")]);
    let (mut writer, _) = writer(&server.captioner(), dir.path());
    writer.describer.as_mut().unwrap().eyes = Arc::new(super::pictures::pictures);
    let uri: ArrayRef = Arc::new(StringArray::from(vec![path.to_str().unwrap(), "/no/such/file.mp4"]));
    let span = |t: i64| Arc::new(Int64Array::from(vec![t, t])) as ArrayRef;
    let rows =
        RecordBatch::try_from_iter([("video_uri", uri), ("start_us", span(1_000_000)), ("end_us", span(3_000_000))]).unwrap();
    let out = run(&writer, &rows);
    assert_eq!(out.verdicts[0], Verdict::Pass);
    assert!(matches!(&out.verdicts[1], Verdict::Unmeasured(p) if p.code == "file_missing"), "{:?}", out.verdicts[1]);
    // 20 frames lie in [1 s, 3 s); the rule takes floor(k * 19 / 7).
    let times = out.columns[4].as_list::<i32>().value(0);
    let wanted = [0, 2, 5, 8, 10, 13, 16, 19].map(|k| 1_000_000 + k * 100_000);
    assert_eq!(times.as_primitive::<Int64Type>().values()[..], wanted);

    let requests = server.requests();
    let content = requests[0].1.pointer("/messages/0/content").unwrap().as_array().unwrap();
    assert_eq!(content.len(), 9);
    for part in &content[1..] {
        let data = part["image_url"]["url"].as_str().unwrap().strip_prefix("data:image/jpeg;base64,").unwrap();
        let jpeg = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        let picture = image::load_from_memory_with_format(&jpeg, image::ImageFormat::Jpeg).unwrap();
        assert_eq!((picture.width(), picture.height()), (768, 432));
    }
}

#[test]
fn a_busy_service_is_asked_again_after_the_time_it_wants() {
    let busy = Act::Say(429, Some("0.4"), json!({"error": {"message": "slow down"}}).to_string());
    let server = serve([busy, text("d"), text("b")]);
    let started = Instant::now();
    assert_eq!(run(&writer(&server.captioner(), Path::new(".")).0, &rows(1)).verdicts, [Verdict::Pass]);
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert_eq!(server.requests().len(), 3);

    let server = serve([Act::Say(429, Some("3000"), String::new()), text("d"), text("b")]);
    let impatient = Captioner { max_retry_after_seconds: 0.05, ..server.captioner() };
    let started = Instant::now();
    assert_eq!(run(&writer(&impatient, Path::new(".")).0, &rows(1)).verdicts, [Verdict::Pass]);
    assert!(started.elapsed() < Duration::from_secs(10), "the wait is bounded by the step");
}

#[test]
fn a_service_that_stays_broken_is_given_up_after_the_attempts() {
    let server = serve((0..3).map(|_| Act::Say(500, None, json!({"error": {"message": "boom"}}).to_string())));
    let (code, message) = ends_with(&Captioner { max_failures: 3, ..server.captioner() });
    let said = "127.0.0.1 answered 500: boom (failure 3 of 3, `max_failures`)";
    assert_eq!((code.as_str(), message.as_str()), ("caption_service_error", said));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_service_that_never_answers_is_a_time_out() {
    let server = serve([Act::Hang, Act::Hang]);
    let (code, message) = ends_with(&Captioner { timeout_seconds: 0.2, max_failures: 2, ..server.captioner() });
    assert_eq!(code, "caption_timeout");
    assert!(message.contains("200ms") && message.contains("timeout_seconds"), "{message}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn nobody_listening_is_a_service_error_that_was_tried_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let captioner = Captioner { max_failures: 2, ..captioner(&format!("http://{address}/v1")) };
    let (code, message) = problem(&run(&writer(&captioner, Path::new(".")).0, &rows(1)));
    assert_eq!(code, "caption_service_error");
    assert!(message.contains("cannot be reached") && message.contains("failure 2 of 2"), "{message}");
}

#[test]
fn answers_that_are_no_captions_have_their_own_codes() {
    let html = || Act::Say(200, None, "<html>".into());
    for (acts, code) in [
        (vec![finish("content_filter")], "caption_refused"),
        (vec![finish("length")], "caption_truncated"),
        (vec![Act::Say(400, None, "{}".into())], "caption_service_error"),
        // What may be better the next time is asked again.
        (vec![text("   "), text("")], "caption_empty"),
        (vec![html(), html()], "caption_service_error"),
    ] {
        let (server, asked) = (serve([]), acts.len());
        server.then(acts);
        assert_eq!(ends_with(&Captioner { max_attempts: 2, max_failures: 2, ..server.captioner() }).0, code);
        assert_eq!(server.requests().len(), asked, "{code}");
    }
    let server = serve([text(" "), html(), text("d"), text("b")]);
    // Each has its own budget: neither has used up the other's.
    let pressed = Captioner { max_attempts: 2, max_failures: 2, ..server.captioner() };
    assert_eq!(run(&writer(&pressed, Path::new(".")).0, &rows(1)).verdicts, [Verdict::Pass]);
}

#[test]
fn a_wrong_key_is_named_and_never_shown_and_ends_the_run_or_its_rows() {
    let server = serve([]);
    let wrong: Secret = serde_json::from_value(json!("sk-wrong")).unwrap();
    let captioner = Captioner { api_key: wrong, ..server.captioner() };
    let said = "127.0.0.1 answered 401: Incorrect API key provided: Bearer ***; check `api_key`, and what it may use";
    let (code, message) = ends_with(&captioner);
    assert!(code == "STOP" && message.starts_with(&format!("caption_auth: {said}")), "{code} {message}");
    assert_eq!(server.requests().len(), 2, "a slip of a proxy's is not taken for a wrong key");
    let patient = Captioner { on_service_down: OnServiceDown::Error, ..captioner.clone() };
    assert_eq!(ends_with(&patient), ("caption_auth".into(), said.into()));
    let shown = format!("{captioner:?}{}", serde_json::to_string(&captioner).unwrap());
    assert!(!shown.contains("sk-wrong"));
}

#[test]
fn what_is_wrong_with_key_account_model_or_address_costs_no_row() {
    let quota = json!({"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}).to_string();
    for (status, body, code) in [
        (403, String::new(), "caption_auth"),
        (402, String::new(), "caption_quota"),
        (429, quota, "caption_quota"),
        (404, String::new(), "caption_service_error"),
        (307, String::new(), "caption_service_error"),
    ] {
        let server = serve((0..2).map(|_| Act::Say(status, None, body.clone())));
        let (stopped, message) = ends_with(&server.captioner());
        assert!(stopped == "STOP" && message.starts_with(&format!("{code}: 127.0.0.1 answered {status}")), "{stopped} {message}");
        assert!(message.contains("the same command goes on"), "{message}");
        // One such answer alone is no reason to stop.
        let server = serve([Act::Say(status, None, body), text("d"), text("b")]);
        assert_eq!(run(&writer(&server.captioner(), Path::new(".")).0, &rows(1)).verdicts, [Verdict::Pass], "{status}");
    }
}

/// A firewall that dislikes the words of one row must not stop all others, at this run and at every one after it.
#[test]
fn a_refusal_that_meets_one_row_while_others_are_served_is_that_rows_problem() {
    let decide = |body: &str| if body.contains("drop table") { Act::Say(403, None, String::new()) } else { text("a caption") };
    let (base_url, _runtime) = serve_by(decide);
    let captioner = Captioner { retry_initial_seconds: 0.4, ..captioner(&base_url) };
    let (writer, _) = writer(&captioner, Path::new("."));
    let titled = |title: &str| {
        let (rows, schema) = (rows(1), rows(1).schema());
        let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
            let text = Arc::new(StringArray::from(vec![title])) as ArrayRef;
            (field.name().clone(), if field.name() == "title" { text } else { Arc::clone(column) }, true)
        });
        RecordBatch::try_from_iter_with_nullable(columns.collect::<Vec<_>>()).unwrap()
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut served = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(run(&writer, &titled("heart")).verdicts, [Verdict::Pass]);
                served += 1;
            }
            served
        });
        let (code, message) = problem(&run(&writer, &titled("drop table")));
        done.store(true, Ordering::Relaxed);
        assert!(code == "caption_auth" && message.starts_with("127.0.0.1 answered 403"), "{code} {message}");
        assert!(others.join().unwrap() > 1);
    });
}

#[test]
fn a_redone_clip_costs_no_call_and_no_decoding() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve([text("d"), text("b"), text("d2"), text("b2")]);
    let cached = Captioner { cache_location: Some("cache".into()), ..server.captioner() };
    let first = run(&writer(&cached, dir.path()).0, &rows(1));
    let (again, looked) = writer(&cached, dir.path());
    let second = run(&again, &rows(1));
    assert_eq!(first.columns, second.columns);
    assert_eq!((server.requests().len(), looked.load(Ordering::Relaxed)), (2, 0));
    // Another meaning is another answer; a patient client is the same one.
    let patient = Captioner { max_attempts: 9, ..cached.clone() };
    assert_eq!(run(&writer(&patient, dir.path()).0, &rows(1)).columns, first.columns);
    let warmer = Captioner { temperature: Some(1.0), ..cached };
    assert_eq!(run(&writer(&warmer, dir.path()).0, &rows(1)).columns[0].as_string::<i32>().value(0), "d2");
}

#[test]
fn another_service_is_asked_again_though_its_model_has_the_same_name() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (serve([text("d"), text("b")]), serve([text("other d"), text("other b")]));
    let cached = |server: &Server| Captioner { cache_location: Some("cache".into()), ..server.captioner() };
    let caption = |server: &Server| {
        let out = run(&writer(&cached(server), dir.path()).0, &rows(1));
        (out.columns[0].as_string::<i32>().value(0).to_owned(), out.columns[3].as_string::<i32>().value(0).to_owned())
    };
    let (first, hash) = caption(&one);
    assert_eq!((first.as_str(), caption(&other)), ("d", ("other d".to_owned(), hash.clone())));
    assert_eq!(caption(&one), ("d".to_owned(), hash), "both are kept, side by side");
    assert_eq!((one.requests().len(), other.requests().len()), (2, 2));
}

#[test]
fn services_of_one_identity_share_what_is_kept_and_so_do_versions_of_an_api() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (serve([text("d"), text("b")]), serve([]));
    let named = |server: &Server| Captioner {
        cache_location: Some("cache".into()),
        cache_identity: "our vlm".into(),
        ..server.captioner()
    };
    let first = run(&writer(&named(&one), dir.path()).0, &rows(1));
    assert_eq!(run(&writer(&named(&other), dir.path()).0, &rows(1)).columns, first.columns);
    assert_eq!(other.requests().len(), 0);

    let azure = serve([text("d2"), text("b2")]);
    let version = |version: &str| Captioner {
        api_style: super::keys::ApiStyle::Azure,
        azure_api_version: version.into(),
        cache_location: Some("azure".into()),
        ..azure.captioner()
    };
    let keyed_as_before = |version: &Captioner| {
        let (mut writer, _) = writer(version, dir.path());
        let describer = writer.describer.as_mut().unwrap();
        describer.identity = describer.service.url.as_str().to_owned();
        writer
    };
    // What was kept when the version was part of the key is found.
    let paid = run(&keyed_as_before(&version("2024-10-21")), &rows(1));
    assert_eq!(run(&writer(&version("2024-10-21"), dir.path()).0, &rows(1)).columns, paid.columns);
    assert_eq!(azure.requests().len(), 2);
    azure.then([text("d3"), text("b3")]);
    let paid = run(&writer(&version("2025-01-01"), dir.path()).0, &rows(1));
    assert_eq!(
        run(&writer(&version("2026-04-01"), dir.path()).0, &rows(1)).columns,
        paid.columns,
        "another version is not paid again"
    );
    assert_eq!(azure.requests().len(), 4);
}

#[test]
fn the_prompt_counts_the_frames_that_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("brief.txt"), "{Frame Count} frames: {Detailed Caption}").unwrap();
    let server = serve([text("d"), text("b")]);
    let captioner =
        Captioner { brief_prompt_file: Some("brief.txt".into()), cache_location: Some("cache".into()), ..server.captioner() };
    let short = || {
        let (mut writer, _) = writer(&captioner, dir.path());
        let picture = |k| Picture { at_us: k, jpeg: vec![0xff, 0xd8] };
        writer.describer.as_mut().unwrap().eyes = Arc::new(move |_, _, _, _| Ok((0..3).map(picture).collect()));
        run(&writer, &rows(1))
    };
    assert_eq!(short().columns, short().columns, "the second time from the cache");
    let requests = server.requests();
    let content = requests[0].1.pointer("/messages/0/content").unwrap().as_array().unwrap();
    assert_eq!(content.len(), 1 + 3);
    assert!(content[0]["text"].as_str().unwrap().contains("(3 evenly spaced frames)"), "{}", content[0]["text"]);
    assert_eq!(requests[1].1.pointer("/messages/0/content").unwrap(), "3 frames: d");
}

#[test]
fn a_paid_detailed_caption_is_kept_when_the_brief_one_fails() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve([text("d"), finish("length"), text("b")]);
    let cached = Captioner { cache_location: Some("cache".into()), ..server.captioner() };
    let truncated = || problem(&run(&writer(&cached, dir.path()).0, &rows(1)));
    assert_eq!(truncated().0, "caption_truncated");
    assert_eq!(truncated(), truncated(), "that was paid for too, and is not asked again");
    let insistent = Captioner { retry_refused: true, ..cached.clone() };
    assert_eq!(run(&writer(&insistent, dir.path()).0, &rows(1)).verdicts, [Verdict::Pass]);
    assert_eq!(run(&writer(&cached, dir.path()).0, &rows(1)).verdicts, [Verdict::Pass], "the better answer took its place");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn without_a_content_hash_the_frames_tell_videos_apart() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve([text("d"), text("b")]);
    let cached = Captioner { cache_location: Some("cache".into()), ..server.captioner() };
    let rows = rows(1).project(&[0, 2, 3, 4, 5]).unwrap();
    let first = run(&writer(&cached, dir.path()).0, &rows);
    let (again, looked) = writer(&cached, dir.path());
    assert_eq!(run(&again, &rows).columns, first.columns);
    assert_eq!((server.requests().len(), looked.load(Ordering::Relaxed)), (2, 1));
}

#[test]
fn a_stopped_run_does_not_wait_for_the_service() {
    let server = serve([Act::Hang]);
    let (writer, _) = writer(&Captioner { timeout_seconds: 60.0, ..server.captioner() }, Path::new("."));
    let cancelled = AtomicBool::new(false);
    let resources = Arc::new(Resources::default());
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            cancelled.store(true, Ordering::Relaxed);
        });
        let out = writer.process(&rows(3), &Task { step: "caption", resources: &resources, cancelled: &cancelled }).unwrap();
        assert_eq!(problem(&out).0, "cancelled");
    });
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_cache_can_be_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let off = captioner("http://127.0.0.1:1/v1");
    assert!(writer(&off, dir.path()).0.describer.unwrap().cache.is_none());
}

#[test]
fn templates_are_honest_about_themselves() {
    let template: Captioner = toml::from_str("backend = \"template\"").unwrap();
    let paths = Paths { base: ".".into() };
    let resources = Arc::new(Resources::default());
    let context =
        BuildContext { step: "c", input: rows(1).schema(), id_column: "clip_id".into(), paths: &paths, resources: &resources };
    let Runtime::Transform(transform) = template.build(&context).unwrap() else { panic!() };
    let out =
        transform.process(&rows(2), &Task { step: "c", resources: &resources, cancelled: &AtomicBool::new(false) }).unwrap();
    assert_eq!(out.verdicts, [Verdict::Pass, Verdict::Pass]);
    assert_eq!(out.columns[2].as_string::<i32>().value(0), "curette-template/1");
    assert!(out.columns[0].as_string::<i32>().value(1).ends_with("no model has seen the frames."));
    assert!((3..11).all(|i| out.columns[i].is_null(0)), "no prompt, no frames, no transcript, no tokens");
}
