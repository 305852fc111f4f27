//! What a record takes: the peak of a process that expands a catalogue, for two sizes.
//!
//! `cargo bench -p curette-rounds --bench memory`: each size in a process of its own. Exit 1 when a further record takes more than [`MOST_BYTES`].

// A bench prints its result.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::process::{Command, ExitCode};
use std::time::Instant;

use curette_engine::cluster::Workers;
use curette_rounds::expand::{BATCH_RECORDS, Batch, QUEUE_BATCHES, Record, expand};
use curette_rounds::{Rule, ids};

const SIZE: &str = "CURETTE_BENCH_RECORDS";
const SIZES: (u64, u64) = (2_000_000, 8_000_000);
const CHANNELS: f64 = 1_000_000.0;
/// A record while a round is read: the arrangement, and what is being merged into it.
const MOST_BYTES: f64 = 75.0;

fn main() -> ExitCode {
    if let Ok(size) = std::env::var(SIZE) {
        expand_and_tell(size.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let peak = |records: u64| -> (u64, f64) {
        let started = Instant::now();
        let said = Command::new(std::env::current_exe().unwrap()).env(SIZE, records.to_string()).output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.status.success(), "{text}");
        let kib = text.lines().find_map(|l| l.split("peak ").nth(1)).unwrap().split(' ').next().unwrap().parse().unwrap();
        (kib, started.elapsed().as_secs_f64())
    };
    let ((small, _), (large, seconds)) = (peak(SIZES.0), peak(SIZES.1));
    let bytes = (large - small) as f64 * 1024.0 / (SIZES.1 - SIZES.0) as f64;
    println!(
        "{} records: peak {large} KiB, {bytes:.1} bytes for each further record (at most {MOST_BYTES}), {:.0} records/s",
        SIZES.1,
        SIZES.1 as f64 / seconds
    );
    if bytes < MOST_BYTES { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn peak_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    text.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

fn expand_and_tell(records: u64) {
    let (to, from) = crossbeam_channel::bounded(QUEUE_BATCHES);
    std::thread::spawn(move || {
        let mut batch = Vec::with_capacity(BATCH_RECORDS);
        for i in 0..records {
            let x = ids::number(&i.to_string()) as f64 / u64::MAX as f64;
            let channel = ids::number(&((CHANNELS * x * x * x) as u64).to_string());
            batch.push(Record { channel, video: ids::number(&format!("v{i}")), medical: i % 700 == 0 });
            if batch.len() == BATCH_RECORDS || i + 1 == records {
                to.send(Batch { round: 0, records: std::mem::take(&mut batch) }).unwrap();
            }
        }
    });
    let out = expand(Workers::Threads(2), Rule { min_videos: 20, min_share: 0.0 }, Vec::new(), from).unwrap();
    println!("peak {} KiB, {} videos", peak_kib(), out.rounds[0].videos.len());
}
