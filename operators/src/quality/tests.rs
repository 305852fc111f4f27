//! The family as a whole: one decode for several measures, each measure moves the right way, limits reject.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use curette_engine::operator::{Runtime, Task};
use curette_engine::resources::Resources;
use curette_engine::verdict::{Processed, Verdict};

use super::blockiness::Blockiness;
use super::freeze::Freeze;
use super::jitter::Jitter;
use super::per_clip::Measure;
use super::sharpness::Sharpness;
use crate::media::{Frame, plane, to_jpeg};
use crate::pixels::luma::Luma;
use crate::testing;

/// Six seconds of a GStreamer test picture.
fn video(path: &Path, source: &str) {
    use gstreamer::prelude::*;
    gstreamer::init().unwrap();
    let text = format!(
        "{source} ! video/x-raw,format=I420,width=320,height=240,framerate=10/1 ! x264enc speed-preset=ultrafast ! mp4mux ! filesink location=\"{}\"",
        path.display()
    );
    let pipeline = gstreamer::parse::launch(&text).unwrap();
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let kinds = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let end = bus.timed_pop_filtered(gstreamer::ClockTime::from_seconds(60), &kinds).unwrap();
    assert_eq!(end.type_(), gstreamer::MessageType::Eos);
    pipeline.set_state(gstreamer::State::Null).unwrap();
}

fn rows(path: &Path) -> RecordBatch {
    let column = |values: i64| Arc::new(Int64Array::from(vec![values])) as ArrayRef;
    let uri: ArrayRef = Arc::new(StringArray::from(vec![path.to_string_lossy().into_owned()]));
    RecordBatch::try_from_iter([("video_uri", uri), ("start_us", column(500_000)), ("end_us", column(5_500_000))]).unwrap()
}

fn run(toml: &str, rows: &RecordBatch, resources: &Arc<Resources>) -> Processed {
    let Runtime::Transform(transform) = testing::build_in(Path::new("."), toml, rows.schema()).unwrap() else { panic!() };
    let done = transform.process(rows, &Task { step: "it", resources, cancelled: &AtomicBool::new(false) }).unwrap();
    testing::check(&*testing::operator(toml).unwrap(), &done, rows.num_rows());
    done
}

fn value(done: &Processed, column: usize) -> f32 {
    done.columns[column].as_primitive::<Float32Type>().value(0)
}

#[test]
fn measures_of_one_clip_share_a_decode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snow.mp4");
    video(&path, "videotestsrc pattern=snow num-buffers=60");
    let rows = rows(&path);
    let shared = Arc::new(Resources::default());
    let mut before = 0;
    for (family, decodes) in [(&["sharpness", "exposure", "blockiness", "black_border"][..], 1), (&["freeze", "jitter"][..], 2)] {
        for name in family {
            let toml = format!("type = '{name}'");
            let together = run(&toml, &rows, &shared);
            assert_eq!(plane(&shared).span_decodes(), decodes, "after {name}");
            let alone = run(&toml, &rows, &Arc::new(Resources::default()));
            assert_eq!((together.verdicts, together.columns), (alone.verdicts, alone.columns), "{name}");
            before += 1;
        }
    }
    assert_eq!(before, 6);
}

#[test]
fn a_frozen_video_is_frozen_and_a_blurred_one_is_blurred() {
    let folder = tempfile::tempdir().unwrap();
    let [still, sharp, blurred] = ["still.mp4", "sharp.mp4", "blurred.mp4"].map(|name| folder.path().join(name));
    video(&still, "videotestsrc pattern=smpte75 num-buffers=1 ! imagefreeze num-buffers=60");
    let snow = "videotestsrc pattern=snow num-buffers=60";
    video(&sharp, snow);
    video(
        &blurred,
        &format!(
            "{snow} ! video/x-raw,width=320,height=240 ! videoscale method=bilinear ! video/x-raw,width=32,height=24 ! videoscale method=bilinear"
        ),
    );
    let ask = |toml: &str, path: &Path| run(toml, &rows(path), &Arc::new(Resources::default()));

    let frozen = ask("type = 'freeze'\nmax_share = 0.9", &still);
    assert_eq!(value(&frozen, 0), 1.0);
    assert!(value(&frozen, 1) > 4.5, "{}", value(&frozen, 1));
    assert_eq!(testing::codes(&frozen), ["frozen"]);
    let Verdict::Fail(reject) = &frozen.verdicts[0] else { panic!() };
    assert_eq!((reject.measured, reject.threshold), (Some(1.0), Some(0.9)));
    let moving = ask("type = 'freeze'\nmax_share = 0.9", &sharp);
    assert_eq!((value(&moving, 0), testing::codes(&moving)), (0.0, vec!["pass".to_string()]));

    let (a, b) = (ask("type = 'sharpness'", &sharp), ask("type = 'sharpness'", &blurred));
    assert!(value(&a, 0) > 3.0 * value(&b, 0) && value(&a, 1) > 3.0 * value(&b, 1), "{} {}", value(&a, 0), value(&b, 0));
    let between = value(&b, 0) * 2.0;
    let toml = format!("type = 'sharpness'\nmin_laplacian = {between:.3}");
    assert_eq!(testing::codes(&ask(&toml, &sharp)), ["pass"]);
    assert_eq!(testing::codes(&ask(&toml, &blurred)), ["blurred"]);
}

