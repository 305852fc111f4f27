//! `frame_embed` on real files, through its own rows.

use arrow::array::ArrayRef;

use super::*;
use crate::media::tests::{Bench, media_folder, process_uris};

fn started(settings: FrameEmbed) -> Started {
    Started::new(settings, None)
}

fn described(settings: FrameEmbed, uri: &str, bench: &Bench) -> Described {
    started(settings).describe(uri, WHOLE_NS, &bench.context()).unwrap_or_else(|_| panic!("{uri} is not described"))
}

#[test]
fn columns_have_the_declared_types() {
    let Some(folder) = media_folder() else { return };
    let uris = ["nature-bee-720p.mp4", "broken-text.mp4"].map(|n| folder.join(n).to_string_lossy().into_owned());
    let done = process_uris(&started(FrameEmbed::default()), &uris);
    assert!(matches!(done.verdicts[..], [Verdict::Pass, Verdict::Unmeasured(_)]));
    for (column, added) in done.columns.iter().zip(FrameEmbed::default().columns().adds) {
        assert_eq!(column.data_type(), added.field.data_type(), "{}", added.field.name());
        assert!(column.is_valid(0) && column.is_null(1));
    }
}

/// What each broken file becomes: its verdict's code, or how many samples were kept of how many seconds, and whether that is short.
fn under(damaged_videos: DamagedVideos, name: &str) -> String {
    let Some(folder) = media_folder() else { return String::new() };
    let settings = FrameEmbed { damaged_videos, ..FrameEmbed::default() };
    let done = process_uris(&started(settings), &[folder.join(name).to_string_lossy().into_owned()]);
    let code = crate::testing::codes(&done).remove(0);
    if code != "pass" {
        let rejected = matches!(&done.verdicts[0], Verdict::Fail(r) if r.measured.is_some() && r.threshold.is_some());
        return if rejected { format!("reject {code}") } else { code };
    }
    let samples = done.columns[0].as_list::<i32>().value(0).len();
    let vectors = done.columns[3].as_list::<i32>().value(0).len();
    assert_eq!(samples, vectors);
    let seconds = done.columns[5].as_primitive::<Int64Type>().value(0) as f64 / 1e6;
    format!("{samples} of {seconds:.1} s, short {}", done.columns[6].as_boolean().value(0))
}

#[test]
fn damage_is_an_error_a_reject_or_cut_off_as_the_policy_says() {
    if media_folder().is_none() {
        return;
    }
    for (name, error, reject, keep) in [
        ("broken-bitflips-480p.mp4", "unmeasured damaged", "reject damaged", "1 of 0.5 s, short true"),
        ("broken-truncated-45pct.mp4", "unmeasured truncated", "reject truncated", "4 of 3.0 s, short true"),
        ("broken-truncated-moov-first.mp4", "unmeasured truncated", "reject truncated", "9 of 9.0 s, short true"),
        ("vp8-dancer-360p.webm", "unmeasured truncated", "reject truncated", "5 of 5.0 s, short true"),
        // Three errors in 49 frames are fewer than is allowed.
        ("corrupt-decord-720p.mp4", "5 of 5.0 s, short false", "5 of 5.0 s, short false", "5 of 5.0 s, short false"),
        ("broken-text.mp4", "unmeasured not_a_video", "unmeasured not_a_video", "unmeasured not_a_video"),
        ("nature-bee-720p.mp4", "5 of 4.0 s, short false", "5 of 4.0 s, short false", "5 of 4.0 s, short false"),
    ] {
        let got = [DamagedVideos::Error, DamagedVideos::Reject, DamagedVideos::KeepWholePart].map(|policy| under(policy, name));
        assert_eq!(got, [error, reject, keep], "{name}");
    }
}

