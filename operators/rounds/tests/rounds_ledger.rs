//! The ledger: a round is there whole or not at all, and what it says is what was put in.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use curette_rounds::Counts;
use curette_rounds::expand::{Qualified, Record};
use curette_rounds::ledger::{FileEntry, Ledger, LedgerError, Listed, Round, State};

fn file(number: i32, name: &str) -> FileEntry {
    FileEntry { number, name: name.into(), identity: format!("{name} as it is"), rows: 3 }
}

fn listed(id: &str, round: u32, places: &[(i32, u64)]) -> Listed {
    Listed { id: id.into(), round, places: places.to_vec() }
}

fn first() -> Round {
    Round {
        files: vec![file(0, "c/a.parquet"), file(1, "m/b.parquet")],
        gone: vec![],
        channels: vec![Qualified { channel: u64::MAX, counts: Counts { medical: 2, all: 0 } }],
        videos: BTreeMap::from([((u64::MAX, 7), listed("seven", 0, &[(0, 1), (1, 0)]))]),
    }
}

fn second() -> Round {
    Round {
        files: vec![file(2, "c/later.parquet")],
        gone: vec![0],
        channels: vec![],
        videos: BTreeMap::from([((u64::MAX, 7), listed("seven", 1, &[(2, 2)])), ((u64::MAX, 9), listed("nine", 1, &[(2, 0)]))]),
    }
}

fn commit(ledger: &Ledger, number: u32, round: &Round, records: &[((i32, u64), Record)]) -> Result<(), LedgerError> {
    ledger.commit(number, round, |push| records.iter().try_for_each(|(place, record)| push(*place, *record)))
}

fn record(channel: u64, video: u64) -> Record {
    Record { channel, video, medical: false }
}

#[test]
fn rounds_come_back_as_they_were_put_in_and_places_of_files_that_are_gone_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(dir.path().join("ledger").to_str().unwrap(), "rule");
    assert_eq!(ledger.state().unwrap(), State::default());
    let records = [((0, 0), record(1, 2)), ((0, 1), record(u64::MAX, 7)), ((1, 0), record(u64::MAX, 7))];
    commit(&ledger, 0, &first(), &records).unwrap();
    let state = ledger.state().unwrap();
    assert_eq!(state, State::default().after(&first()));
    assert_eq!((state.rounds, state.next_file, state.channels.len()), (1, 2, 1));
    commit(&ledger, 1, &second(), &[((2, 0), record(u64::MAX, 9))]).unwrap();
    let state = ledger.state().unwrap();
    assert_eq!(state, State::default().after(&first()).after(&second()));
    assert_eq!(state.videos[&(u64::MAX, 7)], listed("seven", 0, &[(1, 0), (2, 2)]));
    assert_eq!(state.files.keys().copied().collect::<Vec<_>>(), [1, 2]);

    let mut seen = Vec::new();
    ledger
        .records::<LedgerError>(&BTreeSet::from([1, 2]), |place, channel, video| {
            seen.push((place, record(channel, video)));
            Ok(())
        })
        .unwrap();
    seen.sort();
    assert_eq!(seen, [((1, 0), record(u64::MAX, 7)), ((2, 0), record(u64::MAX, 9))]);
}

#[test]
fn a_round_is_won_once_and_another_rule_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let ledger = Ledger::new(place, "rule one");
    commit(&ledger, 0, &first(), &[]).unwrap();
    let text = |e: LedgerError| e.to_string().replace(place, "PLACE");
    insta::assert_snapshot!(text(commit(&ledger, 0, &second(), &[]).unwrap_err()), @"another run has committed round 0 of the ledger at PLACE meanwhile; run the same command again");
    assert_eq!(ledger.state().unwrap(), State::default().after(&first()), "the loser left nothing");
    let other = Ledger::new(place, "rule two");
    insta::assert_snapshot!(text(other.state().unwrap_err()), @"the ledger at PLACE was begun under another rule (rule one) than this one (rule two), and a channel that has qualified stays so; give the step another `ledger`, or delete that folder to begin anew");
}

#[test]
fn a_round_that_fails_before_its_end_was_never_there() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(dir.path().to_str().unwrap(), "rule");
    let failed = ledger.commit(0, &first(), |push| {
        push((0, 0), record(1, 1))?;
        Err(LedgerError::Damaged { place: "there".into(), reason: "the catalogue went away".into() })
    });
    assert!(failed.is_err());
    assert_eq!(ledger.state().unwrap(), State::default());
    commit(&ledger, 0, &first(), &[]).unwrap();
    assert_eq!(ledger.state().unwrap(), State::default().after(&first()));
}
