//! The main job on the sample corpus: the same rows whatever runs it and however often it is stopped, and the rows that the truth demands.

#![allow(clippy::unwrap_used)]

mod support;
mod training;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use support::{assert_same, corpus, curette, quickstart, rows, succeed, tables};

/// Runs the quickstart over the sample corpus with these arguments.
fn run(output: &Path, args: &[&str]) -> BTreeMap<&'static str, Vec<String>> {
    let corpus = corpus();
    let pipeline = quickstart(&corpus, &corpus.folder.join("videos"), output, "split_max_items = 4");
    succeed(curette().arg("run").arg(pipeline).arg("--quiet").args(args));
    tables(output)
}

#[test]
fn rows_do_not_depend_on_threads_or_processes() {
    let dir = tempfile::tempdir().unwrap();
    let one = run(&dir.path().join("w1"), &["-w", "1"]);
    assert!(!one["clips"].is_empty(), "the quickstart must keep some clips");
    for (name, args) in [
        ("w2", &["-w", "2"][..]),
        ("w4", &["-w", "4"]),
        ("binary2", &["-w", "2", "--binary"]),
        ("processes2", &["--processes", "2", "-w", "1"]),
        ("processes3", &["--processes", "3", "-w", "1"]),
    ] {
        assert_same(name, &one, &run(&dir.path().join(name), args));
    }
}

#[test]
fn two_members_of_a_hosts_file_share_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let alone = run(&dir.path().join("alone"), &["-w", "2"]);
    let output = dir.path().join("hosts");
    let corpus = corpus();
    let pipeline = quickstart(&corpus, &corpus.folder.join("videos"), &output, "split_max_items = 4");
    let free: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let lines: Vec<String> = free.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
    drop(free);
    let hosts = dir.path().join("hosts.txt");
    std::fs::write(&hosts, lines.join("\n")).unwrap();
    let member = |process: &str| {
        let mut command = curette();
        command.arg("run").arg(&pipeline).args(["--quiet", "-w", "1", "--process", process]).arg("--hosts").arg(&hosts);
        command.env("CURETTE_CLUSTER_SECRET", "a secret of this test");
        command
    };
    let mut second = member("1").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let first = succeed(&mut member("0"));
    assert!(second.wait().unwrap().success());
    assert!(String::from_utf8_lossy(&first.stdout).contains("splits done"), "the first member reports");
    assert_same("hosts", &alone, &tables(&output));
}

