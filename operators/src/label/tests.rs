//! Folders laid out, filled in, extended and read back.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};

use super::collect::collect;
use super::sheet::{SHEET, Sheet};
use super::source::Table;
use super::*;
use crate::media::tests::media_folder;
use crate::train_head::labels;

fn settings(source: &Path) -> Settings {
    Settings {
        source: source.to_owned(),
        classes: vec!["non_medical".into(), "medical".into()],
        seed: 3,
        id: None,
        group: None,
        pictures: 0,
    }
}

fn table(dir: &Path, rows: usize) -> Table {
    let path = dir.join("videos.jsonl");
    let lines: String = (0..rows)
        .map(|i| format!("{{\"video_id\":\"v{i}\",\"title\":\"a \\\"title\\\", {i}\",\"channel_id\":\"c{}\"}}\n", i % 4))
        .collect();
    std::fs::write(&path, lines).unwrap();
    Table { path, id: "video_id".into(), group: Some("channel_id".into()), show: vec!["title".into()], pictures: 0 }
}

/// Gives each row of the sheet the label that `label` says, as an editor does that saves all of it.
fn fill(folder: &Path, label: impl Fn(usize, &[String]) -> &'static str) {
    let path = folder.join(SHEET);
    let bytes = std::fs::read(&path).unwrap();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&bytes[..]);
    let mut writer = csv::Writer::from_path(&path).unwrap();
    for (i, record) in reader.records().enumerate() {
        let mut cells: Vec<String> = record.unwrap().iter().map(str::to_owned).collect();
        if i > 0 {
            let said = label(i - 1, &cells);
            *cells.last_mut().unwrap() = said.to_owned();
        }
        writer.write_record(&cells).unwrap();
    }
    writer.flush().unwrap();
}

fn text_of(e: LabelError, dir: &Path) -> String {
    e.to_string().replace(&dir.display().to_string(), "D")
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

    let text = |e: LabelError| text_of(e, dir.path());
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
    let text = |e: LabelError| text_of(e, dir.path());
    let nowhere = text(collect(&folder, &out, false).unwrap_err());
    records(&settings(&table.path), &table, 6, &folder).unwrap();
    let empty = text(collect(&folder, &out, true).unwrap_err());
    fill(&folder, |i, _| ["medical", "medcial", "", "medical", "yes", "non_medical"][i]);
    let mixed = text(collect(&folder, &out, false).unwrap_err());
    let sheet = |text: &str| {
        std::fs::write(folder.join("labels.csv"), text).unwrap();
        text_of(collect(&folder, &out, false).unwrap_err(), dir.path())
    };
    let columns = sheet("sample,video_id\nv1,medical\n");
    let unknown = sheet("sample,label\nv1,medical\nv-1,medical\nv2,medical\nv1,non_medical\n");
    let missing = sheet("sample,label\nv1,medical\nv2,medical\n");
    let doubled = {
        std::fs::write(dir.path().join("d.csv"), "video_id\na\na\n").unwrap();
        let table = Table { path: dir.path().join("d.csv"), group: None, show: vec![], ..table };
        text(table.candidates().unwrap_err())
    };
    insta::assert_snapshot!([nowhere, empty, mixed, columns, unknown, missing, doubled].join("\n"));
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

/// Ids that spreadsheets take for formulas, numbers and dates.
#[test]
fn a_stopped_run_goes_on_and_what_was_filled_in_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    let ids = ["-abc", "=1+1", "@x", "+49", "007", "'q", "'=q", "1-2"];
    let mut writer = csv::Writer::from_path(&path).unwrap();
    writer.write_record(["video_id", "title"]).unwrap();
    ids.iter().for_each(|id| writer.write_record([id, "=cmd|' /C calc'!A0"]).unwrap());
    drop(writer);
    let table = Table { path: path.clone(), id: "video_id".into(), group: None, show: vec!["title".into()], pictures: 0 };
    let settings = settings(&path);
    let whole = dir.path().join("whole");
    records(&settings, &table, 6, &whole).unwrap();
    let raw = std::fs::read_to_string(whole.join(SHEET)).unwrap();
    assert!(raw.lines().all(|line| line.split(',').all(|cell| !cell.starts_with(['=', '+', '-', '@']))), "{raw}");

    // Stopped anywhere in either file.
    let rows = std::fs::read_to_string(whole.join(folder::ROWS)).unwrap();
    for (of_rows, of_sheet) in [(1, 1), (3, 3), (4, 3), (6, 2)] {
        let cut = dir.path().join(format!("cut-{of_rows}-{of_sheet}"));
        records(&settings, &table, 0, &cut).unwrap();
        let begun = |text: &str, lines: usize| {
            let whole: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
            text[..(whole + 5).min(text.len())].to_owned()
        };
        std::fs::write(cut.join(folder::ROWS), begun(&rows, of_rows)).unwrap();
        std::fs::write(cut.join(SHEET), begun(&raw, of_sheet + 1)).unwrap();
        let done = records(&settings, &table, 6, &cut).unwrap();
        assert_eq!((done.rows, done.new), (6, 6 - of_rows), "only what is in no file is made");
        assert_eq!(std::fs::read_to_string(cut.join(SHEET)).unwrap(), raw, "{of_rows} {of_sheet}");
        assert_eq!(std::fs::read_to_string(cut.join(folder::ROWS)).unwrap(), rows);
    }

    // Filled in by an editor; more rows only come after it.
    fill(&whole, |i, _| if i == 1 { "" } else { "medical" });
    let filled = std::fs::read_to_string(whole.join(SHEET)).unwrap();
    let done = records(&settings, &table, 8, &whole).unwrap();
    assert_eq!((done.rows, done.new, done.labelled), (8, 2, 5));
    let more = std::fs::read_to_string(whole.join(SHEET)).unwrap();
    assert!(more.starts_with(&filled), "not a byte of it changed");
    fill(&whole, |_, _| "medical");
    let out = dir.path().join("l.parquet");
    collect(&whole, &out, false).unwrap();
    let read = labels::read(&out, &["non_medical".into(), "medical".into()], None).unwrap();
    let mut got: Vec<&str> = read.iter().map(|l| l.video.as_str()).collect();
    got.sort_unstable();
    let mut want = ids.to_vec();
    want.sort_unstable();
    assert_eq!(got, want);

    // An editor that added a column, and somebody else's folder.
    let noted = filled.lines().map(|line| format!("{line},note\n")).collect::<String>();
    std::fs::write(whole.join(SHEET), &noted).unwrap();
    let said = text_of(records(&settings, &table, 8, &whole).unwrap_err(), dir.path());
    assert!(said.contains("nothing was written"), "{said}");
    assert_eq!(std::fs::read_to_string(whole.join(SHEET)).unwrap(), noted);
    let other = dir.path().join("other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join(SHEET), "sample,video_id,title,group,label\n").unwrap();
    let said = text_of(records(&settings, &table, 8, &other).unwrap_err(), dir.path());
    assert!(said.contains("was not written over"), "{said}");
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1, "nothing was put beside it");
}

