//! Messages between a run and its decoder processes: a length, then parts with a length each. Rows are Arrow IPC streams, the rest is JSON.

use std::io::{Read, Write};
use std::path::PathBuf;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use crate::budget::MemoryLimit;
use crate::graph::RuntimeSettings;
use crate::verdict::{Processed, Verdict};

/// Larger messages are refused; an answer holds the rows of one task.
pub(super) const MAX_MESSAGE_BYTES: u64 = 4 << 30;
/// Bytes of a length.
pub(super) const LENGTH_BYTES: usize = 8;

/// Which operator, started how: as in [`crate::operator::BuildContext`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Setup {
    pub step: String,
    pub operator: String,
    pub parameters: serde_json::Value,
    pub base: PathBuf,
    pub runtime: RuntimeSettings,
    /// What one child may keep.
    pub memory: MemoryLimit,
    pub output: String,
    pub id_column: String,
}

/// What a child says of a task, besides the columns.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub verdicts: Vec<Verdict>,
    pub parents: Option<Vec<u32>>,
    /// Not a row's fault: message and help. The run ends with it.
    pub error: Option<(String, Option<String>)>,
}

/// One message of these parts.
pub(super) fn message(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len() + LENGTH_BYTES).sum();
    let mut out = Vec::with_capacity(length + LENGTH_BYTES);
    out.extend_from_slice(&(length as u64).to_le_bytes());
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// The parts of a message without its own length.
pub(super) fn parts<const N: usize>(mut body: &[u8]) -> Result<[&[u8]; N], String> {
    let mut out = [&[][..]; N];
    for part in &mut out {
        let (length, rest) = body.split_at_checked(LENGTH_BYTES).ok_or("a message ends early")?;
        let length = usize::try_from(length_of(length)).map_err(|e| e.to_string())?;
        (*part, body) = rest.split_at_checked(length).ok_or("a message ends early")?;
    }
    match body.is_empty() {
        true => Ok(out),
        false => Err("a message has too many parts".into()),
    }
}

/// A length as it is sent.
pub(super) fn length_of(bytes: &[u8]) -> u64 {
    bytes.iter().take(LENGTH_BYTES).rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// The next message's body; `None` at the end.
pub(super) fn read_message(from: &mut dyn Read) -> Result<Option<Vec<u8>>, String> {
    let mut length = [0; LENGTH_BYTES];
    match from.read_exact(&mut length) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map_err(|e| e.to_string())?,
    }
    let length = length_of(&length);
    if length > MAX_MESSAGE_BYTES {
        return Err(format!("a message of {length} bytes; the limit is {MAX_MESSAGE_BYTES}"));
    }
    let mut body = Vec::new();
    from.take(length).read_to_end(&mut body).map_err(|e| e.to_string())?;
    match body.len() as u64 == length {
        true => Ok(Some(body)),
        false => Ok(None),
    }
}

pub(super) fn write_message(to: &mut dyn Write, parts: &[&[u8]]) -> std::io::Result<()> {
    to.write_all(&message(parts))?;
    to.flush()
}

pub(super) fn encode_rows(rows: &RecordBatch) -> Result<Vec<u8>, String> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).map_err(|e| e.to_string())?;
    writer.write(rows).map_err(|e| e.to_string())?;
    writer.into_inner().map_err(|e| e.to_string())
}

pub(super) fn decode_rows(bytes: &[u8]) -> Result<RecordBatch, String> {
    let mut reader = StreamReader::try_new(bytes, None).map_err(|e| e.to_string())?;
    let rows = reader.next().ok_or("a message without rows")?;
    rows.map_err(|e| e.to_string())
}

pub(super) fn encode_schema(schema: &SchemaRef) -> Result<Vec<u8>, String> {
    encode_rows(&RecordBatch::new_empty(schema.clone()))
}

pub(super) fn encode_columns(columns: &[ArrayRef]) -> Result<Vec<u8>, String> {
    let fields: Vec<Field> =
        columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true)).collect();
    let rows = columns.first().map_or(0, |c| c.len());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Schema::new(fields).into(), columns.to_vec(), &options);
    encode_rows(&batch.map_err(|e| e.to_string())?)
}

/// What a child answered; the error is the operator's.
pub(super) fn processed(body: &[u8]) -> Result<Result<Processed, (String, Option<String>)>, String> {
    let [head, columns] = parts(body)?;
    let head: Head = serde_json::from_slice(head).map_err(|e| e.to_string())?;
    if let Some(error) = head.error {
        return Ok(Err(error));
    }
    let columns = decode_rows(columns)?.columns().to_vec();
    Ok(Ok(Processed { verdicts: head.verdicts, columns, parents: head.parents }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn what_is_sent_is_what_comes() {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec![None, Some("x")]))];
        let verdicts = vec![Verdict::Pass, Verdict::fail("dark", 1.5, 2.0, "too dark")];
        let head = Head { verdicts: verdicts.clone(), parents: Some(vec![0, 0]), error: None };
        let head = serde_json::to_vec(&head).unwrap();
        let sent = message(&[&head, &encode_columns(&columns).unwrap()]);
        let mut wire = &sent[..];
        let body = read_message(&mut wire).unwrap().unwrap();
        assert!(read_message(&mut wire).unwrap().is_none());
        let got = processed(&body).unwrap().unwrap();
        assert_eq!((got.verdicts, got.parents), (verdicts, Some(vec![0, 0])));
        assert_eq!(got.columns, columns);
        for cut in 0..sent.len() {
            assert!(read_message(&mut &sent[..cut]).unwrap().is_none(), "{cut}");
        }
        assert!(parts::<3>(&body).is_err() && parts::<1>(&body).is_err());
        assert!(read_message(&mut &[0xFF; 16][..]).is_err(), "a length that cannot be");
        assert!(decode_rows(&encode_columns(&[]).unwrap()).unwrap().columns().is_empty());
    }
}
