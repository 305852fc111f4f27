//! The filled-in sheet becomes a label table for `curette train-head --labels`.
//!
//! The sheet says which sample has which label; all else comes from what was laid out, because a spreadsheet may have changed it. What can go wrong: it changed a
//! sample's name too; every such row is named.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use super::folder::{ROWS, Rows};
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

/// Reads the sheet of a folder and writes `sample`, `video_id`, `time_us` or `start_seconds` and `end_seconds` (where the folder has them), `group`, `label` as Parquet. Rows
/// without a label are an error, or left out with `allow_empty`.
pub fn collect(folder: &Path, out: &Path, allow_empty: bool) -> Result<Collected, LabelError> {
    let path = folder.join(SHEET);
    let settings = Settings::read(folder)?
        .ok_or_else(|| failed(folder, "is no folder of `curette label`: there is no sampling.json".to_owned()))?;
    let laid = Rows::read(folder)?.ok_or_else(|| failed(&folder.join(ROWS), "there is no such file"))?;
    let sheet = Sheet::read(folder)?.ok_or_else(|| failed(&path, "there is no such file".to_owned()))?;
    let (labelled, unlabelled, mut mistakes) =
        labels(&sheet, &laid, &settings.classes, allow_empty).map_err(|e| failed(&path, e))?;
    if !mistakes.is_empty() {
        let more = mistakes.len().saturating_sub(MAX_SHOWN);
        mistakes.truncate(MAX_SHOWN);
        if more > 0 {
            mistakes.push(format!("and {more} more"));
        }
        let hint = if allow_empty { "" } else { "; --allow-empty leaves out rows without a label" };
        return Err(failed(&path, format!("{}{hint}", mistakes.join("\n  "))));
    }
    if labelled.is_empty() {
        return Err(failed(&path, "no row has a label".to_owned()));
    }
    write(out, columns(&labelled, &laid).map_err(|e| failed(&folder.join(ROWS), e))?)?;
    let count = |class: &String| (class.clone(), labelled.iter().filter(|(_, c)| *c == class).count());
    Ok(Collected { per_class: settings.classes.iter().map(count).collect(), unlabelled })
}

/// Samples with their classes in the order of the sheet, how many have none, and what is wrong with which row.
type Found<'a> = (Vec<(&'a str, &'a String)>, usize, Vec<String>);

fn labels<'a>(sheet: &'a Sheet, laid: &Rows, classes: &'a [String], allow_empty: bool) -> Result<Found<'a>, String> {
    let column = |name: &str| sheet.column(name).ok_or_else(|| format!("has no column `{name}`; do not remove columns"));
    let (sample, label) = (column("sample")?, column("label")?);
    let (mut labelled, mut unlabelled, mut mistakes) = (Vec::new(), 0, Vec::new());
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (i, row) in sheet.rows.iter().enumerate() {
        let (number, name, said) = (i + 1, row[sample].as_str(), row[label].trim());
        if !laid.cells.contains_key(name) {
            mistakes.push(format!(
                "row {number}: no `{name}` was laid out; did the spreadsheet change it? Let it read all columns as text"
            ));
            continue;
        }
        if let Some(before) = seen.insert(name, number) {
            mistakes.push(format!("row {number} ({name}) is there before, as row {before}"));
            continue;
        }
        match classes.iter().find(|c| c.eq_ignore_ascii_case(said)) {
            Some(class) => labelled.push((name, class)),
            None if said.is_empty() && allow_empty => unlabelled += 1,
            None if said.is_empty() => mistakes.push(format!("row {number} ({name}) has no label")),
            None => {
                mistakes.push(format!("row {number} ({name}) has the label `{said}`, which is none of {}", classes.join(", ")))
            }
        }
    }
    let missing: Vec<&String> = laid.samples.iter().filter(|name| !seen.contains_key(name.as_str())).collect();
    match missing.first() {
        // A name that was changed is missing too; it is told above.
        Some(first) if !allow_empty && mistakes.is_empty() => {
            mistakes.push(format!("{} samples that were laid out have no row, the first is {first}", missing.len()));
        }
        _ => unlabelled += missing.len(),
    }
    Ok((labelled, unlabelled, mistakes))
}

fn columns(labelled: &[(&str, &String)], laid: &Rows) -> Result<Vec<(&'static str, ArrayRef)>, String> {
    let cell = |sample: &str, column: &str| {
        laid.cell(sample, column).map(str::to_owned).ok_or_else(|| format!("{sample}: `{column}` is missing; lay out anew"))
    };
    let text = |column: &str| labelled.iter().map(|(sample, _)| cell(sample, column)).collect::<Result<Vec<String>, String>>();
    let has = |column: &str| labelled.first().is_some_and(|(sample, _)| laid.cell(sample, column).is_some());
    let strings = |values: Vec<String>| Arc::new(StringArray::from(values)) as ArrayRef;
    let mut out = vec![("sample", strings(labelled.iter().map(|(sample, _)| (*sample).to_owned()).collect()))];
    out.push(("video_id", strings(text("video_id")?)));
    if has("time_us") {
        let times = text("time_us")?.into_iter().map(|t| t.parse::<i64>().map_err(|_| format!("`time_us` = `{t}` is no time")));
        out.push(("time_us", Arc::new(Int64Array::from(times.collect::<Result<Vec<_>, _>>()?))));
    }
    for name in ["start_seconds", "end_seconds"].into_iter().filter(|name| has(name)) {
        // Empty where the table had no span.
        let times: Vec<Option<f64>> = text(name)?.iter().map(|t| t.parse().ok()).collect();
        out.push((name, Arc::new(Float64Array::from(times))));
    }
    out.push(("group", strings(text("group")?)));
    out.push(("label", strings(labelled.iter().map(|(_, class)| (*class).clone()).collect())));
    Ok(out)
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