/// The output table of a pipeline over clips: pictures come from the video, from the clip's own file, or from its bytes.
#[test]
fn clips_of_an_output_table_become_pictures() {
    let Some(media) = media_folder() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (clips, folder) = (dir.path().join("out/clips"), dir.path().join("to-label"));
    std::fs::create_dir_all(&clips).unwrap();
    let video = media.join("multishot-720p.mp4").to_string_lossy().into_owned();
    let gone = "/no/such/video.mp4".to_owned();
    let uris = vec![video.clone(), gone.clone(), gone.clone(), gone];
    let texts = |values: Vec<Option<String>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let name = |prefix: &str| texts((0..4).map(|i| Some(format!("{prefix}{i}"))).collect());
    let own = std::fs::read(media.join("nature-bee-720p.mp4")).unwrap();
    let bytes = BinaryArray::from_opt_vec(vec![None, None, Some(own.as_slice()), None]);
    let clip = StructArray::from(vec![
        (Arc::new(Field::new("bytes", DataType::Binary, true)), Arc::new(bytes) as ArrayRef),
        (Arc::new(Field::new("path", DataType::Utf8, true)), texts(vec![None; 4])),
    ]);
    let times = |values: [i64; 4]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let rows = RecordBatch::try_from_iter([
        ("clip_id", name("c")),
        ("video_id", name("v")),
        ("video_uri", texts(uris.into_iter().map(Some).collect())),
        ("start_us", times([0, 1_000_000, 0, 0])),
        ("end_us", times([2_000_000, 3_500_000, 1_000_000, 1_000_000])),
        ("clip_uri", texts(vec![None, Some(video), None, None])),
        ("clip", Arc::new(clip)),
    ])
    .unwrap();
    crate::tables::tests::commit(&clips, &rows, 0);

    assert_eq!((Table::usual_id(&clips).unwrap(), Table::usual_show(&clips).unwrap().len()), ("clip_id", 0));
    let table = Table { path: clips.clone(), id: "clip_id".into(), group: Some("video_id".into()), show: vec![], pictures: 4 };
    let settings = Settings { pictures: 4, classes: vec!["bad".into(), "clean".into()], ..settings(&clips) };
    let done = records(&settings, &table, 200, &folder).unwrap();
    assert_eq!((done.rows, done.new, done.skipped.len()), (3, 3, 1));
    assert!(done.skipped[0].starts_with("c3: "), "{:?}", done.skipped);
    let sheet = Sheet::read(&folder).unwrap().unwrap();
    assert_eq!(sheet.columns, ["sample", "picture", "video_id", "start_seconds", "end_seconds", "group", "label"]);
    for row in &sheet.rows {
        let picture = image::open(folder.join(&row[1])).unwrap();
        assert_eq!((picture.width(), picture.height()), (3 * 480, 2 * 270), "three and one: {row:?}");
    }
    fill(&folder, |i, _| if i == 0 { "bad" } else { "clean" });
    let out = dir.path().join("l.parquet");
    let collected = collect(&folder, &out, false).unwrap();
    assert_eq!(collected.per_class, [("bad".into(), 1), ("clean".into(), 2)]);
    let read = labels::read(&out, &["bad".into(), "clean".into()], None).unwrap();
    let second = read.iter().find(|l| l.video == "v1").unwrap();
    assert_eq!((second.frames, second.group.as_deref()), (labels::Frames::Within(1_000_000, 3_500_000), Some("v1")));

    let without = Table { path: dir.path().join("t.csv"), id: "video_id".into(), ..table };
    std::fs::write(&without.path, "video_id\na\n").unwrap();
    let without = Table { group: None, ..without };
    let said = records(&settings, &without, 1, &dir.path().join("n")).unwrap_err().to_string();
    assert!(said.contains("it needs a column `video_uri`"), "{said}");
}
