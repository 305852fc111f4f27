//! The dataflow against plain sets: any order, any number of workers, any cut into rounds.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use curette_engine::cluster::Workers;
use curette_rounds::expand::{Batch, Expansion, QUEUE_BATCHES, Qualified, Record, expand};
use curette_rounds::{Counts, Rule, ids, oracle};

/// All ways in which workers may be set up here.
fn setups() -> Vec<(&'static str, Workers)> {
    vec![
        ("1 worker", Workers::Threads(1)),
        ("2 workers", Workers::Threads(2)),
        ("4 workers", Workers::Threads(4)),
        ("2 workers that serialise", Workers::Binary(2)),
    ]
}

fn run(kind: Workers, rule: Rule, latched: &[u64], rounds: &[Vec<Record>], batch: usize) -> Expansion {
    let (to, from) = crossbeam_channel::bounded(QUEUE_BATCHES);
    let rounds = rounds.to_vec();
    let sender = std::thread::spawn(move || {
        for (round, records) in rounds.into_iter().enumerate() {
            // A round without records happened, too.
            let parts: Vec<Vec<Record>> = records.chunks(batch).map(<[Record]>::to_vec).collect();
            for records in if parts.is_empty() { vec![Vec::new()] } else { parts } {
                to.send(Batch { round: round as u32, records }).unwrap();
            }
        }
    });
    let out = expand(kind, rule, latched.to_vec(), from).unwrap();
    sender.join().unwrap();
    out
}

fn record(channel: u64, video: u64, medical: bool) -> Record {
    Record { channel, video, medical }
}

fn any_record() -> impl Strategy<Value = Record> {
    (0u64..6, 0u64..12, prop::bool::weighted(0.3)).prop_map(|(channel, video, medical)| record(channel, video, medical))
}

fn any_rule() -> impl Strategy<Value = Rule> {
    (1u64..4, prop_oneof![Just(0.0), Just(0.25), Just(0.5), Just(1.0)])
        .prop_map(|(min_videos, min_share)| Rule { min_videos, min_share })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn it_is_what_plain_sets_say_in_any_order_and_with_any_workers(
        rule in any_rule(),
        latched in prop::collection::btree_set(0u64..6, 0..2),
        rounds in prop::collection::vec(prop::collection::vec(any_record(), 0..40), 1..5),
        batch in 1usize..20,
        seed in any::<u64>(),
    ) {
        let latched: Vec<u64> = latched.into_iter().collect();
        let want = oracle::expand(rule, &latched, &rounds);
        let mut shuffled = rounds.clone();
        for (at, round) in shuffled.iter_mut().enumerate() {
            round.sort_by_key(|r| ids::number(&format!("{seed} {at} {r:?}")));
        }
        for (what, kind) in setups() {
            let got = run(kind, rule, &latched, &shuffled, batch);
            prop_assert_eq!(&got.rounds, &want, "{}", what);
        }
    }

    #[test]
    fn without_a_share_rounds_together_give_what_one_round_gives(
        min_videos in 1u64..4,
        rounds in prop::collection::vec(prop::collection::vec(any_record(), 0..30), 1..4),
    ) {
        let rule = Rule { min_videos, min_share: 0.0 };
        let together = run(Workers::Threads(2), rule, &[], &[rounds.concat()], 7);
        let apart = run(Workers::Threads(2), rule, &[], &rounds, 7);
        let mut videos: Vec<_> = apart.rounds.iter().flat_map(|r| r.videos.clone()).collect();
        videos.sort_unstable();
        prop_assert_eq!(&videos, &together.rounds[0].videos);
    }
}

#[test]
fn a_channel_that_falls_below_the_share_stays_in_and_its_later_videos_come() {
    let rule = Rule { min_videos: 1, min_share: 0.5 };
    let rounds = [
        vec![record(1, 1, true), record(1, 2, false)],
        (3..9).map(|video| record(1, video, false)).collect(),
        vec![record(1, 9, false), record(2, 1, false)],
    ];
    let got = run(Workers::Threads(2), rule, &[], &rounds, 3);
    let videos: Vec<usize> = got.rounds.iter().map(|r| r.videos.len()).collect();
    assert_eq!(videos, [2, 6, 1]);
    assert_eq!(got.rounds[0].channels, [Qualified { channel: 1, counts: Counts { medical: 1, all: 2 } }]);
    assert!(got.rounds[1].channels.is_empty() && got.rounds[2].channels.is_empty());
}

#[test]
fn the_same_video_in_many_crawls_counts_once() {
    let rule = Rule { min_videos: 2, min_share: 0.0 };
    let rounds = [vec![record(1, 1, true); 5], vec![record(1, 1, true), record(1, 2, true), record(1, 2, false)]];
    let got = run(Workers::Threads(1), rule, &[], &rounds, 2);
    assert!(got.rounds[0].videos.is_empty());
    assert_eq!(got.rounds[1].videos, [(1, 1), (1, 2)]);
}

#[test]
fn nothing_in_gives_nothing() {
    let got = run(Workers::Threads(2), Rule { min_videos: 1, min_share: 0.0 }, &[7], &[], 1);
    assert!(got.rounds.is_empty() && got.work.is_empty());
}

/// A catalogue of 2,000 channels with many small and a few large ones; every 50th video is medical.
fn catalogue(from: u64, to: u64) -> Vec<Record> {
    let channel = |i: u64| {
        let x = ids::number(&format!("channel of {i}")) as f64 / u64::MAX as f64;
        (2_000.0 * x * x * x) as u64
    };
    (from..to).map(|i| record(channel(i), i, i.is_multiple_of(50))).collect()
}

#[test]
fn one_percent_more_records_cost_about_one_percent_of_the_work() {
    let rule = Rule { min_videos: 3, min_share: 0.0 };
    let (old, new) = (catalogue(0, 100_000), catalogue(100_000, 101_000));
    let both = run(Workers::Threads(2), rule, &[], &[old.clone(), new.clone()], 10_000);
    let whole = run(Workers::Threads(2), rule, &[], &[[old, new].concat()], 10_000);
    let mut together: Vec<_> = both.rounds.iter().flat_map(|r| r.videos.clone()).collect();
    together.sort_unstable();
    assert_eq!(together, whole.rounds[0].videos, "the difference adds up to the whole");
    assert!(together.len() > 30_000, "the test lists something: {}", together.len());
    assert_eq!(both.work[1].records, 1_000);
    // New videos of channels that are in, and all videos of the few channels that just came in.
    let share = both.work[1].joined as f64 / both.work[0].joined as f64;
    assert!(share < 0.025, "{:?}: {share}", both.work);
    assert_eq!(whole.work[0].joined, both.work[0].joined + both.work[1].joined, "and no work is done twice");
}
