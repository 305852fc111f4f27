//! Reads a manifest: one row per video, in Parquet, JSON Lines or CSV.
//!
//! Columns: `uri` (or `path`), and optionally `id` (or `video_id`) and the descriptive columns of [`Metadata`]. Other columns are ignored.
//!
//! What can go wrong: a manifest is written by the user, so a row that cannot be understood ends the run with its number, instead of becoming
//! one error row among millions.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use curette_engine::operator::OperatorError;
use serde_json::Value;

use super::files::Files;
use super::metadata::Metadata;

/// Larger manifests are refused: split them, or use Parquet.
pub const MAX_MANIFEST_BYTES: u64 = 2 << 30;
const URI: &[&str] = &["uri", "path"];
const ID: &[&str] = &["id", "video_id"];
const TEXT: &[&str] = &["source_id", "title", "description", "channel_id", "channel", "upload_date", "webpage_url", "license"];
/// Separates tags in a CSV cell.
const TAG_SEPARATOR: char = ';';

/// One video of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The row's number for people: the line of a JSON Lines file, else the row, counted from 1 without the header.
    pub number: usize,
    /// As written: absolute, a URL, or relative to the manifest's folder.
    pub uri: String,
    /// As written, if given.
    pub id: Option<String>,
    /// Descriptive columns.
    pub metadata: Metadata,
}

impl Row {
    /// What names the video: its id, else its uri.
    pub fn key(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.uri)
    }
}

/// All rows in file order. Keys are unique.
pub fn read(files: &Files, uri: &str) -> Result<Vec<Row>, OperatorError> {
    let (bytes, _) =
        files.read(uri, MAX_MANIFEST_BYTES).map_err(|e| OperatorError::new(e.to_string()).help("check `manifest`"))?;
    let extension = uri.rsplit('.').next().unwrap_or("").to_ascii_lowercase();
    let (rows, unit) = match extension.as_str() {
        "parquet" => (parquet(bytes), "row"),
        "jsonl" | "ndjson" => (jsonl(&bytes), "line"),
        "csv" => (csv(&bytes), "row"),
        _ => {
            return Err(OperatorError::new(format!("manifest {uri}: its format is not known from its name"))
                .help("name it *.parquet, *.jsonl, *.ndjson or *.csv"));
        }
    };
    let rows = rows.map_err(|message| {
        OperatorError::new(format!("manifest {uri}: {message}"))
            .help("a manifest has a column `uri` (or `path`) with a value in every row")
    })?;
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(rows.len());
    for row in &rows {
        if let Some(first) = seen.insert(row.key(), row.number) {
            return Err(OperatorError::new(format!(
                "manifest {uri}: {unit} {} and {unit} {} have the same {} `{}`",
                first,
                row.number,
                if row.id.is_some() { "id" } else { "uri" },
                row.key()
            ))
            .help("ids name videos in every output table: make them unique, or remove one of the rows"));
        }
    }
    if rows.is_empty() {
        return Err(OperatorError::new(format!("manifest {uri} has no rows")).help("nothing would be done"));
    }
    Ok(rows)
}

fn jsonl(bytes: &[u8]) -> Result<Vec<Row>, String> {
    let text =
        std::str::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).map_err(|e| format!("not UTF-8: {e}"))?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        let value: Value = serde_json::from_str(line).map_err(|e| format!("line {number}: {e}"))?;
        let Value::Object(mut map) = value else { return Err(format!("line {number}: not a JSON object")) };
        let text = |names: &[&str]| names.iter().find_map(|name| map.get(*name).and_then(scalar));
        let uri = text(URI).ok_or_else(|| format!("line {number}: no `uri`"))?;
        let id = text(ID);
        let mut metadata = Metadata::default();
        for name in TEXT {
            if let Some(slot) = metadata.text_mut(name) {
                *slot = text(&[name]);
            }
        }
        metadata.tags = map.remove("tags").and_then(|tags| match tags {
            Value::Array(items) => Some(items.iter().filter_map(scalar).collect()),
            _ => None,
        });
        rows.push(Row { number, uri, id, metadata });
    }
    Ok(rows)
}

