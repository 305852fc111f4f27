//! Remote files are the same as local ones, cost fewer bytes where the index tells enough, and fail with a reason in time.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::limits::{REMOTE_ATTEMPTS, REMOTE_IDLE};
use super::test_server::{Manner, Server};
use super::tests::{Bench, media_folder};
use super::*;

const FILES: &[&str] = &[
    "bunny-480p.mp4",      // index behind the data
    "nature-bee-720p.mp4", // index in front
    "surgery-hevc-720p.mp4",
    "nasa-multistream-270p.mp4",
    "portrait-rotate90-720p.mp4",
    "asl-book-480p.mkv",
    "bunny-vp9-480p.webm",
    "broken-truncated-45pct.mp4",
    "broken-bitflips-480p.mp4",
];

const WITHIN: Sampling = Sampling::Within(500_000_000);

type Sampled = Result<(Vec<Frame>, GridStats), MediaError>;

fn sampled(uri: &str, sampling: Sampling, fps: f64, context: &MediaContext) -> Sampled {
    let mut frames = Vec::new();
    let settings = GridSettings { fps, size: Some((64, 48)), sampling, span_ns: WHOLE_NS };
    let stats = sample(uri, &settings, context, &mut |frame| {
        frames.push(frame);
        Ok(())
    })?;
    Ok((frames, stats))
}

/// Without what differs: how many frames were decoded, and file names in messages.
fn same(a: Sampled, b: Sampled, what: &str) {
    let plain = |s: Sampled| s.map(|(frames, stats)| (frames, GridStats { ended_by: None, ..stats })).map_err(|e| e.code);
    let (a, b) = (plain(a), plain(b));
    assert_eq!(a.as_ref().map(|(_, stats)| stats), b.as_ref().map(|(_, stats)| stats), "{what}");
    assert!(a == b, "{what}: other frames");
}

#[test]
fn a_remote_file_is_the_same_as_a_local_one_in_every_call() {
    let Some(folder) = media_folder() else { return };
    let server = Server::of(&folder, Manner::Good);
    for name in FILES {
        let (local, remote) = (folder.join(name).to_string_lossy().into_owned(), server.url(name));
        let (here, there, before) = (Bench::new(), Bench::new(), server.bytes());
        let (here, there) = (here.context(), there.context());
        let plain = |info: VideoInfo| VideoInfo { content_blake3: String::new(), ..info };
        let of = |uri: &str, context: &MediaContext| probe(uri, context).map(plain).map_err(|e| e.code);
        assert_eq!(of(&remote, &there), of(&local, &here), "{name}");
        for sampling in [Sampling::Exact, WITHIN, Sampling::Keyframes] {
            same(sampled(&remote, sampling, 1.0, &there), sampled(&local, sampling, 1.0, &here), &format!("{name} {sampling:?}"));
        }
        let span = |uri: &str, context: &MediaContext| {
            uniform_frames(uri, 1_000_000, 2_500_000, 5, Some(96), context).map_err(|e| e.code)
        };
        assert_eq!(span(&remote, &there), span(&local, &here), "{name}");
        let heard = |uri: &str, context: &MediaContext| speech(uri, 0, 1_000_000, context).map_err(|e| e.code);
        assert_eq!(heard(&remote, &there), heard(&local, &here), "{name}");
        assert_eq!(there.plane.remote_bytes(), server.bytes() - before, "{name}: every byte is counted");
    }
}

#[test]
fn a_cut_of_a_remote_file_is_the_same_bytes() {
    let Some(folder) = media_folder() else { return };
    let server = Server::of(&folder, Manner::Good);
    let settings = CutSettings {
        mode: CutMode::Keyframe,
        size: None,
        fps: None,
        encoder: Encoder::default(),
        quality: 23,
        speed_preset: SpeedPreset::Ultrafast,
        audio: true,
        verify: VerifyCopies::Decode,
        max_bytes: 1 << 30,
    };
    for name in ["bunny-480p.mp4", "asl-book-480p.mkv"] {
        let bench = Bench::new();
        let made = |uri: &str| cut(uri, 1_000_000, 2_000_000, &settings, &bench.context()).unwrap().blake3;
        assert_eq!(made(&server.url(name)), made(&folder.join(name).to_string_lossy()), "{name}");
    }
}

