//! A table as its files: what there is, what tells each file's content, and single rows of it.
//!
//! For decisions over whole tables, which are made once and whose rows are then read one by one: an output table of a pipeline, a Parquet file, or a
//! folder of such, on a disk or in a store (of which only the ends of files and the wanted columns are fetched). A file of an output table never
//! changes under its name; another Parquet file is known by size and time of change, as everywhere.
//!
//! What can go wrong: files vanish or change between planning and reading; that is a [`PartError`] with a code, for the rows that were in it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use curette_engine::commit::{self, parquet_reader};
use curette_engine::verdict::Problem;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector};
use parquet::file::metadata::PageIndexPolicy;

use super::{Batches, files_in, kind_of, name_of};
use crate::sources::files::{Files, is_url, split_name};
use crate::sources::ranged::{Ask, InStore, Ranged};

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
        /// Where they are: an absolute path or a URL.
        folder: String,
        /// Just this one of them.
        only: Option<String>,
    },
}

impl Parts {
    /// The folder or URL of an output table, a Parquet file, or a folder of Parquet files.
    pub fn open(place: &str, files: &Files) -> Result<Parts, String> {
        let path = Path::new(place);
        if is_url(place) {
            return Parts::in_a_store(place.trim_end_matches('/'), files);
        }
        let local = place.strip_prefix("file://").map_or(path, Path::new);
        if local.join("_delta_log").is_dir() {
            return Parts::committed(place);
        }
        if local.is_dir() {
            return Ok(Parts::Files { folder: local.to_string_lossy().into_owned(), only: None });
        }
        match (local.parent(), local.is_file(), kind_of(local)) {
            (Some(folder), true, Some("parquet")) => {
                Ok(Parts::Files { folder: folder.to_string_lossy().into_owned(), only: Some(name_of(local)) })
            }
            (_, true, _) => Err(format!("expected a Parquet file or the folder of an output table; {OF_OTHER_FILES}")),
            _ => Err("it does not exist; run the pipeline that makes it first".into()),
        }
    }

    fn committed(place: &str) -> Result<Parts, String> {
        let table = commit::Table::open_existing("input", place).map_err(|e| e.to_string())?;
        Ok(Parts::Committed(Box::new(table.ok_or("there is no table; run the pipeline that makes it first")?)))
    }

    fn in_a_store(place: &str, files: &Files) -> Result<Parts, String> {
        if kind_of(Path::new(place)) == Some("parquet") {
            let (folder, name) = split_name(place);
            return Ok(Parts::Files { folder: folder.to_owned(), only: Some(name.to_owned()) });
        }
        let log = files.list(&format!("{place}/_delta_log"), 1).map_err(|e| e.to_string())?;
        if !log.is_empty() {
            return Parts::committed(place);
        }
        match files.list(place, 1).map_err(|e| e.to_string())?.keys().any(|name| kind_of(Path::new(name)) == Some("parquet")) {
            true => Ok(Parts::Files { folder: place.to_owned(), only: None }),
            false => Err("there is neither a table nor a Parquet file; run the pipeline that makes it first".into()),
        }
    }

    /// Its files, by name.
    pub fn list(&self, files: &Arc<Files>) -> Result<Vec<Part>, String> {
        match self {
            Parts::Committed(table) => {
                let parts = table.files().map_err(|e| e.to_string())?.into_iter();
                Ok(parts.map(|f| Part { name: f.name, identity: COMMITTED.into(), rows: f.rows }).collect())
            }
            Parts::Files { folder, only } => {
                let names = match only {
                    Some(name) => vec![name.clone()],
                    None if is_url(folder) => names_in(folder, files)?,
                    None => files_in(Path::new(folder))?.iter().map(|path| name_of(path)).collect(),
                };
                names.into_iter().map(|name| part_of(folder, name, files)).collect()
            }
        }
    }

    /// Those of `columns` that a file has, in batches; `rows` are row numbers, ascending (`None`: all).
    pub fn read<'a>(
        &'a self,
        files: &Arc<Files>,
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
                let uri = format!("{folder}/{name}");
                let found = files.stat(&uri).map_err(|e| PartError { code: e.code(), message: e.to_string() })?;
                if found.identity != identity {
                    let message = format!(
                        "{uri} changed after the inputs were listed ({identity} then, {} now); run again to plan anew",
                        found.identity
                    );
                    return Err(PartError { code: "input_changed", message });
                }
                let unreadable =
                    |e: &dyn std::fmt::Display| PartError { code: "file_unreadable", message: format!("{uri}: {e}") };
                if is_url(folder) {
                    let policy = if selection.is_some() { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip };
                    let options = ArrowReaderOptions::new().with_page_index_policy(policy);
                    let column = |name: &str| columns.contains(&name);
                    let ask = Ask { column: &column, batch_rows, rows: selection, group: None, options };
                    let reader = InStore::open(files, &uri, found.bytes, ask).map_err(|e| unreadable(&e))?;
                    return Ok(Box::new(reader.map(move |batch| batch.map_err(|e| format!("{uri}: {e}")))));
                }
                let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
                let file = File::open(&uri).map_err(|e| unreadable(&e))?;
                let reader = parquet_reader(file, Some(&columns), batch_rows, selection).map_err(|e| unreadable(&e))?;
                Ok(Box::new(reader.map(move |batch| batch.map_err(|e| format!("{uri}: {e}")))))
            }
        }
    }

    /// Single rows of a file as one batch, in the order of `rows`, which ascend.
    pub fn rows(&self, files: &Arc<Files>, part: (&str, &str), columns: &[&str], rows: &[u64]) -> Result<RecordBatch, PartError> {
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

/// Parquet files directly below a URL. Others are no rows; names that begin with `_` are notes of other programs.
fn names_in(folder: &str, files: &Files) -> Result<Vec<String>, String> {
    let found = files.list(folder, 1).map_err(|e| e.to_string())?.into_keys();
    Ok(found.filter(|name| !name.starts_with('_') && kind_of(Path::new(name)) == Some("parquet")).collect())
}

fn part_of(folder: &str, name: String, files: &Arc<Files>) -> Result<Part, String> {
    let uri = format!("{folder}/{name}");
    if kind_of(Path::new(&name)) != Some("parquet") {
        return Err(format!("{uri} is no Parquet file; {OF_OTHER_FILES}"));
    }
    let stat = files.stat(&uri).map_err(|e| e.to_string())?;
    let metadata = ArrowReaderMetadata::load(&Ranged::new(files, &uri, stat.bytes), ArrowReaderOptions::new());
    let metadata = metadata.map_err(|e| format!("{uri}: {e}"))?;
    let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
    Ok(Part { name, identity: stat.identity, rows })
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
