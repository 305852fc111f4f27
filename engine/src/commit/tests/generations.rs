use std::collections::BTreeSet;

use delta_kernel::snapshot::Snapshot;

use super::*;
use crate::commit::{CommitError, Outcome};

/// The files of an older version.
fn files_at(table: &Table, version: u64) -> BTreeSet<String> {
    let snapshot = Snapshot::builder_for(table.location.url.as_str()).at_version(version).build(&*table.engine).unwrap();
    table.live_files(&snapshot).unwrap().into_iter().map(|file| file.path).collect()
}

#[test]
fn a_new_generation_starts_empty_and_the_old_one_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    let (one, two) = (shard(&table, &attempt(1), &set("0")), shard(&table, &attempt(1), &set("1")));
    let old = BTreeSet::from([one.file.clone(), two.file.clone()]);
    table.commit(&stamp("p", 1), &set("0"), &[one]).unwrap();
    table.commit(&stamp("p", 1), &set("1"), &[two]).unwrap();
    assert_eq!(table.begin_generation(&stamp("q", 2)).unwrap(), Outcome::Committed { version: 3 });
    let state = table.state().unwrap();
    assert_eq!((state.plan_hash.as_deref(), state.generation, state.done), (Some("q"), 2, set("")));
    assert_rows(&table, &set(""));

    // A process of the old generation comes late.
    let late = open(dir.path());
    assert!(matches!(late.commit(&stamp("p", 1), &set("1"), &[]), Err(CommitError::ChangedPlan { .. })));
    assert!(matches!(late.begin_generation(&stamp("p", 1)), Err(CommitError::ChangedPlan { .. })));

    let new = shard(&table, &attempt(2), &set("1"));
    let now = BTreeSet::from([new.file.clone()]);
    table.commit(&stamp("q", 2), &set("1"), &[new]).unwrap();
    assert_rows(&table, &set("1"));
    assert_eq!(table.collect_orphans().unwrap().files, 0);
    assert_eq!((files_at(&table, 2), files_at(&table, 4)), (old.clone(), now));
    assert!(old.iter().all(|file| dir.path().join(file).exists()));
}

#[test]
fn a_new_generation_may_have_other_columns() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    table.commit(&stamp("p", 1), &set("0"), &[shard(&table, &attempt(1), &set("0"))]).unwrap();
    let mut wider = spec(dir.path().to_str().unwrap());
    let fields = [("id", true), ("caption", false)].map(|(name, nullable)| Field::new(name, DataType::Utf8, nullable));
    wider.schema = Arc::new(Schema::new(fields.to_vec()));
    let new = Table::open_for_new_version(&wider).unwrap();
    assert_eq!(new.begin_generation(&stamp("q", 2)).unwrap(), Outcome::Committed { version: 2 });
    let row = StringArray::from(vec!["x"]);
    let batch = RecordBatch::try_new(wider.schema.clone(), vec![Arc::new(row.clone()), Arc::new(row)]).unwrap();
    let mut writer = new.shard_writer(&attempt(2));
    writer.write(&batch).unwrap();
    new.commit(&stamp("q", 2), &set("0"), &[writer.finish().unwrap()]).unwrap();
    // The same columns again are no difference, whoever opens the table.
    let again = Table::open_or_create(&wider).unwrap();
    assert_eq!(counts(&again), BTreeMap::from([("x".to_owned(), 1)]));
    let id = |version: u64| {
        let entry = again.log_entry(version).unwrap().unwrap();
        let line = entry.lines().find(|line| line.contains("\"metaData\"")).unwrap().to_owned();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()["metaData"]["id"].clone()
    };
    assert_eq!(id(0), id(2));
}

#[test]
fn a_generation_may_begin_in_a_fresh_table() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    assert_eq!(table.begin_generation(&stamp("p", 1)).unwrap(), Outcome::Committed { version: 1 });
    table.commit(&stamp("p", 1), &set("0"), &[]).unwrap();
    // Beginning again after that must not forget what was done since.
    assert_eq!(table.begin_generation(&stamp("p", 1)).unwrap(), Outcome::AlreadyDone);
    assert_eq!(table.state().unwrap().done, set("0"));
}

#[test]
fn the_last_version_of_each_generation_is_found_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    assert!(table.history().unwrap().editions.is_empty(), "nothing was committed");
    // Generation 0 with three commits, 2 (1 was never begun here) with one, 3 begun and no more.
    for split in ["0", "1", "2"] {
        let splits = set(split);
        table.commit(&stamp("p", 0), &splits, &[shard(&table, &attempt(1), &splits)]).unwrap();
    }
    table.begin_generation(&stamp("q", 2)).unwrap();
    table.commit(&stamp("q", 2), &set("0"), &[shard(&table, &attempt(2), &set("0"))]).unwrap();
    table.begin_generation(&stamp("q", 3)).unwrap();
    let history = table.history().unwrap();
    assert_eq!(history.unreadable, None);
    let found: Vec<_> = history.editions.iter().map(|e| (e.state.generation, e.state.version, e.state.done.len())).collect();
    // The slow way: look at every version.
    let mut last: std::collections::BTreeMap<u64, (u64, u64, u64)> = Default::default();
    for version in 1..=table.state().unwrap().version {
        let state = table.state_at(version).unwrap();
        last.insert(state.generation, (state.generation, version, state.done.len()));
    }
    assert_eq!(found, last.into_values().collect::<Vec<_>>());
    assert!(history.editions.iter().all(|e| e.committed_ms.is_some()));
    let rows = |version| {
        table.read_batches_at(version, &["id", "no such column"]).unwrap().map(|b| b.unwrap().num_rows()).sum::<usize>()
    };
    assert_eq!(found.iter().map(|f| rows(f.1)).collect::<Vec<_>>(), [6, 2, 0]);
    assert_eq!(table.schema_at(0).unwrap().fields().len(), 2);

    // A log that another program has shortened.
    for version in 0..3 {
        std::fs::remove_file(dir.path().join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    let table = Table::open_existing("t", dir.path().to_str().unwrap());
    if let Ok(Some(table)) = table {
        assert!(table.history().is_err() || table.history().unwrap().unreadable.is_some());
    }
}
