//! The ledger: a round is there whole or not at all, and what it says is what was put in.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use curette_rounds::expand::{Qualified, Record};
use curette_rounds::ledger::{FileEntry, Ledger, LedgerError, Listed, Round, State, Touched, Which};
use curette_rounds::{Counts, ids};

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
        touched: Touched { new_records: 3, ..Touched::default() },
    }
}

fn second() -> Round {
    Round {
        files: vec![file(2, "c/later.parquet")],
        gone: vec![0],
        channels: vec![],
        videos: BTreeMap::from([((u64::MAX, 7), listed("seven", 1, &[(2, 2)])), ((u64::MAX, 9), listed("nine", 1, &[(2, 0)]))]),
        touched: Touched::default(),
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

    let live = BTreeSet::from([1, 2]);
    let seen = |which: Which| {
        let mut seen = Vec::new();
        let each = |place, channel, video| {
            seen.push((place, record(channel, video)));
            Ok(())
        };
        ledger.records::<LedgerError>(&live, which, each).unwrap();
        seen.sort();
        seen
    };
    let both = [((1, 0), record(u64::MAX, 7)), ((2, 0), record(u64::MAX, 9))];
    assert_eq!(seen(Which::Channels(&BTreeSet::from([1, u64::MAX]))), both, "the file of channel 1 is gone");
    assert!(seen(Which::Channels(&BTreeSet::from([2]))).is_empty());
    assert_eq!(seen(Which::Files(&BTreeSet::from([0, 2]))), both[1..]);
}

#[test]
fn looking_up_few_channels_decodes_few_rows_whatever_the_round() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(dir.path().join("ledger").to_str().unwrap(), "rule");
    // Of 1,000 channels, ids spread over all 64 bits, in no order; a second round comes later.
    let all: Vec<((i32, u64), Record)> = (0..120_000u64)
        .map(|i| {
            ((i32::from(i >= 100_000), i), record(ids::number(&(i * 7919 % 1000).to_string()), ids::number(&format!("v{i}"))))
        })
        .collect();
    let round = |n: i32| Round { files: vec![file(n, &format!("c/{n}.parquet"))], ..Round::default() };
    commit(&ledger, 0, &round(0), &all[..100_000]).unwrap();
    commit(&ledger, 1, &round(1), &all[100_000..]).unwrap();
    assert_eq!(ledger.state().unwrap(), State::default().after(&round(0)).after(&round(1)));
    let asked: BTreeSet<u64> = ["5", "500", "none"].map(ids::number).into();
    let mut got = Vec::new();
    let each = |place, channel, video| {
        got.push((place, record(channel, video)));
        Ok(())
    };
    let decoded = ledger.records::<LedgerError>(&BTreeSet::from([0, 1]), Which::Channels(&asked), each).unwrap();
    got.sort();
    let want: Vec<_> = all.iter().filter(|(_, r)| asked.contains(&r.channel)).copied().collect();
    assert_eq!(want.len(), 240);
    assert_eq!(got, want, "every record of these channels and no other");
    // A page or two for each of three channels in each of two rounds, of 120 pages.
    assert!((240..=12 * 1024).contains(&decoded), "{decoded} rows were decoded");
}

#[test]
fn files_of_killed_runs_go_with_the_round_that_they_were_made_for() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(dir.path().to_str().unwrap(), "rule");
    commit(&ledger, 0, &first(), &[]).unwrap();
    let files = || std::fs::read_dir(dir.path()).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count();
    assert_eq!(files(), 1);
    // Killed before its commit: the file of a round that is open may be another run's, which goes on.
    let copy = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).find(|p| p.is_file()).unwrap();
    let left = |round: u32| {
        let random = u128::from(round) << 48 | 7;
        let name = format!("part-{}-00000.parquet", ulid::Ulid::from_parts(1, random));
        std::fs::copy(&copy, dir.path().join(name)).unwrap();
    };
    [0, 1, 2].into_iter().for_each(left);
    commit(&ledger, 1, &second(), &[]).unwrap();
    assert_eq!(files(), 3, "two rounds, and the file of the round that is to come");
    assert_eq!(ledger.state().unwrap(), State::default().after(&first()).after(&second()));
    let lost = commit(&ledger, 1, &second(), &[]);
    assert!(lost.is_err() && files() == 3, "the loser takes its own files away");
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