#[test]
fn concealed_damage_may_be_allowed() {
    let Some(folder) = media_folder() else { return };
    let uri = [folder.join("broken-bitflips-480p.mp4").to_string_lossy().into_owned()];
    let lenient = FrameEmbed { max_errors_per_frame: 1000.0, ..FrameEmbed::default() };
    let done = process_uris(&started(lenient), &uri);
    assert_eq!(done.verdicts, [Verdict::Pass]);
    let errors = done.columns[7].as_primitive::<Int64Type>().value(0);
    assert!(errors > 100, "{errors}");
}

#[test]
fn behind_a_shot_split_only_the_shot_is_sampled() {
    let Some(folder) = media_folder() else { return };
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (bunny, bits) = (path("bunny-480p.mp4"), path("broken-bitflips-480p.mp4"));
    let number = |values: Vec<Option<i64>>| Arc::new(arrow::array::Int64Array::from(values)) as ArrayRef;
    let uris = vec![bunny.as_str(), &bunny, &bunny, &bunny, &bits];
    let rows = RecordBatch::try_from_iter([
        ("video_uri", Arc::new(arrow::array::StringArray::from(uris)) as ArrayRef),
        ("shot_start_us", number(vec![Some(11_875_000), Some(0), None, Some(40_000_000), Some(5_000_000)])),
        ("shot_end_us", number(vec![Some(15_750_000), Some(1_000_000), Some(9), Some(50_000_000), Some(9_000_000)])),
    ])
    .unwrap();
    let done = crate::media::tests::process(&started(FrameEmbed::default()), &rows);
    // The last one's errors are before the shot; what they spoilt are the pictures that its own refer to.
    let want = ["pass", "pass", "unmeasured no_span", "unmeasured no_frames", "unmeasured damaged"];
    assert_eq!(crate::testing::codes(&done), want);
    let times = |row: usize| done.columns[0].as_list::<i32>().value(row).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(times(0), [11_875_000, 12_875_000, 13_875_000, 14_875_000]);
    assert_eq!(times(1), [0]);
    assert_eq!(done.columns[5].as_primitive::<Int64Type>().value(0), 15_750_000);
}

#[test]
fn cheaper_samples_are_real_frames_near_the_grid() {
    let Some(folder) = media_folder() else { return };
    let uri = folder.join("surgery-laparoscopy-720p.mp4").to_string_lossy().into_owned();
    let bench = Bench::new();
    let times = |operator: FrameEmbed| described(operator, &uri, &bench).times_ns;
    let exact = times(FrameEmbed::default());
    let near = times(FrameEmbed { within_seconds: 0.5, ..FrameEmbed::default() });
    let keys = times(FrameEmbed { sampling: Sampling::Keyframes, ..FrameEmbed::default() });
    assert_eq!(exact, (0..10).map(|s| s * 1_000_000_000).collect::<Vec<_>>());
    assert!(near != exact && near.len() == exact.len(), "{near:?}");
    assert!(near.iter().zip(&exact).all(|(n, e)| n.abs_diff(*e) <= 500_000_000), "{near:?}");
    assert!(keys.len() < exact.len() && keys[0] == 0, "{keys:?}");
}

