//! The plane against real files: every file of the media folder through every operation, times and pictures against slow oracles.
//!
//! The folder is `$CURETTE_MEDIA`, else `../shared/media` beside the workspace. Without it these tests print one line and pass.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::uniform::uniform_indexes;
use super::*;

/// The folder with real videos, if this machine has it.
pub(crate) fn media_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("CURETTE_MEDIA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/media"), PathBuf::from);
    if !folder.join("bunny-480p.mp4").exists() {
        eprintln!("skipped: no test media at {} (set CURETTE_MEDIA)", folder.display());
        return None;
    }
    Some(folder)
}

/// A context that nobody cancels.
pub(crate) struct Bench {
    plane: MediaPlane,
    cancelled: AtomicBool,
}

impl Bench {
    pub fn new() -> Self {
        Bench { plane: MediaPlane::default(), cancelled: AtomicBool::new(false) }
    }
    pub fn context(&self) -> MediaContext<'_> {
        MediaContext { cancelled: &self.cancelled, plane: &self.plane, timeout: Duration::from_secs(120) }
    }
}

fn path(folder: &std::path::Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

/// codec, pixel format, width, height, rotation, fps, seconds, audio, truncated
type Values = (&'static str, &'static str, u32, u32, i32, f64, f64, bool, bool);

struct Expected {
    name: &'static str,
    good: Result<Values, &'static str>,
}

const fn good(name: &'static str, v: Values) -> Expected {
    Expected { name, good: Ok(v) }
}

const fn bad(name: &'static str, code: &'static str) -> Expected {
    Expected { name, good: Err(code) }
}

const EXPECTED: &[Expected] = &[
    good("asl-book-480p.mkv", ("h264", "i420", 640, 480, 0, 30.0, 3.666, false, false)),
    bad("audio-only.mp3", "no_video_stream"),
    good("av1-360p.mkv", ("av1", "i420", 640, 360, 0, 25.0, 5.0, false, false)),
    good("bottle-360p.mp4", ("h264", "i420", 640, 360, 0, 29.83, 39.85, false, false)),
    good("broken-bitflips-480p.mp4", ("h264", "i420", 854, 480, 0, 24.0, 12.08, false, false)),
    bad("broken-no-moov.mp4", "no_index"),
    bad("broken-random.mp4", "not_a_video"),
    bad("broken-text.mp4", "not_a_video"),
    good("broken-truncated-45pct.mp4", ("h264", "i420", 1280, 720, 0, 29.97, 3.036, true, true)),
    good("broken-truncated-moov-first.mp4", ("h264", "i420", 854, 480, 0, 24.0, 9.0, false, true)),
    bad("broken-zero-byte.mp4", "empty_file"),
    good("bunny-480p.mp4", ("h264", "i420", 854, 480, 0, 24.0, 30.0, true, false)),
    good("bunny-mpeg4-480p.avi", ("mpeg4", "i420", 854, 480, 0, 23.917, 12.04, true, false)),
    good("bunny-vp9-480p.webm", ("vp9", "i420", 854, 480, 0, 24.0, 6.0, false, false)),
    good("car-432p.mp4", ("h264", "i420", 768, 432, 0, 12.5, 30.16, true, false)),
    good("corrupt-decord-720p.mp4", ("h264", "i420", 1280, 720, 0, 10.0, 5.0, false, false)),
    good("h264-10bit-200p.mp4", ("h264", "i420_10le", 200, 200, 0, 30.0, 1.0, false, false)),
    good("hevc-hdr10-1080p.mp4", ("hevc", "i420_10le", 1920, 1080, 0, 27.436, 1.017, true, false)),
    good("letterbox-480p.mp4", ("h264", "i420", 640, 480, 0, 24.0, 10.0, false, false)),
    good("mpeg2-1080p.ts", ("mpeg2video", "i420", 1920, 1080, 0, 23.186, 3.325, true, false)),
    good("mri-brain-slices-288p.mp4", ("h264", "i420", 384, 288, 0, 20.0, 24.8, false, false)),
    good("multishot-720p.mp4", ("h264", "i420", 1280, 720, 0, 30.0, 28.03, false, false)),
    good("nasa-multistream-270p.mp4", ("h264", "i420", 480, 270, 0, 29.97, 13.0, true, false)),
    good("nature-1080p.mp4", ("h264", "i420", 1920, 1080, 0, 29.97, 5.0, false, false)),
    good("nature-bee-720p.mp4", ("h264", "i420", 1280, 720, 0, 29.97, 4.04, true, false)),
    good("nature-butterfly-720p.mp4", ("h264", "i420", 1280, 720, 0, 29.97, 7.54, true, false)),
    good("portrait-coded-406x720.mp4", ("h264", "i420", 406, 720, 0, 29.97, 7.54, false, false)),
    good("portrait-rotate-2160p60.mp4", ("h264", "i420", 2160, 3840, 90, 60.06, 0.3, true, false)),
    good("portrait-rotate90-720p.mp4", ("h264", "i420", 720, 1280, 270, 29.97, 7.54, false, false)),
    good("subtitles-burntin-480p.mp4", ("h264", "i420", 854, 480, 0, 24.0, 12.0, false, false)),
    good("surgery-422-10bit-720p.mp4", ("h264", "i422_10le", 1280, 720, 0, 25.0, 6.0, false, false)),
    good("surgery-hevc-720p.mp4", ("hevc", "i420", 1280, 720, 0, 25.0, 6.0, false, false)),
    good("surgery-laparoscopy-720p.mp4", ("h264", "i420", 1280, 720, 0, 25.0, 10.0, true, false)),
    good("surgery-vfr-720p.mp4", ("h264", "i420", 1280, 720, 0, 14.96, 10.0, false, false)),
    good("ultrasound-cardiac-240p.mp4", ("h264", "i420", 320, 240, 0, 30.0, 15.0, false, false)),
    good("vfr-444-128p.mp4", ("h264", "y444", 128, 128, 0, 20.022, 14.93, false, false)),
    good("vp8-dancer-360p.webm", ("vp8", "i420", 640, 360, 0, 30.0, 5.0, false, true)),
];

#[test]
fn every_file_has_its_true_values_or_its_own_reason() {
    let Some(folder) = media_folder() else { return };
    let bench = Bench::new();
    let mut wrong = Vec::new();
    for e in EXPECTED {
        let started = Instant::now();
        let got = probe(&path(&folder, e.name), &bench.context());
        eprintln!(
            "{:36} {:5} ms {}",
            e.name,
            started.elapsed().as_millis(),
            match &got {
                Ok(i) => format!("{i:?}"),
                Err(e) => e.to_string(),
            }
        );
        let fits = match (&got, &e.good) {
            (Err(got), Err(code)) => got.code == *code,
            (Ok(i), Ok((codec, format, w, h, rotation, fps, seconds, audio, truncated))) => {
                i.codec == *codec
                    && i.pixel_format == *format
                    && (i.width, i.height, i.rotation_degrees) == (*w, *h, *rotation)
                    && (i.fps - fps).abs() < 0.02
                    && (i.duration_us as f64 / 1e6 - seconds).abs() < 0.05
                    && (i.has_audio, i.truncated) == (*audio, *truncated)
                    && i.content_blake3.len() == 64
            }
            _ => false,
        };
        if !fits {
            wrong.push(e.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn no_operation_hangs_on_any_file_and_every_pick_follows_the_rule() {
    let Some(folder) = media_folder() else { return };
    let bench = Bench::new();
    let context = bench.context();
    let begun = Instant::now();
    for e in EXPECTED {
        let uri = path(&folder, e.name);
        let started = Instant::now();
        let mut times = Vec::new();
        let stats = sample_grid(&uri, 1.0, 64, 64, &context, &mut |f| {
            assert_eq!((f.width, f.height, f.rgb.len()), (64, 64, 64 * 64 * 3));
            times.push(f.pts_ns);
            Ok(())
        });
        let grid_ms = started.elapsed().as_millis();
        let started = Instant::now();
        let whole = uniform_frames(&uri, 0, i64::MAX / 2000, 8, Some(128), &context);
        let late = uniform_frames(&uri, 2_000_000, 3_500_000, 4, Some(128), &context);
        let uniform_ms = started.elapsed().as_millis();
        let (stats, all) = match (stats, decoded_times(&uri, &context)) {
            (Ok(stats), Ok(all)) => (stats, all),
            (Err(e), _) => {
                assert!(whole.is_err() && late.is_err(), "{e}");
                eprintln!("{uri}: {e}");
                continue;
            }
            (_, Err(e)) => panic!("{uri}: {e}"),
        };
        eprintln!("{:36} grid {grid_ms} ms, uniform {uniform_ms} ms, {} frames, {stats:?}", e.name, all.len());
        // The grid, against the rule over all decoded times.
        let period = (all[all.len() - 1] - all[0]) / (all.len() as i64 - 1);
        let mut want: Vec<i64> = Vec::new();
        for t in 0.. {
            match all.iter().find(|&&p| p >= t * 1_000_000_000 - period / 2) {
                None => break,
                Some(&p) if want.last() != Some(&p) => want.push(p),
                Some(_) => {}
            }
        }
        assert_eq!(times, want, "{uri}");
        assert!((times.len()..=all.len()).contains(&(stats.frames_decoded as usize)), "{uri}");
        // What libavcodec conceals is counted; sound files have none of it.
        let damaged = ["broken-bitflips-480p.mp4", "corrupt-decord-720p.mp4"].contains(&e.name);
        assert_eq!(stats.decode_errors > 0, damaged, "{uri}");
        assert_eq!(stats.truncated, e.good.as_ref().is_ok_and(|g| g.8), "{uri}");
        // Uniform frames of the whole file and of a late span, against the rule over all decoded times.
        let by_rule = |all: &[i64], n| uniform_indexes(all.len(), n).iter().map(|&i| all[i]).collect::<Vec<_>>();
        let got = |f: &Arc<Vec<Frame>>| f.iter().map(|f| f.pts_ns).collect::<Vec<_>>();
        assert_eq!(got(whole.as_ref().unwrap()), by_rule(&all, 8), "{uri}");
        let span: Vec<i64> = all.iter().copied().filter(|t| (2_000_000_000..3_500_000_000).contains(t)).collect();
        match late {
            Ok(frames) => assert_eq!(got(&frames), by_rule(&span, 4), "{uri}"),
            Err(e) => assert!(e.code == "no_frames" && span.is_empty(), "{uri}: {e}"),
        }
    }
    eprintln!("all files: {} ms", begun.elapsed().as_millis());
}

#[test]
fn kept_frames_serve_every_size_and_equal_freshly_decoded_ones() {
    let Some(folder) = media_folder() else { return };
    let uri = path(&folder, "surgery-laparoscopy-720p.mp4");
    let get = |bench: &Bench, side| uniform_frames(&uri, 2_000_000, 5_000_000, 4, side, &bench.context()).unwrap();
    let bench = Bench::new();
    let native = get(&bench, None);
    assert!(Arc::ptr_eq(&native, &get(&bench, None)));
    let small = get(&bench, Some(320));
    assert_eq!((small[0].width, small[0].height), (320, 180));
    assert_eq!(small, get(&Bench::new(), Some(320)));
    let jpeg = to_jpeg(&small[0], 85).unwrap();
    assert_eq!((&jpeg[..3], jpeg.clone()), (&[0xFF, 0xD8, 0xFF][..], to_jpeg(&small[0], 85).unwrap()));
}

#[test]
fn rotated_and_high_depth_frames_look_as_displayed() {
    let Some(folder) = media_folder() else { return };
    let bench = Bench::new();
    let first = |name: &str| uniform_frames(&path(&folder, name), 0, 500_000, 1, Some(200), &bench.context()).unwrap()[0].clone();
    let mean_difference = |a: &Frame, b: &Frame| {
        assert_eq!((a.width, a.height), (b.width, b.height));
        a.rgb.iter().zip(&b.rgb).map(|(x, y)| f64::from(x.abs_diff(*y))).sum::<f64>() / a.rgb.len() as f64
    };
    // The rotated file is a copy of the landscape one with a tag: turning it back must give the same picture.
    let (plain, turned) = (first("nature-butterfly-720p.mp4"), first("portrait-rotate90-720p.mp4"));
    assert_eq!((turned.width, turned.height), (plain.height, plain.width));
    let (w, h) = (plain.width as usize, plain.height as usize);
    let back: Vec<u8> = (0..h)
        .flat_map(|y| (0..w).map(move |x| (x, y)))
        .flat_map(|(x, y)| {
            let at = ((w - 1 - x) * h + y) * 3; // the tag says: turn 270 degrees clockwise
            turned.rgb[at..at + 3].to_vec()
        })
        .collect();
    assert!(mean_difference(&plain, &Frame { rgb: back, ..plain.clone() }) < 1.0);
    // The 4:2:2 10-bit and HEVC files are encodings of the laparoscopy clip.
    let reference = first("surgery-laparoscopy-720p.mp4");
    for name in ["surgery-422-10bit-720p.mp4", "surgery-hevc-720p.mp4"] {
        let d = mean_difference(&reference, &first(name));
        eprintln!("{name}: mean difference {d:.2} of 255");
        assert!(d < 4.0, "{name}: {d}");
    }
}