#[test]
fn a_signal_commits_what_is_open_and_the_next_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let want = run(&dir.path().join("undisturbed"), &["-w", "1"]);
    let output = dir.path().join("stopped");
    let corpus = corpus();
    let pipeline = quickstart(&corpus, &corpus.folder.join("videos"), &output, "split_max_items = 2");
    let child = curette()
        .arg("run")
        .arg(&pipeline)
        .args(["--quiet", "-w", "1"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    // SAFETY: the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(143), "{said}");
    assert!(said.contains("splits are committed; the same command continues"), "{said}");
    let again = succeed(curette().arg("run").arg(&pipeline).args(["--quiet", "--format", "json"]));
    let report: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(report["splits_before"].as_u64().unwrap() > 0, "what was open is committed: {report}");
    assert_same("after SIGTERM", &want, &tables(&output));
}

#[test]
fn the_result_is_what_the_corpus_was_drawn_to_give() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    run(&output, &["-w", "2"]);
    let corpus = corpus();
    let truth = corpus.truth();
    let column = |table: &str, row: &str, name: &str| {
        let cell = row.split(" | ").find_map(|c| c.strip_prefix(&format!("{name}=")));
        cell.unwrap_or_else(|| panic!("table {table} has no column {name}: {row}")).to_string()
    };

    // Every broken file is a typed error, every readable one is not.
    let errors = rows(&output.join("errors"));
    let unreadable: BTreeMap<String, String> = errors
        .iter()
        .filter(|r| column("errors", r, "step") == "probe")
        .map(|r| (column("errors", r, "item_id"), column("errors", r, "code")))
        .collect();
    for (video, facts) in &truth {
        let readable = facts["readable"].as_bool().unwrap();
        assert_eq!(!unreadable.contains_key(video), readable, "{video}: {:?}", unreadable.get(video));
    }

    // Every video that gives no clip ends at the operator that the truth names.
    let mut ended: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for table in ["rejects", "errors"] {
        for row in rows(&output.join(table)) {
            ended.entry(column(table, &row, "root_id")).or_default().insert(column(table, &row, "operator"));
        }
    }
    for (video, facts) in &truth {
        let end = facts["quickstart"]["ends_at"].as_str().unwrap();
        let found = ended.get(video);
        assert!(end == "clips" || found.is_some_and(|f| f.contains(end)), "{video} should end at {end}: {found:?}");
    }

    // Every clip lies inside one medical shot of a video with a medical title, and is as long as the rule says.
    let clips = rows(&output.join("clips"));
    for row in &clips {
        let video = column("clips", row, "video_id");
        let (start, end): (i64, i64) =
            (column("clips", row, "start_us").parse().unwrap(), column("clips", row, "end_us").parse().unwrap());
        assert!(end - start >= 6_000_000, "{row}");
        let facts = &truth[&video];
        assert_eq!(facts["medical_title"], true, "{video}");
        let shots = facts["shots"].as_array().unwrap();
        let inside = shots.iter().find(|s| s["start_us"].as_i64().unwrap() <= start && end <= s["end_us"].as_i64().unwrap());
        let shot = inside.unwrap_or_else(|| panic!("{video} {start}-{end} crosses a cut: {shots:?}"));
        assert_eq!(shot["medical"], true, "{video} {start}-{end}: {shot}");
    }

    // Every medical shot that is long and large enough, moves, is sharp and has no border gave a clip.
    for (video, facts) in truth.iter().filter(|(_, f)| f["readable"] == true && f["medical_title"] == true) {
        let side = facts["width"].as_i64().unwrap().min(facts["height"].as_i64().unwrap());
        let border = facts["borders"].as_object().is_some_and(|b| b.values().any(|v| v.as_i64().unwrap_or(0) > 0));
        let poor = facts["still"] == true || facts["blurred"] == true;
        for shot in facts["shots"].as_array().unwrap() {
            let (start, end) = (shot["start_us"].as_i64().unwrap(), shot["end_us"].as_i64().unwrap());
            let expected = shot["medical"] == true && end - start >= 7_500_000 && side >= 480 && !border && !poor;
            let got = clips.iter().any(|r| {
                let (s, e): (i64, i64) =
                    (column("clips", r, "start_us").parse().unwrap(), column("clips", r, "end_us").parse().unwrap());
                column("clips", r, "video_id") == *video && start <= s && e <= end
            });
            if expected {
                assert!(got, "{video}: the shot {start}-{end} gave no clip");
            }
            if border || poor || side < 480 {
                assert!(!got, "{video}: the shot {start}-{end} should have been rejected");
            }
        }
    }

    // The check by eye that the paper asks for: the output table becomes pictures.
    let folder = dir.path().join("to-check");
    let mut label = curette();
    label.arg("label").arg("--table").arg(output.join("clips")).args([
        "--pictures",
        "3",
        "--count",
        "2",
        "--classes",
        "unclean,clean",
    ]);
    let laid = succeed(label.args(["--format", "json"]).arg("--out").arg(&folder));
    let laid: serde_json::Value = serde_json::from_slice(&laid.stdout).unwrap();
    assert_eq!((&laid["rows"], &laid["skipped"]), (&serde_json::json!(2), &serde_json::json!([])));
    let sheet = std::fs::read_to_string(folder.join("labels.csv")).unwrap();
    let pictures: Vec<&str> = sheet.lines().skip(1).map(|line| line.split(',').nth(1).unwrap()).collect();
    assert!(pictures.len() == 2 && pictures.iter().all(|picture| folder.join(picture).is_file()), "{sheet}");
}

#[test]
fn running_again_does_nothing_and_a_changed_threshold_is_refused_with_the_difference() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let first = run(&output, &["-w", "2"]);
    let again = succeed(curette().arg("run").arg(output.with_extension("toml")).args(["--quiet", "--format", "json"]));
    let report: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(report["splits_done"], 0);
    assert_same("again", &first, &tables(&output));

    let file = output.with_extension("toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = text.replace("split_max_items = 4", "split_max_items = 5");
    assert_ne!(text, changed);
    std::fs::write(&file, changed).unwrap();
    let refused = curette().arg("run").arg(&file).arg("--quiet").output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("split_max_items: 4 -> 5") && said.contains("--new-version"), "{said}");
    assert_same("refused", &first, &tables(&output));
    let step = "min_length_seconds = 6.0";
    std::fs::write(&file, text.replace(step, "min_length_seconds = 7.0")).unwrap();
    let plan = succeed(curette().arg("plan").arg(&file).args(["--format", "json"]));
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let redo: Vec<_> =
        plan["redo"].as_array().unwrap().iter().map(|r| (r["step"].as_str().unwrap(), &r["rows"], &r["why"])).collect();
    let of = |step: &str| redo.iter().find(|(name, ..)| *name == step).unwrap();
    assert_eq!((of("embed").1.as_str(), of("embed").2.is_null()), (Some("same"), true));
    assert_eq!(of("split").2["changed"], serde_json::json!(["step.split.min_length_seconds: 6.0 -> 7.0"]));
    assert_eq!(of("clips").2["after"], "split");
    std::fs::write(&file, text.replace("split_max_items = 4", "split_max_items = 5")).unwrap();
    let again = succeed(curette().arg("run").arg(&file).args(["--quiet", "--new-version", "--format", "json"]));
    assert_same("new version", &first, &tables(&output));
    // Nothing was decoded, measured or cut again.
    let report: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    for step in ["embed", "no_borders", "cut"] {
        let stage = report["funnel"].as_array().unwrap().iter().find(|s| s["step"] == step).unwrap();
        assert!(stage["rows_in"].as_u64().unwrap() > 0);
        assert_eq!(report["reused"][step], stage["rows_in"], "{step}");
    }
}
