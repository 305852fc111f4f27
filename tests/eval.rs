//! `curette eval` and `curette sweep` with the real binary: what is printed, what is an error, and with which exit code.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use support::{curette, root};

/// Runs in the repository, so that file names in texts are the same everywhere.
fn run(args: &[&str]) -> Output {
    curette().args(args).current_dir(root()).output().unwrap()
}

/// What succeeded, as text.
fn text(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&text(&[args, &["--format", "json"]].concat())).unwrap()
}

/// What failed: its exit code and what it said.
fn mistake(args: &[&str]) -> String {
    let output = run(args);
    format!("exit {}: {}", output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).trim_end())
}

fn written(dir: &Path, name: &str, content: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[test]
fn the_papers_tables_come_out_and_two_models_do_not() {
    let fine = json(&["eval", "total", "datasets/paper/table2.csv", "datasets/paper/table4.csv", "--strict"]);
    let fitting: u64 = fine.as_array().unwrap().iter().map(|t| t["fitting"].as_u64().unwrap()).sum();
    // 20 models, and one of them once more with its successor.
    assert_eq!(fitting, 22);
    insta::assert_snapshot!(text(&["eval", "total", "datasets/paper/table8.csv"]));
    assert_eq!(run(&["eval", "total", "datasets/paper/table8.csv", "--strict"]).status.code(), Some(1));
    let augment =
        ["eval", "augment", "datasets/paper/table3_confusion.csv", "--printed", "datasets/paper/table3.csv", "--strict"];
    assert_eq!(text(&augment).matches(" =").count(), 24);
    assert!(text(&["eval", "compare", "--cells", "datasets/paper/differences.csv", "--strict"]).contains("29 of 29"));
    let votes = json(&["eval", "pairwise", "datasets/paper/figure6.csv"]);
    assert_eq!(votes["outcomes"].as_array().unwrap().len(), 18);
}

#[test]
fn own_terms_make_other_totals() {
    let file = "datasets/paper/table8.csv";
    let own = [
        "--terms",
        "visual_quality,factual_consistency",
        "--error-column",
        "warping_error",
        "--error-scale",
        "4",
        "--divisor",
        "3",
    ];
    let found = json(&[&["eval", "total", file][..], &own].concat());
    let total = found[0]["rows"][0]["computed"].as_f64().unwrap();
    assert!((total - (3.35 + 3.09 + 4.0 * 0.12) / 3.0).abs() < 1e-12, "{total}");
}

#[test]
fn raters_are_compared_and_their_majority_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let ratings = "item,E1,E2,E3\nv1,none,none,minor\nv2,severe,moderate,severe\nv3,minor,moderate,minor\nv4,none,minor,\nv5,moderate,severe,none\n";
    let ratings = written(dir.path(), "ratings.csv", ratings);
    let printed = written(dir.path(), "printed.csv", "rater_a,rater_b,kappa\nE2,E1,-0.11\nE1,E9,0.5\n");
    let how = ["--raters", "E1,E2,E3", "--levels", "none,minor,moderate,severe", "--acceptable", "none,minor"];
    let shown = text(&[&["eval", "kappa", ratings.as_str(), "--printed", printed.as_str()][..], &how].concat());
    insta::assert_snapshot!(shown);
    let found = json(&[&["eval", "kappa", ratings.as_str()][..], &how].concat());
    let acceptance = &found["groups"][0]["acceptance"];
    assert_eq!((acceptance["accepted"]["hits"].as_u64(), acceptance["left_out"].as_u64()), (Some(2), Some(1)));
    assert_eq!(acceptance["error_percent"].as_f64(), Some(50.0));
}

#[test]
fn prompts_are_paired_by_name_and_not_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let before = written(dir.path(), "a.csv", "prompt,imaging_quality\np1,60\np2,50\np3,55\np4,40\n");
    let after = written(dir.path(), "b.csv", "prompt,imaging_quality\np3,57\np1,63\np2,51\np5,99\n");
    let found = json(&["eval", "compare", &before, &after]);
    let test = &found["tests"][0];
    // Differences 3, 1, 2: mean 2, deviation 1, t = 2 sqrt(3); scipy's ttest_rel says p = 0.07417990022744853.
    assert!((test["t"].as_f64().unwrap() - 2.0 * 3.0_f64.sqrt()).abs() < 1e-12);
    assert!((test["p"].as_f64().unwrap() - 0.074_179_900_227_448_53).abs() < 1e-12);
    assert_eq!((found["only_baseline"][0].as_str(), found["only_changed"][0].as_str()), (Some("p4"), Some("p5")));
}

#[test]
fn thresholds_are_explored_on_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (0..200)
        .map(|i| match i % 10 {
            7 => format!("{{\"clip_id\":\"c{i}\",\"aesthetic_score\":null,\"dover\":0.5}}"),
            _ => format!("{{\"clip_id\":\"c{i}\",\"aesthetic_score\":{}.25,\"dover\":0.{}5}}", i % 9, i % 8),
        })
        .collect();
    let table = written(dir.path(), "scores.jsonl", &rows.join("\n"));
    let asked = ["--column", "aesthetic_score", "--at", "3,4.25", "--keep", "aesthetic_score >= 3.0", "--keep", "dover >= 0.3"];
    let shown = text(&[&["sweep", table.as_str(), "--share", "0.2"][..], &asked].concat());
    insta::assert_snapshot!(shown);
    let found = json(&["sweep", &table, "--keep", "aesthetic_score >= 3.0"]);
    assert_eq!(found["joint"]["unmeasured"].as_u64(), Some(20));
}

#[test]
fn mistakes_are_told_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let bad = written(dir.path(), "bad.csv", "model,visual_quality\nx,good\n");
    let told = [
        mistake(&["eval", "total", &bad]),
        mistake(&["eval", "total", &bad, "--terms", "visual_quality"]),
        mistake(&["eval", "total", &bad, "--terms", "visual_quality", "--divisor", "0"]),
        mistake(&["eval", "compare", &bad, &bad, "--alpha", "2"]),
        mistake(&["eval", "kappa", "datasets/paper"]),
        mistake(&["sweep", &bad]),
        mistake(&["sweep", &bad, "--column", "visual_quality"]),
        mistake(&["sweep", &bad, "--column", "model", "--share", "7"]),
    ];
    insta::assert_snapshot!(told.join("\n").replace(&dir.path().display().to_string(), "DIR"));
}
