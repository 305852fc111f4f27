//! `curette review`, `audit` and the step `gate` with the real binary: who is let in, what is kept, and when rows go on.

#![allow(clippy::unwrap_used)]

#[path = "support/review.rs"]
mod page;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use page::Server;
use serde_json::{Value, json};
use support::{curette, rows, succeed};

/// Videos that the stage keeps and drops.
const KEPT: usize = 24;
const DROPPED: usize = 8;
/// Bytes of a video.
const LENGTH: usize = 200_001;

/// Bytes that a browser would take for an MP4; each video has its own.
fn video(number: usize) -> Vec<u8> {
    let mut bytes = b"\0\0\0\x18ftypmp42".to_vec();
    bytes.extend((bytes.len()..LENGTH).map(|at| (at * 31 + at / 251 + number) as u8));
    bytes
}

/// Videos; all of them in `all`, those that the filter `clean` keeps behind the gate in `kept`.
fn pipeline(dir: &Path) -> PathBuf {
    let videos = dir.join("videos");
    std::fs::create_dir_all(&videos).unwrap();
    for number in 0..KEPT + DROPPED {
        let name = if number < KEPT { format!("v{number:02}.mp4") } else { format!("v{number:02}x.mp4") };
        std::fs::write(videos.join(name), video(number)).unwrap();
    }
    let file = dir.join("pipeline.toml");
    let text = r#"
[pipeline]
name = "review"
output = "out"
split_max_items = 5

[step.videos]
type = "videos"
path = "videos"

[step.all]
type = "parquet"
inputs = ["videos"]
columns = ["video_id", "video_uri", "title"]

[step.clean]
type = "filter"
inputs = ["videos"]
keep_if = "video_uri not like '%x.mp4'"

[step.audited]
type = "gate"
inputs = ["clean"]
sample = 10

[step.kept]
type = "parquet"
inputs = ["audited"]
columns = ["video_id", "audit"]
"#;
    std::fs::write(&file, text).unwrap();
    file
}

fn run(pipeline: &Path, more: &[&str]) -> std::process::Output {
    curette().arg("run").arg(pipeline).arg("-q").args(more).output().unwrap()
}

fn review(place: &Path, raters: &[&str]) -> Command {
    let mut command = curette();
    command.arg("review").arg(place).args(["--n", "16", "--rejected", "4"]);
    raters.iter().for_each(|rater| drop(command.args(["--rater", rater])));
    command
}

