//! The label table: which times of which video show which class. CSV, JSON Lines or Parquet, or a folder as [`crate::tables`] reads it.
//!
//! Columns: `video_id` (path below the videos folder) or `uri`; `label`; and one of `time_us` (one frame), `start_seconds` and `end_seconds` (all frames in
//! `[start, end)`), or neither (the whole video). A column `group` (or another that is named) keeps rows together in the split; else each video is a group. What can go wrong: every mistake names the file and the row.

use std::path::{Path, PathBuf};

use arrow::array::{Array, Float64Array, RecordBatch, StringArray};

use crate::tables::cast::{cell, integers, need_text, numbers, text};
use crate::tables::{BATCH_ROWS, OpenTable};

/// A table of more rows than this is refused.
pub const MAX_LABELS: usize = 10_000_000;

/// Which frames of a video a label speaks of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Frames {
    /// The frame nearest to this time, in microseconds.
    At(i64),
    /// All in `[start, end)`, in microseconds.
    Within(i64, i64),
    /// All.
    Whole,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// `video_id` or `uri`.
    pub video: String,
    /// What must stay together with it, where the table says so.
    pub group: Option<String>,
    /// Which frames.
    pub frames: Frames,
    /// True for the positive class.
    pub positive: bool,
    /// Number of the row in its table, from 1, without the header.
    pub row: usize,
}

/// Why a label table cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("labels {}: {what}", .path.display())]
pub struct LabelError {
    /// The table.
    pub path: PathBuf,
    /// What is wrong, where, and what to do.
    pub what: String,
}

/// Reads a label table.
///
/// `group` names a column of groups; without it, the column `group` counts if there is one.
pub fn read(path: &Path, classes: &[String; 2], group: Option<&str>) -> Result<Vec<Label>, LabelError> {
    let err = |what: String| LabelError { path: path.to_path_buf(), what };
    let mut labels = Vec::new();
    let table = OpenTable::open(path).map_err(err)?;
    let group_column = group.unwrap_or("group");
    let video = if table.has("video_id") { "video_id" } else { "uri" };
    let columns = [video, "label", group_column, "time_us", "start_seconds", "end_seconds"];
    for batch in table.batches(&columns, BATCH_ROWS).map_err(err)? {
        read_batch(&batch.map_err(err)?, classes, group, &mut labels).map_err(err)?;
        if labels.len() > MAX_LABELS {
            return Err(err(format!("has more than {MAX_LABELS} rows")));
        }
    }
    if labels.is_empty() {
        return Err(err("has no rows".into()));
    }
    Ok(labels)
}

