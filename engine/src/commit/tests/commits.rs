use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::dataflow::{Finished, finish_group};

#[test]
fn who_gives_up_deletes_its_own_files_that_no_commit_names_and_writes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    let other = open(dir.path());
    let (mine, theirs) = ("01JD0000000000000000000000", "01JD0000000000000000000001");
    let committed = shard(&table, mine, &set("0"));
    table.commit(&stamp("p", 0), &set("0"), &[committed]).unwrap();
    let for_nothing = shard(&table, mine, &set("1"));
    let not_yet = shard(&other, theirs, &set("2"));
    let mut half = table.shard_writer(mine);
    half.write(&rows(3)).unwrap();
    let files = || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.starts_with("part-")).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(files().contains(&for_nothing.file) && files().len() == 4);
    let found = table.give_up(|name| name.starts_with(&format!("part-{mine}-"))).unwrap();
    assert_eq!(found.files, 2);
    assert_eq!(files().len(), 2);
    let late = half.finish().unwrap_err().to_string();
    assert!(late.contains("another run was faster"), "{late}");
    assert!(table.shard_writer(mine).write(&rows(4)).is_err());
    assert_eq!(files().len(), 2, "nothing came back");
    other.commit(&stamp("p", 0), &set("2"), &[not_yet]).unwrap();
    assert_rows(&other, &set("0,2"));
}
use crate::commit::{CommitError, Outcome};

#[test]
fn create_commit_resume() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    assert_eq!(table.state().unwrap().plan_hash, None);
    let done = shard(&table, &attempt(1), &set("0-1"));
    assert_eq!((done.rows, done.file.as_str()), (4, "part-01JD0000000000000000000001-00000.parquet"));
    assert_eq!(table.commit(&stamp("p", 1), &set("0-1"), &[done]).unwrap(), Outcome::Committed { version: 1 });

    let again = open(dir.path());
    let state = again.state().unwrap();
    assert_eq!((state.version, state.plan_hash.as_deref(), state.generation, state.done), (1, Some("p"), 1, set("0-1")));
    let more = shard(&again, &attempt(2), &set("2"));
    assert_eq!(again.commit(&stamp("p", 1), &set("2"), &[more]).unwrap(), Outcome::Committed { version: 2 });
    // The first handle sees what the second one did.
    assert_eq!(table.state().unwrap().done, set("0-2"));
    assert_rows(&table, &set("0-2"));
}

#[test]
fn a_split_without_rows_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    assert_eq!(table.commit(&stamp("p", 1), &set("0"), &[]).unwrap(), Outcome::Committed { version: 1 });
    let empty = table.shard_writer(&attempt(1)).finish().unwrap();
    assert_eq!(empty.rows, 0);
    assert_eq!(table.commit(&stamp("p", 1), &set("1"), &[empty]).unwrap(), Outcome::Committed { version: 2 });
    assert_eq!(open(dir.path()).state().unwrap().done, set("0-1"));
    assert_rows(&table, &set(""));
}

#[test]
fn splits_that_another_attempt_committed_are_not_committed_again() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    table.commit(&stamp("p", 1), &set("0-2"), &[shard(&table, &attempt(1), &set("0-2"))]).unwrap();
    let late = open(dir.path());
    let all = shard(&late, &attempt(2), &set("1-2"));
    assert_eq!(late.commit(&stamp("p", 1), &set("1-2"), &[all]).unwrap(), Outcome::AlreadyDone);
    let some = shard(&late, &attempt(2), &set("2-4"));
    assert_eq!(late.commit(&stamp("p", 1), &set("2-4"), &[some]).unwrap(), Outcome::PartlyDone { done: set("2") });
    assert_rows(&table, &set("0-2"));
    assert_eq!(table.state().unwrap().version, 1);
}

#[test]
fn another_plan_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    table.commit(&stamp("p", 1), &set("0"), &[]).unwrap();
    let refused = table.commit(&stamp("q", 1), &set("3"), &[]).unwrap_err();
    insta::assert_snapshot!(refused, @"table `clips` holds rows of plan p (generation 1), but this run is plan q (generation 1): run with --new-version to replace them, or write to another output");
    assert_eq!(table.state().unwrap().done, set("0"));
}

#[test]
fn a_commit_that_names_no_split_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    let lost = shard(&table, &attempt(1), &set("0"));
    assert!(matches!(table.commit(&stamp("p", 1), &set(""), &[lost]), Err(CommitError::NoSplits { .. })));
}

#[test]
fn another_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path());
    let mut other = spec(dir.path().to_str().unwrap());
    other.schema =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, false), Field::new("split", DataType::Utf8, true)]));
    let error = Table::open_or_create(&other).err().unwrap();
    let text = error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
    insta::assert_snapshot!(text, @"table `clips` at `file://DIR/` has other columns than this pipeline makes: column `split` is Int64 in the table and Utf8 here (run with --new-version to replace its rows, or write to another output)");
    // A handle that may replace the columns cannot commit before it has.
    let table = Table::open_for_new_version(&other).unwrap();
    assert!(matches!(table.commit(&stamp("p", 1), &set("0"), &[]), Err(CommitError::SchemaMismatch { .. })));
}

