//! Clips of copied packets against their sources, frame by frame: the slow way that a single cut does not take.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use super::copying::copying;
use super::cut::Source;
use super::input::Input;
use super::reader::Reader;
use super::splice::Ends;
use super::tests::{Bench, media_folder};
use super::track::Track;
use super::verify::{Look, verify_packets};
use super::*;

fn settings(mode: CutMode) -> CutSettings {
    let speed_preset = SpeedPreset::Ultrafast;
    CutSettings {
        mode,
        size: None,
        fps: None,
        encoder: Encoder::X264,
        quality: 23,
        speed_preset,
        audio: true,
        verify: VerifyCopies::Decode,
        max_bytes: 100_000_000,
    }
}

/// Every frame of a span: its time, the hash of its planes, how it looks.
fn frames(path: &Path, from_ns: i64, until_ns: i64, context: &MediaContext) -> Vec<(i64, Look, Look)> {
    let mut reader = Reader::open(&Input::file(path), Track::Video, Instant::now() + Duration::from_secs(100), context).unwrap();
    reader.play().unwrap();
    let mut found = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        if (from_ns..until_ns).contains(&frame.pts_ns) {
            let alike = Look::alike(&frame.sample, reader.orientation()).unwrap();
            found.push((frame.pts_ns, Look::same(&frame.sample).unwrap(), alike));
        }
    }
    assert_eq!(reader.decode_errors(), 0, "{}", path.display());
    found
}

/// Cuts, and compares every frame with the source's: the copied ones byte by byte.
fn checked(path: &Path, start_us: i64, end_us: i64, mode: CutMode) -> Result<Clip, MediaError> {
    let bench = Bench::new();
    let context = bench.context();
    let clip = cut(&path.to_string_lossy(), start_us, end_us, &settings(mode), &context)?;
    let name = format!("{} [{start_us}, {end_us}) {mode:?}", path.file_name().unwrap().to_string_lossy());
    eprintln!(
        "{name}: {:?} {:?}, {} of {} frames copied, {} bytes, audio {}",
        clip.mode, clip.fallback, clip.copied_frames, clip.frames, clip.size, clip.has_audio
    );
    if let Some(folder) = std::env::var_os("CURETTE_KEEP") {
        let file = format!("{}-{start_us}-{end_us}-{}.mp4", path.file_stem().unwrap().to_string_lossy(), mode.name());
        std::fs::write(PathBuf::from(folder).join(file), &clip.bytes).unwrap();
    }
    if clip.mode == CutMode::Exact {
        return Ok(clip);
    }
    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    std::fs::write(file.path(), &clip.bytes).unwrap();
    let span = match mode {
        CutMode::Keyframe => (clip.start_us * 1000, clip.end_us * 1000 - 1000), // the end is rounded
        CutMode::Exact | CutMode::Smart => (start_us * 1000, end_us * 1000),
    };
    let (there, here) = (frames(path, span.0, span.1, &context), frames(file.path(), 0, i64::MAX, &context));
    assert_eq!(there.len(), here.len(), "{name}");
    assert_eq!(clip.frames as usize, here.len(), "{name}");
    let mut same = 0;
    for (k, (a, b)) in there.iter().zip(&here).enumerate() {
        assert!((a.0 - there[0].0 - b.0).abs() < 25_000, "{name}: frame {k} at {} for {}", b.0, a.0 - there[0].0);
        same += usize::from(a.1 == b.1);
        let (Look::Alike(x), Look::Alike(y)) = (&a.2, &b.2) else { panic!() };
        let error: f64 = x.rgb.iter().zip(&y.rgb).map(|(x, y)| f64::from(x.abs_diff(*y)).powi(2)).sum();
        assert!(error / (x.rgb.len() as f64) < 40.0, "{name}: frame {k} looks different: {}", error / x.rgb.len() as f64);
    }
    assert_eq!(same, clip.copied_frames as usize, "{name}");
    let info = probe(&file.path().to_string_lossy(), &context).unwrap();
    assert_eq!((info.frames, info.has_audio, info.truncated), (here.len() as u64, clip.has_audio, false), "{name}");
    // Demuxers take durations in the order of decoding: where frames are neither evenly spaced nor decoded in order, that of the last one is another's.
    let longest_us = here.windows(2).map(|w| (w[1].0 - w[0].0) / 1000).max().unwrap_or(0);
    let apart = (info.duration_us - clip.duration_us).abs();
    assert!(apart < 30_000.max(longest_us), "{name}: {} for {}", info.duration_us, clip.duration_us);
    Ok(clip)
}

