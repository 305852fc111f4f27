//! Tables that the verbs read: a CSV, JSON Lines or Parquet file, or a folder: an output table of a pipeline, or files of one of these kinds.
//!
//! Only the columns that are asked for are read, a batch at a time, so a table may be as wide and as long as it likes. An output table is what its log says: files of
//! killed attempts and of older versions lie in the same folder and do not count. What can go wrong: a folder of tables instead of a table; that is an
//! error that names them. A CSV may come from a spreadsheet: with a byte order mark, or with `;` or tabs between its cells.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use curette_engine::commit;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

pub mod cast;
pub mod parts;

/// Rows of a batch of small columns.
pub const BATCH_ROWS: usize = 1024;
/// More names of tables in a folder are not listed in a message.
const MAX_NAMED: usize = 8;
/// What a file may be called.
const KINDS: [&str; 4] = ["parquet", "jsonl", "ndjson", "csv"];

/// A table that can be read, more than once.
pub struct OpenTable {
    parts: Parts,
    schema: SchemaRef,
}

enum Parts {
    Committed(Box<commit::Table>),
    Files(Vec<(PathBuf, SchemaRef)>),
}

/// Its rows.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<RecordBatch, String>> + 'a>;

impl OpenTable {
    /// A file by its extension, a folder by what is in it, a URL as an output table.
    pub fn open(path: &Path) -> Result<OpenTable, String> {
        let url = path.to_str().filter(|text| text.contains("://"));
        if url.is_some() || path.join("_delta_log").is_dir() {
            let location = match url {
                Some(url) => url.to_owned(),
                None => path.canonicalize().map_err(|e| e.to_string())?.to_string_lossy().into_owned(),
            };
            let table = commit::Table::open_existing("input", &location).map_err(|e| e.to_string())?;
            let table = table.ok_or("there is no table; give the folder of one output table, or a file")?;
            let schema = Arc::clone(table.schema());
            return Ok(OpenTable { parts: Parts::Committed(Box::new(table)), schema });
        }
        let is_folder = path.is_dir();
        let files = if is_folder { files_in(path)? } else { vec![path.to_owned()] };
        let named = |file: &Path, e: String| if is_folder { format!("{}: {e}", name_of(file)) } else { e };
        let schema = |file: PathBuf| schema_of(&file).map_err(|e| named(&file, e)).map(|schema| (file, schema));
        let files = files.into_iter().map(schema).collect::<Result<Vec<_>, String>>()?;
        let mut fields: Vec<FieldRef> = Vec::new();
        for field in files.iter().flat_map(|(_, schema)| schema.fields()) {
            if !fields.iter().any(|there| there.name() == field.name()) {
                fields.push(Arc::clone(field));
            }
        }
        Ok(OpenTable { parts: Parts::Files(files), schema: Arc::new(Schema::new(fields)) })
    }

    /// All columns; a type may differ from file to file.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether there is such a column.
    pub fn has(&self, name: &str) -> bool {
        self.schema.field_with_name(name).is_ok()
    }

    /// An error unless there is such a column.
    pub fn need(&self, name: &str) -> Result<(), String> {
        if self.has(name) || self.schema.fields().is_empty() {
            return Ok(());
        }
        Err(format!("needs a column `{name}`"))
    }

    /// The rows, with those of `columns` that there are, at most `rows` in a batch.
    pub fn batches<'a>(&'a self, columns: &[&str], rows: usize) -> Result<Batches<'a>, String> {
        let wanted: Vec<String> = columns.iter().filter(|c| self.has(c)).map(|c| (*c).to_owned()).collect();
        match &self.parts {
            Parts::Committed(table) => {
                let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
                let read = table.read_batches(Some(&names)).map_err(|e| e.to_string())?.with_batch_rows(rows);
                Ok(Box::new(read.map(|batch| batch.map_err(|e| e.to_string()))))
            }
            Parts::Files(files) => Ok(Box::new(files.iter().flat_map(move |(file, schema)| {
                read_file(file, schema, &wanted, rows).unwrap_or_else(|e| Box::new(std::iter::once(Err(e))))
            }))),
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn kind_of(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?;
    KINDS.into_iter().find(|kind| *kind == extension)
}

/// The files of a folder that is no output table: of the first kind of which there are any, by name. Hidden files and `_...` are no rows.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(|e| e.to_string())?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|e| e.path()).collect();
    paths.sort();
    let plain = |path: &PathBuf| !name_of(path).starts_with(['.', '_']) && path.is_file();
    for kind in KINDS {
        let files: Vec<PathBuf> = paths.iter().filter(|p| plain(p) && kind_of(p) == Some(kind)).cloned().collect();
        if !files.is_empty() {
            return Ok(files);
        }
    }
    let tables: Vec<String> = paths.iter().filter(|p| p.join("_delta_log").is_dir()).map(|p| name_of(p)).collect();
    match tables.first() {
        None => Err("is a folder without a table: it holds neither `_delta_log` nor .parquet, .jsonl or .csv files".into()),
        Some(_) => {
            let shown = tables[..tables.len().min(MAX_NAMED)].join(", ");
            Err(format!("is a folder of tables, not a table; give one of those in it: {shown}"))
        }
    }
}