#[test]
fn a_table_that_is_not_there_is_not_made_by_looking() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clips");
    assert!(Table::open_existing("clips", path.to_str().unwrap()).unwrap().is_none());
    assert!(!path.exists());
    let table = open(&path);
    table.commit(&stamp("p", 1), &set("0"), &[shard(&table, &attempt(1), &set("0"))]).unwrap();
    let found = Table::open_existing("clips", path.to_str().unwrap()).unwrap().unwrap();
    assert_eq!(found.schema(), table.schema());
    assert_rows(&found, &set("0"));
}

/// Eight handles, as eight processes would have, each commits its own splits and also all splits of its neighbour.
#[test]
fn racing_writers_commit_each_split_once() {
    const WRITERS: u32 = 8;
    const SPLITS: u32 = 12;
    let dir = tempfile::tempdir().unwrap();
    let barrier = Barrier::new(WRITERS as usize);
    let committed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (dir, barrier, committed) = (dir.path(), &barrier, &committed);
            scope.spawn(move || {
                // Creating the table is a race too.
                barrier.wait();
                let table = open(dir);
                for number in 0..SPLITS {
                    for owner in [writer, (writer + 1) % WRITERS] {
                        let splits = set(&(owner * SPLITS + number).to_string());
                        let done = shard(&table, &attempt(writer), &splits);
                        match table.commit(&stamp("p", 1), &splits, &[done]).unwrap() {
                            Outcome::Committed { .. } => _ = committed.fetch_add(1, Ordering::Relaxed),
                            Outcome::AlreadyDone => {}
                            Outcome::PartlyDone { .. } => panic!("a single split cannot be partly done"),
                        }
                    }
                }
            });
        }
    });
    let table = open(dir.path());
    let state = table.state().unwrap();
    let all = SplitSet::below(WRITERS * SPLITS);
    assert_eq!(state.done, all);
    assert_eq!(state.version, u64::from(WRITERS * SPLITS));
    assert_eq!(committed.into_inner(), all.len());
    assert_rows(&table, &all);
    // Every split was written twice and committed once.
    let orphans = table.collect_orphans().unwrap();
    assert_eq!(orphans.files, all.len());
    assert_rows(&table, &all);
    // The log was summed up on the way.
    assert!(dir.path().join("_delta_log/_last_checkpoint").exists());
}

#[test]
fn orphans_go_and_everything_else_stays() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    table.commit(&stamp("p", 1), &set("0"), &[shard(&table, &attempt(1), &set("0"))]).unwrap();
    let lost = shard(&table, &attempt(2), &set("1"));
    let half = dir.path().join(format!("part-{}-00009.parquet.tmp", attempt(3)));
    std::fs::write(&half, "half").unwrap();
    let foreign = dir.path().join("part-00000-6f1d7c1e-5a0f-4c5e-8f2b-0d6c7f0c0d11-c000.snappy.parquet");
    std::fs::write(&foreign, "not ours").unwrap();
    let orphans = table.collect_orphans().unwrap();
    assert_eq!((orphans.files, orphans.bytes), (2, lost.bytes + 4));
    assert!(!dir.path().join(&lost.file).exists() && !half.exists() && foreign.exists());
    assert_rows(&table, &set("0"));
    assert_eq!(table.collect_orphans().unwrap().files, 0);
}

#[test]
fn nothing_is_deleted_while_the_log_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let table = open(dir.path());
    table.commit(&stamp("p", 1), &set("0"), &[]).unwrap();
    table.commit(&stamp("p", 1), &set("1"), &[]).unwrap();
    let lost = shard(&table, &attempt(2), &set("1"));
    let entry = dir.path().join("_delta_log/00000000000000000001.json");
    let text = std::fs::read(&entry).unwrap();
    std::fs::write(&entry, "{\"add\":").unwrap();
    assert!(table.collect_orphans().unwrap_err().to_string().contains("entry 1:"));
    std::fs::remove_file(&entry).unwrap();
    assert!(table.collect_orphans().unwrap_err().to_string().contains("entry 1 is missing"));
    assert!(dir.path().join(&lost.file).exists());
    std::fs::write(&entry, text).unwrap();
    assert_eq!(table.collect_orphans().unwrap().files, 1);
}

#[test]
fn what_a_killed_run_had_begun_is_dropped_where_another_run_has_a_part_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let tables = ["clips", "stages"].map(|name| Arc::new(open(&dir.path().join(name))));
    let mine = stamp("a", 0);
    // The other run has cut its groups otherwise and is between its two tables.
    tables[0].commit(&mine, &set("1"), &[shard(&tables[0], &attempt(1), &set("1"))]).unwrap();
    let group = |splits: &str, number: u32| Finished {
        splits: set(splits),
        shards: (0..2).map(|t| (t as u32, vec![shard(&tables[t], &attempt(number), &set(splits))])).collect(),
    };
    let opened: Vec<_> = tables.iter().map(|t| Some(Arc::clone(t))).collect();
    finish_group(&opened, &mine, &group("1-2", 2)).unwrap();
    assert_rows(&tables[0], &set("1"));
    assert_rows(&tables[1], &SplitSet::new());
    // Its own group it finishes.
    finish_group(&opened, &mine, &group("1", 3)).unwrap();
    tables.iter().for_each(|table| assert_rows(table, &set("1")));
}