/// Noise on several scales, seen through a window at (`x`, `y`).
fn texture(x: i64, y: i64, width: usize, height: usize) -> Luma {
    let noise = |x: i64, y: i64, salt: u32| {
        let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA6B) ^ salt;
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        f64::from(h >> 16) / 65_536.0
    };
    let smooth = |x: i64, y: i64, scale: i64, salt: u32| {
        let (i, j) = (x.div_euclid(scale), y.div_euclid(scale));
        let (u, v) = (x.rem_euclid(scale) as f64 / scale as f64, y.rem_euclid(scale) as f64 / scale as f64);
        let row = |j: i64| noise(i, j, salt) * (1.0 - u) + noise(i + 1, j, salt) * u;
        row(j) * (1.0 - v) + row(j + 1) * v
    };
    let level = |x: i64, y: i64| 30.0 + 90.0 * smooth(x, y, 29, 1) + 50.0 * smooth(x, y, 7, 2) + 20.0 * smooth(x, y, 2, 3);
    let data = (0..width * height).map(|i| level(x + (i % width) as i64, y + (i / width) as i64) as u8).collect();
    Luma { width, height, data }
}

fn jpeg(luma: &Luma, quality: u8) -> Luma {
    let rgb = luma.data.iter().flat_map(|v| [*v; 3]).collect();
    let frame = Frame { pts_ns: 0, width: luma.width as u32, height: luma.height as u32, rgb };
    let read = image::load_from_memory(&to_jpeg(&frame, quality).unwrap()).unwrap().to_rgb8();
    Luma { data: read.pixels().map(|p| p[0]).collect(), ..*luma }
}

fn first(measure: &impl Measure, frames: &[Luma]) -> f64 {
    let times: Vec<i64> = (0..frames.len() as i64).map(|i| i * 40_000_000).collect();
    measure.measure(frames, &times).unwrap()[0].unwrap()
}

#[test]
fn stronger_compression_raises_blockiness_and_lowers_quality() {
    let picture = texture(0, 0, 200, 160);
    let mut last = first(&Blockiness::default(), std::slice::from_ref(&picture));
    assert!((0.8..1.2).contains(&last), "{last}");
    for quality in [60, 30, 15, 7, 3] {
        let now = first(&Blockiness::default(), &[jpeg(&picture, quality)]);
        assert!(now > last, "{now} after {last} at quality {quality}");
        last = now;
    }
    assert!(last > 2.0, "{last}");
    let score = |q| Blockiness::default().measure(&[jpeg(&picture, q)], &[0]).unwrap()[1].unwrap();
    assert!(score(90) > score(30) && score(30) > score(5));
    let sharp = |luma: Luma| first(&Sharpness::default(), &[luma]);
    assert!(sharp(picture.clone()) > sharp(texture(0, 0, 100, 80).transposed()) * 0.5);
}

#[test]
fn shaking_raises_jitter_and_panning_does_not() {
    let frames = |at: &dyn Fn(i64) -> (i64, i64)| (0..24).map(at).map(|(x, y)| texture(x, y, 256, 144)).collect::<Vec<_>>();
    let jitter = |frames: &[Luma]| first(&Jitter::default(), frames);
    let tripod = jitter(&frames(&|_| (0, 0)));
    let pan = jitter(&frames(&|i| (4 * i, i)));
    let shake = |size: i64| jitter(&frames(&|i| ((i * i * 7 % 5 - 2) * size, (i * 3 % 7 - 3) * size)));
    assert_eq!(tripod, 0.0);
    assert!(pan < 0.003, "{pan}");
    let (weak, strong) = (shake(1), shake(4));
    assert!(weak > 2.0 * pan && strong > 2.0 * weak, "{pan} {weak} {strong}");
    // The size is right: the root mean square of the second differences of the drawn positions.
    let at = |i: i64| ((i * i * 7 % 5 - 2) as f64 * 4.0, (i * 3 % 7 - 3) as f64 * 4.0);
    let second = |i: i64| {
        let (a, b, c) = (at(i), at(i + 1), at(i + 2));
        (a.0 - 2.0 * b.0 + c.0).powi(2) + (a.1 - 2.0 * b.1 + c.1).powi(2)
    };
    let want = ((0..22).map(second).sum::<f64>() / 22.0).sqrt() / 256.0;
    assert!((strong - want).abs() < 0.1 * want, "{strong}, drawn {want}");
    assert_eq!(first(&Freeze::default(), &frames(&|_| (0, 0))), 1.0);
    // Pictures that have nothing in common show no motion of the whole.
    let times: Vec<i64> = (0..8).collect();
    let unrelated: Vec<Luma> = (0..8).map(|i| texture(i * 9_973, i * 7_919, 256, 144)).collect();
    let problem = Jitter::default().measure(&unrelated, &times).unwrap_err();
    assert_eq!(problem.code, "no_global_motion");
}

#[test]
fn contradictions_and_ranges_are_found() {
    assert_eq!(
        testing::mistakes("type = 'exposure'\nmin_mean = 0.6\nmax_mean = 0.5", &[]),
        ["min_mean E-Contradiction: min_mean is 0.6 and max_mean is 0.5: no clip can be kept"]
    );
    assert!(testing::operator("type = 'freeze'\nmax_shares = 0.5").is_err());
}
