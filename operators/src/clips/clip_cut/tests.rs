//! Cuts against their sources: frame counts, times, first and last pictures, audio, storage.

use std::path::Path;

use arrow::array::{Array, AsArray, Int64Array, StringArray};
use arrow::datatypes::{Int64Type, Schema};
use curette_engine::operator::Paths;
use curette_engine::resources::Resources;

use super::*;
use crate::media::tests::{Bench, media_folder, process};
use crate::media::{MediaError, decoded_times, probe, uniform_frames};

fn settings() -> CutSettings {
    CutSettings {
        mode: CutMode::Exact,
        size: None,
        fps: None,
        encoder: Encoder::X264,
        quality: 18,
        speed_preset: SpeedPreset::Ultrafast,
        audio: true,
        verify: VerifyCopies::Decode,
        max_bytes: 100_000_000,
    }
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let error: f64 = a.iter().zip(b).map(|(x, y)| f64::from(i32::from(*x) - i32::from(*y)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) / (error / a.len() as f64).max(1e-9)).log10()
}

/// Cuts, and holds the clip against the source: frames of the span, times, first and last picture.
fn checked(folder: &Path, name: &str, start_us: i64, end_us: i64, least_psnr: f64) -> Result<Clip, MediaError> {
    let bench = Bench::new();
    let context = bench.context();
    let uri = folder.join(name).to_string_lossy().into_owned();
    let begun = std::time::Instant::now();
    let clip = cut(&uri, start_us, end_us, &settings(), &context)?;
    let took = begun.elapsed().as_millis();
    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    std::fs::write(file.path(), &clip.bytes).unwrap();
    let clip_uri = file.path().to_string_lossy().into_owned();

    let span: Vec<i64> =
        decoded_times(&uri, &context)?.into_iter().filter(|t| (start_us * 1000..end_us * 1000).contains(t)).collect();
    let there = decoded_times(&clip_uri, &context)?;
    assert_eq!(there.len(), span.len(), "{name}");
    assert_eq!(clip.frames as usize, span.len(), "{name}");
    for (t, s) in there.iter().zip(&span) {
        assert!((t - (s - span[0])).abs() < 25_000, "{name}: {t} for {}", s - span[0]);
    }
    let (a, b) = (
        uniform_frames(&uri, start_us, end_us, 2, None, &context)?,
        uniform_frames(&clip_uri, 0, i64::MAX / 1000, 2, None, &context)?,
    );
    for (a, b) in a.iter().zip(b.iter()) {
        // The clip may have lost an odd line.
        let (w, h) = (b.width as usize, b.height as usize);
        assert_eq!((a.width & !1, a.height & !1), (b.width, b.height), "{name}");
        let cropped: Vec<u8> = a.rgb.chunks_exact(a.width as usize * 3).take(h).flat_map(|r| r[..w * 3].to_vec()).collect();
        let psnr = psnr(&cropped, &b.rgb);
        eprintln!(
            "{name} [{start_us}, {end_us}): {} frames, {} bytes, audio {}, PSNR {psnr:.1} dB, {took} ms",
            clip.frames, clip.size, clip.has_audio
        );
        assert!(psnr > least_psnr, "{name}: {psnr}");
    }
    Ok(clip)
}

#[test]
fn cuts_at_exact_times_hold_exactly_the_frames_of_the_span() {
    let Some(folder) = media_folder() else { return };
    // The shot between the hard cuts at 6 and 10 s.
    let clip = checked(&folder, "multishot-720p.mp4", 6_000_000, 10_000_000, 33.0).unwrap();
    assert_eq!((clip.frames, clip.start_us, clip.end_us, clip.duration_us), (120, 6_000_000, 10_000_000, 4_000_000));
    assert!((clip.fps - 30.0).abs() < 1e-6);
    // Times between frames: the first frame at or after the start, none at or after the end.
    let clip = checked(&folder, "bunny-480p.mp4", 5_010_000, 8_990_000, 33.0).unwrap();
    assert_eq!((clip.frames, clip.has_audio), (95, true));
    // Variable frame rate.
    checked(&folder, "surgery-vfr-720p.mp4", 2_000_000, 5_500_000, 33.0).unwrap();
    // A test pattern, 4:4:4 to 4:2:0.
    checked(&folder, "vfr-444-128p.mp4", 3_300_000, 9_100_000, 20.0).unwrap();
}

