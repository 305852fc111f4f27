//! Samples videos to pictures of 224 x 224, for measuring: `sample exact|within=SECONDS|keyframes FILE...`. One line per file on stderr.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use curette_media::{GridSettings, MediaContext, MediaPlane, Sampling, sample};

fn main() {
    let mut words = std::env::args().skip(1);
    let sampling = match words.next().as_deref().map(|w| w.split_once('=').unwrap_or((w, "0.5"))) {
        Some(("exact", _)) => Sampling::Exact,
        Some(("keyframes", _)) => Sampling::Keyframes,
        Some(("within", seconds)) => Sampling::Within((seconds.parse::<f64>().unwrap_or(0.5) * 1e9) as i64),
        other => {
            eprintln!("no such mode: {other:?}");
            std::process::exit(2);
        }
    };
    let (cancelled, plane) = (AtomicBool::new(false), MediaPlane::default());
    let context = MediaContext { cancelled: &cancelled, plane: &plane, timeout: Duration::from_secs(3600) };
    let settings = GridSettings { fps: 1.0, size: Some((224, 224)), sampling, span_ns: curette_media::WHOLE_NS };
    for file in words {
        match sample(&file, &settings, &context, &mut |_| Ok(())) {
            Ok(stats) => eprintln!("{file}: {} of {} decoded frames", stats.frames_picked, stats.frames_decoded),
            Err(e) => {
                eprintln!("{file}: {e}");
                std::process::exit(1);
            }
        }
    }
}
