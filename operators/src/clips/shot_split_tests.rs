//! Against PySceneDetect: equal on drawn pictures, frame by frame on real files. The goldens are made by `scripts/goldens/shots.py`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use serde_json::Value;

use super::*;
use crate::media::tests::{Bench, media_folder, sample_folder};
use crate::pixels::content::{Components, kernel_size};
use crate::pixels::goldens::{crc32, read, synthetic::draw};

/// The detectors of `scripts/goldens/shots.py`.
fn detectors() -> BTreeMap<&'static str, ShotSplit> {
    let content = |toml: &str| toml::from_str::<ShotSplit>(toml).unwrap();
    let adaptive = |toml: &str| content(&format!("detector = 'adaptive'\n{toml}"));
    BTreeMap::from([
        ("content", content("")),
        ("content_low", content("threshold = 12.0\nmin_scene_len = 5")),
        ("content_suppress", content("threshold = 12.0\nmin_scene_len = 20\nfilter_mode = 'suppress'")),
        (
            "content_edges",
            content("kernel_size = 5\n[weights]\ndelta_hue = 1.0\ndelta_sat = 0.5\ndelta_lum = 1.0\ndelta_edges = 0.2"),
        ),
        ("content_luma", content("luma_only = true\nmin_scene_len = 1")),
        ("adaptive", adaptive("")),
        ("adaptive_wide", adaptive("adaptive_threshold = 2.0\nwindow_width = 4\nmin_content_val = 6.0\nmin_scene_len = 8")),
        ("adaptive_luma", adaptive("luma_only = true\nmin_content_val = 10.0")),
    ])
}

/// What PySceneDetect says of one video, and we of the same frames.
struct Compared {
    name: String,
    frames: (usize, usize),
    /// Largest difference of a score, and how many differ by more than a rounding of the golden.
    apart: f64,
    differ: usize,
    wrong_cuts: Vec<String>,
}

