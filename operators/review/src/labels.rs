//! Labels of several raters as the table that `curette label --collect` writes and `curette train-head --labels` reads.
//!
//! The label that most raters gave counts; where no label has most, the row is left out and counted. What can go wrong: nothing that is not told by the writer.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde::Serialize;
use serde_json::Value;

use crate::ReviewError;
use crate::rating::{Rating, latest};
use crate::session::{Item, Session};

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Rows by label.
    pub per_class: Vec<(String, usize)>,
    /// Items that nobody has labelled.
    pub unlabelled: usize,
    /// Items about which raters do not agree.
    pub undecided: usize,
}

/// The label that most gave; `None` if no label has most.
pub fn most(labels: &[&str]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    labels.iter().for_each(|label| *counts.entry(label).or_default() += 1);
    let highest = counts.values().copied().max()?;
    let mut best = counts.iter().filter(|(_, n)| **n == highest);
    let (label, _) = best.next()?;
    best.next().is_none().then(|| (*label).to_owned())
}

fn text(item: &Item, name: &str) -> Option<String> {
    match item.details.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// Writes the labels of a session as a whole.
pub fn write(session: &Session, ratings: &[Rating], out: &Path) -> Result<Written, ReviewError> {
    let err = |e: &dyn std::fmt::Display| ReviewError::at(out.display(), e);
    let mut given: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for rating in latest(ratings).into_iter().filter(|r| r.session == session.name) {
        given.entry(&rating.item_id).or_default().push(&rating.label);
    }
    let (mut rows, mut unlabelled, mut undecided) = (Vec::new(), 0, 0);
    for item in &session.items {
        match given.get(item.id.as_str()) {
            None => unlabelled += 1,
            Some(labels) => match most(labels) {
                Some(label) => rows.push((item, label)),
                None => undecided += 1,
            },
        }
    }
    let per_class = session.ask.classes.iter().map(|c| (c.clone(), rows.iter().filter(|(_, l)| l == c).count())).collect();
    if !rows.is_empty() {
        let batch = RecordBatch::try_from_iter(columns(&rows)).map_err(|e| err(&e))?;
        let unfinished = out.with_extension("tmp");
        let file = File::create(&unfinished).map_err(|e| err(&e))?;
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).map_err(|e| err(&e))?;
        writer.write(&batch).map_err(|e| err(&e))?;
        writer.close().map_err(|e| err(&e))?;
        std::fs::rename(&unfinished, out).map_err(|e| err(&e))?;
    }
    Ok(Written { per_class, unlabelled, undecided })
}

fn columns(rows: &[(&Item, String)]) -> Vec<(&'static str, ArrayRef)> {
    let strings = |values: Vec<String>| Arc::new(StringArray::from(values)) as ArrayRef;
    let or_id = |name: &str| strings(rows.iter().map(|(item, _)| text(item, name).unwrap_or_else(|| item.id.clone())).collect());
    let has = |name: &str| rows.iter().any(|(item, _)| item.details.contains_key(name));
    let mut out =
        vec![("sample", strings(rows.iter().map(|(item, _)| item.id.clone()).collect())), ("video_id", or_id("video_id"))];
    let number = |item: &Item, name: &str| text(item, name).and_then(|t| t.parse::<f64>().ok());
    if has("time_us") {
        let times = rows.iter().map(|(item, _)| text(item, "time_us").and_then(|t| t.parse::<i64>().ok()));
        out.push(("time_us", Arc::new(times.collect::<Int64Array>())));
    }
    for (seconds, micros) in [("start_seconds", "start_us"), ("end_seconds", "end_us")] {
        if has(seconds) || has(micros) {
            let of = |item: &Item| number(item, seconds).or_else(|| number(item, micros).map(|us| us / 1e6));
            out.push((seconds, Arc::new(rows.iter().map(|(item, _)| of(item)).collect::<Float64Array>())));
        }
    }
    // Rows of one video stay together where nothing else is named.
    let group = |item: &Item| text(item, "group").or_else(|| text(item, "video_id")).unwrap_or_else(|| item.id.clone());
    out.push(("group", strings(rows.iter().map(|(item, _)| group(item)).collect())));
    out.push(("label", strings(rows.iter().map(|(_, label)| label.clone()).collect())));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_of_most_raters_counts() {
        assert_eq!(most(&["a", "b", "a"]).as_deref(), Some("a"));
        assert_eq!(most(&["a", "b"]), None);
        assert_eq!(most(&[]), None);
        assert_eq!(most(&["b"]).as_deref(), Some("b"));
    }
}