/// A JSON string or number as text; empty strings are unknown.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn csv(bytes: &[u8]) -> Result<Vec<Row>, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (guess, _) =
        arrow_csv::reader::Format::default().with_header(true).infer_schema(bytes, Some(0)).map_err(|e| e.to_string())?;
    // Everything is text: a column of ids such as 007 must not become numbers.
    let fields: Vec<Field> = guess.fields().iter().map(|f| Field::new(f.name(), DataType::Utf8, true)).collect();
    let reader =
        arrow_csv::ReaderBuilder::new(Arc::new(Schema::new(fields))).with_header(true).build(bytes).map_err(|e| e.to_string())?;
    from_batches(reader)
}

fn parquet(bytes: Vec<u8>) -> Result<Vec<Row>, String> {
    use parquet::arrow::ProjectionMask;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).map_err(|e| e.to_string())?;
    let known = |name: &str| URI.contains(&name) || ID.contains(&name) || TEXT.contains(&name) || name == "tags";
    let roots: Vec<usize> =
        builder.schema().fields().iter().enumerate().filter(|(_, f)| known(f.name())).map(|(i, _)| i).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    from_batches(builder.with_projection(mask).build().map_err(|e| e.to_string())?)
}

fn from_batches(batches: impl Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>>) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for batch in batches {
        let batch = batch.map_err(|e| e.to_string())?;
        let column = |names: &[&str]| -> Result<Option<StringArray>, String> {
            match names.iter().find_map(|name| batch.column_by_name(name).map(|c| (name, c))) {
                Some((name, array)) => strings(array).map(Some).map_err(|e| format!("column `{name}`: {e}")),
                None => Ok(None),
            }
        };
        let uris = column(URI)?.ok_or("there is no column `uri`")?;
        let ids = column(ID)?;
        let texts: Vec<Option<StringArray>> = TEXT.iter().map(|name| column(&[name])).collect::<Result<_, _>>()?;
        let tags = batch.column_by_name("tags").map(tag_lists).transpose().map_err(|e| format!("column `tags`: {e}"))?;
        for row in 0..batch.num_rows() {
            let number = rows.len() + 1;
            let cell =
                |array: &StringArray| (array.is_valid(row) && !array.value(row).is_empty()).then(|| array.value(row).to_string());
            let uri = cell(&uris).ok_or_else(|| format!("row {number}: no `uri`"))?;
            let mut metadata = Metadata::default();
            for (name, array) in TEXT.iter().zip(&texts) {
                if let Some(slot) = metadata.text_mut(name) {
                    *slot = array.as_ref().and_then(cell);
                }
            }
            metadata.tags = tags.as_ref().and_then(|tags| tags[row].clone());
            rows.push(Row { number, uri, id: ids.as_ref().and_then(cell), metadata });
        }
    }
    Ok(rows)
}

fn strings(array: &dyn Array) -> Result<StringArray, String> {
    if array.data_type().is_nested() {
        return Err(format!("it is {}, expected text", array.data_type()));
    }
    let array = arrow_cast::cast(array, &DataType::Utf8).map_err(|e| e.to_string())?;
    Ok(array.as_string::<i32>().clone())
}

