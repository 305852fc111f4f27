//! `curette probe` and `curette frames` with the real binary: what they show is true, and a broken file has its reason.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::{corpus, curette, media, succeed};

fn probed(files: &[&Path], more: &[&str]) -> (Output, Vec<Value>) {
    let output = curette().arg("probe").args(files).args(["--format", "json"]).args(more).output().unwrap();
    let values = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output, values)
}

/// The paths of a file's pictures, in order, with the times in their names.
fn pictures(folder: &Path) -> Vec<(String, String)> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.iter().map(|n| n.split_once('-').map(|(index, rest)| (index.into(), rest.into())).unwrap()).collect()
}

fn frames(file: &Path, at: &[&str], out: &Path, more: &[&str]) -> Command {
    let mut command = curette();
    command.arg("frames").arg(file).arg("--at").args(at).arg("--out").arg(out).args(more);
    command
}

#[test]
fn the_corpus_is_seen_as_it_was_drawn() {
    let corpus = corpus();
    let truth = corpus.truth();
    let videos = corpus.folder.join("videos");
    let files: Vec<_> = truth.keys().map(|name| videos.join(name)).collect();
    let (output, values) = probed(&files.iter().map(|f| f.as_path()).collect::<Vec<_>>(), &[]);
    assert_eq!(output.status.code(), Some(1), "the corpus has broken files");
    assert_eq!(values.len(), truth.len());
    let mut seen = (0, 0);
    for (value, (name, facts)) in values.iter().zip(&truth) {
        assert_eq!(value["file"].as_str().unwrap(), videos.join(name).to_string_lossy(), "in the order of the command line");
        if facts["readable"] == false {
            let usable = value["error"].is_null() && value["damage"].as_array().unwrap().is_empty();
            assert!(!usable, "{name} is broken and nothing is said: {value}");
            seen.1 += 1;
            continue;
        }
        assert_eq!((&value["width"], &value["height"]), (&facts["width"], &facts["height"]), "{name}");
        assert_eq!(value["damage"].as_array().unwrap().len(), 0, "{name}: {value}");
        let shots = facts["shots"].as_array().unwrap();
        let end = shots[shots.len() - 1]["end_us"].as_i64().unwrap();
        assert!((value["duration_us"].as_i64().unwrap() - end).abs() < 200_000, "{name}: {value}");
        assert_eq!(value["frames"], value["decoded"]["frames"], "{name}");
        seen.0 += 1;
    }
    assert!(seen.0 > 10 && seen.1 > 1, "{seen:?}");
}

