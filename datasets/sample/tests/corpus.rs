//! The corpus is what its truth says: read back with GStreamer, frame by frame.

#![allow(clippy::unwrap_used)] // helpers of tests

mod reading;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use curette_sample::corpus;
use curette_sample::generate::write_video;
use curette_sample::looks::Look;
use curette_sample::metadata::CHANNELS;
use curette_sample::spec::{Damage, Format, Transcript, video};
use curette_sample::truth::Truth;
use curette_sample::write::{Outcome, write_corpus};
use reading::{Decoded, decode};
use serde_json::Value;

fn hashes(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap());
    let hash =
        |e: fs::DirEntry| (e.file_name().into_string().unwrap(), blake3::hash(&fs::read(e.path()).unwrap()).to_hex().to_string());
    entries.map(hash).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_every_container() {
    gstreamer::init().unwrap();
    let shots = [(0.0, Look::Ultrasound), (1.0, Look::Slides)];
    let base = |file| video(file, "", 10, 2.0, &shots).size(320, 240).titled("abcdefghijk", 0, "Echo").audio();
    let videos = [
        base("a.mp4").transcript(Transcript::Automatic(&["one two", "three"])),
        base("b.mp4").format(Format::Mp4IndexFirst),
        base("c.mkv").format(Format::Mkv),
        video("d.webm", "", 10, 1.0, &shots[..1]).size(320, 240).format(Format::WebmVp8),
        video("e.webm", "", 10, 1.0, &shots[..1]).size(320, 240).format(Format::WebmVp9),
        video("f.mp4", "", 24, 2.0, &shots).size(320, 240).variable(),
    ];
    let make = |seed: u64| {
        let folder = tempfile::tempdir().unwrap();
        for video in &videos {
            write_video(video, seed, folder.path()).unwrap();
        }
        hashes(folder.path())
    };
    let (first, second, other) = (make(1), make(1), make(2));
    assert_eq!(first.len(), 6 + 3 + 1, "six videos, three of them with metadata, one with a transcript: {:?}", first.keys());
    assert_eq!(first, second);
    for name in ["a.mp4", "c.mkv", "d.webm", "e.webm", "f.mp4"] {
        assert_ne!(first[name], other[name], "{name}: another seed draws other pictures");
    }
}