/// Noise, which does not compress: a key frame per `group` frames, ten frames per second, sound beside it.
fn large(path: &Path, frames: u32, group: u32) {
    super::speech::tests::draw(&format!(
        "mp4mux name=m ! filesink location=\"{}\" \
         audiotestsrc num-buffers={} samplesperbuffer=4410 ! audio/x-raw,rate=44100,channels=2 ! avenc_aac ! aacparse ! queue ! m. \
         videotestsrc pattern=snow num-buffers={frames} ! video/x-raw,format=I420,width=640,height=360,framerate=10/1 ! \
         x264enc speed-preset=ultrafast pass=quant quantizer=10 key-int-max={group} bframes=2 option-string=scenecut=0 ! queue ! m.",
        path.display(),
        frames
    ));
}

#[test]
fn what_the_index_tells_need_not_be_read() {
    let dir = tempfile::tempdir().unwrap();
    super::runtime::start().unwrap();
    large(&dir.path().join("dense.mp4"), 300, 10);
    large(&dir.path().join("sparse.mp4"), 300, 100);
    let server = Server::of(dir.path(), Manner::Good);
    for (name, sampling, fps, share) in [
        ("dense.mp4", WITHIN, 1.0, 0.55),
        ("dense.mp4", Sampling::Keyframes, 0.2, 0.3),
        ("sparse.mp4", Sampling::Keyframes, 1.0, 0.2),
        ("sparse.mp4", Sampling::Within(5_000_000_000), 0.5, 0.5),
    ] {
        let path = dir.path().join(name);
        let size = path.metadata().unwrap().len();
        let (here, there, before) = (Bench::new(), Bench::new(), server.bytes());
        let remote = sampled(&server.url(name), sampling, fps, &there.context());
        let read = server.bytes() - before;
        eprintln!("{name} of {size} bytes, {sampling:?} at {fps} fps: {read} bytes in {:?}", remote.as_ref().map(|r| r.0.len()));
        let local = sampled(&path.to_string_lossy(), sampling, fps, &here.context());
        same(remote, local, name);
        assert!((read as f64) < size as f64 * share, "{name} {sampling:?}: {read} of {size} bytes");
        assert_eq!(there.context().plane.remote_bytes(), read);
    }
    // What a video is, and a clip in the middle of it.
    let (here, there, before) = (Bench::new(), Bench::new(), server.bytes());
    let (path, url) = (dir.path().join("sparse.mp4"), server.url("sparse.mp4"));
    let (size, local) = (path.metadata().unwrap().len(), path.to_string_lossy());
    let (a, b) = (probe(&url, &there.context()).unwrap(), probe(&local, &here.context()).unwrap());
    assert_eq!(VideoInfo { content_blake3: b.content_blake3.clone(), ..a }, b);
    let of = |uri: &str, bench: &Bench| uniform_frames(uri, 21_000_000, 23_000_000, 4, Some(64), &bench.context()).unwrap();
    assert_eq!(of(&url, &there), of(&local, &here));
    let read = server.bytes() - before;
    assert!(read < size * 6 / 10, "{read} of {size} bytes");
}

