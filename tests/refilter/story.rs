//! `curette report` and `curette why` with the real binary, over two versions of the tables, with titles that would like to be markup.

use std::path::Path;

use serde_json::Value;

use super::support::{curette, succeed};
use super::{Table, pipeline};

/// Every fifth title is hostile; lengths and views as in `catalogue`.
fn hostile(path: &Path, rows: usize) {
    let line = |i: usize| {
        let title =
            if i.is_multiple_of(5) { format!("<script>alert({i})</script> & \"é\" | `x`") } else { format!("Heart {i}") };
        serde_json::json!({"id": format!("v{i:02}"), "duration": i * 10, "view_count": (i * 7919) % 1000, "title": title})
            .to_string()
    };
    std::fs::write(path, (0..rows).map(line).collect::<Vec<_>>().join("\n")).unwrap();
}

const REFERENCE: &str =
    "[pipeline.reference]\nsource = \"a paper <b>\"\nrows_out.records = 1000\nrows_out.long = 800\nrows_out.kept = 300\n";

/// What differs from run to run, by a name: hashes of plans, times of commits, files.
fn stable(text: &str, table: &Path) -> String {
    let open = Table::open_existing("t", &table.to_string_lossy()).unwrap().unwrap();
    let mut out = text.to_owned();
    for edition in open.history().unwrap().editions {
        let plan = edition.state.plan_hash.unwrap();
        out = out.replace(&plan, &format!("PLAN{}", edition.state.generation)).replace(&plan[..12], "PLAN");
    }
    for (i, file) in open.files().unwrap().into_iter().enumerate() {
        out = out.replace(&file.name, &format!("FILE{i}"));
    }
    while let Some(at) = out.find(" UTC") {
        out.replace_range(at - 16..at + 4, "THEN");
    }
    out
}

fn said(command: &mut std::process::Command, dir: &Path) -> String {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap()).concat();
    let exit = output.status.code().unwrap();
    format!("{text}[{exit}]")
        .replace(&dir.canonicalize().unwrap().display().to_string(), "DIR")
        .replace(&dir.display().to_string(), "DIR")
}

#[test]
fn a_report_is_one_harmless_page_with_a_card_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    hostile(&dir.path().join("catalogue.jsonl"), 60);
    let toml = pipeline(dir.path(), "old.toml", "duration_seconds >= 100", "view_count >= 500", REFERENCE);
    succeed(curette().arg("run").arg(&toml).args(["-q", "-w", "1"]));
    let (out, kept) = (dir.path().join("out"), dir.path().join("out/kept"));
    let page = dir.path().join("report.html");
    let report = |table: &Path, more: &[&str]| said(curette().arg("report").arg(table).args(more), dir.path());
    let file = page.to_str().unwrap();
    let card = out.to_str().unwrap();
    let wrote = report(
        &kept,
        &["--out", file, "--card", card, "--title", "Hearts <&> \"co\"", "--licence", "cc-by-4.0", "--examples", "3"],
    );
    assert!(wrote.ends_with("[0]"), "{wrote}");

    let html = std::fs::read_to_string(&page).unwrap();
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert("), "hostile titles are text");
    assert!(!html.contains("src=\"http") && !html.contains("href=\"http") && html.contains("Content-Security-Policy"));
    let from = html.find("<section id=\"funnel\">").unwrap();
    let to = html.find("<section id=\"cost\">").unwrap();
    insta::assert_snapshot!("report_page", stable(&html[from..to], &kept));
    assert!(html[to..].contains("seconds of threads"), "the run said how long its steps worked");

    insta::assert_snapshot!("report_card", stable(&std::fs::read_to_string(out.join("README.md")).unwrap(), &kept));
    let croissant: Value = serde_json::from_slice(&std::fs::read(out.join("croissant.json")).unwrap()).unwrap();
    let files = Table::open_existing("t", &kept.canonicalize().unwrap().to_string_lossy()).unwrap().unwrap().files().unwrap();
    let names: Vec<String> = files.iter().map(|f| format!("kept/{}", f.name)).collect();
    let distribution = croissant["distribution"].as_array().unwrap();
    assert_eq!(distribution.len(), names.len() + 1);
    assert_eq!(distribution.last().unwrap()["includes"], serde_json::json!(names));
    let fields = croissant["recordSet"][0]["field"].as_array().unwrap();
    assert!(fields.iter().any(|f| f["source"]["extract"]["column"] == "title" && f["dataType"] == "sc:Text"));

    // A card elsewhere links the files; a strange README stays; mistakes are told.
    let elsewhere = dir.path().join("card");
    assert!(report(&kept, &["--card", elsewhere.to_str().unwrap()]).contains("name 1 files"));
    assert!(elsewhere.join("data").join(&files[0].name).is_file());
    let strange = dir.path().join("strange");
    std::fs::create_dir(&strange).unwrap();
    std::fs::write(strange.join("README.md"), "mine").unwrap();
    let mistakes = [
        report(&kept, &["--card", strange.to_str().unwrap()]),
        report(&out, &["--out", file]),
        report(dir.path(), &["--out", file]),
        report(&dir.path().join("none"), &["--out", file]),
    ];
    insta::assert_snapshot!("report_mistakes", mistakes.join("\n"));
    assert_eq!(std::fs::read_to_string(strange.join("README.md")).unwrap(), "mine");
}

#[test]
fn why_tells_what_each_version_did_with_a_row() {
    let dir = tempfile::tempdir().unwrap();
    hostile(&dir.path().join("catalogue.jsonl"), 60);
    let versions = [("100", "500", false), ("300", "500", true), ("300", "100", true)];
    for (seconds, views, new) in versions {
        let toml =
            pipeline(dir.path(), "p.toml", &format!("duration_seconds >= {seconds}"), &format!("view_count >= {views}"), "");
        succeed(curette().arg("run").arg(&toml).args(["-q", "-w", "1"]).args(new.then_some("--new-version")));
    }
    let out = dir.path().join("out");
    let why = |id: &str, more: &[&str]| said(curette().arg("why").arg(id).arg(&out).args(more), dir.path());
    // v20 (200 s, 380 views) is too little seen, then too short; v25 (250 s, 975) is kept, then too short; v40 (400 s, 760) is always kept.
    let told: Vec<String> = ["v20", "v25", "v40", "v99"].map(|id| why(id, &[])).into();
    insta::assert_snapshot!("why", stable(&told.join("\n----\n"), &out.join("kept")));
    let json = why("v25", &["--format", "json"]);
    let stories: Value = serde_json::from_str(json.strip_suffix("[0]").unwrap()).unwrap();
    let chapters = stories[0]["chapters"].as_array().unwrap();
    assert_eq!(chapters.len(), 3);
    let first = &chapters[0]["tables"];
    assert!(first.as_array().unwrap().iter().any(|s| s["table"] == "kept" && s["row"] == "v25"), "{first}");
    assert_eq!(chapters[1]["events"][0]["step"], "long");
    assert!(why("v1", &[]).ends_with("[1]"), "nothing is known of it");
}
