//! Answers that are not a clear yes: each must end with every row once.

use super::faulty::{Fault, FaultyStore, ReadFault};
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
        &[Precondition],
        &[LostThenPrecondition],
        &[Slow],
        &[Slow, Precondition, FalseConflict, LostThenPrecondition],
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

/// A read of the log that fails ends the call with an error, or is made up for; in no case does a table lose a commit or take it twice. The caller is a
/// process that dies of it; the next one does the split again.
#[test]
fn reads_that_fail_break_off_or_stop_a_commit_and_nothing_is_lost() {
    use ReadFault::*;
    let cases: [(&[Fault], &[ReadFault]); 6] = [
        (&[Fault::None], &[Fails]),
        (&[Fault::None], &[Truncated]),
        (&[Fault::None], &[Slow]),
        // The answer is lost, and then the look at what became of it fails.
        (&[Fault::LostResponse], &[Slow, Fails]),
        (&[Fault::LostThenExists], &[Truncated, Truncated]),
        (&[Fault::FalseConflict], &[Fails, Truncated, Fails]),
    ];
    for (faults, reads) in cases {
        let store = Arc::new(FaultyStore::default());
        let first = table(&store);
        first.commit(&stamp("p", 1), &set("0"), &[shard(&first, &attempt(1), &set("0"))]).unwrap();
        let done = shard(&first, &attempt(1), &set("1"));
        store.plan(faults.iter().copied());
        store.plan_reads(reads.iter().copied());
        let _ = first.commit(&stamp("p", 1), &set("1"), &[done]);
        // The next process, and a store that is well again.
        store.is_well();
        let next = table(&store);
        let again = shard(&next, &attempt(2), &set("1"));
        assert!(matches!(
            next.commit(&stamp("p", 1), &set("1"), &[again]).unwrap(),
            Outcome::Committed { .. } | Outcome::AlreadyDone
        ));
        assert_rows(&next, &set("0-1"));
        assert_eq!(next.state().unwrap().done, set("0-1"), "{faults:?} {reads:?}");
    }
}