#[test]
fn a_server_that_fails_gives_its_reason_in_time() {
    let Some(folder) = media_folder() else { return };
    let cases = [
        (Manner::Status(403), "access_denied", "403"),
        (Manner::Status(401), "access_denied", "401"),
        (Manner::Status(404), "file_missing", "404"),
        (Manner::Status(400), "fetch_failed", "400"),
        (Manner::Status(500), "fetch_failed", "after 3 attempts"),
        (Manner::FailsFirst(3), "fetch_failed", "after 3 attempts"),
        (Manner::Whole, "ranges_refused", "support for Range"),
        (Manner::WrongRange, "fetch_failed", "were asked for"),
        (Manner::CutsShort(0), "fetch_failed", "after 3 attempts"),
        (Manner::CutsShort(1), "fetch_failed", "after 3 attempts"),
        (Manner::Changes { after: 1, checks: true }, "input_changed", "412"),
        (Manner::Changes { after: 1, checks: false }, "input_changed", "changed while it was read"),
    ];
    for (manner, code, says) in cases {
        let server = Server::of(&folder, manner);
        let (uri, begun) = (server.url("bunny-480p.mp4"), Instant::now());
        for call in 0..3 {
            // A server that was good once, or failed a few times, is another one by then.
            if call > 0 && !matches!(manner, Manner::Status(_) | Manner::Whole | Manner::WrongRange | Manner::CutsShort(_)) {
                continue;
            }
            let bench = Bench::new();
            let context = bench.context();
            let error = match call {
                0 => probe(&uri, &context).unwrap_err(),
                1 => sampled(&uri, Sampling::Exact, 1.0, &context).unwrap_err(),
                _ => uniform_frames(&uri, 0, 1_000_000, 3, None, &context).unwrap_err(),
            };
            assert_eq!(error.code, code, "{manner:?}, call {call}: {error}");
            assert!(error.message.contains(says), "{manner:?}, call {call}: {error}");
            assert!(error.message.contains("bunny-480p.mp4") && !error.message.contains("secret"), "{error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{manner:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_server_that_recovers_or_names_no_version_is_good_enough() {
    let Some(folder) = media_folder() else { return };
    let name = "nature-bee-720p.mp4";
    let local = sampled(&folder.join(name).to_string_lossy(), Sampling::Exact, 1.0, &Bench::new().context());
    for manner in [Manner::FailsFirst(u64::from(REMOTE_ATTEMPTS) - 1), Manner::Nameless] {
        let server = Server::of(&folder, manner);
        same(sampled(&server.url(name), Sampling::Exact, 1.0, &Bench::new().context()), local.clone(), &format!("{manner:?}"));
    }
}

#[test]
fn a_refused_connection_an_empty_file_and_no_video_have_their_own_reasons() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("empty.mp4"), "").unwrap();
    std::fs::write(dir.path().join("page.mp4"), "<!DOCTYPE html><title>sign in</title>").unwrap();
    let server = Server::of(dir.path(), Manner::Good);
    let bench = Bench::new();
    let code = |uri: &str| probe(uri, &bench.context()).unwrap_err().code;
    assert_eq!(code(&server.url("empty.mp4")), "empty_file");
    assert_eq!(code(&server.url("page.mp4")), "not_a_video");
    assert_eq!(code(&server.url("missing.mp4")), "file_missing");
    assert_eq!(code("http://127.0.0.1:1/a.mp4"), "fetch_failed");
    assert_eq!(code("http://"), "fetch_failed");
    assert_eq!(code("gopher://host/a.mp4"), "fetch_failed");
}

#[test]
fn silence_ends_with_the_deadline_or_with_the_run() {
    let Some(folder) = media_folder() else { return };
    for after in [0, 1] {
        let server = Server::of(&folder, Manner::Silent(after));
        let uri = server.url("bunny-480p.mp4");
        for (cancelled, timeout, want) in [(false, 2, "timeout"), (true, 60, "cancelled")] {
            let (plane, flag) = (MediaPlane::default(), AtomicBool::new(false));
            let context = MediaContext { cancelled: &flag, plane: &plane, timeout: Duration::from_secs(timeout) };
            let begun = Instant::now();
            let ended = std::thread::scope(|scope| {
                let call = scope.spawn(|| sampled(&uri, Sampling::Exact, 1.0, &context).unwrap_err().code);
                if cancelled {
                    std::thread::sleep(Duration::from_millis(500));
                    flag.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                call.join().unwrap()
            });
            assert_eq!(ended, want, "silent after {after}");
            assert!(begun.elapsed() < Duration::from_secs(8), "{want} {:?}", begun.elapsed());
        }
    }
    // Without a near deadline, the attempts end it.
    let server = Server::of(&folder, Manner::Silent(1));
    let begun = Instant::now();
    let error = probe(&server.url("bunny-480p.mp4"), &Bench::new().context()).unwrap_err();
    assert_eq!(error.code, "fetch_failed", "{error}");
    assert!(begun.elapsed() < REMOTE_IDLE * (REMOTE_ATTEMPTS + 2), "{:?}", begun.elapsed());
}

#[test]
fn many_rows_of_one_video_fetch_it_about_once() {
    let Some(folder) = media_folder() else { return };
    let server = Server::of(&folder, Manner::Good);
    let (bench, uri) = (Bench::new(), server.url("bunny-480p.mp4"));
    let context = bench.context();
    for second in 0..10 {
        uniform_frames(&uri, second * 1_000_000, (second + 1) * 1_000_000, 3, Some(64), &context).unwrap();
    }
    let size = folder.join("bunny-480p.mp4").metadata().unwrap().len();
    assert!(server.bytes() <= size + size / 10, "{} of {size}", server.bytes());
    assert!(server.requests() < 80, "{}", server.requests());
}