#[test]
fn nobody_gets_in_without_the_link_and_a_clip_comes_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&pipeline(dir.path()), &[]).status.code(), Some(5));
    let server = Server::start(&mut review(&dir.path().join("out"), &["A", "B"]));
    let (a, b) = (server.seat("A"), server.seat("B"));
    assert!(a.path.len() >= 34 && a.path != b.path, "{}", a.path);

    let status = |method: &str, path: &str, headers: &[(&str, &str)]| a.ask(method, path, headers, "").unwrap().status;
    let page = a.get("", &[]);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    // The token.
    for path in ["/", "/api/session", "/0123456789abcdef0123456789abcdef/", "/../", &a.path[..a.path.len() - 2]] {
        assert_eq!(status("GET", path, &[]), 403, "{path}");
    }
    // The name that the request was sent to, and the page that sent it.
    for host in ["evil.example", "127.0.0.1", "127.0.0.1:1", &format!("evil.example:{}", a.host.split_once(':').unwrap().1)] {
        assert_eq!(status("GET", &a.path, &[("Host", host)]), 421, "{host}");
    }
    assert_eq!(status("GET", &a.path, &[("Host", &a.host.replace("127.0.0.1", "localhost"))]), 200);
    assert_eq!(status("GET", &format!("http://evil.example{}", a.path), &[]), 421);
    assert_eq!(status("GET", &a.path, &[("Origin", "http://evil.example")]), 403);
    assert_eq!(status("PUT", &a.path, &[]), 405);
    // Paths.
    let tricks =
        ["media/../../../etc/passwd", "media/%2e%2e%2f%2e%2e%2fetc%2fpasswd/0", "media/0/%2fetc%2fpasswd", "app.js/..", ".."];
    for trick in tricks.into_iter().chain(["media/99999999999999999999/0", "media/-1/0", "media/0/7", "nothing"]) {
        let found = status("GET", &format!("{}{trick}", a.path), &[]);
        assert!([400, 403, 404].contains(&found), "{trick}: {found}");
    }
    // Sizes and kinds of bodies.
    let json = [("Content-Type", "application/json")];
    let path = format!("{}api/rating", a.path);
    let large = format!("{{\"item\":0,\"label\":\"clean\",\"note\":\"{}\"}}", "x".repeat(65_500));
    assert_eq!(a.ask("POST", &path, &json, &large).unwrap().status, 413);
    assert_eq!(a.ask("POST", &path, &[], "{\"item\":0,\"label\":\"clean\"}").unwrap().status, 415, "a form of another site");
    for wrong in ["{", "{\"item\":0}", "{\"item\":0,\"label\":\"clean\",\"more\":1}"] {
        assert!([400, 422].contains(&a.ask("POST", &path, &json, wrong).unwrap().status), "{wrong}");
    }
    for wrong in [
        json!({"item": 999, "label": "clean"}),
        json!({"item": 0, "label": "fine"}),
        json!({"item": 0, "label": "clean", "tags": ["x"]}),
    ] {
        assert_eq!(a.post("api/rating", &wrong).unwrap().status, 422, "{wrong}");
    }

    // Both sides of the stage, with reason; a clip as a whole and in parts.
    let items = a.items();
    assert_eq!(items.len(), 20);
    assert_ne!(items, b.items(), "each rater has an order of their own");
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for (item, _) in &items {
        let found = a.get(&format!("api/item/{item}"), &[]).json();
        *outcomes.entry(found["outcome"].as_str().unwrap().to_owned()).or_default() += 1;
        let dropped = found["outcome"] == "rejected";
        assert_eq!(
            found["name"].as_str().unwrap().ends_with('x') || found["name"].as_str().unwrap().ends_with("x.mp4"),
            dropped,
            "{found}"
        );
        assert_eq!(found["reason"]["code"] == "condition_false", dropped, "{found}");
        assert!(!found.to_string().contains(&*dir.path().to_string_lossy()) || dropped, "places are not shown: {found}");
    }
    assert_eq!(outcomes, BTreeMap::from([("kept".into(), 16), ("rejected".into(), 4)]));
    let item = items[0].0;
    let name = a.get(&format!("api/item/{item}"), &[]).json()["name"].as_str().unwrap().to_owned();
    let number: usize = name[1..3].parse().unwrap();
    let (want, url) = (video(number), format!("media/{item}/0"));
    let whole = a.get(&url, &[]);
    assert_eq!(
        (whole.status, whole.header("accept-ranges"), whole.header("content-type")),
        (200, Some("bytes"), Some("video/mp4"))
    );
    assert!(whole.body == want);
    let tag = whole.header("etag").unwrap().to_owned();
    for (asked, first, last) in
        [("bytes=0-", 0, LENGTH - 1), ("bytes=70000-140000", 70_000, 140_000), ("bytes=-7", LENGTH - 7, LENGTH - 1)]
    {
        let part = a.get(&url, &[("Range", asked), ("If-Range", &tag)]);
        assert_eq!(part.header("content-range"), Some(&*format!("bytes {first}-{last}/{LENGTH}")), "{}", part.headers);
        assert!(part.status == 206 && part.body == want[first..=last], "{asked}");
    }
    assert_eq!(a.get(&url, &[("Range", "bytes=0-1"), ("If-Range", "\"other\"")]).status, 200, "the file changed");
    let beyond = a.get(&url, &[("Range", &format!("bytes={LENGTH}-"))]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(&*format!("bytes */{LENGTH}"))));
    let head = a.ask("HEAD", &format!("{}{url}", a.path), &[], "").unwrap();
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some(&*LENGTH.to_string()), 0));
    server.stop();
}

