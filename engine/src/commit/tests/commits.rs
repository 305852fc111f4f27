use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use crate::commit::{Outcome, PlanStamp, SplitSet, Table, TableSpec};

pub(crate) fn spec(location: &str) -> TableSpec {
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, false), Field::new("split", DataType::Int64, true)]);
    TableSpec {
        name: "clips".into(),
        location: location.into(),
        schema: Arc::new(schema),
        target_shard_bytes: 1 << 20,
        row_group_bytes: 1 << 20,
        zstd_level: 3,
        dictionary_columns: vec!["id".into()],
    }
}

pub(crate) fn stamp(plan: &str, generation: u64) -> PlanStamp {
    PlanStamp { plan_hash: plan.into(), generation }
}

pub(crate) fn set(text: &str) -> SplitSet {
    text.parse().unwrap()
}

/// Two rows of a split.
pub(crate) fn rows(split: u32) -> RecordBatch {
    let ids = StringArray::from(vec![format!("{split}-a"), format!("{split}-b")]);
    RecordBatch::try_new(spec("/").schema, vec![Arc::new(ids), Arc::new(Int64Array::from(vec![i64::from(split); 2]))]).unwrap()
}

#[test]
fn create_commit_resume() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(dir.path().to_str().unwrap());
    let table = Table::open_or_create(&spec).unwrap();
    assert_eq!(table.state().unwrap().plan_hash, None);
    let mut writer = table.shard_writer("01A");
    writer.write(&rows(0)).unwrap();
    writer.write(&rows(1)).unwrap();
    assert!(writer.bytes_written() > 0);
    let shard = writer.finish().unwrap();
    assert_eq!((shard.rows, shard.file.as_str()), (4, "part-01A-00000.parquet"));
    assert_eq!(table.commit(&stamp("p", 1), &set("0-1"), &[shard]).unwrap(), Outcome::Committed { version: 1 });
    // A split without rows.
    assert_eq!(table.commit(&stamp("p", 1), &set("2"), &[]).unwrap(), Outcome::Committed { version: 2 });
    let again = Table::open_or_create(&spec).unwrap();
    let state = again.state().unwrap();
    assert_eq!((state.version, state.plan_hash.as_deref(), state.generation, state.done), (2, Some("p"), 1, set("0-2")));
    assert_eq!(again.commit(&stamp("p", 1), &set("1"), &[]).unwrap(), Outcome::AlreadyDone);
    assert_eq!(again.commit(&stamp("p", 1), &set("1,7"), &[]).unwrap(), Outcome::PartlyDone { done: set("1") });
    insta::assert_snapshot!(again.commit(&stamp("q", 1), &set("3"), &[]).unwrap_err(), @"table `clips` holds rows of plan p (generation 1), but this run is plan q (generation 1): run with --new-version to replace them, or write to another output");
}
