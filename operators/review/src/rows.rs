//! The rest of a row: what every table of an output says of it, and where its clip is.
//!
//! Tables of one output name the same row by the same id, so what one leaves out another may have. Only the chosen rows are read, and nothing that a person
//! cannot read: no embeddings, no bytes. What can go wrong: no table says where the clip is; then the page says so.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use curette_engine::commit::{RowSelection, Table};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ReviewError;
use crate::stage::{Sink, text};

/// Characters of a text that are shown.
const MAX_TEXT_CHARS: usize = 20_000;
/// Rows of a batch.
const BATCH_ROWS: usize = 1024;

/// Where something to look at is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Media {
    /// In a row of a Parquet file, which never changes: `clip.bytes`.
    Row {
        /// The table's folder or URL.
        table: String,
        /// The file in it.
        file: String,
        /// The row in that.
        row: u64,
    },
    /// A file, or a part of one.
    File {
        /// Its path.
        path: String,
        /// Where the part begins, in microseconds.
        start_us: Option<i64>,
        /// Where it ends.
        end_us: Option<i64>,
    },
}

impl Media {
    /// A clip of its own is better than a part of a video, of which a browser may not know the container.
    fn rank(&self) -> u8 {
        match self {
            Media::File { start_us: None, .. } => 2,
            Media::Row { .. } => 1,
            Media::File { .. } => 0,
        }
    }
}

/// What is known of a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Columns and their values.
    pub details: Map<String, Value>,
    /// Its clip.
    pub media: Option<Media>,
}

/// What all tables say of these rows.
pub fn details(sinks: &[Sink], id_column: &str, ids: &[String]) -> Result<Vec<Found>, ReviewError> {
    let wanted: HashMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    let mut found = vec![Found::default(); ids.len()];
    for sink in sinks.iter().filter(|sink| sink.id == Some(id_column)) {
        add(sink, id_column, &wanted, &mut found).map_err(|what| ReviewError::at(&sink.location, what))?;
    }
    Ok(found)
}

fn add(sink: &Sink, id_column: &str, wanted: &HashMap<&str, usize>, found: &mut [Found]) -> Result<(), String> {
    let table = &sink.table;
    let shown = shown(table.schema());
    let in_rows = has_bytes(table.schema());
    for file in table.files().map_err(|e| e.to_string())? {
        let mut places: Vec<(u64, usize)> = Vec::new();
        let mut row = 0;
        for batch in table.read_file(&file.name, &[id_column], BATCH_ROWS, None).map_err(|e| e.to_string())? {
            let ids = text(&batch.map_err(|e| e.to_string())?, id_column)?;
            for id in &ids {
                places.extend(id.and_then(|id| wanted.get(id)).map(|&at| (row, at)));
                row += 1;
            }
        }
        if places.is_empty() {
            continue;
        }
        let total = usize::try_from(row).unwrap_or(usize::MAX);
        let rows = picked(places.iter().map(|(row, _)| *row), total);
        let mut next = places.iter();
        for batch in table.read_file(&file.name, &shown, BATCH_ROWS, Some(rows)).map_err(|e| e.to_string())? {
            for (values, &(row, at)) in as_json(&batch.map_err(|e| e.to_string())?)?.into_iter().zip(next.by_ref()) {
                let in_row = Media::Row { table: sink.location.clone(), file: file.name.clone(), row };
                let media = media(&values, in_rows.then_some(in_row));
                let of = &mut found[at];
                if media.as_ref().is_some_and(|new| of.media.as_ref().is_none_or(|old| new.rank() > old.rank())) {
                    of.media = media;
                }
                for (name, value) in values {
                    of.details.entry(name).or_insert_with(|| shortened(value));
                }
            }
        }
    }
    Ok(())
}

/// Just these rows of a file.
pub(crate) fn picked(rows: impl Iterator<Item = u64>, total: usize) -> RowSelection {
    let ranges = rows.map(|row| row as usize..row as usize + 1);
    RowSelection::from_consecutive_ranges(ranges, total)
}

/// The columns that a person can read.
fn shown(schema: &Schema) -> Vec<&str> {
    let readable = |data_type: &DataType| match data_type {
        DataType::List(item) => *item.data_type() == DataType::Utf8,
        DataType::Struct(_) | DataType::Binary => false,
        _ => true,
    };
    let names = schema.fields().iter().filter(|f| readable(f.data_type()) || f.name() == "transcript");
    names.map(|f| f.name().as_str()).collect()
}

fn has_bytes(schema: &Schema) -> bool {
    let clip = schema.field_with_name("clip").ok();
    clip.is_some_and(|clip| matches!(clip.data_type(), DataType::Struct(parts) if parts.find("bytes").is_some()))
}

/// Rows as objects, nulls left out.
fn as_json(batch: &RecordBatch) -> Result<Vec<Map<String, Value>>, String> {
    let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(|e| e.to_string())?;
    let bytes = writer.into_inner();
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|e| e.to_string())).collect()
}

/// Where the clip is: in a file of its own, in the row, or a part of a video.
fn media(values: &Map<String, Value>, in_row: Option<Media>) -> Option<Media> {
    let text = |name: &str| values.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let number = |name: &str| values.get(name).and_then(Value::as_i64);
    if let Some(path) = text("clip_uri") {
        return Some(Media::File { path, start_us: None, end_us: None });
    }
    let video = text("video_uri").map(|path| Media::File { path, start_us: number("start_us"), end_us: number("end_us") });
    // A row may have no clip although its table has the column; its size says so.
    let sized = values.contains_key("clip_bytes");
    match (in_row, video) {
        (Some(in_row), video) if sized || video.is_none() => Some(in_row),
        (_, video) => video,
    }
}

fn shortened(value: Value) -> Value {
    match value {
        Value::String(text) if text.chars().count() > MAX_TEXT_CHARS => {
            Value::String(text.chars().take(MAX_TEXT_CHARS).chain(['…']).collect())
        }
        other => other,
    }
}

/// The bytes of the clip in a row.
pub fn clip_bytes(table: &str, file: &str, row: u64) -> Result<Option<bytes::Bytes>, ReviewError> {
    let err = |what: String| ReviewError::at(table, what);
    let open = Table::open_existing("clips", table).map_err(|e| err(e.to_string()))?;
    let open = open.ok_or_else(|| err("the table is gone".into()))?;
    let total = usize::try_from(row).unwrap_or(usize::MAX).saturating_add(1);
    let rows = picked(std::iter::once(row), total);
    let read = open.read_file(file, &["clip"], 1, Some(rows)).map_err(|e| err(e.to_string()))?;
    for batch in read {
        let batch = batch.map_err(|e| err(e.to_string()))?;
        let clip = batch.column_by_name("clip").and_then(|c| c.as_struct_opt());
        let bytes = clip.and_then(|c| c.column_by_name("bytes")).and_then(|c| c.as_binary_opt::<i32>());
        let bytes = bytes.ok_or_else(|| err("the column `clip` holds no bytes".into()))?;
        if bytes.len() > 0 && bytes.is_valid(0) {
            return Ok(Some(bytes::Bytes::copy_from_slice(bytes.value(0))));
        }
    }
    Ok(None)
}
