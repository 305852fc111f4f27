//! `curette refilter` with the real binary: what it says beforehand is what a run commits.

#![allow(clippy::unwrap_used)]

#[path = "refilter/story.rs"]
mod story;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use curette_engine::commit::Table;
use serde_json::Value;
use support::{curette, succeed};

/// A row of each thousand has no view count, and of each thousand another one no length.
fn catalogue(path: &Path, rows: usize) {
    let line = |i: usize| {
        let (seconds, views) = (i % 500, (i * 7919) % 1000);
        match i % 1000 {
            17 => format!("{{\"id\":\"v{i:06}\",\"duration\":{seconds}}}"),
            18 => format!("{{\"id\":\"v{i:06}\",\"view_count\":{views}}}"),
            _ => format!("{{\"id\":\"v{i:06}\",\"duration\":{seconds},\"view_count\":{views}}}"),
        }
    };
    std::fs::write(path, (0..rows).map(line).collect::<Vec<_>>().join("\n")).unwrap();
}

/// Records, all of them in `scores`, and two filters before `kept`.
fn pipeline(dir: &Path, name: &str, seconds: &str, views: &str, more: &str) -> PathBuf {
    let file = dir.join(name);
    let text = format!(
        r#"
[pipeline]
name = "refilter"
output = "out"
max_error_rate = 1.0

[step.records]
type = "metadata"
path = "catalogue.jsonl"
columns = ["duration_seconds", "view_count", "title"]

[step.scores]
type = "parquet"
inputs = ["records"]
columns = ["video_id", "duration_seconds", "view_count"]

[step.long]
type = "filter"
inputs = ["records"]
keep_if = "{seconds}"
on_unmeasured = "keep"

[step.seen]
type = "filter"
inputs = ["long"]
keep_if = "{views}"

[step.kept]
type = "parquet"
inputs = ["seen"]
{more}
"#
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn ids(table: &Path) -> BTreeSet<String> {
    let table = Table::open_existing("t", &table.to_string_lossy()).unwrap().unwrap();
    let batches = table.read_batches(Some(&["video_id"])).unwrap();
    let texts = batches.map(|b| arrow::array::AsArray::as_string::<i32>(b.unwrap().column(0)).clone());
    texts.flat_map(|t| t.iter().map(|id| id.unwrap().to_owned()).collect::<Vec<_>>()).collect()
}

fn ask(table: &Path, new: &Path, more: &[&str]) -> std::process::Output {
    curette().arg("refilter").arg(table).arg("--pipeline").arg(new).args(more).output().unwrap()
}

fn difference(table: &Path, new: &Path) -> Value {
    let output = ask(table, new, &["--format", "json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_difference_is_that_of_a_full_run() {
    let dir = tempfile::tempdir().unwrap();
    catalogue(&dir.path().join("catalogue.jsonl"), 20_000);
    let old = pipeline(dir.path(), "old.toml", "duration_seconds >= 100", "view_count >= 500", "");
    let new = pipeline(dir.path(), "new.toml", "duration_seconds >= 150", "view_count >= 300", "");
    succeed(curette().arg("run").arg(&old).args(["-q", "-w", "2"]));
    let (scores, kept) = (dir.path().join("out/scores"), dir.path().join("out/kept"));
    let before = ids(&kept);
    let found = difference(&scores, &new);
    assert_eq!(ids(&kept), before, "nothing is written");
    assert!(difference(&scores, &old)["moved"].as_array().unwrap().is_empty());

    succeed(curette().arg("run").arg(&new).args(["-q", "-w", "2", "--new-version"]));
    let after = ids(&kept);
    let moved = |key: &str| -> BTreeSet<String> {
        let groups = found["moved"].as_array().unwrap().iter().filter(|m| m[key] == "kept");
        groups.flat_map(|m| m["ids"].as_array().unwrap()).map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(moved("to"), after.difference(&before).cloned().collect());
    assert_eq!(moved("from"), before.difference(&after).cloned().collect());
    assert!(!moved("to").is_empty() && !moved("from").is_empty());
    assert_eq!(
        (found["kept_before"].as_u64(), found["kept_now"].as_u64()),
        (Some(before.len() as u64), Some(after.len() as u64))
    );
    // What is decided again from the new table changes nothing.
    assert!(difference(&scores, &new)["moved"].as_array().unwrap().is_empty());
}

#[test]
fn a_hundred_thousand_rows_are_decided_again() {
    let dir = tempfile::tempdir().unwrap();
    catalogue(&dir.path().join("catalogue.jsonl"), 100_000);
    let old = pipeline(dir.path(), "old.toml", "duration_seconds >= 100", "view_count >= 500", "");
    let new = pipeline(dir.path(), "new.toml", "duration_seconds >= 101", "view_count >= 500", "");
    succeed(curette().arg("run").arg(&old).args(["-q", "-w", "2"]));
    let begun = Instant::now();
    let found = difference(&dir.path().join("out/scores"), &new);
    println!("100,000 rows decided again in {:?}", begun.elapsed());
    assert_eq!(found["rows"].as_u64(), Some(100_000));
    let changed = found["moved"].as_array().unwrap().iter().map(|m| m["ids"].as_array().unwrap().len()).sum::<usize>();
    // A 500th of the rows is 100 s long; those with few or no views were not kept before either, but for another reason.
    assert_eq!(changed, 200);
}

#[test]
fn what_changes_is_told_by_reason_and_what_cannot_be_decided_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    catalogue(&dir.path().join("catalogue.jsonl"), 1000);
    let old = pipeline(dir.path(), "old.toml", "duration_seconds >= 100", "view_count >= 500", "");
    succeed(curette().arg("run").arg(&old).args(["-q", "-w", "1"]));
    let scores = dir.path().join("out/scores");
    let shown = |output: std::process::Output| {
        let text = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap()).concat();
        text.replace(&dir.path().canonicalize().unwrap().display().to_string(), "DIR")
            .replace(&dir.path().display().to_string(), "DIR")
    };
    let ask = |new: &Path, more: &[&str]| shown(ask(&scores, new, more));
    let new = pipeline(dir.path(), "new.toml", "duration_seconds >= 103", "view_count >= 490", "");
    let unknown = pipeline(dir.path(), "unknown.toml", "duration_seconds >= 100", "title <> ''", "");
    let two = "[step.other]\ntype = \"parquet\"\ninputs = [\"long\"]";
    let two = pipeline(dir.path(), "two.toml", "duration_seconds >= 100", "view_count >= 500", two);
    let measured = std::fs::read_to_string(&new).unwrap().replace("\"title\"]", "\"title\", \"channel\"]");
    let other = dir.path().join("other.toml");
    std::fs::write(&other, measured).unwrap();
    let all = [
        ask(&new, &[]),
        ask(&unknown, &[]),
        ask(&two, &[]),
        ask(&two, &["--to", "nowhere"]),
        ask(&other, &[]),
        shown(self::ask(&dir.path().join("out"), &new, &[])),
        shown(self::ask(&dir.path().join("out/rejects"), &new, &[])),
    ];
    insta::assert_snapshot!(all.join("\n----\n"));
}
