//! Synthetic videos whose camera is known, and the real ones that say what they are.

use std::path::Path;

use super::*;
use crate::testing;

/// What a camera looks at: a picture that is defined everywhere.
fn level(x: f64, y: f64) -> u8 {
    let noise = |x: i64, y: i64, salt: u32| {
        let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA6B) ^ salt;
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        f64::from(h >> 16) / 65_536.0
    };
    let smooth = |scale: f64, salt: u32| {
        let (x, y) = (x / scale, y / scale);
        let (i, j) = (x.floor() as i64, y.floor() as i64);
        let (u, v) = (x - x.floor(), y - y.floor());
        let row = |j: i64| noise(i, j, salt) * (1.0 - u) + noise(i + 1, j, salt) * u;
        row(j) * (1.0 - v) + row(j + 1) * v
    };
    (20.0 + 100.0 * smooth(17.0, 1) + 60.0 * smooth(6.0, 2) + 30.0 * smooth(3.0, 3)) as u8
}

/// 24 frames in 6 seconds, seen by a camera that looks at (x, y) with a magnification.
fn video(camera: &dyn Fn(f64) -> (f64, f64, f64)) -> Result<Measured, (&'static str, String)> {
    let (width, height) = (256usize, 144usize);
    let frame = |k: i64| {
        let (cx, cy, zoom) = camera(k as f64 * 0.25);
        let at = |i: usize| (((i % width) as f64 - 127.5) / zoom + cx, ((i / width) as f64 - 71.5) / zoom + cy);
        let data = (0..width * height).map(|i| at(i)).map(|(x, y)| level(x, y)).collect();
        Parts::of(&Luma { width, height, data }).unwrap()
    };
    let frames: Vec<Parts> = (0..24).map(frame).collect();
    let times: Vec<i64> = (0..24).map(|k| k * 250_000_000).collect();
    measure(&frames, &times, width as f64)
}

/// A hand: differs from step to step, goes nowhere.
fn shake(t: f64, size: f64) -> (f64, f64) {
    let k = (t * 4.0).round() as i64;
    (((k * k * 7 % 5) - 2) as f64 * size, ((k * 3 % 7) - 3) as f64 * size)
}

#[test]
fn known_cameras_are_named_and_their_speeds_are_right() {
    let operator = CameraMotion::default();
    let near = |a: f32, b: f64, share: f64| (f64::from(a) - b).abs() < share * b + 0.002;
    type Camera = Box<dyn Fn(f64) -> (f64, f64, f64)>;
    let cases: Vec<(&str, Camera)> = vec![
        ("static", Box::new(|_| (0.0, 0.0, 1.0))),
        ("static", Box::new(|t| (0.4 * t, 0.0, 1.0))),
        ("pan", Box::new(|t| (20.0 * t, 0.0, 1.0))),
        ("pan", Box::new(|t| (-35.0 * t, 6.0 * t, 1.0))),
        // There and back again.
        ("pan", Box::new(|t| (if t < 3.0 { 20.0 * t } else { 120.0 - 20.0 * t }, 0.0, 1.0))),
        ("tilt", Box::new(|t| (3.0 * t, 18.0 * t, 1.0))),
        ("zoom", Box::new(|t| (0.0, 0.0, 1.1f64.powf(t)))),
        ("zoom", Box::new(|t| (0.0, 0.0, 0.88f64.powf(t)))),
        ("handheld", Box::new(|t| (shake(t, 1.5).0, shake(t, 1.5).1, 1.0))),
        ("handheld", Box::new(|t| (4.0 * t + shake(t, 3.0).0, shake(t, 3.0).1, 1.0))),
        // A steady pan stays one in a hand that trembles a little.
        ("pan", Box::new(|t| (40.0 * t + shake(t, 0.5).0, shake(t, 0.5).1, 1.0))),
    ];
    for (i, (label, camera)) in cases.iter().enumerate() {
        let m = video(camera).unwrap_or_else(|e| panic!("case {i}: {e:?}"));
        assert_eq!(operator.label(&m), *label, "case {i}: {m:?}");
    }
    let speed = video(&|t| (20.0 * t, -10.0 * t, 1.0)).unwrap();
    assert!(near(speed.pan, 20.0 / 256.0, 0.1) && near(speed.tilt, 10.0 / 256.0, 0.1) && speed.shake < 0.002, "{speed:?}");
    let zoom = video(&|t| (0.0, 0.0, 1.1f64.powf(t))).unwrap();
    // A step grows by 1.1^0.25 - 1, four times a second. Phase correlation pulls shifts of less than a few pixels towards 0, so a slow zoom is told
    // a little slower.
    assert!(near(zoom.zoom, 4.0 * (1.1f64.powf(0.25) - 1.0), 0.2) && zoom.pan < 0.004, "{zoom:?}");
    // Another picture each time.
    assert_eq!(video(&|t| (9973.0 * t * 4.0, 7919.0 * t, 1.0)).unwrap_err().0, "no_global_motion");
    assert_eq!(measure(&[], &[], 256.0).unwrap_err().0, "too_few_frames");
}

#[test]
fn limits_of_the_step_decide_on_the_stored_numbers() {
    let m = Measured { pan: 0.02, tilt: 0.01, zoom: 0.04, shake: 0.003, step: 0.005 };
    let label = |min_speed, max_shake| CameraMotion { min_speed, max_shake, ..CameraMotion::default() }.label(&m);
    assert_eq!([label(0.015, 0.004), label(0.03, 0.004), label(0.0, 0.002)], ["pan", "static", "handheld"]);
    let still = Measured { pan: 0.0, tilt: 0.0, zoom: 0.0, shake: 0.0, step: 0.0 };
    assert_eq!(CameraMotion { min_speed: 0.0, ..CameraMotion::default() }.label(&still), "static");
}

/// Real files, where they are there (`CURETTE_MEDIA`): what a person sees in these seconds.
#[test]
fn real_cameras_are_named() {
    let Some(folder) = std::env::var_os("CURETTE_MEDIA").map(std::path::PathBuf::from) else { return };
    for (name, from_s, to_s, label) in REAL {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let column = |v: i64| Arc::new(arrow::array::Int64Array::from(vec![v])) as ArrayRef;
        let uri: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![path.to_string_lossy().into_owned()]));
        let rows = [("video_uri", uri), ("start_us", column(from_s * 1_000_000)), ("end_us", column(to_s * 1_000_000))];
        let done = testing::run_in(Path::new("."), "type = 'camera_motion'", &RecordBatch::try_from_iter(rows).unwrap());
        let said = arrow::array::AsArray::as_string::<i32>(&done.columns[0]).iter().next().flatten().map(str::to_owned);
        assert_eq!(said.as_deref(), Some(*label), "{name}: {:?} {:?}", testing::codes(&done), &done.columns[1..]);
    }
}

const REAL: &[(&str, i64, i64, &str)] = &[];
