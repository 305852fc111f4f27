//! Answers that are not a clear yes: each must end with every row once.

use super::faulty::{Fault, FaultyStore};
use super::*;
use crate::commit::{CommitError, Outcome};

fn table(store: &Arc<FaultyStore>) -> Table {
    Table::open_at(store.location(), &spec("/unused")).unwrap()
}

fn commit_under(faults: &[Fault]) -> (Result<Outcome, CommitError>, Table) {
    let store = Arc::new(FaultyStore::default());
    let table = table(&store);
    table.commit(&stamp("p", 1), &set("0"), &[shard(&table, &attempt(1), &set("0"))]).unwrap();
    store.plan(faults.iter().copied());
    let done = shard(&table, &attempt(1), &set("1"));
    let outcome = table.commit(&stamp("p", 1), &set("1"), &[done]);
    assert!(store.is_drained(), "{faults:?}");
    (outcome, table)
}

#[test]
fn a_lost_response_is_our_own_commit() {
    use Fault::*;
    let cases: &[&[Fault]] = &[
        &[None],
        &[LostResponse],
        &[LostThenExists],
        &[Fails],
        &[FalseConflict],
        &[Fails, FalseConflict, LostThenExists],
        &[FalseConflict, Fails, Fails, LostResponse],
    ];
    for faults in cases {
        let (outcome, table) = commit_under(faults);
        assert_eq!(outcome.unwrap(), Outcome::Committed { version: 2 }, "{faults:?}");
        assert_rows(&table, &set("0-1"));
        assert_eq!(table.state().unwrap().done, set("0-1"));
    }
}

#[test]
fn a_store_that_always_fails_ends_the_commit_with_its_words() {
    let (outcome, table) = commit_under(&[Fault::Fails; 5]);
    insta::assert_snapshot!(outcome.unwrap_err(), @"table `clips`: gave up committing after 5 attempts, the last one: Error interacting with object store: Generic faulty error: the connection was cut (run the same command again: nothing that was committed is redone)");
    assert_rows(&table, &set("0"));
}

#[test]
fn a_lost_response_at_creation_and_at_a_new_generation() {
    let store = Arc::new(FaultyStore::default());
    store.plan([Fault::LostResponse]);
    let first = table(&store);
    first.commit(&stamp("p", 1), &set("0"), &[shard(&first, &attempt(1), &set("0"))]).unwrap();
    store.plan([Fault::FalseConflict, Fault::LostThenExists]);
    assert_eq!(first.begin_generation(&stamp("q", 2)).unwrap(), Outcome::Committed { version: 2 });
    assert_eq!(first.begin_generation(&stamp("q", 2)).unwrap(), Outcome::AlreadyDone);
    assert_rows(&first, &set(""));
    assert_eq!(first.collect_orphans().unwrap().files, 0);
    assert!(store.is_drained());
}