/// Lists of text, or text separated by [`TAG_SEPARATOR`].
fn tag_lists(array: &Arc<dyn Array>) -> Result<Vec<Option<Vec<String>>>, String> {
    if !array.data_type().is_nested() {
        let split = |text: &str| text.split(TAG_SEPARATOR).map(str::trim).filter(|t| !t.is_empty()).map(str::to_string).collect();
        return Ok(strings(array)?.iter().map(|cell| cell.filter(|c| !c.is_empty()).map(split)).collect());
    }
    let wanted = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let lists = arrow_cast::cast(array, &wanted).map_err(|e| e.to_string())?;
    let lists = lists.as_list::<i32>();
    Ok(lists.iter().map(|list| list.map(|l| l.as_string::<i32>().iter().flatten().map(str::to_string).collect())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, bytes: &[u8]) -> Result<Vec<Row>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read(&Files::default(), path.to_str().unwrap()).map_err(|e| e.to_string().replace(path.to_str().unwrap(), "M"))
    }

    #[test]
    fn three_formats_say_the_same() {
        let jsonl = br#"{"uri": "a.mp4", "id": "007", "title": "A, \"quoted\"", "tags": ["x", "y"], "other": {"deep": 1}}

{"path": "sub/b.mp4", "upload_date": 20240131}"#;
        let csv = b"\xef\xbb\xbfid,uri,title,tags,upload_date,other\n007,a.mp4,\"A, \"\"quoted\"\"\",x; y,,1\n,sub/b.mp4,,,20240131,2\n";
        let mut from_json = read_text("m.jsonl", jsonl).unwrap();
        assert_eq!((from_json[0].number, from_json[1].number), (1, 3));
        from_json[1].number = 2;
        assert_eq!(read_text("m.csv", csv).unwrap(), from_json);
        assert_eq!(from_json[0].key(), "007");
        assert_eq!(from_json[1].key(), "sub/b.mp4");
        assert_eq!(from_json[0].metadata.tags, Some(vec!["x".into(), "y".into()]));

        let field = |name: &str, t: DataType| Field::new(name, t, true);
        let list = DataType::LargeList(Arc::new(Field::new("element", DataType::LargeUtf8, true)));
        let schema = Arc::new(Schema::new(vec![
            field("uri", DataType::LargeUtf8),
            field("id", DataType::Utf8),
            field("title", DataType::Utf8),
            field("tags", list),
            field("upload_date", DataType::Int64),
            field("other", DataType::Float64),
        ]));
        let rows =
            r#"{"uri":"a.mp4","id":"007","title":"A, \"quoted\"","tags":["x","y"]} {"uri":"sub/b.mp4","upload_date":20240131}"#;
        let batch = arrow_json::ReaderBuilder::new(schema.clone()).build(rows.as_bytes()).unwrap().next().unwrap().unwrap();
        let mut bytes = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert_eq!(read_text("m.parquet", &bytes).unwrap(), from_json);
    }

    #[test]
    fn mistakes_name_their_lines() {
        let twice = b"{\"uri\":\"a\",\"id\":\"x\"}\n{\"uri\":\"b\",\"id\":\"y\"}\n\n{\"uri\":\"c\",\"id\":\"x\"}\n";
        insta::assert_snapshot!(read_text("m.jsonl", twice).unwrap_err(), @"manifest M: line 1 and line 4 have the same id `x` (ids name videos in every output table: make them unique, or remove one of the rows)");
        insta::assert_snapshot!(read_text("m.csv", b"uri\na\na\n").unwrap_err(), @"manifest M: row 1 and row 2 have the same uri `a` (ids name videos in every output table: make them unique, or remove one of the rows)");
        assert!(read_text("m.jsonl", b"{\"uri\":\"a\"}\n{\"id\":\"x\"}").unwrap_err().contains("line 2: no `uri`"));
        assert!(read_text("m.jsonl", b"{\"uri\":\"a\"}\n{oops").unwrap_err().contains("line 2: "));
        assert!(read_text("m.jsonl", b"[1]").unwrap_err().contains("line 1: not a JSON object"));
        assert!(read_text("m.csv", b"title\nx\n").unwrap_err().contains("no column `uri`"));
        assert!(read_text("m.csv", b"uri\n").unwrap_err().contains("no rows"));
        assert!(read_text("m.parquet", b"PAR0").unwrap_err().contains("manifest M: "));
        assert!(read_text("m.txt", b"a").unwrap_err().contains("name it *.parquet"));
    }
}
