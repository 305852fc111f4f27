//! Runs whose inputs and tables are in a store: killed, throttled, with answers lost on the way. They must end as on a local disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use super::s3::{Fault, KEY, Rule, S3, SECRET};
use super::support::{assert_same, corpus, curette, quickstart, succeed, tables};
use super::{rows_of_files, videos};

/// The quickstart with this output and these videos, wherever they are; gives the file.
pub fn pipeline(folder: &Path, name: &str, inputs: &str, output: &str, engine: &str) -> std::path::PathBuf {
    let (here, there) = (folder.join("IN"), folder.join(name));
    let file = quickstart(&corpus(), &here, &there, "split_max_items = 1\nmax_error_rate = 1.0");
    let text = std::fs::read_to_string(&file).unwrap();
    let text =
        text.replace(&here.display().to_string(), inputs).replace(&format!("\"{}\"", there.display()), &format!("\"{output}\""));
    assert!(text.contains(inputs) && text.contains(&format!("output = \"{output}\"")), "{text}");
    std::fs::write(&file, format!("{text}\n[engine]\ncommit_interval_seconds = 0\nmax_restarts = 0\n{engine}")).unwrap();
    file
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_run_on_a_store_that_is_killed_and_disturbed_ends_as_on_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    let videos = videos(dir.path());
    let local = dir.path().join("local");
    let file = pipeline(dir.path(), "local", &videos.display().to_string(), &local.display().to_string(), "");
    succeed(curette().arg("run").arg(&file).args(["--quiet", "-w", "2"]));
    let here = |text: &str| text.replace("s3://corpus/videos", &videos.display().to_string());
    let want = tables(&local);
    assert!(!want["clips"].is_empty());

    let store = S3::start();
    store.upload(&videos, "corpus/videos");
    let file = pipeline(dir.path(), "remote", "s3://corpus/videos", "s3://out/run", "");
    let run = |variables: &[(&str, &str)]| -> Output {
        let mut command = curette();
        store.lend(&mut command).arg("run").arg(&file).args(["-w", "2", "--log-level", "debug"]);
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let mut logs = Vec::new();
    let output = run(&[("CURETTE_KILL_AT", "between_tables:6")]);
    assert_eq!(output.status.code(), None, "it was never passed: {}", said(&output));
    logs.push(said(&output));
    // A store that throttles for longer than the budget ends the run with its reason.
    store.befall(&[Rule { method: "PUT", part: "clips/part-", skip: 0, times: 1, fault: Fault::Status(503) }]);
    let output = run(&[("CURETTE_STORE_RETRY_SECONDS", "0")]);
    assert!(output.status.code() == Some(1) && said(&output).contains("SlowDown"), "{}: {}", output.status, said(&output));
    logs.push(said(&output));
    let rule = |method, part, skip, times, fault| Rule { method, part, skip, times, fault };
    store.befall(&[
        // Commits: done and not confirmed, a conflict without a cause, throttled.
        rule("PUT", "clips/_delta_log", 0, 1, Fault::DoneThen(503)),
        rule("PUT", "rejects/_delta_log", 0, 1, Fault::Status(409)),
        rule("PUT", "stages/_delta_log", 0, 2, Fault::Status(503)),
        rule("PUT", "errors/part-", 0, 1, Fault::Slow(Duration::from_millis(300))),
        rule("GET", "clips/_delta_log", 1, 1, Fault::Cut),
        // Videos: throttled, cut off.
        rule("GET", ".mp4", 0, 2, Fault::Status(503)),
        rule("GET", ".mp4", 3, 2, Fault::Cut),
    ]);
    store.asked();
    let output = run(&[]);
    assert!(output.status.success(), "{}", said(&output));
    logs.push(said(&output));
    let left: Vec<Rule> = store.spared().into_iter().filter(|rule| rule.part != "errors/part-").collect();
    assert!(left.is_empty(), "not every fault was met: {left:?}");

    let copy = dir.path().join("copy");
    store.download("out/run", &copy);
    let got: BTreeMap<&str, Vec<String>> =
        tables(&copy).into_iter().map(|(n, rows)| (n, rows.iter().map(|r| here(r)).collect())).collect();
    assert_same("on a store", &want, &got);
    // Nothing is left of the attempts that were killed.
    for table in ["clips", "rejects", "errors", "stages"] {
        let rows = |folder: &Path| rows_of_files(&folder.join(table));
        assert_eq!(rows(&copy), rows(&local), "{table}");
    }
    assert_eq!(store.keys("out/run/_curette/pending"), Vec::<String>::new());
    // Videos are read by ranges, never whole.
    let asked = store.asked();
    let of_videos: Vec<_> =
        asked.iter().filter(|a| a.method == "GET" && a.path.starts_with("corpus/") && a.path.ends_with(".mp4")).collect();
    assert!(!of_videos.is_empty() && of_videos.iter().all(|a| a.ranged), "{of_videos:?}");
    // The secret signed every request and is written nowhere.
    let everything = store.all_bytes();
    assert!(!everything.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()), "the secret is in the store");
    assert!(logs.iter().all(|log| !log.contains(SECRET) && !log.contains(KEY)), "the secret or its key is in a log");
    // The same command again has nothing to do, and reads the tables from the store.
    let again = run(&[]);
    assert!(again.status.success() && said(&again).contains("0 splits done"), "{}", said(&again));
}