#[test]
fn smart_cuts_hold_the_frames_of_the_span_and_copied_ones_are_the_same_bytes() {
    let Some(folder) = media_folder() else { return };
    for (name, start, end, least) in [
        ("surgery-laparoscopy-720p.mp4", 1_230_000, 9_010_000, 50),
        ("bunny-480p.mp4", 5_010_000, 18_990_000, 100),
        ("bunny-480p.mp4", 0, 4_000_000, 80),
        ("ultrasound-cardiac-240p.mp4", 1_010_000, 8_350_000, 150),
        ("car-432p.mp4", 3_000_000, 17_000_000, 20),
        ("bottle-360p.mp4", 2_345_678, 22_345_678, 100),
        ("multishot-720p.mp4", 4_000_000, 12_500_000, 60),
        ("mri-brain-slices-288p.mp4", 1_000_000, 24_000_000, 100),
        ("nature-butterfly-720p.mp4", 300_000, 7_300_000, 10),
        ("letterbox-480p.mp4", 0, 10_000_000, 200),
        ("surgery-vfr-720p.mp4", 0, 9_400_000, 60),
    ] {
        let clip = checked(&folder.join(name), start, end, CutMode::Smart).unwrap();
        assert!(clip.fallback.is_none() && clip.copied_frames >= least, "{name}: {:?} {}", clip.fallback, clip.copied_frames);
    }
}

#[test]
fn keyframe_cuts_are_copies_and_say_their_span() {
    let Some(folder) = media_folder() else { return };
    for (name, start, end) in [
        ("surgery-laparoscopy-720p.mp4", 1_230_000, 9_010_000),
        ("bunny-480p.mp4", 5_010_000, 8_990_000),
        ("ultrasound-cardiac-240p.mp4", 1_010_000, 8_350_000),
        ("bunny-480p.mp4", 12_500_000, 15_000_000),
        ("car-432p.mp4", 3_000_000, 17_000_000),
        ("surgery-vfr-720p.mp4", 2_000_000, 9_400_000),
        ("multishot-720p.mp4", 0, 1_000_000),
    ] {
        let clip = checked(&folder.join(name), start, end, CutMode::Keyframe).unwrap();
        assert_eq!((clip.mode, clip.fallback, clip.copied_frames), (CutMode::Keyframe, None, clip.frames), "{name}");
        assert!(clip.start_us <= start && clip.end_us >= end, "{name}: [{}, {})", clip.start_us, clip.end_us);
        let bench = Bench::new();
        let quick = CutSettings { verify: VerifyCopies::Packets, ..settings(CutMode::Keyframe) };
        let uri = folder.join(name).to_string_lossy().into_owned();
        let same = cut(&uri, start, end, &quick, &bench.context()).unwrap();
        assert_eq!((same.fallback, &same.blake3), (None, &clip.blake3), "{name}: without decoding");
        assert!(same == clip, "{name}");
    }
}

#[test]
fn packets_that_are_not_those_of_the_source_are_found_without_decoding() {
    let Some(folder) = media_folder() else { return };
    let bench = Bench::new();
    let context = bench.context();
    let deadline = Instant::now() + Duration::from_secs(100);
    let input = Input::file(&folder.join("bunny-480p.mp4"));
    let kind = sniff::sniff(&input, deadline, &context).unwrap();
    let packets = packets::packets(&input, "bunny", deadline, &context).unwrap();
    let source = Source {
        input: &input,
        kind,
        packets: &packets,
        start_ns: 5_010_000_000,
        end_ns: 8_990_000_000,
        deadline,
        context: &context,
    };
    let quick = CutSettings { verify: VerifyCopies::Packets, audio: false, ..settings(CutMode::Keyframe) };
    let (bytes, _, copied) = copying(&source, &quick, Ends::Around).unwrap();
    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    let answer = |bytes: &[u8], copied: &[mux::VideoPacket]| {
        std::fs::write(file.path(), bytes).unwrap();
        verify_packets(file.path(), copied, deadline, &context).map_err(|e| e.code)
    };
    assert_eq!(answer(&bytes, &copied), Ok(()));
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(answer(&flipped, &copied), Err("cut_mismatch"), "another byte");
    let mut late = copied;
    late[3].pts_ns += 10_000_000;
    assert_eq!(answer(&bytes, &late), Err("cut_mismatch"), "another time");
    late.truncate(3);
    assert_eq!(answer(&bytes, &late), Err("cut_mismatch"), "one more");
    assert!(answer(&bytes[..bytes.len() / 2], &late).is_err(), "cut off");
}

