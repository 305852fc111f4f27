//! Small files become large ones: no row is lost or doubled, whoever else is at work and whatever the store answers.

use std::collections::BTreeSet;

use delta_kernel::snapshot::Snapshot;
use serde_json::Value;

use super::faulty::{Fault, FaultyStore};
use super::*;
use crate::commit::{CommitError, Outcome};

const TARGET: u64 = 1 << 20;

fn one_split(table: &Table, split: u32) {
    let splits = set(&split.to_string());
    let done = shard(table, &attempt(split), &splits);
    assert!(matches!(table.commit(&stamp("p", 1), &splits, &[done]).unwrap(), Outcome::Committed { .. }));
}

fn files_at(table: &Table, version: Option<u64>) -> BTreeSet<String> {
    let builder = Snapshot::builder_for(table.location.url.as_str());
    let builder = if let Some(version) = version { builder.at_version(version) } else { builder };
    table.live_files(&builder.build(&*table.engine).unwrap()).unwrap().into_iter().map(|file| file.path).collect()
}

#[test]
fn many_small_files_become_one_and_older_versions_stay_readable() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    (0..6).for_each(|split| one_split(&table, split));
    let (old, before) = (files_at(&table, None), table.state().unwrap());
    assert_eq!(old.len(), 6);
    let plan = table.plan_compaction(TARGET).unwrap();
    assert_eq!((plan.files_before, plan.rows, plan.version), (6, 12, None));
    assert_eq!(files_at(&table, None), old, "a look changes nothing");

    let done = table.compact(TARGET).unwrap();
    assert_eq!((done.files_before, done.files_after, done.rows, done.version), (6, 1, 12, Some(7)));
    assert_rows(&table, &set("0-5"));
    let after = table.state().unwrap();
    assert_eq!((after.plan_hash, after.generation, after.done), (before.plan_hash, before.generation, before.done));
    assert_eq!(table.row_count().unwrap(), 12);
    // By the protocol: no data changed, so that readers of changes see none.
    let entry = table.log_entry(7).unwrap().unwrap();
    let actions: Vec<Value> = entry.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(actions[0]["commitInfo"]["operation"], "OPTIMIZE");
    let changes: Vec<&Value> =
        actions.iter().filter_map(|a| a.get("add").or(a.get("remove"))).map(|f| &f["dataChange"]).collect();
    assert!(changes.len() == 7 && changes.iter().all(|c| **c == Value::Bool(false)), "{entry}");
    // Time travel, and neither collection takes a file of it.
    assert_eq!(files_at(&table, Some(6)), old);
    assert_eq!(table.collect_orphans().unwrap().files, 0);
    assert!(old.iter().all(|file| dir.path().join(file).exists()));
    assert_eq!(table.compact(TARGET).unwrap().files_before, 0, "once is enough");
    // Runs go on in it.
    one_split(&table, 6);
    assert_rows(&open(dir.path()), &set("0-6"));
}

#[test]
fn commits_beside_compactions_lose_nothing() {
    const SPLITS: u32 = 30;
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let dir = dir.path();
                scope.spawn(move || {
                    let table = open(dir);
                    (0..SPLITS).filter(|split| split % 2 == writer).for_each(|split| one_split(&table, split));
                })
            })
            .collect();
        let table = open(dir.path());
        while writers.iter().any(|writer| !writer.is_finished()) {
            table.compact(TARGET).unwrap();
        }
    });
    let table = open(dir.path());
    table.compact(TARGET).unwrap();
    assert_rows(&table, &set("0-29"));
    assert_eq!(table.state().unwrap().done, set("0-29"));
    assert_eq!(files_at(&table, None).len(), 1);
}

#[test]
fn of_two_compactions_and_of_a_new_version_beside_one_the_slower_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let (table, other) = (open(dir.path()), open(dir.path()));
    (0..4).for_each(|split| one_split(&table, split));
    let slow = table.join_small(TARGET).unwrap().unwrap();
    other.compact(TARGET).unwrap();
    let error = table.commit_joined(&slow).unwrap_err();
    assert!(matches!(&error, CommitError::Log { reason, .. } if reason.contains("replaced meanwhile")), "{error}");
    assert_rows(&table, &set("0-3"));
    (4..6).for_each(|split| one_split(&table, split));
    let slow = table.join_small(TARGET).unwrap().unwrap();
    other.begin_generation(&stamp("q", 2)).unwrap();
    assert!(table.commit_joined(&slow).is_err());
    assert_rows(&table, &set(""));
    // What was written for nothing is gone; what versions have is there.
    let joined = std::fs::read_dir(dir.path())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("compact-"));
    assert_eq!(joined.count(), 1);
}

#[test]
fn whatever_the_store_answers_each_row_is_there_once() {
    use Fault::{Fails, FalseConflict, LostResponse, LostThenExists, Precondition};
    let cases: [&[Fault]; 6] =
        [&[LostResponse], &[LostThenExists], &[Fails], &[FalseConflict], &[Precondition], &[Fails, Precondition, LostResponse]];
    for faults in cases {
        let store = Arc::new(FaultyStore::default());
        let table = Table::open_at(store.location(), &spec("/unused")).unwrap();
        (0..3).for_each(|split| one_split(&table, split));
        store.plan(faults.iter().copied());
        assert_eq!(table.compact(TARGET).unwrap().version, Some(4), "{faults:?}");
        assert!(store.is_drained());
        assert_rows(&table, &set("0-2"));
        assert_eq!(files_at(&table, None).len(), 1, "{faults:?}");
    }
    let store = Arc::new(FaultyStore::default());
    let table = Table::open_at(store.location(), &spec("/unused")).unwrap();
    (0..3).for_each(|split| one_split(&table, split));
    store.plan([Fails; 5]);
    assert!(matches!(table.compact(TARGET), Err(CommitError::GaveUp { .. })));
    assert_rows(&table, &set("0-2"));
}
