//! Ten thousand clips against a captioning service that falls over in every known way: none is lost, none gets another's caption, none is paid for twice.
//!
//! Rows and frames are made up; the HTTP client, the limits, the retries, the cache and the check at write are the real ones.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use curette_engine::graph::PoolSettings;
use curette_engine::pool::Pools;
use curette_engine::resources::Resources;
use curette_engine::verdict::Verdict;
use serde_json::json;

#[path = "captions/clips.rs"]
mod clips;
#[path = "captions/server.rs"]
mod server;

use server::{Faults, chance, serve};

const CLIPS: usize = 10_000;

#[test]
fn a_service_that_falls_over_loses_no_clip_and_misbinds_none() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults { dropped: 0.10, cut: 0.03, busy: 0.03, broken: 0.05, invalid: 0.04, empty: 0.04, swapped: 0.05 };
    // Answers overtake each other.
    let server = serve(faults, |n| Duration::from_micros((chance(n ^ 0xabcd) * 4_000.0) as u64));
    // As patient as by default; only the waits are shorter.
    let keys = json!({
        "backend": "openai", "model": "seer", "base_url": server.base_url, "frames": 2, "cache_location": "cache",
        "retry_initial_seconds": 0.002, "timeout_seconds": 30.0,
    });
    let pools = Pools::start(&PoolSettings { decode: 1, cpu: 1, gpu: 1, net: 64 }, 1, u64::MAX).unwrap();
    let run = || {
        let resources = Arc::new(Resources::default());
        let (writer, looked) = clips::writer(keys.clone(), dir.path(), &resources, 0);
        let answers = clips::run(&writer, &clips::rows(0, CLIPS), &pools, &resources);
        (answers, looked.load(Ordering::Relaxed))
    };
    let (answers, looked) = run();
    let mut hashes = HashSet::new();
    for (n, answer) in answers.iter().enumerate() {
        let answer = answer.as_ref().unwrap_or_else(|e| panic!("clip {n}: {e}"));
        assert_eq!(answer.verdicts, [Verdict::Pass], "clip {n}");
        let text = |i: usize| answer.columns[i].as_string::<i32>().value(0);
        assert_eq!([text(0), text(1)], [format!("detailed caption of <{n}> with 2 frames"), format!("brief caption of <{n}>")]);
        let tokens = answer.columns[8].as_primitive::<Int64Type>().value(0);
        assert_eq!(tokens, 200, "clip {n}");
        hashes.insert(text(6).to_owned());
    }
    assert_eq!((answers.len(), hashes.len(), looked), (CLIPS, CLIPS, CLIPS));

    let fates = server.seen.fates.lock().unwrap().clone();
    println!(
        "{} requests: {fates:?}; most at once {}",
        server.seen.requests.load(Ordering::Relaxed),
        server.seen.most.load(Ordering::Relaxed)
    );
    for fate in ["dropped", "cut", "busy", "broken", "invalid", "empty", "swapped"] {
        assert!(fates.get(fate).is_some_and(|n| *n > 100), "{fate} was not tried: {fates:?}");
    }
    assert_eq!(fates["answered"] + fates["swapped"], 2 * CLIPS, "each question was answered once");
    assert!(server.seen.most.load(Ordering::Relaxed) <= 32);

    // The same clips in another run, as after a changed threshold: nothing is asked, nothing is decoded, the rows are the same.
    let before = server.seen.requests.load(Ordering::Relaxed);
    let (again, looked) = run();
    assert_eq!((server.seen.requests.load(Ordering::Relaxed) - before, looked), (0, 0));
    for (a, b) in answers.iter().zip(&again) {
        assert_eq!(a.as_ref().unwrap().columns, b.as_ref().unwrap().columns);
    }
}