#[test]
fn a_killed_server_loses_nothing_that_it_acknowledged_and_two_raters_do_not_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&pipeline(dir.path()), &[]).status.code(), Some(5));
    let out = dir.path().join("out");
    let mut kept: BTreeMap<&str, BTreeMap<u64, String>> = BTreeMap::new();
    for round in 0..3 {
        let server = Server::start(&mut review(&out, &["A", "B"]));
        for rater in ["A", "B"] {
            let seat = server.seat(rater);
            let done: BTreeSet<u64> = seat.items().into_iter().filter(|(_, done)| *done).map(|(item, _)| item).collect();
            let acknowledged = kept.entry(rater).or_default();
            // The last one may be kept without our having been told.
            assert!(acknowledged.keys().all(|item| done.contains(item)), "{rater}: {acknowledged:?} of {done:?}");
            assert!(done.len() <= acknowledged.len() + 1);
            for (item, label) in acknowledged.iter() {
                let mine = seat.get(&format!("api/item/{item}"), &[]).json()["mine"].clone();
                assert_eq!((&mine[0]["label"], mine.as_array().unwrap().len()), (&json!(label), 1), "only one's own");
            }
        }
        let second = review(&out, &["A"]).output().unwrap();
        assert!(String::from_utf8_lossy(&second.stderr).contains("another process serves this session"), "{second:?}");
        // Both rate at once until the server is killed under them.
        let raters: Vec<_> = ["A", "B"]
            .into_iter()
            .map(|rater| {
                let seat = server.seat(rater);
                let open: Vec<u64> = seat.items().into_iter().filter(|(_, done)| !*done).map(|(item, _)| item).collect();
                std::thread::spawn(move || {
                    let mut told = BTreeMap::new();
                    for item in open {
                        let label = if rater == "A" { "clean" } else { ["slightly_noisy", "noisy"][item as usize % 2] };
                        match seat.rate(item, label) {
                            Some(answer) if answer.status == 200 => drop(told.insert(item, label.to_owned())),
                            _ => break,
                        }
                    }
                    (rater, told)
                })
            })
            .collect();
        if round < 2 {
            std::thread::sleep(std::time::Duration::from_millis(15));
            server.kill();
            raters.into_iter().map(|r| r.join().unwrap()).for_each(|(rater, told)| kept.get_mut(rater).unwrap().extend(told));
        } else {
            raters.into_iter().map(|r| r.join().unwrap()).for_each(|(rater, told)| kept.get_mut(rater).unwrap().extend(told));
            let seat = server.seat("A");
            assert!(seat.items().iter().all(|(_, done)| *done));
            // A second thought counts, the first one stays in the table.
            let first = seat.items()[0].0;
            assert_eq!(seat.rate(first, "noisy").unwrap().status, 200);
            assert!(seat.post("api/finish", &json!({})).unwrap().status == 200);
            server.stop();
        }
    }
    let ratings = rows(&out.join("ratings"));
    assert!(ratings.len() >= 41, "{}", ratings.len());
    let ids: BTreeSet<&str> = ratings.iter().map(|row| row.split(" | ").next().unwrap()).collect();
    assert_eq!(ids.len(), ratings.len(), "each rating once");

    let results = succeed(curette().arg("audit").arg("results").arg(&out).args(["--format", "json"]));
    let results: Value = serde_json::from_slice(&results.stdout).unwrap();
    let of = |outcome: &str| results.as_array().unwrap().iter().find(|r| r["outcome"] == outcome).unwrap().clone();
    assert_eq!((&of("kept")["raters"], &of("rejected")["items"]), (&json!({"A": 16, "B": 16}), &json!(4)));
    let pair = &of("kept")["agreement"][0]["pairs"][0];
    assert!(pair["linear"].is_number() && pair["quadratic"].is_number() && pair["binary"].is_number(), "{pair}");
    let text = String::from_utf8(succeed(curette().arg("audit").arg("results").arg(&out)).stdout).unwrap();
    assert!(text.contains("acceptable to most:") && text.contains("A - B"), "{text}");
}