/// `times_us` and `components` are ours.
fn compare(golden: &Value, times_us: &[i64], components: &[Components], kernel5: &[Components]) -> Compared {
    let want: Vec<f64> = golden["content_val"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let (mut apart, mut differ) = (0.0f64, 0);
    for (i, want) in want.iter().enumerate() {
        let got = components.get(i + 1).map_or(f64::NAN, |c| c.weighted([1.0, 1.0, 1.0, 0.0]));
        apart = apart.max((got - want).abs());
        differ += usize::from((got - want).abs() > 1e-4);
    }
    let mut checked = 0;
    for (frame, want) in golden["components"].as_object().unwrap() {
        let Some(got) = components.get(frame.parse::<usize>().unwrap()) else { continue };
        for (got, want) in [got.hue, got.sat, got.lum, got.edges].into_iter().zip(want.as_array().unwrap()) {
            apart = apart.max((got - want.as_f64().unwrap()).abs());
            checked += 1;
        }
    }
    assert!(checked > 0 || want.is_empty());
    let mut wrong_cuts = Vec::new();
    for (name, settings) in detectors() {
        let weights = settings.weights_in_order();
        let scores = if settings.kernel_size.is_some() { kernel5 } else { components };
        let frames = Frames {
            times_ns: times_us.iter().map(|t| t * 1000).collect(),
            scores: scores.iter().map(|c| c.weighted(weights)).collect(),
        };
        let starts: Vec<i64> = frames.shots(&settings.rule(), 0).iter().skip(1).map(|s| s.start_ns / 1000).collect();
        let got: Vec<usize> = starts.iter().map(|t| times_us.binary_search(t).unwrap()).collect();
        let want: Vec<usize> = golden["cuts"][name].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        if got != want {
            wrong_cuts.push(format!("{name}: {got:?}, wanted {want:?}"));
        }
    }
    let frames = (times_us.len(), golden["frames"].as_u64().unwrap() as usize);
    Compared { name: golden["name"].as_str().unwrap().to_owned(), frames, apart, differ, wrong_cuts }
}

#[test]
fn drawn_pictures_have_the_numbers_of_pyscenedetect() {
    let golden = read("shots.json");
    let mut cuts = 0;
    for one in golden["drawn"].as_array().unwrap() {
        let (mut any, mut five) = (Comparer::new(true, None), Comparer::new(true, Some(5)));
        let (mut components, mut kernel5) = (Vec::new(), Vec::new());
        for shot in one["shots"].as_array().unwrap() {
            let colours = shot["colours"].as_array().unwrap();
            for frame in 0..shot["frames"].as_i64().unwrap() {
                let planes: Vec<_> = colours.iter().map(|c| draw(c, frame)).collect();
                let (w, h) = (planes[0].width as u32, planes[0].height as u32);
                // The golden's pictures are BGR.
                let rgb: Vec<u8> = (0..planes[0].data.len()).flat_map(|i| [2, 1, 0].map(|c| planes[c].data[i])).collect();
                components.push(any.next(w, h, &rgb).unwrap());
                kernel5.push(five.next(w, h, &rgb).unwrap());
            }
        }
        let times: Vec<i64> = (0..components.len() as i64).map(|i| i * 40_000).collect();
        let got = compare(one, &times, &components, &kernel5);
        eprintln!("{}: {:?} frames, {} apart, wrong {:?}", got.name, got.frames, got.apart, got.wrong_cuts);
        assert!(got.apart < 1e-4 && got.differ == 0 && got.wrong_cuts.is_empty() && got.frames.0 == got.frames.1, "{}", got.name);
        cuts += one["cuts"].as_object().unwrap().values().map(|v| v.as_array().unwrap().len()).sum::<usize>();
    }
    assert!(cuts > 50, "the goldens must hold something: {cuts}");
}

/// Both comparisons of every frame of a file.
fn scores(uri: &str, bench: &Bench) -> (Vec<i64>, Vec<Components>, Vec<Components>) {
    let (mut any, mut five) = (Comparer::new(true, None), Comparer::new(true, Some(5)));
    let (mut times, mut components, mut kernel5) = (Vec::new(), Vec::new(), Vec::new());
    every_frame(uri, &bench.context(), &mut |f| {
        times.push(f.pts_ns / 1000);
        let components_of_frame = any.next(f.width, f.height, &f.rgb).unwrap();
        // Most pictures of this size have the kernel of 5 by default.
        kernel5.push(match kernel_size(f.width, f.height) {
            5 => components_of_frame,
            _ => five.next(f.width, f.height, &f.rgb).unwrap(),
        });
        components.push(components_of_frame);
        Ok(())
    })
    .unwrap();
    (times, components, kernel5)
}

/// Holds the files of a folder against the goldens; those of other content are passed over and counted.
fn files(goldens: &Value, folder: &Path) -> (Vec<Compared>, usize) {
    let bench = Bench::new();
    let (mut out, mut passed_over) = (Vec::new(), 0);
    for golden in goldens.as_array().unwrap() {
        let path = folder.join(golden["name"].as_str().unwrap());
        let same = std::fs::read(&path).is_ok_and(|bytes| {
            let head = &bytes[..bytes.len().min(1 << 18)];
            golden["bytes"] == bytes.len() && golden["crc32"] == crc32(head)
        });
        if !same {
            passed_over += 1;
            continue;
        }
        let (times, components, kernel5) = scores(&path.to_string_lossy(), &bench);
        let got = compare(golden, &times, &components, &kernel5);
        eprintln!(
            "{:34} frames {:?}, largest difference {:.4}, {} scores differ, wrong {:?}",
            got.name, got.frames, got.apart, got.differ, got.wrong_cuts
        );
        out.push(got);
    }
    (out, passed_over)
}

/// Files whose scores are not equal, the largest difference that is allowed, and why. Everywhere else every score of every frame is equal, and so are the cuts.
const APART: [(&str, f64, &str); 6] = [
    ("asl-book-480p.mkv", 1.0, "full range in Matroska"),
    ("h264-10bit-200p.mp4", 4.0, "10 bit: libswscale dithers and filters the chroma"),
    ("hevc-hdr10-1080p.mp4", 5.0, "10 bit"),
    ("surgery-422-10bit-720p.mp4", 5.0, "10 bit, 4:2:2"),
    ("vfr-444-128p.mp4", 5.0, "4:4:4"),
    ("mpeg2-1080p.ts", 7.0, "begins with pictures whose references are missing; every decoder conceals them in its own way"),
];

/// Of these the cuts of low thresholds differ too.
const OTHER_CUTS: [&str; 2] = ["surgery-422-10bit-720p.mp4", "mpeg2-1080p.ts"];

#[test]
fn real_files_have_the_cuts_of_pyscenedetect() {
    let Some(folder) = media_folder() else { return };
    let (found, passed_over) = files(&read("shots.json")["media"], &folder);
    assert_eq!(passed_over, 0, "the folder's files are not those of the goldens");
    // Of several video streams OpenCV takes the first, curette the largest.
    let found: Vec<_> = found.into_iter().filter(|f| f.name != "nasa-multistream-270p.mp4").collect();
    for one in &found {
        let allowed = APART.iter().find(|(name, ..)| *name == one.name).map_or(1e-4, |(_, apart, _)| *apart);
        assert_eq!(one.frames.0, one.frames.1, "{}", one.name);
        assert!(one.apart <= allowed, "{}: {} apart, {allowed} allowed", one.name, one.apart);
        let low = |cuts: &String| cuts.starts_with("content_low") || cuts.starts_with("content_suppress");
        let known = OTHER_CUTS.contains(&one.name.as_str());
        let wrong: Vec<_> = one.wrong_cuts.iter().filter(|cuts| !(known && low(cuts))).collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", one.name);
    }
    assert!(found.len() > 20, "{}", found.len());
}

#[test]
fn drawn_videos_have_the_cuts_of_pyscenedetect() {
    let (found, passed_over) = files(&read("shots.json")["sample"], &sample_folder());
    eprintln!("{passed_over} videos of this machine's corpus differ from those of the goldens: another encoder");
    for one in &found {
        assert_eq!(one.wrong_cuts, Vec::<String>::new(), "{}", one.name);
        assert!(one.apart < 1e-4, "{}: {}", one.name, one.apart);
    }
}

fn run(settings: ShotSplit, files: &[&Path]) -> (Vec<String>, Processed) {
    let uris: Vec<String> = files.iter().map(|f| f.to_string_lossy().into_owned()).collect();
    let ids: Vec<String> = (0..files.len()).map(|i| format!("v{i}")).collect();
    let text = |values: Vec<String>| Arc::new(arrow::array::StringArray::from(values)) as ArrayRef;
    let rows = RecordBatch::try_from_iter([("video_id", text(ids)), ("video_uri", text(uris))]).unwrap();
    let columns = settings.columns();
    let done = crate::media::tests::process(&Finder { settings, id_column: "video_id".into() }, &rows);
    for (column, added) in done.columns.iter().zip(columns.adds) {
        assert_eq!(column.data_type(), added.field.data_type(), "{}", added.field.name());
    }
    (crate::testing::codes(&done), done)
}

fn ids(done: &Processed) -> Vec<String> {
    done.columns[0].as_string::<i32>().iter().map(|i| i.unwrap().to_owned()).collect()
}

#[test]
fn shots_are_rows_of_either_kind() {
    let Some(folder) = media_folder() else { return };
    let file = folder.join("bunny-480p.mp4");
    let missing = folder.join("no-such-file.mp4");
    let (codes, done) = run(ShotSplit::default(), &[&file, &missing]);
    assert_eq!(codes, ["pass", "unmeasured file_missing"]);
    assert_eq!(ids(&done), ["v0#0-11875000", "v0#11875000-15750000", "v0#15750000-23041666", "v0#23041666-30000000"]);
    assert_eq!(done.parents, Some(vec![0; 4]));
    assert_eq!(done.columns[6].as_primitive::<Int32Type>().values().to_vec(), [285, 93, 175, 167]);
    let (_, shots) = run(ShotSplit { rows: Rows::Shots, min_shot_seconds: 7.0, ..ShotSplit::default() }, &[&file]);
    assert_eq!(ids(&shots), ["v0#0-11875000", "v0#15750000-23041666"]);
    assert_eq!(shots.columns[1].as_primitive::<Int32Type>().values().to_vec(), [0, 2]);
    assert_eq!(shots.columns[3].as_primitive::<Int64Type>().values().to_vec(), [11_875_000, 23_041_666]);
}

#[test]
fn limits_reject_with_what_was_measured() {
    let Some(folder) = media_folder() else { return };
    let file = folder.join("bunny-480p.mp4");
    let (short, _) = run(ShotSplit { min_shot_seconds: 12.0, ..ShotSplit::default() }, &[&file]);
    let (many, done) = run(ShotSplit { max_shots: 3, ..ShotSplit::default() }, &[&file]);
    assert_eq!((short, many), (vec!["no_shot_long_enough".to_string()], vec!["too_many_shots".to_string()]));
    assert!(matches!(&done.verdicts[0], Verdict::Fail(r) if r.measured == Some(4.0) && r.threshold == Some(3.0)));
}

#[test]
fn contradictions_are_found() {
    let toml = "type = \"shot_split\"\nkernel_size = 4\n[weights]\ndelta_hue = 0.0\ndelta_sat = 0.0\ndelta_lum = 0.0";
    let found = crate::testing::mistakes(toml, &[("start_us", DataType::Int64)]);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn a_damaged_video_gives_the_shots_of_its_whole_part_or_none() {
    let Some(folder) = media_folder() else { return };
    let (bits, short) = (folder.join("broken-bitflips-480p.mp4"), folder.join("broken-truncated-moov-first.mp4"));
    let under = |damaged_videos| run(ShotSplit { damaged_videos, ..ShotSplit::default() }, &[&bits, &short]);
    assert_eq!(under(DamagedVideos::Error).0, ["unmeasured damaged", "unmeasured truncated"]);
    assert_eq!(under(DamagedVideos::Reject).0, ["damaged", "truncated"]);
    let (codes, done) = under(DamagedVideos::KeepWholePart);
    assert_eq!(codes, ["pass", "pass"]);
    let n = done.columns.len();
    let (decoded, truncated) = (done.columns[n - 3].as_primitive::<Int64Type>(), done.columns[n - 2].as_boolean());
    let ends = done.columns[3].as_primitive::<Int64Type>();
    for row in 0..ends.len() {
        assert!(truncated.value(row) && ends.value(row) <= decoded.value(row), "{row}");
    }
    assert!(decoded.value(0) < 12_000_000 && decoded.value(0) > 0, "only what precedes the first error: {}", decoded.value(0));
}