/// The grid's frames through the encoder, against the frames that another pass decodes, embedded one by one.
#[test]
fn a_clip_encoder_sees_the_frames_of_the_grid() {
    let (Some(goldens), Some(folder)) = (crate::quality::model_tests::goldens(), media_folder()) else { return };
    let models = goldens.models();
    let clip = || {
        let reference = curette_models::ModelRef::Onnx(crate::quality::model_tests::folder().join("clip.onnx"));
        models.image_encoder(&reference).unwrap()
    };
    let uri = folder.join("surgery-laparoscopy-720p.mp4").to_string_lossy().into_owned();
    let settings: FrameEmbed = toml::from_str("model = 'clip.onnx'").unwrap();
    let columns = settings.columns();
    let before = clip().model().rows_run();
    let done = process_uris(&Started::new(settings, Some(clip())), std::slice::from_ref(&uri));
    assert_eq!(done.verdicts, [Verdict::Pass]);
    for (column, added) in done.columns.iter().zip(columns.adds) {
        assert_eq!(column.data_type(), added.field.data_type(), "{}", added.field.name());
    }
    let mut frames = Vec::new();
    let grid = GridSettings { fps: 1.0, size: None, sampling: media::Sampling::Exact, span_ns: WHOLE_NS };
    sample(&uri, &grid, &goldens.bench.context(), &mut |frame| {
        frames.push(frame);
        Ok(())
    })
    .unwrap();
    assert!(frames.len() == 10 && (frames[0].width, frames[0].height) == (1280, 720));
    assert_eq!(clip().model().rows_run() - before, 10, "each sampled frame is embedded once");
    let vectors = done.columns[3].as_list::<i32>().value(0);
    for (i, frame) in frames.iter().enumerate() {
        let want = clip().embed(&[Rgb { pixels: &frame.rgb, width: frame.width, height: frame.height }]).unwrap().remove(0);
        let length = norm(&want);
        let got = vectors.as_list::<i32>().value(i);
        let got = got.as_primitive::<arrow::datatypes::Float32Type>();
        assert!((norm(got.values()) - 1.0).abs() < 1e-6);
        for (g, w) in got.values().iter().zip(&want) {
            assert!((f64::from(*g) - f64::from(*w) / length).abs() < 1e-5, "frame {i}");
        }
    }
    assert!(done.columns[4].as_string::<i32>().value(0).starts_with("clip@sha256:"));
}

#[test]
fn a_tolerance_with_key_frames_is_a_contradiction() {
    let toml = "type = \"frame_embed\"\nsampling = \"keyframes\"\nwithin_seconds = 0.5";
    let found = crate::testing::mistakes(toml, &[]);
    assert!(found.len() == 1 && found[0].starts_with("within_seconds E-Contradiction"), "{found:?}");
}

/// Cosines of neighbouring samples, with the time of the later one.
fn neighbours(folder: &std::path::Path, name: &str) -> Vec<(f64, f32)> {
    let bench = Bench::new();
    let found = described(FrameEmbed::default(), &folder.join(name).to_string_lossy(), &bench);
    let vectors: Vec<&[f32]> = found.vectors.chunks_exact(DIMENSION).collect();
    vectors
        .windows(2)
        .zip(&found.times_ns[1..])
        .map(|(v, t)| (*t as f64 / 1e9, v[0].iter().zip(v[1]).map(|(a, b)| a * b).sum()))
        .collect()
}

#[test]
fn hard_cuts_stand_out_and_shots_hold_together() {
    let Some(folder) = media_folder() else { return };
    let found = neighbours(&folder, "multishot-720p.mp4");
    let rounded: Vec<(i64, f32)> = found.iter().map(|(t, s)| (t.round() as i64, (s * 1000.0).round() / 1000.0)).collect();
    eprintln!("multishot {rounded:?}");
    // Cuts at 6, 10, 15, 18 and 21 s (shown from the frame after it) by construction, and a film cut at 23.07 s.
    let cuts = [6, 10, 15, 18, 22, 24];
    let (at_cut, inside): (Vec<_>, Vec<_>) = rounded.iter().partition(|(t, _)| cuts.contains(t));
    assert!(at_cut.iter().all(|(_, s)| *s < 0.7), "{at_cut:?}");
    assert!(inside.iter().filter(|(_, s)| *s > 0.9).count() * 10 >= inside.len() * 9, "{inside:?}");
    for name in ["surgery-laparoscopy-720p.mp4", "ultrasound-cardiac-240p.mp4", "nature-butterfly-720p.mp4", "bunny-480p.mp4"] {
        let mut s: Vec<f32> = neighbours(&folder, name).iter().map(|n| n.1).collect();
        s.sort_by(f32::total_cmp);
        eprintln!("{name}: min {:.3} median {:.3}", s[0], s[s.len() / 2]);
        assert!(s[s.len() / 2] > 0.9, "{name}");
    }
}