#[test]
fn rotation_depth_and_range_are_baked_in() {
    let Some(folder) = media_folder() else { return };
    let clip = checked(&folder, "portrait-rotate90-720p.mp4", 2_000_000, 3_000_000, 33.0).unwrap();
    assert_eq!((clip.width, clip.height), (720, 1280));
    for (name, least) in [
        ("surgery-422-10bit-720p.mp4", 33.0),
        ("surgery-hevc-720p.mp4", 33.0),
        ("asl-book-480p.mkv", 30.0),
        // Saturated test patterns: RGB of 4:2:0 is coarse at colour edges, whatever the encoder does.
        ("h264-10bit-200p.mp4", 22.0),
        ("av1-360p.mkv", 20.0),
    ] {
        checked(&folder, name, 0, 700_000, least).unwrap();
    }
    for name in
        ["bunny-vp9-480p.webm", "bunny-mpeg4-480p.avi", "mpeg2-1080p.ts", "hevc-hdr10-1080p.mp4", "nasa-multistream-270p.mp4"]
    {
        checked(&folder, name, 500_000, 1_100_000, 25.0).unwrap();
    }
}

#[test]
fn the_same_cut_gives_the_same_bytes_with_the_audio_of_the_span() {
    let Some(folder) = media_folder() else { return };
    let bench = Bench::new();
    let context = bench.context();
    let uri = folder.join("bunny-480p.mp4").to_string_lossy().into_owned();
    let make = || cut(&uri, 4_000_000, 6_000_000, &settings(), &context).unwrap();
    let (a, b) = (make(), make());
    assert_eq!(a.blake3, b.blake3);
    let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
    std::fs::write(file.path(), &a.bytes).unwrap();
    let info = probe(&file.path().to_string_lossy(), &context).unwrap();
    assert!(info.has_audio && !info.truncated);
    assert_eq!((info.frames, info.width, info.height), (48, 854, 480));
    // Faststart: the index is in front of the data.
    let position = |kind: &[u8]| a.bytes.windows(4).position(|w| w == kind).unwrap();
    assert!(position(b"moov") < position(b"mdat"));
    let silent = cut(&uri, 4_000_000, 5_000_000, &CutSettings { audio: false, ..settings() }, &context).unwrap();
    assert!(!silent.has_audio);
}

#[test]
fn what_cannot_be_cut_says_why() {
    let Some(folder) = media_folder() else { return };
    let bench = Bench::new();
    let code = |name: &str, start, end, s: &CutSettings| {
        cut(&folder.join(name).to_string_lossy(), start, end, s, &bench.context()).map(|c| c.frames).map_err(|e| e.code)
    };
    assert_eq!(code("bunny-480p.mp4", 40_000_000, 50_000_000, &settings()), Err("no_frames"));
    assert_eq!(code("bunny-480p.mp4", 0, 1_000_000, &CutSettings { max_bytes: 1000, ..settings() }), Err("clip_too_large"));
    assert_eq!(code("broken-text.mp4", 0, 1_000_000, &settings()), Err("not_a_video"));
    assert_eq!(code("broken-truncated-45pct.mp4", 6_000_000, 7_000_000, &settings()), Err("no_frames"));
    // The decoder conceals damage; a clip of it would look sound.
    assert_eq!(code("broken-bitflips-480p.mp4", 0, 12_000_000, &settings()), Err("cut_mismatch"));
    assert_eq!(code("audio-only.mp3", 0, 1_000_000, &settings()), Err("no_video_stream"));
}

#[test]
fn sizes_that_cannot_be_made_are_mistakes() {
    let found = |keys: &str| crate::testing::mistakes(&format!("type = \"clip_cut\"\n{keys}"), &[]);
    assert!(found("width = 720\nheight = 480\nresize = \"cover\"\nfps = 24.0").is_empty());
    assert!(found("width = 720")[0].starts_with("width E-Contradiction"));
    assert!(found("width = 720\nheight = 405")[0].starts_with("height E-OutOfRange"));
}

#[test]
fn the_mode_that_was_used_is_in_the_row() {
    let Some(folder) = media_folder() else { return };
    let base = tempfile::tempdir().unwrap();
    let columns = ClipCut::default().columns().adds;
    let made = |config: ClipCut, name: &str| {
        let done = run(&config, base.path(), &folder.join(name).to_string_lossy());
        let text = |column: &str| {
            let at = columns.iter().position(|a| a.field.name() == column).unwrap();
            let values = done.columns[at].as_string::<i32>();
            values.is_valid(0).then(|| values.value(0).to_owned())
        };
        (text("clip_mode").unwrap(), text("clip_fallback"))
    };
    let with = |mode| ClipCut { mode, ..ClipCut::default() };
    let name = "ultrasound-cardiac-240p.mp4";
    assert_eq!(made(with(CutMode::Exact), name), ("exact".into(), None));
    assert_eq!(made(with(CutMode::Smart), name), ("smart".into(), None));
    assert_eq!(made(with(CutMode::Keyframe), name), ("keyframe".into(), None));
    assert_eq!(made(with(CutMode::Smart), "surgery-hevc-720p.mp4"), ("exact".into(), Some("codec".into())));
    let small = ClipCut { width: Some(720), height: Some(480), ..with(CutMode::Smart) };
    assert_eq!(made(small, name), ("exact".into(), Some("resized".into())));
    let slow = ClipCut { fps: Some(24.0), ..with(CutMode::Smart) };
    assert_eq!(made(slow, name), ("exact".into(), Some("frame_rate".into())));
}