/// Whether a label is of the positive class; `None` for neither class.
pub(crate) fn class_of(label: &str, classes: &[String; 2]) -> Option<bool> {
    match label.trim().to_ascii_lowercase().as_str() {
        c if c == classes[1].to_ascii_lowercase() => Some(true),
        c if c == classes[0].to_ascii_lowercase() => Some(false),
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn read_batch(batch: &RecordBatch, classes: &[String; 2], group: Option<&str>, labels: &mut Vec<Label>) -> Result<(), String> {
    let name = if batch.column_by_name("video_id").is_some() { "video_id" } else { "uri" };
    let videos = text(batch, name)?.ok_or("needs a column `video_id` or `uri`")?;
    let classes_column = need_text(batch, "label")?;
    let group_column = group.unwrap_or("group");
    let groups = text(batch, group_column)?;
    if group.is_some() && groups.is_none() {
        return Err(format!("needs a column `{group_column}`, which was named as the group"));
    }
    let (times, starts, ends) = (integers(batch, "time_us")?, numbers(batch, "start_seconds")?, numbers(batch, "end_seconds")?);
    let number = |column: &Option<Float64Array>, row: usize| column.as_ref().filter(|c| c.is_valid(row)).map(|c| c.value(row));

    let before = labels.len();
    for row in 0..batch.num_rows() {
        let number_of_row = before + row + 1;
        let err = |what: String| format!("row {number_of_row}: {what}");
        let text = |column: &StringArray| cell(column, row).unwrap_or_default().to_owned();
        let video = text(&videos);
        if video.is_empty() {
            return Err(err(format!("`{name}` is empty")));
        }
        let time = times.as_ref().filter(|c| c.is_valid(row)).map(|c| c.value(row));
        let frames = match (time, number(&starts, row), number(&ends, row)) {
            (Some(time), None, None) => Frames::At(time),
            (None, None, None) => Frames::Whole,
            (None, Some(start), Some(end)) if start < end => {
                Frames::Within((start * 1e6).round() as i64, (end * 1e6).round() as i64)
            }
            (None, Some(start), Some(end)) => {
                return Err(err(format!("`start_seconds` = {start} is not before `end_seconds` = {end}")));
            }
            (Some(_), _, _) => {
                return Err(err("has both `time_us` and `start_seconds` or `end_seconds`; leave one empty".into()));
            }
            (None, _, _) => return Err(err("has only one of `start_seconds` and `end_seconds`".into())),
        };
        let class = text(&classes_column);
        let positive = class_of(&class, classes)
            .ok_or_else(|| err(format!("`label` = `{class}`, expected `{}` or `{}`", classes[1], classes[0])))?;
        let group = match groups.as_ref().map(text) {
            Some(group) if group.is_empty() => return Err(err(format!("`{group_column}` is empty"))),
            group => group,
        };
        labels.push(Label { video, group, frames, positive, row: number_of_row });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> [String; 2] {
        ["non_medical".into(), "medical".into()]
    }

    fn table(name: &str, text: &str) -> Result<Vec<Label>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path, &classes(), None).map_err(|e| e.what)
    }

    #[test]
    fn the_three_formats_say_the_same() {
        let csv = "video_id,time_us,start_seconds,end_seconds,label\n007.mp4,1000000,,,medical\nb.mp4,,0.5,2,non_medical\nc.mp4,,,,Medical\n";
        let jsonl = "{\"video_id\":\"007.mp4\",\"time_us\":1000000,\"label\":\"medical\"}\n\
            {\"video_id\":\"b.mp4\",\"start_seconds\":0.5,\"end_seconds\":2,\"label\":\"non_medical\"}\n{\"video_id\":\"c.mp4\",\"label\":\"1\"}\n";
        let from_csv = table("l.csv", csv).unwrap();
        assert_eq!(from_csv, table("l.jsonl", jsonl).unwrap());
        assert_eq!(
            from_csv[0],
            Label { video: "007.mp4".into(), group: None, frames: Frames::At(1_000_000), positive: true, row: 1 }
        );
        assert_eq!(from_csv[1].frames, Frames::Within(500_000, 2_000_000));
        assert_eq!(from_csv[2].frames, Frames::Whole);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.parquet");
        let csv_path = dir.path().join("l.csv");
        std::fs::write(&csv_path, csv).unwrap();
        let csv_table = OpenTable::open(&csv_path).unwrap();
        let columns = ["video_id", "time_us", "start_seconds", "end_seconds", "label"];
        let batch = csv_table.batches(&columns, BATCH_ROWS).unwrap().next().unwrap().unwrap();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert_eq!(from_csv, read(&path, &classes(), None).unwrap());
    }

    #[test]
    fn each_mistake_names_its_row() {
        let said = [
            table("l.csv", "video_id,label\na,medical\nb,maybe\n"),
            table("l.csv", "video_id,label,time_us,start_seconds\na,medical,1,1\n"),
            table("l.csv", "video_id,label,start_seconds,end_seconds\na,medical,2,1\n"),
            table("l.csv", "video_id,label,start_seconds,end_seconds\na,medical,2,\n"),
            table("l.csv", "video_id,label,time_us\na,medical,soon\n"),
            table("l.csv", "video_id,label\n,medical\n"),
            table("l.csv", "label\nmedical\n"),
            table("l.csv", "uri\na\n"),
            table("l.csv", "video_id,label\n"),
            table("l.txt", ""),
            table("l.jsonl", "not json\n"),
            table("l.parquet", "not parquet"),
        ]
        .map(|r| r.unwrap_err());
        insta::assert_snapshot!(said.join("\n"), @r#"
        row 2: `label` = `maybe`, expected `medical` or `non_medical`
        row 1: has both `time_us` and `start_seconds` or `end_seconds`; leave one empty
        row 1: `start_seconds` = 2 is not before `end_seconds` = 1
        row 1: has only one of `start_seconds` and `end_seconds`
        column `time_us`: Cast error: Cannot cast string 'soon' to value of Int64 type
        row 1: `video_id` is empty
        needs a column `video_id` or `uri`
        needs a column `label`
        has no rows
        expected a file that ends in .csv, .jsonl, .ndjson or .parquet, or the folder of an output table
        Json error: Not valid JSON: expected ident at line 1 column 2
        Parquet error: Invalid Parquet file. Corrupt footer
        "#);
    }
}
