//! Cuts spans out of a video, for measuring and for looking at: `cut exact|smart|keyframe FILE FROM-TO...` in seconds; with `smart-packets` and
//! `keyframe-packets` copies are not decoded. One line per clip on stderr, then the peak memory of the process. Clips are kept in the folder
//! `$CURETTE_KEEP`, if it is set.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use curette_media::{CutMode, CutSettings, Encoder, MediaContext, MediaPlane, SpeedPreset, VerifyCopies, cut};

fn main() {
    let mut words = std::env::args().skip(1).peekable();
    let verify = match words.peek().is_some_and(|mode| mode.ends_with("-packets")) {
        true => VerifyCopies::Packets,
        false => VerifyCopies::Decode,
    };
    let mode = match words.next().as_deref() {
        Some("exact") => CutMode::Exact,
        Some("smart" | "smart-packets") => CutMode::Smart,
        Some("keyframe" | "keyframe-packets") => CutMode::Keyframe,
        other => stop(&format!("no such mode: {other:?}")),
    };
    let Some(file) = words.next() else { stop("no file") };
    let keep = std::env::var_os("CURETTE_KEEP").map(PathBuf::from);
    let (cancelled, plane) = (AtomicBool::new(false), MediaPlane::default());
    let context = MediaContext { cancelled: &cancelled, plane: &plane, timeout: Duration::from_secs(3600) };
    let settings = CutSettings {
        mode,
        size: None,
        fps: None,
        encoder: Encoder::X264,
        quality: 23,
        speed_preset: SpeedPreset::Veryfast,
        audio: true,
        verify,
        max_bytes: 1_000_000_000,
    };
    for (k, span) in words.enumerate() {
        let us = |text: &str| text.parse::<f64>().map(|s| (s * 1e6).round() as i64).ok();
        let Some((from, to)) = span.split_once('-').and_then(|(a, b)| us(a).zip(us(b))) else {
            stop(&format!("no span: {span}"))
        };
        let begun = Instant::now();
        match cut(&file, from, to, &settings, &context) {
            Ok(clip) => {
                let made =
                    clip.fallback.map_or_else(|| clip.mode.name().to_owned(), |why| format!("{} ({why})", clip.mode.name()));
                eprintln!(
                    "{file} [{from}, {to}) us: {made}, [{}, {}) us, {} frames, {} copied, {} bytes, {} ms",
                    clip.start_us,
                    clip.end_us,
                    clip.frames,
                    clip.copied_frames,
                    clip.size,
                    begun.elapsed().as_millis()
                );
                if let Some(folder) = &keep
                    && let Err(e) = std::fs::write(folder.join(format!("{}-{k}.mp4", mode.name())), &clip.bytes)
                {
                    stop(&e.to_string());
                }
            }
            Err(e) => stop(&format!("{file} [{from}, {to}) us: {e}")),
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).map_or("unknown", str::trim);
    eprintln!("peak memory {peak}");
}

fn stop(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(1)
}