fn doctor(store: &S3, url: &str) -> (Option<i32>, String) {
    let mut command = curette();
    let output = store.lend(&mut command).args(["doctor", url]).env("CURETTE_STORE_RETRY_SECONDS", "1").output().unwrap();
    (output.status.code(), said(&output))
}

#[test]
fn a_store_without_conditional_put_is_refused_by_doctor_and_by_runs() {
    let store = S3::start();
    let (code, text) = doctor(&store, "s3://bucket/some/prefix");
    assert_eq!(code, Some(0), "{text}");
    insta::assert_snapshot!("doctor_of_a_good_store", text);
    assert_eq!(store.keys(""), Vec::<String>::new(), "nothing is left behind");
    store.set_clock_ahead(600);
    let (code, text) = doctor(&store, "s3://bucket/some/prefix");
    assert!(code == Some(0) && text.contains("WARNING  clock"), "{text}");
    store.set_clock_ahead(0);
    store.allow_anybody();
    let (code, text) = doctor(&store, "gs://bucket/prefix");
    assert_eq!(code, Some(0), "{text}");

    store.ignore_conditions(true);
    let (code, text) = doctor(&store, "s3://bucket");
    assert_eq!(code, Some(2), "{text}");
    insta::assert_snapshot!("doctor_of_a_store_that_ignores_conditions", text);
    let dir = tempfile::tempdir().unwrap();
    store.asked();
    let file = pipeline(dir.path(), "refused", "s3://bucket/in", "s3://bucket/out", "");
    let mut command = curette();
    let output = store.lend(&mut command).arg("run").arg(&file).args(["--quiet"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    insta::assert_snapshot!("run_on_a_store_that_ignores_conditions", said(&output));
    let asked = store.asked();
    assert!(
        asked.iter().all(|a| a.path.contains("_curette/probe-") || a.query == "delete"),
        "refused before anything is listed: {asked:?}"
    );
    assert_eq!(store.keys(""), Vec::<String>::new());

    let (code, text) = doctor(&store, "ftp://me:hunter2@host/x");
    assert!(code == Some(2) && text.contains("known are local paths") && !text.contains("hunter2"), "{text}");
    // Nobody answers.
    let mut command = Command::new(env!("CARGO_BIN_EXE_curette"));
    store.lend(&mut command).env("AWS_ENDPOINT_URL", "http://127.0.0.1:9").env("CURETTE_STORE_RETRY_SECONDS", "0");
    let output = command.args(["doctor", "s3://bucket"]).output().unwrap();
    let text = said(&output);
    assert!(output.status.code() == Some(1) && text.contains("nobody answers there"), "{text}");
}

#[test]
fn a_model_is_fetched_from_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let (content, store) = (vec![7u8; 9 << 20], S3::start());
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("m.safetensors"), &content).unwrap();
    store.upload(&files, "models/v1");
    let sum = Command::new("sha256sum").arg(files.join("m.safetensors")).output().unwrap();
    let sum = String::from_utf8_lossy(&sum.stdout).split(' ').next().unwrap().to_owned();
    let manifests = dir.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    let manifest = format!(
        "name = \"m\"\nversion = \"1\"\ntitle = \"t\"\nkind = \"head\"\nfiles = [{{ role = \"head\", path = \"m.safetensors\", sha256 = \"{sum}\", bytes = {}, \
         urls = [\"s3://models/v1/m.safetensors\"] }}]\n[origin]\nlicence = \"MIT\"\nlicence_url = \"https://example.org\"\ncommercial_use = \"yes\"\n",
        content.len()
    );
    std::fs::write(manifests.join("m.toml"), manifest).unwrap();
    store.befall(&[Rule { method: "GET", part: "m.safetensors", skip: 0, times: 1, fault: Fault::Status(503) }]);
    let mut command = curette();
    store
        .lend(&mut command)
        .args(["models", "fetch", "m", "--models"])
        .arg(&manifests)
        .arg("--cache")
        .arg(dir.path().join("cache"));
    succeed(&mut command);
    assert_eq!(std::fs::read(dir.path().join("cache/blobs").join(&sum)).unwrap(), content);
}