#[test]
fn every_file_is_what_the_truth_says() {
    let out = tempfile::tempdir().unwrap();
    let out = out.path();
    assert!(matches!(write_corpus(out, 1, false).unwrap(), Outcome::Written { bytes, .. } if bytes < 60_000_000));
    let lines = fs::read_to_string(out.join("truth.jsonl")).unwrap();
    let truths: Vec<Truth> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(truths.len(), corpus::videos().len());
    for truth in &truths {
        check_file(truth, &decode(&out.join("videos").join(&truth.video_id)));
    }
    check_sidecars(&out.join("videos"), &truths);

    // A second call finds everything; a lost file or another seed makes it anew.
    assert!(matches!(write_corpus(out, 1, false).unwrap(), Outcome::UpToDate { .. }));
    let leftovers: Vec<_> = hashes(&out.join("videos")).into_keys().filter(|n| n.starts_with('.')).collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

fn check_file(truth: &Truth, read: &Result<Decoded, String>) {
    let name = &truth.video_id;
    if !truth.error_codes.is_empty() {
        let no_pictures = read.as_ref().map_or(true, |d| d.times_us.is_empty());
        assert!(no_pictures, "{name} must not be readable");
        return;
    }
    let read = read.as_ref().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!((read.width, read.height), (truth.width, truth.height), "{name}: displayed size");
    assert_eq!(read.has_audio, truth.has_audio, "{name}: sound");
    if truth.truncated {
        let share = read.times_us.len() as f64 / truth.frames as f64;
        assert!((0.1..0.7).contains(&share), "{name}: {share} of the frames left");
        return;
    }
    assert_eq!(read.times_us.len() as u64, truth.frames, "{name}: frames");
    let video = corpus::videos().into_iter().find(|v| v.file == *name).unwrap();
    let seed = curette_sample::generate::video_seed(1, &video);
    for (ns, got) in video.frame_times_ns(seed).iter().zip(&read.times_us) {
        // Matroska and WebM count milliseconds.
        assert!((*ns as i64 / 1_000 - got).abs() <= 500, "{name}: frame at {got} us instead of {} ns", ns);
    }
    if let Some(times) = &truth.frame_times_us {
        let close = times.iter().zip(&read.times_us).all(|(a, b)| (a - b).abs() <= 1);
        assert!(close, "{name}: variable frame times to the microsecond");
        let gaps: std::collections::BTreeSet<i64> = times.windows(2).map(|w| (w[1] - w[0]) / 1_000).collect();
        assert!(gaps.len() >= 3, "{name}: gaps {gaps:?}");
    }
    // The container may count one audio frame more.
    let more = read.duration_us - truth.duration_us;
    assert!((-1_000..=if truth.has_audio { 50_000 } else { 1_000 }).contains(&more), "{name}: duration off by {more} us");
    for cut in truth.shots.iter().skip(1) {
        let at = read
            .times_us
            .iter()
            .position(|t| (t - cut.start_us).abs() <= 500)
            .unwrap_or_else(|| panic!("{name}: no frame at the cut"));
        let (inside, across) = (read.difference(at - 2, at - 1), read.difference(at - 1, at));
        assert!(across > 25.0 && across > 4.0 * inside, "{name}: cut at {} us: {across} against {inside} inside", cut.start_us);
    }
    let b = truth.borders;
    assert_eq!(read.dark_border(), [b.left, b.right, b.top, b.bottom], "{name}: black bars");
}

fn check_sidecars(folder: &Path, truths: &[Truth]) {
    let mut channels = std::collections::BTreeSet::new();
    let mut kinds = BTreeMap::new();
    for (video, truth) in corpus::videos().iter().zip(truths) {
        let stem = truth.video_id.rsplit_once('.').unwrap().0;
        let info: Value = serde_json::from_slice(&fs::read(folder.join(format!("{stem}.info.json"))).unwrap()).unwrap();
        assert_eq!(info["id"].as_str().unwrap().len(), 11, "{stem}");
        channels.insert(info["channel_id"].as_str().unwrap().to_owned());
        let suffix = match video.transcript {
            Transcript::None => continue,
            Transcript::Automatic(_) => "en.vtt",
            Transcript::Manual(_) => "en.srt",
        };
        let text = fs::read_to_string(folder.join(format!("{stem}.{suffix}"))).unwrap();
        let expected = truth.transcript.as_ref().unwrap();
        let first_line = expected.text.split(' ').take(3).collect::<Vec<_>>().join(" ");
        assert!(text.contains(&first_line), "{stem}");
        *kinds.entry(expected.kind.clone()).or_insert(0) += 1;
    }
    assert_eq!(channels.len(), CHANNELS.len());
    assert_eq!(kinds, BTreeMap::from([("automatic".to_owned(), 3), ("manual".to_owned(), 1)]));
}

#[test]
fn ids_and_names_are_unique_and_cuts_lie_on_frames() {
    let all: Vec<_> = corpus::videos().into_iter().chain(corpus::training()).collect();
    let mut names: Vec<_> = all.iter().map(|v| v.file).chain(all.iter().filter_map(|v| v.meta.as_ref().map(|m| m.id))).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for video in &all {
        let times = video.frame_times_ns(1);
        for shot in &video.shots {
            assert!(times.iter().any(|t| (*t as i64 / 1_000 - shot.start_us).abs() <= 1), "{}: {shot:?}", video.file);
        }
        assert_eq!(video.size.0 % 2 + video.size.1 % 2, 0, "{}", video.file);
    }
}

#[test]
fn subtitle_words_are_counted_line_by_line() {
    let videos = corpus::videos();
    let video = videos.iter().find(|v| v.file == "mri-subtitles.mp4").unwrap();
    let truth = curette_sample::truth::truth(video, 1);
    assert_eq!(truth.subtitles.iter().map(|s| s.words).collect::<Vec<_>>(), [6, 4, 8]);
    assert_eq!(truth.subtitle_words, 18);
}

#[test]
fn training_shows_every_look_and_labels_it_once_a_second() {
    let mut seen: BTreeMap<Look, usize> = BTreeMap::new();
    for video in corpus::training() {
        assert_eq!(video.damage, Damage::None);
        video.shots.iter().for_each(|s| *seen.entry(s.look).or_default() += 1);
        let labels = curette_sample::truth::label_lines(&video, 1);
        assert_eq!(labels.lines().count() as i64, video.duration_us / 1_000_000, "{labels}");
        for line in labels.lines() {
            let [file, time, label] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let look = video.shot_at(time.parse::<i64>().unwrap()).unwrap().1.look;
            assert_eq!((file, label), (video.file, if look.is_medical() { "medical" } else { "non_medical" }));
        }
    }
    assert_eq!(seen.len(), 14);
    assert!(seen.values().all(|n| *n == 4), "{seen:?}");
}

#[test]
fn the_quickstart_has_every_step_that_the_truth_names() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/quickstart.toml")).unwrap();
    let pipeline: toml::Table = toml::from_str(&text).unwrap();
    let types: Vec<&str> = pipeline["step"].as_table().unwrap().values().map(|s| s["type"].as_str().unwrap()).collect();
    for video in corpus::videos() {
        let (end, clips) = video.quickstart;
        assert_eq!(end == "clips", clips > 0, "{}", video.file);
        assert!(end == "clips" || types.contains(&end), "{}: no step of type {end}", video.file);
    }
}
