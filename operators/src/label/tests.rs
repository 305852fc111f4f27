//! Folders laid out, filled in, extended and read back.

use std::path::Path;

use super::collect::collect;
use super::source::Table;
use super::*;
use crate::media::tests::media_folder;
use crate::train_head::labels;

fn settings(source: &Path) -> Settings {
    Settings { source: source.to_owned(), classes: vec!["non_medical".into(), "medical".into()], seed: 3, group: None }
}

fn table(dir: &Path, rows: usize) -> Table {
    let path = dir.join("videos.jsonl");
    let lines: String = (0..rows)
        .map(|i| format!("{{\"video_id\":\"v{i}\",\"title\":\"a \\\"title\\\", {i}\",\"channel_id\":\"c{}\"}}\n", i % 4))
        .collect();
    std::fs::write(&path, lines).unwrap();
    Table { path, id: "video_id".into(), group: Some("channel_id".into()), show: vec!["title".into()] }
}

/// Gives each row of the sheet the label that `label` says.
fn fill(folder: &Path, label: impl Fn(usize, &[String]) -> &'static str) {
    let mut sheet = Sheet::read(folder).unwrap().unwrap();
    for (i, row) in sheet.rows.iter_mut().enumerate() {
        let said = label(i, row);
        *row.last_mut().unwrap() = said.to_owned();
    }
    sheet.write(folder).unwrap();
}

#[test]
fn records_are_laid_out_extended_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, out) = (dir.path().join("to-label"), dir.path().join("labels.parquet"));
    let table = table(dir.path(), 40);
    let settings = settings(&table.path);
    let done = records(&settings, &table, 8, &folder).unwrap();
    assert_eq!((done.rows, done.new, done.labelled), (8, 8, 0));
    fill(&folder, |i, _| if i % 2 == 0 { "medical" } else { "Non_Medical" });
    let before = Sheet::read(&folder).unwrap().unwrap();
    assert!(before.rows.iter().all(|r| r[2].starts_with("a \"title\", ")), "{before:?}");

    let done = records(&settings, &table, 12, &folder).unwrap();
    assert_eq!((done.rows, done.new, done.labelled), (12, 4, 8));
    let after = Sheet::read(&folder).unwrap().unwrap();
    assert_eq!(after.rows[..8], before.rows[..], "labels stay");
    assert_eq!(records(&settings, &table, 12, &folder).unwrap().new, 0);
    let per_channel = |c: &str| after.rows.iter().filter(|r| r[3] == c).count();
    assert_eq!(["c0", "c1", "c2", "c3"].map(per_channel), [3; 4]);

    let text = |e: LabelError| e.to_string().replace(&dir.path().display().to_string(), "D");
    let unfinished = text(collect(&folder, &out, false).unwrap_err());
    assert!(
        unfinished.contains("has no label") && unfinished.ends_with("--allow-empty leaves out rows without a label"),
        "{unfinished}"
    );
    let collected = collect(&folder, &out, true).unwrap();
    assert_eq!((collected.per_class, collected.unlabelled), (vec![("non_medical".into(), 4), ("medical".into(), 4)], 4));
    let classes = ["non_medical".into(), "medical".into()];
    let read = labels::read(&out, &classes, None).unwrap();
    assert_eq!(read.len(), 8);
    assert_eq!((read[0].positive, read[1].positive), (true, false));
    assert!(read.iter().all(|l| l.frames == labels::Frames::Whole && l.group.as_ref().unwrap().starts_with('c')));

    let other = Settings { seed: 4, ..settings.clone() };
    assert!(text(records(&other, &table, 12, &folder).unwrap_err()).starts_with("D/to-label: was laid out with other settings"));
}

#[test]
fn each_mistake_of_a_sheet_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, out) = (dir.path().join("f"), dir.path().join("l.parquet"));
    let table = table(dir.path(), 6);
    let text = |e: LabelError| e.to_string().replace(&dir.path().display().to_string(), "D");
    let nowhere = text(collect(&folder, &out, false).unwrap_err());
    records(&settings(&table.path), &table, 6, &folder).unwrap();
    let empty = text(collect(&folder, &out, true).unwrap_err());
    fill(&folder, |i, _| ["medical", "medcial", "", "medical", "yes", "non_medical"][i]);
    let mixed = text(collect(&folder, &out, false).unwrap_err());
    std::fs::write(folder.join("labels.csv"), "sample,video_id,label\na,a,medical\n").unwrap();
    let columns = text(collect(&folder, &out, false).unwrap_err());
    let doubled = {
        std::fs::write(dir.path().join("d.csv"), "video_id\na\na\n").unwrap();
        let table = Table { path: dir.path().join("d.csv"), group: None, show: vec![], ..table };
        text(table.candidates().unwrap_err())
    };
    insta::assert_snapshot!([nowhere, empty, mixed, columns, doubled].join("\n"));
    assert!(!out.exists());
}

#[test]
fn frames_of_videos_become_pictures() {
    let Some(media) = media_folder() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (videos, folder) = (dir.path().join("videos"), dir.path().join("to-label"));
    std::fs::create_dir_all(videos.join("channel")).unwrap();
    for (name, to) in
        [("nature-bee-720p.mp4", "channel/bee.mp4"), ("multishot-720p.mp4", "shots.mp4"), ("broken-text.mp4", "broken.mp4")]
    {
        std::fs::copy(media.join(name), videos.join(to)).unwrap();
    }
    let settings = settings(&videos);
    let done = frames(&settings, 4, &folder).unwrap();
    assert_eq!((done.rows, done.new), (4, 4));
    assert!(done.skipped.len() == 1 && done.skipped[0].starts_with("broken.mp4: "), "{:?}", done.skipped);
    let sheet = Sheet::read(&folder).unwrap().unwrap();
    assert_eq!(sheet.columns, ["sample", "picture", "video_id", "time_us", "group", "label"]);
    for row in &sheet.rows {
        let picture = image::open(folder.join(&row[1])).unwrap();
        assert_eq!(picture.width().max(picture.height()), 768);
        let second: i64 = row[0].split('@').next_back().unwrap().parse().unwrap();
        assert!((second * 1_000_000..(second + 1) * 1_000_000).contains(&row[3].parse::<i64>().unwrap()), "{row:?}");
    }
    assert_eq!(sheet.rows.iter().filter(|r| r[4] == "channel").count(), 2);

    // What is there is not made again, a picture is.
    let first = folder.join(&sheet.rows[0][1]);
    let bytes = std::fs::read(&first).unwrap();
    fill(&folder, |_, _| "medical");
    assert_eq!(frames(&settings, 5, &folder).unwrap().new, 1);
    assert_eq!(std::fs::read(&first).unwrap(), bytes);
    fill(&folder, |i, _| if i == 4 { "non_medical" } else { "medical" });
    let out = dir.path().join("l.parquet");
    collect::collect(&folder, &out, false).unwrap();
    let read = labels::read(&out, &["non_medical".into(), "medical".into()], None).unwrap();
    assert!(read.iter().all(|l| matches!(l.frames, labels::Frames::At(_))));
}