fn run(config: &ClipCut, base: &Path, uri: &str) -> Processed {
    let rows = RecordBatch::try_from_iter([
        ("clip_id", Arc::new(StringArray::from(vec!["a/b c#0-1", "none"])) as ArrayRef),
        ("video_uri", Arc::new(StringArray::from(vec![uri, uri]))),
        ("start_us", Arc::new(Int64Array::from(vec![Some(0), None]))),
        ("end_us", Arc::new(Int64Array::from(vec![500_000, 500_000]))),
    ])
    .unwrap();
    let context = BuildContext {
        step: "cut",
        input: Arc::new(Schema::empty()),
        id_column: "clip_id".into(),
        paths: &Paths { base: base.to_path_buf() },
        resources: &Arc::new(Resources::default()),
    };
    let Ok(Runtime::Transform(operator)) = config.build(&context) else { panic!("no transform") };
    process(operator.as_ref(), &rows)
}

#[test]
fn bytes_go_to_the_table_or_to_objects() {
    let Some(folder) = media_folder() else { return };
    let uri = folder.join("ultrasound-cardiac-240p.mp4").to_string_lossy().into_owned();
    let base = tempfile::tempdir().unwrap();
    let table = run(&ClipCut::default(), base.path(), &uri);
    let objects = ClipCut { storage: Storage::Objects, location: Some("clips".into()), ..ClipCut::default() };
    let stored = run(&objects, base.path(), &uri);
    for done in [&table, &stored] {
        assert!(
            matches!(&done.verdicts[..], [Verdict::Pass, Verdict::Unmeasured(p)] if p.code == "no_span"),
            "{:?}",
            done.verdicts
        );
        for (column, added) in done.columns.iter().zip(ClipCut::default().columns().adds) {
            assert_eq!(column.data_type(), added.field.data_type(), "{}", added.field.name());
            assert!(column.is_null(1), "{}", added.field.name());
        }
    }
    let clip = table.columns[0].as_struct();
    let bytes = clip.column(0).as_binary::<i32>().value(0);
    assert_eq!(clip.column(1).as_string::<i32>().value(0), "a_b_c_0-1.mp4");
    assert!(table.columns[1].is_null(0));
    assert_eq!(table.columns[2].as_primitive::<Int64Type>().value(0), bytes.len() as i64);
    let path = stored.columns[1].as_string::<i32>().value(0);
    assert!(stored.columns[0].as_struct().column(0).is_null(0));
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    assert!(path.ends_with(&format!("{}.mp4", stored.columns[3].as_string::<i32>().value(0))));
    assert_eq!(std::fs::read_dir(base.path().join("clips")).unwrap().count(), 1);
}

#[test]
fn cuts_that_run_at_the_same_time_give_the_same_bytes() {
    let folder = crate::media::tests::sample_folder();
    let settings = CutSettings { quality: 23, speed_preset: SpeedPreset::Veryfast, ..settings() };
    for name in ["fundus-portrait.mp4", "endoscopy-rotated.mp4"] {
        let uri = folder.join(name).to_string_lossy().into_owned();
        let clips: Vec<Clip> = std::thread::scope(|scope| {
            let work = || cut(&uri, 0, 8_000_000, &settings, &Bench::new().context()).unwrap();
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        if let Some(folder) = std::env::var_os("CURETTE_KEEP") {
            for (i, clip) in clips.iter().enumerate() {
                std::fs::write(Path::new(&folder).join(format!("{i}-{name}")), &clip.bytes).unwrap();
            }
        }
        for clip in &clips {
            assert_eq!((clip.frames, clip.size, &clip.blake3), (96, clips[0].size, &clips[0].blake3), "{name}");
        }
    }
}

#[test]
fn irregular_frame_times_are_kept_to_the_last_frame() {
    let folder = crate::media::tests::sample_folder();
    checked(&folder, "surgery-variable-rate.mp4", 0, 7_041_666, 33.0).unwrap();
    checked(&folder, "surgery-variable-rate.mp4", 8_000_000, 15_041_666, 33.0).unwrap();
}
