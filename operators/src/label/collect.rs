//! The filled-in sheet becomes a label table for `curette train-head --labels`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use super::sheet::{SHEET, Sheet};
use super::{LabelError, Settings, failed};

/// How many mistakes are shown; the rest is counted.
const MAX_SHOWN: usize = 20;

/// What was collected.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Collected {
    /// Labelled rows per class, in the order of the classes.
    pub per_class: Vec<(String, usize)>,
    /// Rows left out because nobody labelled them.
    pub unlabelled: usize,
}

/// Reads the sheet of a folder and writes `video_id`, `time_us` (frames only), `group`, `label` as Parquet. Rows without a label are an error, or left out with
/// `allow_empty`.
pub fn collect(folder: &Path, out: &Path, allow_empty: bool) -> Result<Collected, LabelError> {
    let path = folder.join(SHEET);
    let settings = Settings::read(folder)?
        .ok_or_else(|| failed(folder, "is no folder of `curette label`: there is no sampling.json".to_owned()))?;
    let sheet = Sheet::read(folder)?.ok_or_else(|| failed(&path, "there is no such file".to_owned()))?;
    let column =
        |name: &str| sheet.column(name).ok_or_else(|| failed(&path, format!("has no column `{name}`; do not remove columns")));
    let (id, group, label) = (column("video_id")?, column("group")?, column("label")?);
    let time = sheet.column("time_us");

    let (mut rows, mut mistakes, mut unlabelled) = (Vec::new(), Vec::new(), 0);
    for (i, row) in sheet.rows.iter().enumerate() {
        let said = row[label].trim();
        let class = settings.classes.iter().find(|c| c.eq_ignore_ascii_case(said));
        match class {
            Some(class) => rows.push((row, class)),
            None if said.is_empty() && allow_empty => unlabelled += 1,
            None if said.is_empty() => mistakes.push(format!("row {} ({}) has no label", i + 1, row[0])),
            None => mistakes.push(format!(
                "row {} ({}) has the label `{said}`, which is none of {}",
                i + 1,
                row[0],
                settings.classes.join(", ")
            )),
        }
    }
    if !mistakes.is_empty() {
        let more = mistakes.len().saturating_sub(MAX_SHOWN);
        mistakes.truncate(MAX_SHOWN);
        if more > 0 {
            mistakes.push(format!("and {more} more"));
        }
        let hint = if allow_empty { "" } else { "; --allow-empty leaves out rows without a label" };
        return Err(failed(&path, format!("{}{hint}", mistakes.join("\n  "))));
    }
    if rows.is_empty() {
        return Err(failed(&path, "no row has a label".to_owned()));
    }
    let text = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    let cells = |column: usize| rows.iter().map(|(row, _): &(&Vec<String>, &String)| row[column].as_str()).collect();
    let mut columns = vec![("video_id", text(cells(id)))];
    if let Some(time) = time {
        let times: Result<Vec<i64>, LabelError> = rows
            .iter()
            .map(|(row, _)| {
                row[time]
                    .parse()
                    .map_err(|_| failed(&path, format!("{}: `time_us` = `{}` is not a whole number", row[0], row[time])))
            })
            .collect();
        columns.push(("time_us", Arc::new(Int64Array::from(times?)) as ArrayRef));
    }
    columns.push(("group", text(cells(group))));
    columns.push(("label", text(rows.iter().map(|r| r.1.as_str()).collect())));
    write(out, columns)?;
    let count = |class: &String| (class.clone(), rows.iter().filter(|r| r.1 == class).count());
    Ok(Collected { per_class: settings.classes.iter().map(count).collect(), unlabelled })
}

fn write(out: &Path, columns: Vec<(&str, ArrayRef)>) -> Result<(), LabelError> {
    let batch = RecordBatch::try_from_iter(columns).map_err(|e| failed(out, e))?;
    let unfinished = out.with_extension("tmp");
    let file = File::create(&unfinished).map_err(|e| failed(out, e))?;
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).map_err(|e| failed(out, e))?;
    writer.write(&batch).map_err(|e| failed(out, e))?;
    writer.close().map_err(|e| failed(out, e))?;
    std::fs::rename(&unfinished, out).map_err(|e| failed(out, e))
}
