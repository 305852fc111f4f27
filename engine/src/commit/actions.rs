//! Finished shards in the form in which the Delta library takes them into a commit.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, Int64Array, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder, StructArray};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow_json::ReaderBuilder;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use serde_json::{Value, json};

use super::shard::Shard;

/// One row per shard. `stats` is the table's schema of statistics.
pub(crate) fn add_files(shards: &[&Shard], stats: Schema) -> Result<Box<ArrowEngineData>, ArrowError> {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let stats = stats_column(shards, stats)?;
    let columns: [(&str, ArrayRef, bool); 5] = [
        ("path", Arc::new(StringArray::from_iter_values(shards.iter().map(|s| &s.file))), false),
        ("partitionValues", no_partitions(shards.len())?, false),
        ("size", Arc::new(Int64Array::from_iter_values(shards.iter().map(|s| number(s.bytes)))), false),
        ("modificationTime", Arc::new(Int64Array::from_iter_values(shards.iter().map(|s| s.modified_ms))), false),
        ("stats", Arc::new(stats), true),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, a, nullable)| Field::new(*name, a.data_type().clone(), *nullable)).collect();
    let arrays = columns.into_iter().map(|(_, array, _)| array).collect();
    Ok(Box::new(ArrowEngineData::new(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)))
}

fn no_partitions(rows: usize) -> Result<ArrayRef, ArrowError> {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for _ in 0..rows {
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

/// The shards' JSON statistics as a struct column. Statistics that are not JSON are reduced to the row count: they only speed readers up.
fn stats_column(shards: &[&Shard], schema: Schema) -> Result<StructArray, ArrowError> {
    let lines = shards.iter().map(|shard| {
        let parsed = shard.stats.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        parsed.unwrap_or_else(|| json!({"numRecords": shard.rows})).to_string()
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut reader = ReaderBuilder::new(Arc::new(schema)).with_batch_size(shards.len().max(1)).build(text.as_bytes())?;
    let batch = reader.next().ok_or_else(|| ArrowError::InvalidArgumentError("no statistics".into()))??;
    Ok(StructArray::from(batch))
}