#[test]
fn a_gate_holds_rows_back_until_the_audit_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (pipeline(dir.path()), dir.path().join("out"));
    let held = run(&file, &["-w", "1"]);
    let said = String::from_utf8_lossy(&held.stderr).into_owned();
    assert_eq!(held.status.code(), Some(5), "{said}");
    assert!(said.contains("the gate `audited` holds back 24 rows: 0 of 10 rows that `clean` kept are rated"), "{said}");
    assert!(rows(&out.join("kept")).is_empty() && rows(&out.join("all")).len() == KEPT + DROPPED);
    let held_back = rows(&out.join("rejects")).iter().filter(|row| row.contains("code=held_back")).count();
    assert_eq!(held_back, KEPT);
    assert_eq!(run(&file, &["-w", "4", "--binary"]).status.code(), Some(5), "nothing has changed");
    let status = |code: i32| {
        let output = curette().arg("audit").arg("status").arg(&out).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(status(5).contains("open: 0 of 10"), "{}", status(5));

    // A sample that is too dirty.
    let rate = |label: &dyn Fn(usize) -> &'static str| {
        let server = Server::start(&mut review(&file, &["A"]));
        let seat = server.seat("A");
        for (at, (item, _)) in seat.items().into_iter().enumerate() {
            let kept = seat.get(&format!("api/item/{item}"), &[]).json()["outcome"] == "kept";
            assert_eq!(seat.rate(item, if kept { label(at) } else { "noisy" }).unwrap().status, 200);
        }
        assert!(server.stop().contains("20 ratings committed"));
    };
    rate(&|at| if at % 2 == 0 { "noisy" } else { "clean" });
    assert!(status(5).contains("FAILED: "), "{}", status(5));
    let failed = run(&file, &["--processes", "2"]);
    assert_eq!(failed.status.code(), Some(5), "{failed:?}");
    assert!(rows(&out.join("kept")).is_empty());

    // The same sample, looked at again: the next run goes on by itself, in a new version, also in a cluster.
    rate(&|at| if at == 0 { "slightly_noisy" } else { "clean" });
    assert!(status(0).contains("passed: 16 of 16"), "{}", status(0));
    for label in ["gates_noted", "version_noted", "version_begun"] {
        let killed = curette().arg("run").arg(&file).arg("-q").env("CURETTE_KILL_AT", label).output().unwrap();
        assert_eq!(killed.status.code(), None, "{label}: {killed:?}");
    }
    let passed = run(&file, &["--processes", "2"]);
    assert_eq!(passed.status.code(), Some(0), "{}", String::from_utf8_lossy(&passed.stderr));
    let kept = rows(&out.join("kept"));
    assert!(kept.len() == KEPT && kept.iter().all(|row| row.contains("audit=passed")), "{kept:?}");
    assert_eq!(rows(&out.join("all")).len(), KEPT + DROPPED);
    assert_eq!(rows(&out.join("ratings")).len(), 40, "no run touches them");
    assert_eq!(run(&file, &[]).status.code(), Some(0));

    // Other rows, another plan: the audit is not about them.
    std::fs::write(dir.path().join("videos/v99.mp4"), video(99)).unwrap();
    let other = run(&file, &["--new-version"]);
    assert_eq!(other.status.code(), Some(5), "{other:?}");
    assert!(String::from_utf8_lossy(&other.stderr).contains("ratings are about rows of other plans"));
    let accepted = run(&file, &["--accept-unaudited"]);
    assert_eq!(accepted.status.code(), Some(0), "{}", String::from_utf8_lossy(&accepted.stderr));
    let kept = rows(&out.join("kept"));
    assert!(kept.len() == KEPT + 1 && kept.iter().all(|row| row.contains("audit=unaudited")), "{kept:?}");
}

