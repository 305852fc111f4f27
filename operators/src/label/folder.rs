//! What was laid out in a folder: `rows.jsonl`, one object a row, beside the sheet that a human fills in.
//!
//! Why two files: a spreadsheet may round a time, turn an id into a date or lose a row. So what a row stands for is read here, and the sheet says only which row (`sample`) has which
//! label. Both grow row by row, this one first: a run that was stopped goes on after its last row, and a row that is missing in the sheet is put there again without decoding anything.
//! What can go wrong: a sheet of somebody else's in the folder; it is left alone.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::sheet::{SHEET, Sheet};
use super::{LabelError, failed};

/// Its name in the folder.
pub const ROWS: &str = "rows.jsonl";

/// The rows of a folder by their sample.
#[derive(Debug, Default)]
pub struct Rows {
    /// Names of samples, in the order in which they were laid out.
    pub samples: Vec<String>,
    /// What each stands for: text by column, without the label.
    pub cells: HashMap<String, Map<String, Value>>,
}

impl Rows {
    /// Reads them; `None` when there are none. The second is how many bytes are whole lines.
    fn parse(path: &Path) -> Result<Option<(Rows, usize)>, LabelError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(path, e)),
        };
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let mut rows = Rows::default();
        for (i, line) in bytes[..whole].split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let row: Map<String, Value> =
                serde_json::from_slice(line).map_err(|e| failed(path, format!("line {}: {e}", i + 1)))?;
            rows.insert(row).ok_or_else(|| failed(path, format!("line {} has no `sample`", i + 1)))?;
        }
        Ok(Some((rows, whole)))
    }

    /// Of this folder.
    pub fn read(folder: &Path) -> Result<Option<Rows>, LabelError> {
        Ok(Rows::parse(&folder.join(ROWS))?.map(|(rows, _)| rows))
    }

    fn insert(&mut self, row: Map<String, Value>) -> Option<()> {
        let sample = row.get("sample")?.as_str()?.to_owned();
        if self.cells.insert(sample.clone(), row).is_none() {
            self.samples.push(sample);
        }
        Some(())
    }

    /// What a sample has in a column.
    pub fn cell(&self, sample: &str, column: &str) -> Option<&str> {
        self.cells.get(sample)?.get(column)?.as_str()
    }
}

/// A folder that rows are added to.
pub struct Folder {
    path: PathBuf,
    rows: Rows,
    sheet: Sheet,
    in_sheet: HashSet<String>,
    new: usize,
}

impl Folder {
    /// Opens it, or begins it. The last of `columns` is `label`, the first `sample`.
    pub fn open(folder: &Path, columns: &[&str]) -> Result<Folder, LabelError> {
        let path = folder.join(ROWS);
        let rows = match Rows::parse(&path)? {
            Some((rows, whole)) => {
                let file = OpenOptions::new().append(true).open(&path).and_then(|file| file.set_len(whole as u64));
                file.map_err(|e| failed(&path, e))?;
                rows
            }
            None if folder.join(SHEET).exists() => {
                let what =
                    format!("is here, but not {ROWS}, which says what was laid out; it was not written over: use another folder");
                return Err(failed(&folder.join(SHEET), what));
            }
            None => {
                std::fs::write(&path, "").map_err(|e| failed(&path, e))?;
                Rows::default()
            }
        };
        let sheet = Sheet::open(folder, columns)?;
        let in_sheet = sheet.rows.iter().filter_map(|row| row.first().cloned()).collect();
        Ok(Folder { path, rows, sheet, in_sheet, new: 0 })
    }

    /// Whether a sample needs no more work; one that is missing in the sheet only is put there.
    pub fn has(&mut self, sample: &str) -> Result<bool, LabelError> {
        let Some(row) = self.rows.cells.get(sample) else { return Ok(false) };
        if !self.in_sheet.contains(sample) {
            let text = |column: &String| row.get(column).and_then(Value::as_str).unwrap_or_default().to_owned();
            self.sheet.add(self.sheet.columns.iter().map(text).collect())?;
            self.in_sheet.insert(sample.to_owned());
        }
        Ok(true)
    }

    /// Adds a row: a text for each column but the label.
    pub fn add(&mut self, cells: Vec<String>) -> Result<(), LabelError> {
        let names = self.sheet.columns.iter().cloned();
        let row: Map<String, Value> = names.zip(cells.iter().cloned().map(Value::String)).collect();
        let line = serde_json::to_string(&row).map_err(|e| failed(&self.path, e))? + "\n";
        let file = OpenOptions::new().append(true).open(&self.path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|e| failed(&self.path, e))?;
        let sample = cells.first().cloned().unwrap_or_default();
        self.rows.insert(row);
        self.sheet.add(cells.into_iter().chain([String::new()]).collect())?;
        self.in_sheet.insert(sample);
        self.new += 1;
        Ok(())
    }

    /// Rows in all, new ones, and those with a label.
    pub fn counts(&self) -> (usize, usize, usize) {
        let labelled = self.sheet.rows.iter().filter(|r| r.last().is_some_and(|l| !l.trim().is_empty())).count();
        (self.rows.samples.len(), self.new, labelled)
    }
}
