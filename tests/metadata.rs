//! From a catalogue to the medical videos with the real binary: every record accounted for, whatever the workers; and the dictionary's lint.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use support::{assert_same, curette, root, rows, succeed};

const RECORDS: usize = 3_000;

/// Records of which some name a term, some an exclusion, some have no text and some are none.
fn record(i: usize) -> String {
    let title = match i % 10 {
        0 => Some("Laparoscopic cholecystectomy"),
        1 => Some("A surgical strike on the old bridge"),
        2 => None,
        3 => Some("How to cut a film trailer"),
        _ => Some("Street food in Bangkok"),
    };
    let id = format!("v{i:05}");
    match i % 97 {
        5 => format!("{{\"id\": \"{id}\", \"title\": "),
        6 => "{\"title\": \"no id\"}".into(),
        _ if i % 10 == 2 => json!({"id": id, "channel_id": "C"}).to_string(),
        _ if i % 50 == 13 => json!({"id": id, "title": title, "tags": ["Chest X\u{2011}ray"], "duration": "12"}).to_string(),
        _ => json!({"id": id, "title": title, "description": format!("number {i}"), "view_count": [i]}).to_string(),
    }
}

/// What becomes of a record, the obvious way.
fn expected(i: usize) -> &'static str {
    match (i % 97, i % 10, i % 50) {
        (5, ..) => "bad_record",
        (6, ..) => "no_id",
        (_, 2, _) => "no_text",
        (_, 0, _) | (_, _, 13) => "kept",
        _ => "too_few_keyword_hits",
    }
}

fn catalogue(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, from, to) in [("a.jsonl", 0, 1_200), ("b/c.ndjson", 1_200, 2_999), ("b/d.jsonl", 2_999, RECORDS)] {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let mut text = String::new();
        (from..to).for_each(|i| writeln!(text, "{}", record(i)).unwrap());
        std::fs::write(file, text).unwrap();
    }
}

/// The pipeline of the repository, with the repository's dictionary and small splits.
fn pipeline(folder: &Path) -> PathBuf {
    let text = std::fs::read_to_string(root().join("pipelines/metadata.toml")).unwrap();
    let dictionary = root().join("datasets/medical_terms.txt").display().to_string();
    let text = text
        .replace("../datasets/medical_terms.txt", &dictionary)
        .replace("split_max_cost_bytes = 134217728", "split_max_items = 1");
    let file = folder.join("metadata.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// The value of a column in a row as text.
fn get<'a>(row: &'a str, column: &str) -> &'a str {
    row.split(" | ")
        .find_map(|cell| cell.strip_prefix(column)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {column} in {row}"))
}

#[test]
fn every_record_is_accounted_for_with_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    catalogue(&folder.join("records"));
    let pipeline = pipeline(folder);
    let run = |name: &str, args: &[&str]| {
        let output = folder.join(name);
        let mut command = curette();
        command.arg("run").arg(&pipeline).arg("--quiet").args(args);
        succeed(command.env("METADATA_RECORDS", folder.join("records")).env("METADATA_OUTPUT", &output));
        BTreeMap::from(["videos", "rejects", "errors"].map(|table| (table, rows(&output.join(table)))))
    };
    let first = run("one", &["-w", "1"]);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    (0..RECORDS).for_each(|i| *counts.entry(expected(i)).or_default() += 1);
    let of_code = |table: &str, code: &str| first[table].iter().filter(|row| get(row, "code") == code).count();
    assert_eq!(first["videos"].len(), counts["kept"]);
    assert_eq!(first["errors"].len(), counts["bad_record"] + counts["no_id"]);
    for (table, code) in
        [("errors", "bad_record"), ("errors", "no_id"), ("rejects", "no_text"), ("rejects", "too_few_keyword_hits")]
    {
        assert_eq!(of_code(table, code), counts[code], "{code}");
    }
    let mut places: Vec<&str> = first["errors"].iter().map(|row| get(row, "item_id")).collect();
    places.sort_unstable();
    let bad = |i: usize| matches!(expected(i), "bad_record" | "no_id");
    let place = |i: usize| match i {
        0..1_200 => format!("a.jsonl:{}", i + 1),
        1_200..2_999 => format!("b/c.ndjson:{}", i - 1_199),
        _ => format!("b/d.jsonl:{}", i - 2_998),
    };
    let mut wanted: Vec<String> = (0..RECORDS).filter(|i| bad(*i)).map(place).collect();
    wanted.sort_unstable();
    assert_eq!(places, wanted);
    let row = first["videos"].iter().find(|row| get(row, "video_id") == "v00000").unwrap();
    assert!(get(row, "keyword_hit_places").contains("cholecystectomy,title,dictionary"), "{row}");
    let number = |column: &str| get(row, column).parse::<f64>().unwrap();
    assert_eq!(number("keyword_score"), 3.0 * number("keyword_hit_count"));

    for (name, args) in [("two", &["-w", "2"][..]), ("four", &["-w", "4"]), ("cluster", &["--processes", "2"])] {
        assert_same(name, &first, &run(name, args));
    }
}

fn lint(args: &[&str], folder: &Path) -> (Option<i32>, String) {
    let output = curette().args(["ops", "keyword_filter"]).args(args).current_dir(folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn a_dictionary_is_linted_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(
        folder.join("terms.txt"),
        "# organs\nheart\nLiver\n\nheart failure\nLIVER\n...\n!heart of gold\n!kidney bean\n",
    )
    .unwrap();
    std::fs::write(folder.join("good.txt"), "heart\n!heart of gold\n").unwrap();
    let rows: String = (0..50).map(|i| format!("{{\"title\": \"{}\"}}\n", if i < 30 { "My heart" } else { "none" })).collect();
    std::fs::write(folder.join("sample.jsonl"), rows).unwrap();
    assert_eq!(lint(&["--lint", "good.txt"], folder), (Some(0), "good.txt: nothing is wrong with it\n".into()));
    let (code, text) = lint(&["--lint", "terms.txt", "--sample", "sample.jsonl", "--max-share", "0.1"], folder);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!(text, @r"
    terms.txt:2: too common: `heart` occurs in 60.00 % of the sample (30 of 50 rows), more than 10.00 %
    terms.txt:5: shadowed: `heart failure` contains `heart` of line 2: wherever it occurs, that does too
    terms.txt:6: duplicate: `LIVER` is the same as `Liver` in line 3
    terms.txt:7: useless: `...` has no letter or digit
    terms.txt:9: idle: no term lies inside of the exclusion `kidney bean`: it cancels nothing
    30 of 50 rows of the sample have a term; 1 terms occur
    terms.txt: 5 findings
    ");
    let (code, text) = lint(&["--lint", "nowhere.txt"], folder);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(text, @"error: dictionary nowhere.txt: No such file or directory (os error 2)");
    let (code, text) = lint(&["--lint", "good.txt", "--sample", "sample.jsonl", "--fields", "text"], folder);
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(text, @"error: sample sample.jsonl: it has none of the columns text");
    let output = curette().args(["ops", "probe", "--lint", "good.txt"]).current_dir(folder).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @"error: --lint is for `keyword_filter`; `probe` has no dictionary of terms");
}
