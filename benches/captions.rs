//! Does the captioner keep N requests in flight? Against a server whose answers take 0.5 to 30 s, log-uniformly.
//!
//! `cargo bench --bench captions -- [IN_FLIGHT,...] [SECONDS] [FRAMES] [BYTES_PER_FRAME]`. The ideal client has N requests in flight at every moment there is work. What is
//! measured is the share of that which was reached, from when the first N requests were begun to when the last clip was (after that there is not always
//! work for N): the time that the server worked on requests, over N times the window. Requests run through the real operator, HTTP client, limiter and cache on the engine's `net` pool.

// A bench prints its result.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use curette_engine::graph::PoolSettings;
use curette_engine::pool::Pools;
use curette_engine::resources::Resources;
use serde_json::json;

#[path = "../operators/tests/captions/clips.rs"]
mod clips;
#[path = "../operators/tests/captions/server.rs"]
mod server;

const SHORTEST_SECONDS: f64 = 0.5;
const LONGEST_SECONDS: f64 = 30.0;

fn latency(n: u64) -> Duration {
    Duration::from_secs_f64(SHORTEST_SECONDS * (LONGEST_SECONDS / SHORTEST_SECONDS).powf(server::chance(n)))
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let in_flight: Vec<usize> =
        args.next().unwrap_or("64,256".into()).split(',').map(|n| n.parse().expect("a number of requests")).collect();
    let mut number = |default: usize| args.next().map_or(default, |a| a.parse().expect("a number"));
    let (seconds, frames, frame_bytes) = (number(120), number(8), number(60_000));
    for n in in_flight {
        measure(n, seconds as f64, frames, frame_bytes);
    }
}

fn measure(n: usize, seconds: f64, frames: usize, frame_bytes: usize) {
    let mean = (LONGEST_SECONDS - SHORTEST_SECONDS) / (LONGEST_SECONDS / SHORTEST_SECONDS).ln();
    let clips = (n as f64 * seconds / mean / 2.0).ceil() as usize + n;
    let dir = tempfile::tempdir().unwrap();
    let server = server::serve(server::Faults::default(), latency);
    let keys = json!({
        "backend": "openai", "model": "seer", "base_url": server.base_url, "frames": frames, "cache_location": "cache", "max_in_flight": n,
    });
    let resources = Arc::new(Resources::default());
    let (writer, _) = clips::writer(keys, dir.path(), &resources, frame_bytes);
    // As many threads as the engine gives the step.
    let pools = Pools::start(&PoolSettings { decode: 1, cpu: 1, gpu: 1, net: 2 * n }, 1, u64::MAX).unwrap();
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let answers = clips::run(&writer, &clips::rows(0, clips), &pools, &resources);
    assert!(answers.iter().all(|a| a.as_ref().is_ok_and(|a| a.verdicts == [curette_engine::verdict::Verdict::Pass])));
    let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);

    let mut served = server.seen.served.lock().unwrap().clone();
    served.sort();
    let last_clip = served.iter().filter(|(_, _, shows)| *shows).map(|(began, _, _)| *began).max().unwrap();
    let (from, to) = (served[n - 1].0, last_clip);
    let window = (to - from).as_secs_f64();
    let busy: f64 = served.iter().map(|(a, b, _)| (*b).min(to).saturating_sub((*a).max(from)).as_secs_f64()).sum();
    let ended: Vec<f64> =
        served.iter().filter(|(_, b, _)| *b > from && *b <= to).map(|(a, b, _)| (*b - *a).as_secs_f64()).collect();
    let mean = ended.iter().sum::<f64>() / ended.len() as f64;
    println!(
        "{n} in flight, {clips} clips, {} requests in {wall:.0} s: window {window:.1} s, {:.4} of {n} x ideal; {:.2} requests/s, mean latency {mean:.2} s; \
         most at once {}; {cpu:.1} s of CPU (server included)",
        served.len(),
        busy / (n as f64 * window),
        ended.len() as f64 / window,
        server.seen.most.load(Ordering::Relaxed),
    );
}

fn cpu_seconds() -> f64 {
    // SAFETY: `getrusage` fills the struct that it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