fn schema_of(path: &Path) -> Result<SchemaRef, String> {
    let open = || File::open(path).map_err(|e| e.to_string());
    match kind_of(path) {
        Some("parquet") => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(open()?).map_err(|e| e.to_string())?;
            Ok(Arc::clone(builder.schema()))
        }
        Some("csv") => csv(path).map(|(_, _, schema)| schema),
        Some(_) => {
            let (schema, _) = arrow_json::reader::infer_json_schema(BufReader::new(open()?), None).map_err(|e| e.to_string())?;
            Ok(Arc::new(schema))
        }
        None => Err("expected a file that ends in .csv, .jsonl, .ndjson or .parquet, or the folder of an output table".into()),
    }
}

/// The reader behind a byte order mark, what stands between cells, and the columns. All are text: `007` is a name, not the number 7.
fn csv(path: &Path) -> Result<(BufReader<File>, u8, SchemaRef), String> {
    let mut reader = BufReader::new(File::open(path).map_err(|e| e.to_string())?);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
    let start = if line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let delimiter = [b',', b';', b'\t'].into_iter().find(|d| line.contains(d)).unwrap_or(b',');
    let rewind = |reader: &mut BufReader<File>| reader.seek(SeekFrom::Start(start)).map(|_| ()).map_err(|e| e.to_string());
    rewind(&mut reader)?;
    let format = arrow_csv::reader::Format::default().with_header(true).with_delimiter(delimiter);
    let (header, _) = format.infer_schema(&mut reader, Some(0)).map_err(|e| e.to_string())?;
    rewind(&mut reader)?;
    let fields: Vec<Field> = header.fields().iter().map(|f| Field::new(f.name(), DataType::Utf8, true)).collect();
    Ok((reader, delimiter, Arc::new(Schema::new(fields))))
}

fn read_file<'a>(path: &Path, schema: &SchemaRef, wanted: &[String], rows: usize) -> Result<Batches<'a>, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    if schema.fields().is_empty() {
        return Ok(Box::new(std::iter::empty()));
    }
    let indexes = schema.fields().iter().enumerate().filter(|(_, f)| wanted.contains(f.name()));
    let mut indexes: Vec<usize> = indexes.map(|(index, _)| index).collect();
    if indexes.is_empty() {
        // The rows still count, and some readers cannot make rows without a column.
        indexes.push(0);
    }
    match kind_of(path) {
        Some("parquet") => {
            let builder =
                ParquetRecordBatchReaderBuilder::try_new(File::open(path).map_err(|e| text(&e))?).map_err(|e| text(&e))?;
            let mask = ProjectionMask::roots(builder.parquet_schema(), indexes);
            let reader = builder.with_projection(mask).with_batch_size(rows).build().map_err(|e| text(&e))?;
            Ok(Box::new(reader.map(|batch| batch.map_err(|e| e.to_string()))))
        }
        Some("csv") => {
            let (reader, delimiter, schema) = csv(path)?;
            let builder = arrow_csv::ReaderBuilder::new(schema).with_header(true).with_delimiter(delimiter);
            let reader = builder.with_batch_size(rows).with_projection(indexes).build(reader).map_err(|e| text(&e))?;
            Ok(Box::new(reader.map(|batch| batch.map_err(|e| e.to_string()))))
        }
        _ => {
            let schema = schema.project(&indexes).map_err(|e| text(&e))?;
            let reader = BufReader::new(File::open(path).map_err(|e| text(&e))?);
            let reader =
                arrow_json::ReaderBuilder::new(Arc::new(schema)).with_batch_size(rows).build(reader).map_err(|e| text(&e))?;
            Ok(Box::new(reader.map(|batch| batch.map_err(|e| e.to_string()))))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