/// The shift of `here` against `there`, in samples, at which they agree best, and the relative error there.
fn best_shift(there: &[i16], here: &[i16]) -> (i64, f64) {
    let (from, length) = (16_000, 16_000);
    let error = |shift: i64| -> f64 {
        let pairs = (from..from + length).map(|i| (f64::from(there[i]), f64::from(here[(i as i64 + shift) as usize])));
        let (apart, power) = pairs.fold((0.0, 1.0), |(a, p), (x, y)| (a + (x - y).powi(2), p + x.powi(2)));
        (apart / power).sqrt()
    };
    let best = (-800..=800).min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap();
    (best, error(best))
}

/// The sound of a clip of copied packets is heard when the source's is; an encoder's comes at most two packets late.
#[test]
fn the_sound_of_a_clip_is_that_of_its_span() {
    let Some(folder) = media_folder() else { return };
    let bench = Bench::new();
    let context = bench.context();
    // Stereo without, and six channels with an edit list that hides the encoder's first packet. The other files are silent.
    for (name, mode, start_us, end_us, most) in [
        ("nature-butterfly-720p.mp4", CutMode::Smart, 300_000, 7_300_000, 1),
        ("bunny-480p.mp4", CutMode::Keyframe, 11_000_000, 14_500_000, 1),
        ("bunny-480p.mp4", CutMode::Exact, 11_000_000, 14_500_000, 2 * 1024 / 3),
    ] {
        let uri = folder.join(name).to_string_lossy().into_owned();
        let clip = cut(&uri, start_us, end_us, &settings(mode), &context).unwrap();
        let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        std::fs::write(file.path(), &clip.bytes).unwrap();
        let there = speech(&uri, clip.start_us, clip.end_us, &context).unwrap().samples;
        let here = speech(&file.path().to_string_lossy(), 0, clip.duration_us, &context).unwrap().samples;
        assert!(there.iter().any(|s| s.abs() > 200), "{name} is silent");
        let (shift, error) = best_shift(&there, &here);
        eprintln!("{name} {:?}: {} of {} samples, shifted by {shift}, {error:.3} apart", clip.mode, here.len(), there.len());
        // Samples at a third of the rate begin between two of the original's.
        assert!(clip.mode == mode && shift.abs() <= most && error < 0.4, "{name} {mode:?}: {shift}, {error}");
        assert!(here.len().abs_diff(there.len()) <= 400, "{name} {mode:?}: {} for {}", here.len(), there.len());
    }
}

#[test]
fn what_cannot_be_copied_is_encoded_and_says_why() {
    let Some(folder) = media_folder() else { return };
    for (name, start, end, why) in [
        ("asl-book-480p.mkv", 0, 2_000_000, "container"),
        ("nasa-multistream-270p.mp4", 0, 2_000_000, "several_video_streams"),
        ("surgery-hevc-720p.mp4", 0, 2_000_000, "codec"),
        ("portrait-rotate90-720p.mp4", 0, 2_000_000, "rotation"),
        ("surgery-422-10bit-720p.mp4", 0, 1_000_000, "pixel_format"),
        ("vfr-444-128p.mp4", 0, 4_000_000, "pixel_format"),
        ("h264-10bit-200p.mp4", 0, 1_000_000, "pixel_format"),
        ("nature-1080p.mp4", 1_200_000, 2_000_000, "no_key_frame"),
    ] {
        let clip = checked(&folder.join(name), start, end, CutMode::Smart).unwrap();
        assert_eq!((clip.mode, clip.fallback, clip.copied_frames), (CutMode::Exact, Some(why), 0), "{name}");
    }
    let code = |name: &str, end| checked(&folder.join(name), 0, end, CutMode::Smart).map(|c| c.fallback).map_err(|e| e.code);
    assert_eq!(code("broken-bitflips-480p.mp4", 12_000_000), Err("cut_mismatch"));
    let late = |mode| {
        cut(&folder.join("bunny-480p.mp4").to_string_lossy(), 40_000_000, 50_000_000, &settings(mode), &Bench::new().context())
    };
    assert_eq!(late(CutMode::Smart).map_err(|e| e.code), Err("no_frames"));
    assert_eq!(late(CutMode::Keyframe).map_err(|e| e.code), Err("no_frames"));
}

#[test]
fn the_same_copy_is_the_same_bytes_and_no_larger_than_allowed() {
    let Some(folder) = media_folder() else { return };
    let uri = folder.join("bunny-480p.mp4").to_string_lossy().into_owned();
    let bench = Bench::new();
    let make = |s: &CutSettings| cut(&uri, 9_500_000, 13_000_000, s, &bench.context());
    let smart = settings(CutMode::Smart);
    let (a, b) = (make(&smart).unwrap(), make(&smart).unwrap());
    assert_eq!((a.blake3, a.mode, a.has_audio), (b.blake3, CutMode::Smart, true));
    assert!(!make(&CutSettings { audio: false, ..smart.clone() }).unwrap().has_audio);
    let small = CutSettings { max_bytes: 10_000, ..smart };
    assert_eq!(make(&small).map_err(|e| e.code), Err("clip_too_large"));
}