#[test]
fn damage_and_broken_files_have_their_words() {
    let Some(folder) = media() else { return };
    let path = |name: &str| folder.join(name);
    let names = [
        ("broken-zero-byte.mp4", "empty_file"),
        ("broken-text.mp4", "not_a_video"),
        ("broken-random.mp4", "not_a_video"),
        ("broken-no-moov.mp4", "no_index"),
        ("audio-only.mp3", "no_video_stream"),
        ("no-such-file.mp4", "file_missing"),
    ];
    let files: Vec<_> = names.iter().map(|(n, _)| path(n)).collect();
    let (output, values) = probed(&files.iter().map(|f| f.as_path()).collect::<Vec<_>>(), &[]);
    assert_eq!(output.status.code(), Some(1));
    for (value, (name, code)) in values.iter().zip(names) {
        assert_eq!(value["error"]["code"], code, "{name}");
        assert!(value["error"]["message"].as_str().unwrap().len() > code.len());
    }
    let bits = path("broken-bitflips-480p.mp4");
    let (output, values) = probed(&[&bits], &[]);
    assert_eq!(output.status.code(), Some(1));
    let decoded = &values[0]["decoded"];
    assert!(decoded["decode_errors"].as_i64().unwrap() > 100, "{decoded}");
    assert!(decoded["whole_duration_us"].as_i64().unwrap() < decoded["duration_us"].as_i64().unwrap(), "{decoded}");
    // Its packets alone tell nothing of it.
    let (output, values) = probed(&[&bits], &["--quick"]);
    assert_eq!((output.status.code(), &values[0]["decoded"]), (Some(0), &Value::Null));
    let (output, values) = probed(&[&path("broken-truncated-45pct.mp4")], &["--quick"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(values[0]["damage"][0].as_str().unwrap().starts_with("truncated"), "{values:?}");
    // Streams, rotation, structure, as text.
    let shown = succeed(curette().arg("probe").arg(path("nasa-multistream-270p.mp4")).arg(path("portrait-rotate90-720p.mp4")));
    let text = String::from_utf8(shown.stdout).unwrap();
    for part in ["video h264, video h264", "480 x 270", "turned by 270 degrees", "720 x 1280", "key frames", "blake3"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn frames_are_the_ones_on_screen() {
    let Some(folder) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    // 25 frames per second: each is on screen for 40 ms.
    let file = folder.join("surgery-laparoscopy-720p.mp4");
    let out = dir.path().join("deep/out");
    let said = succeed(&mut frames(&file, &["8.5", "0", "0.039", "3.0401", "9.99"], &out, &["--longest-side", "320"]));
    let want = ["8.480000s.jpg", "0.000000s.jpg", "0.000000s.jpg", "3.040000s.jpg", "9.960000s.jpg"];
    let got = pictures(&out);
    assert_eq!(got.iter().map(|(_, time)| time.as_str()).collect::<Vec<_>>(), want);
    assert_eq!(got[4].0, "0004");
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("8.480000") && text.contains("0000-8.480000s.jpg"), "{text}");
    // The same frame, asked for alone or with others, reached by a seek or from the start.
    let one = dir.path().join("one");
    succeed(&mut frames(&file, &["8.5"], &one, &["--longest-side", "320"]));
    let name = "0000-8.480000s.jpg";
    assert_eq!(std::fs::read(out.join(name)).unwrap(), std::fs::read(one.join(name)).unwrap());
    let png = dir.path().join("png");
    succeed(&mut frames(&file, &["1"], &png, &["--format", "png"]));
    let bytes = std::fs::read(png.join("0000-1.000000s.png")).unwrap();
    assert_eq!((&bytes[1..4], &bytes[16..24]), (&b"PNG"[..], &[0, 0, 5, 0, 0, 0, 2, 208][..]), "1280 x 720");
}

#[test]
fn a_printed_time_is_the_time_of_its_frame_and_damage_is_said() {
    let Some(folder) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    // 24 frames per second: 1.083333 is 1.083333333 rounded down, as tables have it.
    succeed(&mut frames(&folder.join("letterbox-480p.mp4"), &["1.083333", "4.083333"], dir.path(), &[]));
    let times: Vec<_> = pictures(dir.path()).into_iter().map(|(_, time)| time).collect();
    assert_eq!(times, ["1.083333s.jpg", "4.083333s.jpg"]);
    let bits = frames(&folder.join("broken-bitflips-480p.mp4"), &["0.2", "5"], dir.path(), &[]).output().unwrap();
    let text = String::from_utf8(bits.stdout).unwrap();
    assert_eq!(bits.status.code(), Some(1));
    let lines: Vec<_> = text.lines().map(|l| l.contains("damaged")).collect();
    assert_eq!(lines, [false, false, true], "{text}");
}

#[test]
fn a_time_without_a_frame_is_said_and_the_others_are_written() {
    let Some(folder) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let late = frames(&folder.join("nature-bee-720p.mp4"), &["1", "77"], dir.path(), &[]).output().unwrap();
    let text = String::from_utf8(late.stdout).unwrap();
    assert_eq!(late.status.code(), Some(1));
    assert!(text.contains("no_frames") && text.contains("77.000000"), "{text}");
    assert_eq!(pictures(dir.path()).len(), 1);
    let broken = frames(&folder.join("broken-text.mp4"), &["1"], dir.path(), &[]).output().unwrap();
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stderr).contains("not_a_video"));
    let nonsense = frames(&folder.join("nature-bee-720p.mp4"), &["-1"], dir.path(), &[]).output().unwrap();
    assert_eq!(nonsense.status.code(), Some(2));
}