#[test]
fn generated_videos_are_rated_and_voted_about_and_labels_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let videos = |name: &str, first: usize| {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        (0..6).for_each(|i| std::fs::write(folder.join(format!("a heart {i}.mp4")), video(first + i)).unwrap());
        folder
    };
    let (ours, theirs) = (videos("ours", 0), videos("theirs", 100));
    let votes = dir.path().join("votes");
    let mut command = curette();
    command.arg("review").arg(&ours).args(["--mode", "pairwise", "--rater", "d1", "--rater", "d2", "--rater", "d3"]);
    command.arg("--against").arg(format!("other={}", theirs.display())).arg("--out").arg(&votes);
    let server = Server::start(&mut command);
    let mut sides = BTreeSet::new();
    for rater in ["d1", "d2", "d3"] {
        let seat = server.seat(rater);
        for (item, _) in seat.items() {
            let found = seat.get(&format!("api/item/{item}"), &[]).json();
            assert!(!found.to_string().contains("other") && !found.to_string().contains("ours"), "{found}");
            let prompt = found["texts"][0][1].as_str().unwrap().to_owned();
            let number: usize = prompt.rsplit(' ').next().unwrap().parse().unwrap();
            // Everyone finds ours better, by its bytes alone; of prompt 5 nobody finds either good.
            let is_ours = seat.get(&format!("media/{item}/0"), &[]).body == video(number);
            sides.insert(is_ours);
            for dimension in ["text_alignment", "medical_accuracy", "visual_quality"] {
                let side = if number == 5 { "both_loss" } else { ["right", "left"][usize::from(is_ours)] };
                let said = json!({"item": item, "dimension": dimension, "label": side});
                assert_eq!(seat.post("api/rating", &said).unwrap().status, 200);
            }
            let mine = seat.get(&format!("api/item/{item}"), &[]).json()["mine"].clone();
            assert_eq!(mine.as_array().unwrap().len(), 3);
        }
    }
    assert_eq!(sides.len(), 2, "sides are shuffled");
    server.stop();
    let results = succeed(curette().arg("audit").arg("results").arg(&votes).args(["--format", "json"]));
    let results: Value = serde_json::from_slice(&results.stdout).unwrap();
    for outcome in results[0]["pairwise"]["outcomes"].as_array().unwrap() {
        assert_eq!((&outcome["win"], &outcome["both_loss"], &outcome["loss"]), (&json!(5), &json!(1), &json!(0)), "{outcome}");
    }

    let labels = dir.path().join("labels.parquet");
    let mut command = curette();
    command
        .arg("review")
        .arg(&ours)
        .args(["--mode", "label", "--classes", "no,yes", "--rater", "A"])
        .arg("--labels")
        .arg(&labels);
    let server = Server::start(&mut command);
    let seat = server.seat("A");
    seat.items().into_iter().take(5).for_each(|(item, _)| assert_eq!(seat.rate_plain(item, "yes").status, 200));
    assert!(server.stop().contains("labels: 0 no, 5 yes, 0 undecided, 1 without"));
    let table = curette_operators::tables::OpenTable::open(&labels).unwrap();
    for column in ["sample", "video_id", "group", "label"] {
        assert!(table.has(column), "{column}");
    }
}

#[test]
fn mistakes_are_told_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (pipeline(dir.path()), dir.path().join("out"));
    run(&file, &[]);
    let empty = dir.path().join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    let (out, empty) = (out.to_string_lossy().into_owned(), empty.to_string_lossy().into_owned());
    let place = dir.path().canonicalize().unwrap().to_string_lossy().into_owned();
    let mut told = Vec::new();
    for args in [
        &["review", &out, "--rater", "../x"][..],
        &["review", &out, "--rater", "A", "--rater", "A"],
        &["review", &out, "--rater", "A", "--stage", "none"],
        &["review", &out, "--rater", "A", "--mode", "label"],
        &["review", &out, "--rater", "A", "--mode", "pairwise"],
        &["review", &out, "--rater", "A", "--uncertain", "score"],
        &["review", &empty, "--rater", "A", "--mode", "warping"],
        &["review", &empty, "--rater", "A", "--mode", "pairwise", "--against", "other"],
        &["review", "s3://no/bucket", "--rater", "A", "--n", "0"],
        &["audit", "status", &empty],
    ] {
        let output = curette().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        told.push(String::from_utf8_lossy(&output.stderr).replace(&place, "DIR"));
    }
    insta::assert_snapshot!(told.concat());
}