#[test]
fn clips_of_one_size_and_rate_show_what_the_filter_shows() {
    let Some(folder) = media_folder() else { return };
    for (name, resize, size) in [
        ("ultrasound-cardiac-240p.mp4", Resize::Fit, (640, 480)),
        ("bottle-360p.mp4", Resize::Cover, (720, 480)),
        ("portrait-rotate90-720p.mp4", Resize::Cover, (720, 480)),
        ("portrait-rotate90-720p.mp4", Resize::Fit, (270, 480)),
    ] {
        let wanted = TargetSize { width: 720, height: 480, resize };
        let settings = CutSettings { size: Some(wanted), fps: Some(24.0), ..settings(CutMode::Smart) };
        let clip = cut(&folder.join(name).to_string_lossy(), 1_000_000, 3_000_000, &settings, &Bench::new().context()).unwrap();
        assert_eq!(((clip.width, clip.height), clip.frames, clip.fallback), (size, 48, Some("resized")), "{name}");
        assert!(
            (clip.fps - 24.0).abs() < 1e-6 && (clip.duration_us - 2_000_000).abs() < 2,
            "{name}: {} {}",
            clip.fps,
            clip.duration_us
        );
    }
}

/// A drawn video of 6 s at 30 frames per second, encoded with these x264 options.
fn drawn(folder: &Path, name: &str, format: &str, encoder: &str, after: &str) -> PathBuf {
    runtime::start().unwrap();
    let path = folder.join(name);
    let line = format!(
        "videotestsrc num-buffers=180 pattern=smpte horizontal-speed=3 ! video/x-raw,format={format},width=320,height=176,framerate=30/1 \
         ! x264enc threads=1 {encoder} ! {after} mp4mux ! filesink location={}",
        path.display()
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Eos, gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(end.is_some_and(|m| m.type_() == gst::MessageType::Eos), "{name}");
    path
}

#[test]
fn drawn_videos_of_every_structure_are_copied_or_say_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, format: &str, encoder: &str, after: &str| drawn(folder.path(), name, format, encoder, after);
    let copied = [
        make("baseline.mp4", "I420", "key-int-max=40 bframes=0", "video/x-h264,profile=constrained-baseline !"),
        make("main.mp4", "I420", "key-int-max=40 bframes=1 b-adapt=false", "video/x-h264,profile=main !"),
        make("pyramid.mp4", "I420", "key-int-max=60 bframes=3 b-adapt=false b-pyramid=true", ""),
        make("sets-1.mp4", "I420", "key-int-max=40 bframes=2 option-string=sps-id=1", ""),
        make("full-range.mp4", "I420", "key-int-max=40 option-string=fullrange=on:colormatrix=bt709", ""),
        make("intra.mp4", "I420", "key-int-max=1", ""),
        make("in-band.mp4", "I420", "key-int-max=40", "h264parse ! video/x-h264,stream-format=avc3 !"),
    ];
    for path in &copied {
        // Ends at every place of a run of B frames.
        for end in [3_000_000, 3_033_000, 3_066_000, 3_100_000, 6_000_000] {
            let clip = checked(path, 500_000, end, CutMode::Smart).unwrap();
            assert!(clip.fallback.is_none() && clip.copied_frames > 20, "{}: {:?}", path.display(), clip.fallback);
            let clip = checked(path, 500_000, end, CutMode::Keyframe).unwrap();
            assert!(clip.fallback.is_none() && clip.start_us <= 500_000 && clip.end_us + 1 >= end, "{}", path.display());
        }
    }
    for (path, why) in [
        (make("open.mp4", "I420", "key-int-max=40 bframes=2 option-string=open-gop=1", ""), "no_key_frame"),
        (
            make("interlaced.mp4", "I420,interlace-mode=interleaved,field-order=top-field-first", "key-int-max=40", ""),
            "interlaced",
        ),
        (make("422.mp4", "Y42B", "key-int-max=40", ""), "pixel_format"),
    ] {
        let clip = checked(&path, 500_000, 5_000_000, CutMode::Smart).unwrap();
        assert_eq!((clip.mode, clip.fallback), (CutMode::Exact, Some(why)), "{}", path.display());
    }
}
