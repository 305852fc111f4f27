//! Nothing outlives a call, and no call outlives its limits: cancel flag, deadline, threads, descriptors, remote files.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use super::tests::{Bench, media_folder};
use super::*;

fn code<T>(result: Result<T, MediaError>) -> &'static str {
    result.err().map_or("ok", |e| e.code)
}

fn grid(uri: &str, context: &MediaContext) -> Result<GridStats, MediaError> {
    sample_grid(uri, 1.0, 64, 64, context, &mut |_| Ok(()))
}

#[test]
fn a_cancelled_or_late_call_ends_at_once_with_its_own_code() {
    let Some(folder) = media_folder() else { return };
    let uri = folder.join("nature-1080p.mp4").to_string_lossy().into_owned();
    let plane = MediaPlane::default();
    for (cancelled, timeout, want) in [(true, 60, "cancelled"), (false, 0, "timeout")] {
        let cancelled = AtomicBool::new(cancelled);
        let context = MediaContext { cancelled: &cancelled, plane: &plane, timeout: Duration::from_secs(timeout) };
        let begun = Instant::now();
        assert_eq!(code(probe(&uri, &context)), want);
        assert_eq!(code(grid(&uri, &context)), want);
        assert_eq!(code(uniform_frames(&uri, 0, 1_000_000, 4, None, &context)), want);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[test]
fn the_caller_s_own_work_between_frames_is_no_stall() {
    let Some(folder) = media_folder() else { return };
    let bench = Bench::new();
    let context = bench.context();
    let (file, deadline) = (folder.join("h264-10bit-200p.mp4"), Instant::now() + Duration::from_secs(60));
    let mut reader =
        super::reader::Reader::open(&super::input::Input::file(&file), super::track::Track::Video, deadline, &context).unwrap();
    reader.play().unwrap();
    reader.patience = Duration::from_millis(300);
    for _ in 0..3 {
        assert!(reader.next().unwrap().is_some());
        std::thread::sleep(Duration::from_millis(400));
    }
}

#[test]
fn cancelling_in_the_middle_of_a_file_ends_the_pass() {
    let Some(folder) = media_folder() else { return };
    let uri = folder.join("bunny-480p.mp4").to_string_lossy().into_owned();
    let (cancelled, plane) = (AtomicBool::new(false), MediaPlane::default());
    let context = MediaContext { cancelled: &cancelled, plane: &plane, timeout: Duration::from_secs(60) };
    let mut seen = 0;
    let result = sample_grid(&uri, 1.0, 64, 64, &context, &mut |_| {
        seen += 1;
        cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    });
    assert_eq!((code(result), seen), ("cancelled", 1));
}

/// Writes a short audio-only file.
fn audio_only(path: &Path, mux: &str) -> bool {
    if super::runtime::start().is_err() {
        return false;
    }
    let description =
        format!("audiotestsrc num-buffers=40 ! audioconvert ! avenc_aac ! {mux} ! filesink location={}", path.display());
    let Ok(pipeline) = gst::parse::launch(&description) else { return false };
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &end);
    pipeline.set_state(gst::State::Null).unwrap();
    message.is_some_and(|m| m.type_() == gst::MessageType::Eos)
}

#[test]
fn a_container_with_audio_alone_has_no_video_stream() {
    let bench = Bench::new();
    for mux in ["mp4mux", "matroskamux"] {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(audio_only(file.path(), mux), "{mux}");
        let uri = file.path().to_string_lossy().into_owned();
        let begun = Instant::now();
        assert_eq!(code(probe(&uri, &bench.context())), "no_video_stream", "{mux}");
        assert_eq!(code(grid(&uri, &bench.context())), "no_video_stream", "{mux}");
        assert_eq!(code(uniform_frames(&uri, 0, 1_000_000, 4, None, &bench.context())), "no_video_stream", "{mux}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{mux}: {:?}", begun.elapsed());
    }
}

/// A Matroska file that ends before its first frame: its stream is known, a decoder is never made, and no end of stream reaches the sink.
#[test]
fn a_file_that_ends_before_its_first_frame_is_known_soon() {
    let Some(folder) = media_folder() else { return };
    let bench = Bench::new();
    for (name, kept) in
        [("av1-360p.mkv", 2255), ("bunny-vp9-480p.webm", 0), ("vp8-dancer-360p.webm", 0), ("nature-bee-720p.mp4", 0)]
    {
        let whole = std::fs::read(folder.join(name)).unwrap();
        // The first frame begins where the first cluster holds its first block.
        let cluster = whole.windows(4).position(|w| w == [0x1F, 0x43, 0xB6, 0x75]).map_or(kept, |at| at + 40);
        let kept = if kept > 0 { kept } else { cluster.max(200) };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &whole[..kept]).unwrap();
        let uri = file.path().to_string_lossy().into_owned();
        let begun = Instant::now();
        let (probed, sampled) = (code(probe(&uri, &bench.context())), code(grid(&uri, &bench.context())));
        let took = begun.elapsed();
        eprintln!("{name} cut to {kept} bytes: {probed}, {sampled} in {took:?}");
        assert!(["no_frames", "damaged", "no_index", "no_video_stream", "not_a_video"].contains(&probed), "{name}: {probed}");
        assert!(["no_frames", "damaged", "no_index", "no_video_stream", "not_a_video"].contains(&sampled), "{name}: {sampled}");
        assert!(took < super::limits::NO_PROGRESS, "{name}: {took:?}");
    }
    // What the demuxer says is lost once in a while.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &std::fs::read(folder.join("nature-bee-720p.mp4")).unwrap()[..200]).unwrap();
    let uri = file.path().to_string_lossy().into_owned();
    for _ in 0..20 {
        assert_eq!(code(probe(&uri, &bench.context())), "damaged");
    }
}

/// Threads and open descriptors of this process.
fn held() -> (usize, usize) {
    let count = |p: &str| std::fs::read_dir(p).map_or(0, Iterator::count);
    (count("/proc/self/task"), count("/proc/self/fd"))
}

#[test]
fn good_and_broken_files_leave_no_threads_or_descriptors_behind() {
    let Some(folder) = media_folder() else { return };
    let names = ["h264-10bit-200p.mp4", "broken-truncated-45pct.mp4", "broken-text.mp4", "audio-only.mp3", "vfr-444-128p.mp4"];
    let round = || {
        let bench = Bench::new(); // a new store each time, so that every round decodes
        for name in names {
            let uri = folder.join(name).to_string_lossy().into_owned();
            let _ = probe(&uri, &bench.context());
            let _ = uniform_frames(&uri, 0, 500_000, 4, Some(64), &bench.context());
        }
    };
    (0..3).for_each(|_| round());
    let before = held();
    (0..20).for_each(|_| round());
    std::thread::sleep(Duration::from_millis(200));
    let after = held();
    eprintln!("threads, descriptors: {before:?} then {after:?}");
    assert!(after.0 <= before.0 + 2 && after.1 <= before.1 + 2, "{before:?} {after:?}");
}
