//! A table as its files: what there is, what tells each file's content, and single rows of it.
//!
//! For decisions over whole tables, which are made once and whose rows are then read one by one: an output table of a pipeline, a Parquet file, or a
//! folder of such. A file of an output table never changes under its name; another Parquet file is known by size and time of change, as everywhere.
//!
//! What can go wrong: files vanish or change between planning and reading; that is a [`PartError`] with a code, for the rows that were in it.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use curette_engine::commit::{self, parquet_reader};
use curette_engine::verdict::Problem;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};

use super::{Batches, files_in, kind_of, name_of};
use crate::sources::files::Files;

/// What to do with other files.
const OF_OTHER_FILES: &str = "a pipeline of a source and a `parquet` sink makes a table of other files";
/// The identity of a file that never changes under its name.
const COMMITTED: &str = "committed";

/// A file of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Its name in the table's folder.
    pub name: String,
    /// Changes when its content changes.
    pub identity: String,
    /// Its rows.
    pub rows: u64,
}

/// A part could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartError {
    /// `file_missing`, `input_changed` or `file_unreadable`.
    pub code: &'static str,
    /// What, where, why, what to do.
    pub message: String,
}

impl From<&PartError> for Problem {
    fn from(e: &PartError) -> Problem {
        Problem::new(e.code, e.message.clone())
    }
}

/// A table that can be read file by file.
pub enum Parts {
    /// An output table.
    Committed(Box<commit::Table>),
    /// Parquet files.
    Files {
        /// Where they are.
        folder: PathBuf,
        /// Just this one of them.
        only: Option<String>,
    },
}

impl Parts {
    /// The folder or URL of an output table, a Parquet file, or a folder of Parquet files.
    pub fn open(place: &str) -> Result<Parts, String> {
        let path = Path::new(place);
        if place.contains("://") || path.join("_delta_log").is_dir() {
            let table = commit::Table::open_existing("input", place).map_err(|e| e.to_string())?;
            return Ok(Parts::Committed(Box::new(table.ok_or("there is no table; run the pipeline that makes it first")?)));
        }
        if path.is_dir() {
            return Ok(Parts::Files { folder: path.to_owned(), only: None });
        }
        match (path.parent(), path.is_file(), kind_of(path)) {
            (Some(folder), true, Some("parquet")) => Ok(Parts::Files { folder: folder.to_owned(), only: Some(name_of(path)) }),
            (_, true, _) => Err(format!("expected a Parquet file or the folder of an output table; {OF_OTHER_FILES}")),
            _ => Err("it does not exist; run the pipeline that makes it first".into()),
        }
    }

    /// Its files, by name.
    pub fn list(&self, files: &Files) -> Result<Vec<Part>, String> {
        match self {
            Parts::Committed(table) => {
                let parts = table.files().map_err(|e| e.to_string())?.into_iter();
                Ok(parts.map(|f| Part { name: f.name, identity: COMMITTED.into(), rows: f.rows }).collect())
            }
            Parts::Files { folder, only } => {
                let names = match only {
                    Some(name) => vec![folder.join(name)],
                    None => files_in(folder)?,
                };
                names.iter().map(|path| part_of(path, files)).collect()
            }
        }
    }

    /// Those of `columns` that a file has, in batches; `rows` are row numbers, ascending (`None`: all).
    pub fn read<'a>(
        &'a self,
        files: &Files,
        part: (&'a str, &'a str),
        columns: &'a [&'a str],
        batch_rows: usize,
        rows: Option<&[u64]>,
    ) -> Result<Batches<'a>, PartError> {
        let (name, identity) = part;
        let selection = rows.map(selection);
        match self {
            Parts::Committed(table) => {
                let unreadable = |e: commit::CommitError| PartError { code: "file_unreadable", message: e.to_string() };
                let there = table.files().map_err(unreadable)?.iter().any(|f| f.name == name);
                if !there {
                    let message = format!("file {name} is not in the newest version of the table {}; plan again", table.name());
                    return Err(PartError { code: "file_missing", message });
                }
                let batches = table.read_file(name, columns, batch_rows, selection).map_err(unreadable)?;
                Ok(Box::new(batches.map(|batch| batch.map_err(|e| e.to_string()))))
            }
            Parts::Files { folder, .. } => {
                let path = folder.join(name);
                let found =
                    files.stat(&path.to_string_lossy()).map_err(|e| PartError { code: e.code(), message: e.to_string() })?;
                if found.identity != identity {
                    let message = format!(
                        "{} changed after the inputs were listed ({identity} then, {} now); run again to plan anew",
                        path.display(),
                        found.identity
                    );
                    return Err(PartError { code: "input_changed", message });
                }
                let unreadable = |e: &dyn std::fmt::Display| PartError {
                    code: "file_unreadable",
                    message: format!("{}: {e}", path.display()),
                };
                let file = File::open(&path).map_err(|e| unreadable(&e))?;
                let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
                let reader = parquet_reader(file, Some(&columns), batch_rows, selection).map_err(|e| unreadable(&e))?;
                Ok(Box::new(reader.map(move |batch| batch.map_err(|e| format!("{}: {e}", path.display())))))
            }
        }
    }

    /// Single rows of a file as one batch, in the order of `rows`, which ascend.
    pub fn rows(&self, files: &Files, part: (&str, &str), columns: &[&str], rows: &[u64]) -> Result<RecordBatch, PartError> {
        let unreadable = |message: String| PartError { code: "file_unreadable", message };
        let batches = self.read(files, part, columns, rows.len().max(1), Some(rows))?.collect::<Result<Vec<_>, _>>();
        let batches = batches.map_err(unreadable)?;
        let schema = batches.first().map(RecordBatch::schema).ok_or_else(|| unreadable(format!("{} has no rows", part.0)))?;
        let all = concat_batches(&schema, &batches).map_err(|e| unreadable(e.to_string()))?;
        if all.num_rows() == rows.len() {
            Ok(all)
        } else {
            Err(unreadable(format!("{} has fewer rows than were listed", part.0)))
        }
    }
}

fn part_of(path: &Path, files: &Files) -> Result<Part, String> {
    if kind_of(path) != Some("parquet") {
        return Err(format!("{} is no Parquet file; {OF_OTHER_FILES}", path.display()));
    }
    let stat = files.stat(&path.to_string_lossy()).map_err(|e| e.to_string())?;
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| format!("{}: {e}", path.display()))?;
    let rows = u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
    Ok(Part { name: name_of(path), identity: stat.identity, rows })
}

fn selection(rows: &[u64]) -> RowSelection {
    let mut next = 0u64;
    let mut out: Vec<RowSelector> = Vec::new();
    for &row in rows {
        if row > next {
            out.push(RowSelector::skip((row - next) as usize));
        }
        out.push(RowSelector::select(1));
        next = row + 1;
    }
    out.into()
}
