//! Scenarios over real folders, and over a store that misbehaves. Killed processes are tested with the real binary, not here.

mod commits;
mod compaction;
mod faulty;
mod generations;
mod machine;
mod responses;
mod rows;
mod s3;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::{PlanStamp, Shard, SplitSet, Table, TableSpec};

/// An attempt id for tests.
fn attempt(number: u32) -> String {
    format!("01JD{number:022}")
}

fn spec(location: &str) -> TableSpec {
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, false), Field::new("split", DataType::Int64, true)]);
    TableSpec {
        name: "clips".into(),
        location: location.into(),
        schema: Arc::new(schema),
        target_shard_bytes: 1 << 20,
        row_group_bytes: 1 << 20,
        zstd_level: 3,
        dictionary_columns: vec!["id".into()],
        page_rows: None,
    }
}

fn open(dir: &Path) -> Table {
    Table::open_or_create(&spec(dir.to_str().unwrap())).unwrap()
}

fn stamp(plan: &str, generation: u64) -> PlanStamp {
    PlanStamp { plan_hash: plan.into(), generation }
}

fn set(text: &str) -> SplitSet {
    text.parse().unwrap()
}

/// Two rows of a split.
fn rows(split: u32) -> RecordBatch {
    let ids = StringArray::from(vec![format!("{split}-a"), format!("{split}-b")]);
    RecordBatch::try_new(spec("/").schema, vec![Arc::new(ids), Arc::new(Int64Array::from(vec![i64::from(split); 2]))]).unwrap()
}

/// One shard with the rows of these splits.
fn shard(table: &Table, attempt: &str, splits: &SplitSet) -> Shard {
    let mut writer = table.shard_writer(attempt);
    splits.iter().for_each(|split| writer.write(&rows(split)).unwrap());
    writer.finish().unwrap()
}

/// How often each id is in the table.
fn counts(table: &Table) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for batch in table.read_batches(Some(&["id"])).unwrap() {
        let batch = batch.unwrap();
        for id in batch.column(0).as_string::<i32>().iter().flatten() {
            *counts.entry(id.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// The table holds the rows of exactly these splits, each once.
fn assert_rows(table: &Table, splits: &SplitSet) {
    let expected: BTreeMap<String, usize> = splits.iter().flat_map(|s| [(format!("{s}-a"), 1), (format!("{s}-b"), 1)]).collect();
    assert_eq!(counts(table), expected);
}
